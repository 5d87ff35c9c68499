"""Check UNet++'s loss, and losses of several heads."""

import math

import pytest
import torch
from torch import nn

from medpos.core.errors import InputError
from medpos.losses import AllPixelCrossEntropy, AuxiliaryLoss, BCEDice, DeepSupervision
from medpos.networks import AuxiliaryUNet, UNetPlusPlus

# Two images of 1 x 2 px with the probabilities 3/4, 1/4 and 1/2, 1/2 of the foreground.
P = torch.tensor([[[[0.75, 0.25]]], [[[0.5, 0.5]]]])
LOGITS = torch.logit(P)
TARGET = torch.tensor([[[1, 0]], [[0, 0]]])
BCE = -(2 * math.log(0.75) + 2 * math.log(0.5)) / 4
DICE = (2 * 0.75 + 1) / (2 + 1 + 1)  # over the batch: intersection 3/4, sums 2 and 1


class TestBCEDice:
    def test_authors_code_by_hand(self):
        assert BCEDice()(LOGITS, TARGET).item() == pytest.approx(0.5 * BCE - DICE)

    def test_entropy_is_pytorch_s_and_halved(self):
        entropy = nn.functional.binary_cross_entropy(P, TARGET[:, None].float())
        assert (BCEDice()(LOGITS, TARGET) + DICE).item() == pytest.approx(0.5 * entropy.item())

    def test_dice_of_each_image(self):
        dice = ((2 * 0.75 + 1) / (1 + 1 + 1) + 1 / (1 + 0 + 1)) / 2
        assert BCEDice(per_image=True)(LOGITS, TARGET).item() == pytest.approx(0.5 * BCE - dice)

    def test_equation_2_has_the_foreground_s_entropy_alone(self):
        loss = BCEDice(background=False)(LOGITS, TARGET)
        assert loss.item() == pytest.approx(0.5 * -math.log(0.75) / 4 - DICE)

    def test_smooth(self):
        loss = BCEDice(smooth=0.5)(LOGITS, TARGET)
        assert loss.item() == pytest.approx(0.5 * BCE - (2 * 0.75 + 0.5) / (3 + 0.5))
        empty = torch.full((1, 1, 2, 2), -100.0)
        assert BCEDice()(empty, torch.zeros(1, 2, 2, dtype=torch.long)).item() == pytest.approx(-1)  # not 0 / 0

    def test_best_value(self):
        assert BCEDice()(100 * (2.0 * TARGET[:, None] - 1), TARGET).item() == pytest.approx(-1)

    def test_ignored_pixels_are_left_out(self):
        target = TARGET.clone()
        target[1] = 255
        assert BCEDice()(LOGITS, target).item() == pytest.approx(BCEDice()(LOGITS[:1], TARGET[:1]).item())
        everything = BCEDice()(LOGITS, torch.full_like(TARGET, 255))
        assert everything.item() == pytest.approx(-1)

    def test_extreme_logits_have_finite_gradients(self):
        logits = torch.tensor([[[[1e4, -1e4]]]], requires_grad=True)
        BCEDice()(logits, torch.tensor([[[0, 1]]])).backward()
        assert logits.grad.isfinite().all()

    def test_bf16_logits_give_float32(self):
        logits = LOGITS.to(torch.bfloat16)
        loss = BCEDice()(logits, TARGET)
        assert loss.dtype == torch.float32
        assert loss == BCEDice()(logits.float(), TARGET)  # not rounded again

    @pytest.mark.parametrize(("logits", "target"), [((1, 2, 4, 4), (1, 4, 4)), ((1, 1, 4, 4), (1, 1, 4, 4))])
    def test_bad_shapes_are_refused(self, logits, target):
        with pytest.raises(InputError, match="use a cross-entropy for several classes"):
            BCEDice()(torch.zeros(logits), torch.zeros(target, dtype=torch.long))


class TestDeepSupervision:
    HEADS = torch.stack([LOGITS, 2 * LOGITS, -LOGITS, 0 * LOGITS], dim=1)

    def losses(self):
        return [BCEDice()(factor * LOGITS, TARGET).item() for factor in (1, 2, -1, 0)]

    def test_mean_of_the_heads(self):
        loss = DeepSupervision(BCEDice())(self.HEADS, TARGET)
        assert loss.item() == pytest.approx(sum(self.losses()) / 4)

    def test_weighted_sum_in_the_order_of_the_heads(self):
        loss = DeepSupervision(BCEDice(), weights=[1, 0.5, 0, 2])(self.HEADS, TARGET)
        one, two, _, four = self.losses()
        assert loss.item() == pytest.approx(one + 0.5 * two + 2 * four)

    @pytest.mark.parametrize("weights", [None, [1, 0.4]])
    def test_one_head_gets_the_plain_loss(self, weights):
        assert DeepSupervision(BCEDice(), weights)(LOGITS, TARGET).item() == pytest.approx(self.losses()[0])

    def test_wrong_number_of_weights(self):
        with pytest.raises(InputError, match="expected 4, one for each head, got 2"):
            DeepSupervision(BCEDice(), weights=[1, 1])(self.HEADS, TARGET)

    def test_every_parameter_of_unetpp_learns(self):
        torch.manual_seed(0)
        network = UNetPlusPlus(deep_supervision=True, width=1 / 8)
        target = torch.randint(0, 2, (2, 32, 32))
        loss = DeepSupervision(BCEDice())(network(torch.rand(2, 1, 32, 32)), target)
        loss.backward()
        assert all(p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in network.parameters())


class TestAuxiliaryLoss:
    def test_mean_over_all_pixels_the_ignored_ones_too(self):
        logits = torch.log(torch.tensor([[[[0.5, 0.2]], [[0.5, 0.8]]]]))
        assert AllPixelCrossEntropy()(logits, torch.tensor([[[0, 255]]])).item() == pytest.approx(math.log(2) / 2)
        labels = torch.tensor([[[0, 1]]])
        plain = nn.functional.cross_entropy(logits, labels)
        assert AllPixelCrossEntropy()(logits, labels).item() == pytest.approx(plain.item())

    def test_main_plus_two_fifths_of_the_auxiliary(self):
        torch.manual_seed(0)
        main, auxiliary = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
        labels = torch.randint(0, 3, (2, 4, 4))
        wanted = nn.functional.cross_entropy(main, labels) + 0.4 * nn.functional.cross_entropy(auxiliary, labels)
        loss = AuxiliaryLoss()(torch.stack([main, auxiliary], 1), labels)
        assert loss.item() == pytest.approx(wanted.item())
        assert AuxiliaryLoss()(main, labels).item() == pytest.approx(nn.functional.cross_entropy(main, labels).item())

    def test_every_parameter_of_its_network_learns(self):
        torch.manual_seed(0)
        network = AuxiliaryUNet(width=1 / 8)
        labels = torch.randint(0, 2, (2, 32, 32))
        labels[:, :8] = 255
        logits = network(torch.rand(2, 3, 32, 32))
        loss = AuxiliaryLoss()(logits.to(torch.bfloat16), labels)
        assert loss.dtype == torch.float32
        loss.backward()
        assert all(p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in network.parameters())
