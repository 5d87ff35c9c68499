"""Compare receptive fields from the graph of a network with those that its gradients show."""

from functools import partial

import network_fields
import pytest
import torch
from running import leave_to_torture
from torch import nn
from torch.nn import functional

from medpos.core.errors import InputError
from medpos.explain.field_rules import UnknownOperationError
from medpos.explain.field_table import LayerField, NetworkFields, find_network_fields, render_table
from medpos.explain.layers import OUTPUT, find_deepest, trace_layers
from medpos.explain.measured_field import measure_fields
from medpos.networks import (
    DeepLabResNet,
    DeepLabVGG,
    FCN8s,
    FCN32s,
    FCNAlexNet,
    FCNGoogLeNet,
    SegNetBasic,
    SmallCNN,
    SUNet,
    UNet,
    UNet2015,
    USegNet,
)
from medpos.networks.layers.upsampling import max_unpool


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, image):
        return self.function(image)


class Unpools(nn.Module):
    """Convolve, pool with rounding up, and unpool."""

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
    "replicated": nn.Conv2d(1, 2, 5, padding=2, padding_mode="replicate"),
    "padded": nn.Sequential(nn.ConstantPad2d(9, 0.0), nn.Conv2d(1, 1, 3)),
    "max-pooling": nn.MaxPool2d(2),
    "ceil pooling": nn.MaxPool2d(3, 2, ceil_mode=True),
    "padded pooling": nn.MaxPool2d(3, 2, padding=1),
    "average pooling": nn.AvgPool2d(3, 2, padding=1),
    "adaptive pooling": nn.AdaptiveAvgPool2d(5),
    "global pooling": Function(lambda x: x + x.mean((2, 3), keepdim=True)),
    "transposed": nn.Sequential(nn.Conv2d(1, 1, 3, 2, 1), nn.ConvTranspose2d(1, 2, 3, 2, 1, output_padding=1)),
    "dilated transposed": nn.ConvTranspose2d(1, 1, 3, padding=2, dilation=2),
    "wide transposed": nn.Sequential(nn.AvgPool2d(2), nn.ConvTranspose2d(1, 1, 8, 2, 3)),
    "bilinear": nn.Sequential(nn.AvgPool2d(4), nn.Upsample(scale_factor=4, mode="bilinear")),
    "corners aligned": nn.Sequential(nn.AvgPool2d(2), nn.Upsample(size=44, mode="bilinear", align_corners=True)),
    "nearest": nn.Sequential(nn.AvgPool2d(3), nn.Upsample(size=25)),
    "smaller": Function(lambda x: functional.interpolate(x, size=(15, 9), mode="bilinear")),
    "joined": Function(lambda x: torch.cat([x[:, :, 3:], x[:, :, :-3]], dim=1)),
    "added": Function(lambda x: x[:, :, ::2, ::2] + functional.avg_pool2d(x, 5, 2, 2)),
    "stacked": Function(lambda x: torch.stack([x, functional.pad(x, (0, 0, 5, -5))], dim=1).logsumexp(1)),
    "normalized": nn.Sequential(nn.LocalResponseNorm(3), nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(inplace=True)),
    "unpooling": Unpools(),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_row_sees_what_its_gradient_shows(name):
    network = OPERATIONS[name].eval()
    shape = (1, 41, 12)
    output = trace_layers(network, shape)[-1]
    rows = range(output.shape[1])
    assert seen_by(output, rows) == measure_fields(network, OUTPUT, shape, rows)
    assert len(output.row_fields.first) == len(output.row_fields.last) == output.shape[1]


def seen_by(layer, rows):
    """Return the first and last row of the image for each row; (0, -1) for padding."""
    ends = [(int(layer.row_fields.first[row]), int(layer.row_fields.last[row])) for row in rows]
    return [(0, -1) if last == -1 else (first, last) for first, last in ends]


@pytest.mark.parametrize(
    ("name", "field", "rows"),
    [
        ("convolution", 5, 37),  # of 41, two at each end
        ("dilated", 9, 33),  # rows 1 to 3 see no edge row, but less than the others
        ("without padding", 7, 35),
        ("reflected", 5, 37),
        ("replicated", 5, 37),
        ("padded", 3, 39),  # more rows see only the padding
        ("padded pooling", 3, 19),
        ("ceil pooling", 3, 20),
        ("bilinear", 8, 36),  # of 40, two at each end have only one neighbor
        ("adaptive pooling", None, 0),
    ],
)
def test_fields_cut_by_the_edge_are_left_out(name, field, rows):
    output = trace_layers(OPERATIONS[name].eval(), (1, 41, 12))[-1]
    assert (output.receptive_field, len(output.complete_rows)) == (field, rows)
    assert set(output.field_sizes[output.complete_rows]) <= {field}


@pytest.mark.parametrize(
    ("name", "layer", "stride", "field"),
    [
        ("UNet", "conv5_2", 16, 140),  # computed by hand: 3 x 3 convolutions at strides 1 to 16, pools between
        ("UNet2015", "conv5", 16, 140),
        ("SmallCNN", "conv3", 1, 7),
        ("SegNetBasic", "pool:4", 16, 106),  # 7 x 7 convolutions at strides 1 to 8
        ("SegNet", "pool:5", 32, 212),  # VGG-16's fifth pooling
        ("USegNet", "pool:3", 8, 44),
        ("FCN32s", "fc6", 32, 404),  # 212 and six steps of 32
        ("FCNAlexNet", "fc6", 32, 355),
        ("FCNGoogLeNet", "inception5b", 32, 715),
        ("DeepLabVGG", "heads.0", 8, 435),
    ],
)
def test_published_fields(name, layer, stride, field):
    seen = network_fields.fields_of(name)
    assert seen.coarsest == LayerField(layer, (stride, field), (stride, field))
    assert seen.logits.computed[0] == seen.logits.measured[0] == 1


@pytest.mark.parametrize(
    ("name", "layer", "stride", "field"),
    [
        ("UNet", "score", 1, 236),
        ("FCN32s", "score_fr", 32, 404),
        ("FCN8s", "score_fr", 32, 404),  # not those of pool4 and pool3
        ("FCNAlexNet", "score_fr", 32, 355),
        ("FCNGoogLeNet", "score_fr", 32, 715),
        ("DeepLabVGG", "heads.0.fc8", 8, 435),
        ("DeepLabVGG, ASPP-L", "heads.3.fc8", 8, 435 - 16 + 2 * 12 * 8),  # a rate of 24, not 12; no average
        ("DeepLabResNet", "heads.3", 8, 1027 + 2 * 24 * 8),
    ],
)
def test_scores_are_what_the_classes_are_read_from(name, layer, stride, field):
    assert network_fields.fields_of(name).scores == LayerField(layer, (stride, field), (stride, field))


@pytest.mark.parametrize(("name", "stride"), [("SUNet", 16), ("SUNet, strided", 8)])
def test_output_stride_of_sunet_is_that_of_its_trunk(name, stride):
    seen = network_fields.fields_of(name)
    assert seen.scores.computed[0] == seen.scores.measured[0] == stride
    assert seen.coarsest.computed[0] == 4 * stride  # a u-net halves the size twice


def averaged(**options):
    """Build GoogLeNet with the classifier's 7 x 7 average pooling, which the FCN lacks."""
    network = FCNGoogLeNet(**options)
    network.dropout = nn.AvgPool2d(7, 1)
    return network


@pytest.mark.parametrize(
    ("network", "layer", "stride", "field"),
    [
        (FCN32s, "fc7", 32, 404),
        (FCNAlexNet, "fc7", 32, 355),
        (averaged, "dropout", 32, 907),
        (DeepLabVGG, "heads.0.fc6", 8, 435),
        (DeepLabResNet, "trunk.layer4", 8, 1027),  # 99 behind layer2, 23 blocks of 32 px, 3 of 64 px
        (partial(SUNet, variant="64", output_stride=32), "features", 32, None),
        (partial(SUNet, variant="64", output_stride=8), "features", 8, None),
    ],
)
def test_layers_of_natural_image_networks(network, layer, stride, field):
    with torch.device("meta"):
        model = network(width=1 / 64).eval()
    found = next(each for each in trace_layers(model, (3, 4097, 33)) if each.name == layer)
    assert found.stride == stride
    assert found.receptive_field == field or field is None


def test_circular_padding_has_no_field():
    """A row at the border sees both ends of the image, which no interval of rows describes."""
    with pytest.raises(UnknownOperationError, match="expected operations with a rule"):
        trace_layers(SmallCNN(padding_mode="circular"), (1, 41, 12))


# Slow variants of networks whose other forms stay.
SLOW = {"SUNet, three levels, dense", "FCNGoogLeNet, torchvision"}


@pytest.mark.parametrize("name", leave_to_torture(network_fields.NAMES, SLOW))
def test_both_agree(name):
    seen = network_fields.fields_of(name)
    for field in (seen.scores, seen.coarsest, seen.logits):
        assert field.computed == field.measured
        assert None not in field.computed or field.computed == (None, 0)


def test_both_numbers_are_listed_if_they_differ():
    field = LayerField("a", (8, 20), (8, 19))
    page = render_table({"one": lambda: NetworkFields(field, field, LayerField("b", (1, 21), (1, 21)))}, "command")
    assert page.splitlines()[-1] == "| one | `a` | 8 | 20, **measured 19** | `a` | 8 | 20, **measured 19** | 21 |"


def test_page_is_fresh():
    assert network_fields.PAGE.read_text() == network_fields.page(), f"stale: run {network_fields.COMMAND}"


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (UNet, (1, 256, 32)),
        (USegNet, (3, 90, 12)),
        (SegNetBasic, (3, 240, 16)),
        (UNet2015, (1, 284, 188)),
        (FCN8s, (3, 301, 9)),
        (FCNGoogLeNet, (3, 150, 9)),
        (partial(DeepLabVGG, head="aspp_s"), (3, 257, 17)),
        (partial(SUNet, variant="64"), (3, 130, 17)),
    ],
)
def test_every_row_of_whole_networks(network, shape):
    """Compare the fields of all rows behind the upsampling, cut or not, beyond the largest."""
    model = network(width=1 / 64).eval()
    for layer in (find_deepest(layers := trace_layers(model, shape)), layers[-1]):
        rows = range(0, layer.shape[1], max(layer.shape[1] // 24, 1))
        assert measure_fields(model, layer.name, shape, rows) == seen_by(layer, rows)


def test_layers_are_named_in_order():
    layers = trace_layers(USegNet(width=1 / 32).eval(), (3, 41, 24))
    names = [layer.name for layer in layers]
    assert names[:4] == ["conv1.0.conv", "conv1.0.norm", "conv1.0.relu", "conv1.0"]
    assert names[-1] == "output"
    assert [name for name in names if name.startswith("pool")] == ["pool:1", "pool:2", "pool:3"]
    assert {layer.name: layer.shape[1:] for layer in layers}["pool:2"] == (11, 6)


def test_a_network_that_is_too_deep_for_any_image_has_no_field():
    seen = find_network_fields(nn.Sequential(nn.Conv2d(1, 1, 3), OPERATIONS["global pooling"]).eval(), 1, 8)
    assert seen.logits.computed == seen.logits.measured == (None, None)
    assert seen.coarsest.computed == seen.coarsest.measured == (1, 3)


def test_unknown_operations_are_refused():
    with pytest.raises(InputError, match=r"got roll in the network; add its rule to RULES"):
        trace_layers(Function(lambda x: x.roll(1, 2)), (1, 8, 8))
    with pytest.raises(InputError, match="got one along the rows; add its rule"):
        trace_layers(Function(lambda x: x.logsumexp(2, keepdim=True)), (1, 8, 8))


def test_weights_stay_and_nothing_is_computed():
    model = SmallCNN(width=1 / 8).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trace_layers(model, (1, 16, 16))
    measure_fields(model, "conv2", (1, 16, 16), [8])
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
