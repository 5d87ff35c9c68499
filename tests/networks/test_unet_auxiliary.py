"""Test the auxiliary-head U-Net: its outputs, a second head in training only, dropout, initialization."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from medpos.networks import AuxiliaryUNet


def narrow():
    torch.manual_seed(0)
    return AuxiliaryUNet(width=1 / 8).eval()


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_backbone_outputs_are_those_of_the_article():
    with torch.device("meta"):
        model = AuxiliaryUNet()
        outputs = model.backbone(torch.zeros(4, 3, 480, 480))
    shapes = [(4, 1024, 30, 30), (4, 512, 60, 60), (4, 256, 120, 120), (4, 128, 240, 240), (4, 64, 480, 480)]
    assert [tuple(output.shape) for output in outputs] == shapes
    counts = [count(module) for module in (model.backbone, model.decode_head, model.auxiliary_head)]
    assert counts == [28_949_568, 37_122, 73_986]


def test_the_auxiliary_head_runs_in_training_only():
    model, calls, x = narrow(), [], torch.rand(2, 3, 32, 48)
    model.auxiliary_head.register_forward_hook(lambda _, __, output: calls.append(output))
    for head in (model.decode_head, model.auxiliary_head):
        head.dropout.p = 0
    assert model(x).shape == (2, 2, 32, 48)
    assert not calls
    found = model.train()(x)
    assert found.shape == (2, 2, 2, 32, 48)
    assert calls[0].shape == (2, 2, 16, 24)
    expected = F.interpolate(calls[0], size=(32, 48), mode="bilinear", align_corners=False)
    torch.testing.assert_close(found[:, 1], expected)


@torch.no_grad()
def test_skip_and_upsampled_are_concatenated():
    model, seen = narrow(), {}
    for name in ("encoder1", "upsample1"):
        getattr(model.backbone, name).register_forward_hook(lambda _, __, y, name=name: seen.update({name: y}))
    model.backbone.decoder1.register_forward_pre_hook(lambda _, x: seen.update({"decoder1": x[0]}))
    model(torch.rand(1, 3, 32, 32))
    assert torch.equal(seen["decoder1"], torch.cat([seen["encoder1"], seen["upsample1"]], 1))


@torch.no_grad()
def test_dropout_takes_whole_channels_in_both_heads():
    model = AuxiliaryUNet().decode_head, AuxiliaryUNet().auxiliary_head
    for head in model:
        dropped = head.dropout.train()(torch.ones(64, 64, 4, 4))
        empty = (dropped == 0).all((2, 3))
        assert torch.equal(empty, (dropped == 0).any(3).any(2))
        assert empty.float().mean().item() == pytest.approx(0.1, abs=0.03)


def test_initial_weights():
    model = AuxiliaryUNet()
    for head in (model.decode_head, model.auxiliary_head):
        assert head.conv_seg.weight.std().item() == pytest.approx(0.01, rel=0.3)
        assert not head.conv_seg.bias.any()
    layer = model.backbone.decoder4[0].conv
    assert layer.weight.std().item() == pytest.approx((2 / (9 * layer.out_channels)) ** 0.5, rel=0.03)
    assert {x.bias is None for x in model.backbone.modules() if isinstance(x, nn.Conv2d)} == {True}
