"""Test U-SegNet: skips in a SegNet of three levels."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

from medpos.core.errors import InputError
from medpos.networks import USegNet


def narrow(**options):
    torch.manual_seed(0)
    return USegNet(width=1 / 8, **options).eval()


def test_pooled_sizes_of_a_patch_of_40_px():
    sizes = []
    with torch.device("meta"):
        model = USegNet()
        model.pool.register_forward_hook(lambda _, __, output: sizes.append(output[0].shape[2]))
        model(torch.zeros(1, 3, 40, 40))
    assert sizes == [20, 10, 5]


def test_the_1_x_1_convolution_has_a_bias_and_no_activation():
    with torch.device("meta"):
        model = USegNet()
    assert sum(parameter.numel() for parameter in model.merge1.parameters()) == 8_256
    assert model.merge2 is None
    assert model.conv1_D[0].conv.in_channels == 64


@torch.no_grad()
def test_skips_are_consolidated_before_the_decoder():
    model, seen = narrow(skips=2), {}
    for level in (1, 2):
        for name in (f"conv{level}", f"merge{level}"):
            getattr(model, name).register_forward_hook(lambda _, x, y, name=name: seen.update({name: (x[0], y)}))
        getattr(model, f"conv{level}_D").register_forward_pre_hook(lambda _, x, i=level: seen.update({i: x[0]}))
    model(torch.rand(1, 3, 40, 40))
    for level, channels in ((1, 8), (2, 16)):
        entering, merged = seen[f"merge{level}"]
        assert torch.equal(entering[:, :channels], seen[f"conv{level}"][1])
        assert (entering[:, channels:] == 0).float().mean() >= 0.75  # unpooled
        assert torch.equal(seen[level], merged)


def test_relu_before_or_after_the_normalization():
    plain, first = narrow(), narrow(relu_first=True)
    assert list(plain.state_dict()) == list(first.state_dict())
    features = torch.randn(1, 3, 8, 8)
    for block, order in ((plain.conv1[0], ("conv", "norm", "relu")), (first.conv1[0], ("conv", "relu", "norm"))):
        with torch.no_grad():
            block.eval().norm.running_mean.normal_()
            wanted = features
            for name in order:
                wanted = getattr(block, name)(wanted)
            assert torch.equal(block(features), wanted)


def test_torchscript_keeps_the_order_of_the_layers():
    """It has taken one nn.Sequential for another with layers of the same names."""
    other = nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4), relu=nn.ReLU(inplace=True)))
    torch.jit.script(other.eval())
    first, image = narrow(relu_first=True).eval(), torch.randn(1, 3, 40, 40)
    with torch.no_grad():
        for block in [layer for layer in first.modules() if hasattr(layer, "norm")]:
            block.norm.running_mean.normal_()
        torch.testing.assert_close(torch.jit.script(first)(image), first(image))


def test_another_number_of_skips_is_refused():
    with pytest.raises(InputError, match="skips: expected 0, 1 or 2"):
        USegNet(skips=3)
