"""Test the U-Net of 2015: valid convolutions, crop and concatenate, dropout, initialization."""

import pytest
import torch
from torch import nn

from medpos.core.errors import InputError
from medpos.networks import UNet2015
from medpos.networks.encoder_decoder.unet2015 import BORDER


def narrow(**options):
    torch.manual_seed(0)
    return UNet2015(width=1 / 8, **options)


def image(*size):
    return torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("released", [False, True])
def test_23_convolutions_of_which_none_is_padded(released):
    with torch.device("meta"):
        layers = [x for x in UNet2015(released=released).modules() if isinstance(x, (nn.Conv2d, nn.ConvTranspose2d))]
    assert len(layers) == 23
    assert {layer.kernel_size for layer in layers} == {(1, 1), (2, 2), (3, 3)}
    assert {layer.padding for layer in layers} == {(0, 0)}


@pytest.mark.parametrize("size", [188, 204, 572, 700])
def test_output_is_184_px_smaller_on_every_valid_size(size):
    with torch.device("meta"):
        assert UNet2015()(torch.zeros(1, 1, size, 188)).shape == (1, 2, size - 2 * BORDER, 4)


@pytest.mark.parametrize("size", [172, 60, 187, 189, 196, 571])
def test_other_sizes_are_refused(size):
    with pytest.raises(
        InputError, match=r"expected sides that are 16 k \+ 60 and at least 188 px, got .* nearest valid: "
    ):
        narrow()(torch.zeros(1, 1, 188, size))


@torch.no_grad()
def test_a_shift_by_16_px_shifts_the_output():
    model, x = narrow().eval(), image(204, 188)
    whole = model(x)
    torch.testing.assert_close(model(x[:, :, :188]), whole[:, :, :4], rtol=0, atol=1e-6)
    torch.testing.assert_close(model(x[:, :, 16:]), whole[:, :, 16:], rtol=0, atol=1e-6)


def entering(model, x):
    """Record the inputs of the decoder's convolutions, and the parts that they concatenate."""
    seen = {}
    for name in ("conv1", "conv2", "conv3", "conv4", "up6", "up7", "up8", "up9"):
        getattr(model, name).register_forward_hook(lambda _, __, output, name=name: seen.update({name: output.clone()}))
    for name in ("conv6", "conv7", "conv8", "conv9"):
        getattr(model, name).register_forward_pre_hook(
            lambda _, inputs, name=name: seen.update({name: inputs[0].clone()})
        )
    with torch.no_grad():
        model(x)
    return seen


@pytest.mark.parametrize("released", [False, True])
def test_the_middle_of_the_skip_is_concatenated_with_the_upsampled(released):
    seen = entering(narrow(released=released).eval(), image(204, 188))
    for stage in range(6, 10):
        up, skip = seen[f"up{stage}"], seen[f"conv{10 - stage}"]
        margins = [(skip.shape[axis] - up.shape[axis]) // 2 for axis in (2, 3)]
        middle = skip[:, :, margins[0] : -margins[0], margins[1] : -margins[1]]
        expected = [up, middle] if released else [middle, up]
        assert torch.equal(seen[f"conv{stage}"], torch.cat(expected, 1))
        assert (up.min() >= 0) == released


def test_dropout_halves_the_512_and_the_1024_channels_and_the_skip_of_the_512():
    seen = []
    model, x = narrow().train(), image(188, 188)
    model.dropout.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output)))
    skips = entering(model, x)
    assert [tuple(before.shape[1:]) for before, _ in seen] == [(64, 16, 16), (128, 4, 4)]
    for before, after in seen:
        kept = after[before > 0] > 0
        assert kept.float().mean().item() == pytest.approx(0.5, abs=0.1)
    assert torch.equal(skips["conv6"][:, :64], seen[0][1][:, :, 4:-4, 4:-4])
    assert len([layer for layer in model.modules() if isinstance(layer, nn.Dropout)]) == 1


def test_initial_weights_are_those_of_section_3():
    model = UNet2015(width=0.5)
    for layer in (model.conv2[2], model.conv5[0], model.conv6[0]):
        assert layer.weight.std().item() == pytest.approx((2 / (9 * layer.in_channels)) ** 0.5, rel=0.03)
        assert not layer.bias.any()
    assert model.up6[0].weight.std().item() == pytest.approx((2 / 512) ** 0.5, rel=0.03)
