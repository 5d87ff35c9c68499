"""What a network sees, from its graph, is what its gradients show."""

import network_fields
import pytest
import torch
from torch import nn
from torch.nn import functional

from medpos.errors import InputError
from medpos.explain.fields import Field, fields
from medpos.explain.layers import OUTPUT, deepest, layers_of
from medpos.explain.measured import windows
from medpos.networks import SegNetBasic, SmallCNN, UNet, UNet2015, USegNet
from medpos.networks.upsampling import max_unpool

NETWORKS = network_fields.NETWORKS


class Does(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, image):
        return self.function(image)


class Unpools(nn.Module):
    """Ceil pooling of what a convolution gives, and back."""

    def __init__(self):
        super().__init__()
        self.conv, self.pool = nn.Conv2d(1, 1, 3, padding=1), nn.MaxPool2d(2, ceil_mode=True, return_indices=True)

    def forward(self, image):
        features = self.conv(image)
        return self.conv(max_unpool(*self.pool(features), features.shape[2:]))


OPERATIONS = {
    "convolution": nn.Conv2d(1, 2, 5, padding=2),
    "strided": nn.Conv2d(1, 2, 3, stride=2, padding=1),
    "dilated": nn.Conv2d(1, 2, 3, padding=4, dilation=4),
    "without padding": nn.Conv2d(1, 2, (7, 3)),
    "reflected": nn.Conv2d(1, 2, 5, padding=2, padding_mode="reflect"),
    "padded": nn.Sequential(nn.ConstantPad2d(9, 0.0), nn.Conv2d(1, 1, 3)),
    "max-pooling": nn.MaxPool2d(2),
    "ceil pooling": nn.MaxPool2d(3, 2, ceil_mode=True),
    "padded pooling": nn.MaxPool2d(3, 2, padding=1),
    "average pooling": nn.AvgPool2d(3, 2, padding=1),
    "adaptive pooling": nn.AdaptiveAvgPool2d(5),
    "global pooling": Does(lambda x: x + x.mean((2, 3), keepdim=True)),
    "transposed": nn.Sequential(nn.Conv2d(1, 1, 3, 2, 1), nn.ConvTranspose2d(1, 2, 3, 2, 1, output_padding=1)),
    "dilated transposed": nn.ConvTranspose2d(1, 1, 3, padding=2, dilation=2),
    "wide transposed": nn.Sequential(nn.AvgPool2d(2), nn.ConvTranspose2d(1, 1, 8, 2, 3)),
    "bilinear": nn.Sequential(nn.AvgPool2d(4), nn.Upsample(scale_factor=4, mode="bilinear")),
    "corners aligned": nn.Sequential(nn.AvgPool2d(2), nn.Upsample(size=44, mode="bilinear", align_corners=True)),
    "nearest": nn.Sequential(nn.AvgPool2d(3), nn.Upsample(size=25)),
    "smaller": Does(lambda x: functional.interpolate(x, size=(15, 9), mode="bilinear")),
    "joined": Does(lambda x: torch.cat([x[:, :, 3:], x[:, :, :-3]], dim=1)),
    "added": Does(lambda x: x[:, :, ::2, ::2] + functional.avg_pool2d(x, 5, 2, 2)),
    "stacked": Does(lambda x: torch.stack([x, functional.pad(x, (0, 0, 5, -5))], dim=1).logsumexp(1)),
    "normalised": nn.Sequential(nn.LocalResponseNorm(3), nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(inplace=True)),
    "unpooling": Unpools(),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_row_sees_what_its_gradient_shows(name):
    network = OPERATIONS[name].eval()
    shape = (1, 41, 12)
    output = layers_of(network, shape)[-1]
    rows = range(output.shape[1])
    computed = list(zip(output.windows.first.tolist(), output.windows.last.tolist(), strict=True))
    found = windows(network, OUTPUT, shape, rows)
    # What a padding alone gives depends on nothing.
    assert [(0, -1) if last == -1 else (first, last) for first, last in computed] == found
    assert len(computed) == output.shape[1]


@pytest.mark.parametrize(
    ("name", "layer", "stride", "field"),
    [
        ("UNet", "conv5_2", 16, 140),  # computed by hand: 3 x 3 convolutions at strides 1 to 16, pools between
        ("UNet2015", "conv5", 16, 140),
        ("SmallCNN", "conv3", 1, 7),
        ("SegNetBasic", "pool:4", 16, 106),  # 7 x 7 convolutions at strides 1 to 8
        ("SegNet", "pool:5", 32, 212),  # VGG-16's fifth pooling
        ("USegNet", "pool:3", 8, 44),
    ],
)
def test_published_fields(name, layer, stride, field):
    coarsest, logits = network_fields.fields_of(name)
    assert coarsest == Field(layer, (stride, field), (stride, field))
    assert logits.computed[0] == logits.measured[0] == 1


@pytest.mark.parametrize("name", NETWORKS)
def test_both_agree(name):
    for field in network_fields.fields_of(name):
        assert field.computed == field.measured
        assert None not in field.computed or field.computed == (None, 0)


def test_page_is_fresh():
    assert network_fields.PAGE.read_text() == network_fields.page(), f"stale: run {network_fields.COMMAND}"


@pytest.mark.parametrize(
    ("network", "shape"),
    [(UNet, (1, 256, 32)), (USegNet, (3, 90, 12)), (SegNetBasic, (3, 240, 16)), (UNet2015, (1, 284, 188))],
)
def test_every_row_of_whole_networks(network, shape):
    """The pattern of the fields behind the upsampling, cut or not, not the largest alone."""
    model = network(width=1 / 64).eval()
    for layer in (deepest(layers := layers_of(model, shape)), layers[-1]):
        rows = range(0, layer.shape[1], max(layer.shape[1] // 24, 1))
        computed = [(int(layer.windows.first[row]), int(layer.windows.last[row])) for row in rows]
        assert windows(model, layer.name, shape, rows) == computed


def test_layers_are_named_in_order():
    layers = layers_of(USegNet(width=1 / 32).eval(), (3, 41, 24))
    names = [layer.name for layer in layers]
    assert names[:4] == ["conv1.0.conv", "conv1.0.norm", "conv1.0.relu", "conv1.0"]
    assert names[-1] == "output"
    assert [name for name in names if name.startswith("pool")] == ["pool:1", "pool:2", "pool:3"]
    assert {layer.name: layer.shape[1:] for layer in layers}["pool:2"] == (11, 6)


def test_a_network_that_is_too_deep_for_any_image_has_no_field():
    coarsest, logits = fields(nn.Sequential(nn.Conv2d(1, 1, 3), OPERATIONS["global pooling"]).eval(), 1, 8)
    assert logits.computed == logits.measured == (None, None)
    assert coarsest.computed == coarsest.measured == (1, 3)


def test_unknown_operations_are_refused():
    with pytest.raises(InputError, match=r"operation roll can't be followed; add its rule to RULES"):
        layers_of(Does(lambda x: x.roll(1, 2)), (1, 8, 8))
    with pytest.raises(InputError, match="along the rows can't be followed"):
        layers_of(Does(lambda x: x.logsumexp(2, keepdim=True)), (1, 8, 8))


def test_weights_stay_and_nothing_is_computed():
    model = SmallCNN(width=1 / 8).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    layers_of(model, (1, 16, 16))
    windows(model, "conv2", (1, 16, 16), [8])
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
