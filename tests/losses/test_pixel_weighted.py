"""Check U-Net 2015's loss, by hand and with its network."""

import math

import pytest
import torch
from monai.transforms import ConcatItemsd

from medpos.core.errors import InputError
from medpos.losses import PixelWeightedCrossEntropy, inverse_frequency
from medpos.networks import UNet2015

# Two pixels: probabilities 1/2 and 1/5 of class 0.
LOGITS = torch.log(torch.tensor([[[[0.5, 0.2]], [[0.5, 0.8]]]]))
ENTROPY = [math.log(2), math.log(5)]  # of the labels 0 and 0


def target(labels, weights):
    return torch.tensor([[[labels], [weights]]], dtype=torch.float32)


def test_plain_mean_over_the_pixels():
    loss = PixelWeightedCrossEntropy()(LOGITS, target([0, 0], [0, 0]))
    assert loss.item() == pytest.approx(sum(ENTROPY) / 2)
    assert loss > 0  # equation 1 lacks its minus


def test_border_weight_is_added():
    loss = PixelWeightedCrossEntropy()(LOGITS, target([0, 0], [0, 3]))
    assert loss.item() == pytest.approx((ENTROPY[0] + 4 * ENTROPY[1]) / 2)


def test_class_weight_is_that_of_the_true_class():
    loss = PixelWeightedCrossEntropy([1, 7])(LOGITS, target([0, 1], [0, 0.5]))
    assert loss.item() == pytest.approx((ENTROPY[0] + 7.5 * -math.log(0.8)) / 2)
    balanced = PixelWeightedCrossEntropy(inverse_frequency([[70, 10]]))
    assert balanced(LOGITS, target([0, 1], [0, 0.5])).item() == pytest.approx(loss.item())


def test_divided_by_pixels_not_by_weights():
    single, double = (PixelWeightedCrossEntropy([w, w])(LOGITS, target([0, 1], [0, 0])) for w in (1, 2))
    assert double.item() == pytest.approx(2 * single.item())
    once, thrice = (PixelWeightedCrossEntropy()(LOGITS.tile(n), target([0, 0] * n, [0, 1] * n)) for n in (1, 3))
    assert thrice.item() == pytest.approx(once.item())


def test_ignored_pixels():
    loss = PixelWeightedCrossEntropy([1, 2])(LOGITS, target([0, 255], [1, 9]))
    assert loss.item() == pytest.approx(2 * ENTROPY[0])
    assert PixelWeightedCrossEntropy()(LOGITS, target([255, 255], [1, 1])) == 0


def test_middle_of_a_larger_target():
    full = torch.zeros(1, 2, 5, 8)
    full[0, 0] = 1
    full[0, :, 2, 3:5] = target([0, 0], [0, 3])[0, :, 0]
    loss = PixelWeightedCrossEntropy()(LOGITS, full)
    assert loss.item() == pytest.approx((ENTROPY[0] + 4 * ENTROPY[1]) / 2)


def test_bf16_logits_give_float32():
    logits = LOGITS.to(torch.bfloat16).requires_grad_()
    loss = PixelWeightedCrossEntropy()(logits, target([0, 0], [0, 0]))
    assert loss.dtype == torch.float32
    assert loss == PixelWeightedCrossEntropy()(logits.detach().float(), target([0, 0], [0, 0]))  # not rounded again
    loss.backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("shape", [(1, 2, 1, 1), (1, 2, 2, 2), (1, 1, 1, 2), (2, 2, 1, 2), (1, 2, 2)])
def test_target_that_does_not_fit(shape):
    with pytest.raises(InputError, match="larger by the same on both sides"):
        PixelWeightedCrossEntropy()(LOGITS, torch.zeros(shape))


def test_wrong_number_of_class_weights():
    with pytest.raises(InputError, match="class_weights: expected 2, one for each class, got 3"):
        PixelWeightedCrossEntropy([1, 1, 1])(LOGITS, target([0, 0], [0, 0]))


def test_descends_with_the_paper_s_network_and_optimizer():
    torch.manual_seed(0)
    network = UNet2015(width=1 / 16).eval()
    image = torch.rand(1, 1, 188, 188)
    label = (image[0] > 0.5).to(torch.uint8)
    item = {"label": label, "weight": torch.rand(1, 188, 188)}
    both = ConcatItemsd(["label", "weight"], name="target")(item)["target"][None]
    assert both.is_floating_point()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-2, momentum=0.99)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = PixelWeightedCrossEntropy([1, 2])(network(image), both)
        loss.backward()
        assert all(p.grad.isfinite().all() for p in network.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
