"""Check DeepLab's loss on labels sampled by hand."""

import math

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from medpos.core.errors import InputError
from medpos.losses import ScoreCrossEntropy
from medpos.losses.score_map import subsample


def test_at_stride_8_every_8th_pixel_counts():
    labels = torch.arange(2 * 17 * 33).reshape(2, 17, 33)
    assert torch.equal(subsample(labels, (3, 5)), labels[:, ::8, ::8])


def test_at_other_scales_the_nearest_pixel_counts_with_corners_aligned():
    labels = torch.arange(33).expand(1, 33, 33)
    # 25 px of three quarters give 4 scores, 32 / 3 px apart.
    assert subsample(labels, (1, 4))[0, 0].tolist() == [0, 11, 21, 32]
    assert subsample(labels.mT, (4, 1))[0, :, 0].tolist() == [0, 11, 21, 32]


def test_mean_over_labeled_scores_of_each_output_and_their_sum():
    torch.manual_seed(0)
    target = torch.randint(0, 3, (2, 17, 17))
    target[0, :9] = 255
    outputs = [torch.randn(2, 3, 3, 3), torch.randn(2, 3, 2, 2), torch.randn(2, 3, 3, 3)]
    labels = [target[:, ::8, ::8], target[:, ::16, ::16], target[:, ::8, ::8]]
    wanted = [F.cross_entropy(o, t, ignore_index=255) for o, t in zip(outputs, labels, strict=True)]
    loss = ScoreCrossEntropy()
    assert loss(outputs, target).item() == pytest.approx(sum(wanted).item(), rel=1e-6)
    assert loss(outputs[1], target).item() == pytest.approx(wanted[1].item(), rel=1e-6)
    assert loss([outputs[0].bfloat16()], target).dtype == torch.float32


def test_no_label_no_loss():
    logits = torch.zeros(1, 4, 2, 2, requires_grad=True)
    found = ScoreCrossEntropy()(logits, torch.full((1, 9, 9), 255))
    found.backward()
    assert found.item() == 0
    assert not logits.grad.any()
    assert ScoreCrossEntropy()(logits, torch.zeros(1, 9, 9, dtype=torch.long)).item() == pytest.approx(math.log(4))


def test_refusals():
    with pytest.raises(InputError, match=r"expected .* got \[1, 3, 2, 2\] and \[1, 1, 9, 9\]"):
        ScoreCrossEntropy()(torch.zeros(1, 3, 2, 2), torch.zeros(1, 1, 9, 9))
    with pytest.raises(InputError, match="expected logits"):
        ScoreCrossEntropy()([], torch.zeros(1, 9, 9))
