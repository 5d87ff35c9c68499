"""Check the summed loss of whole images, masked and weighted."""

import pytest
import torch
from torch import nn

from medpos.core.errors import InputError
from medpos.losses.dense import (
    SummedCrossEntropy,
    class_weights,
    random_mask,
    summed_loss,
)

LOGITS = torch.log(torch.tensor([[[[0.5, 0.2]], [[0.5, 0.8]]]]))  # 1 x 2 px


def test_sum_of_weighted_losses_by_hand():
    labels = torch.tensor([[[0, 1]]])
    assert summed_loss(LOGITS, labels).exp().item() == pytest.approx(1 / (0.5 * 0.8))
    weights = torch.tensor([[[1.0, 3.0]]])
    assert summed_loss(LOGITS, labels, weights).exp().item() == pytest.approx(1 / (0.5 * 0.8**3))
    labels[0, 0, 0] = 255
    assert summed_loss(LOGITS, labels).exp().item() == pytest.approx(1 / 0.8)


class TestRandomMask:
    def test_keeps_the_given_part(self):
        mask = random_mask((20, 50, 50), 0.3, torch.Generator().manual_seed(0))
        assert set(mask.unique().tolist()) == {0, 1}
        assert mask.mean().item() == pytest.approx(0.3, abs=0.01)

    def test_gradients_come_from_the_kept_pixels_only(self):
        logits = torch.zeros(1, 2, 8, 8, requires_grad=True)
        mask = random_mask((1, 8, 8), 0.5, torch.Generator().manual_seed(0))
        summed_loss(logits, torch.zeros(1, 8, 8, dtype=torch.long), mask).backward()
        assert torch.equal(logits.grad.abs().sum(1) > 0, mask > 0)

    @pytest.mark.parametrize("keep", [0, 1.1])
    def test_no_probability(self, keep):
        with pytest.raises(InputError, match=f"keep: expected a probability above 0, at most 1, got {keep}"):
            random_mask((1,), keep)


def test_class_weights():
    weights = torch.tensor([0.5, 2.0])
    found = class_weights(torch.tensor([[[0, 1, 255]]]), weights)
    assert found.tolist() == [[[0.5, 2, 0]]]
    labels = torch.tensor([[[1, 255]]])
    expected = nn.functional.cross_entropy(LOGITS, labels, weight=weights, ignore_index=255, reduction="sum")
    torch.testing.assert_close(summed_loss(LOGITS, labels, class_weights(labels, weights)), expected)


class TestSummedCrossEntropy:
    def test_sum_over_the_labeled_pixels_by_hand(self):
        labels = torch.tensor([[[0, 1]]])
        assert SummedCrossEntropy()(LOGITS, labels).exp().item() == pytest.approx(1 / (0.5 * 0.8))
        labels[0, 0, 0] = 255
        assert SummedCrossEntropy()(LOGITS, labels).exp().item() == pytest.approx(1 / 0.8)

    def test_is_float32_whatever_the_logits_are(self):
        logits, labels = torch.zeros(1, 2, 300, 300, dtype=torch.bfloat16), torch.zeros(1, 300, 300, dtype=torch.long)
        loss = SummedCrossEntropy()(logits, labels)
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(90_000 * 0.693147, rel=1e-4)

    def test_a_new_random_part_of_the_pixels_is_kept_each_time(self):
        torch.manual_seed(0)
        logits, labels = torch.zeros(1, 2, 100, 100, requires_grad=True), torch.zeros(1, 100, 100, dtype=torch.long)
        loss, kept = SummedCrossEntropy(keep=0.3), []
        for _ in range(2):
            (gradient,) = torch.autograd.grad(loss(logits, labels), logits)
            kept.append(gradient[0, 0] != 0)
            assert kept[-1].float().mean().item() == pytest.approx(0.3, abs=0.02)
        assert not torch.equal(*kept)

    def test_no_probability(self):
        with pytest.raises(InputError, match=r"keep: expected a probability .* got 0\.0"):
            SummedCrossEntropy(keep=0.0)
