"""Test DeconvNet: its parameters counted by hand, its mirrored halves, published weights."""

import pytest
import torch

from medpos.core.errors import InputError
from medpos.networks import DeconvNet, DeepLabVGG, FCN8s, SegNet

# Input and output channels of the 3 x 3 convolutions, from the paper's table 2.
ENCODER = [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), *[(256, 256)] * 2, (256, 512), *[(512, 512)] * 5]
DECODER = [*[(512, 512)] * 5, (512, 256), *[(256, 256)] * 2, (256, 128), (128, 128), (128, 64), *[(64, 64)] * 2]
DENSE = [(512 * 49, 4096), (4096, 4096)]


def test_parameters_by_hand():
    """Each layer has weights, biases, and the scale and shift of its batch normalization."""
    convolutions = sum(9 * into * out + 3 * out for into, out in ENCODER + DECODER)
    dense = sum(into * out + 3 * out for into, out in DENSE) + 4096 * 512 * 49 + 3 * 512
    with torch.device("meta"):
        network = DeconvNet()
    assert sum(parameter.numel() for parameter in network.parameters()) == convolutions + dense + 64 * 21 + 21
    assert convolutions + dense + 64 * 21 + 21 == 251_805_653


def test_the_maxima_return_to_their_places():
    """Features are zero after the last unpooling, but at the maxima of the first pooling."""
    torch.manual_seed(0)
    network, seen = DeconvNet(width=1 / 32).eval(), {}
    network.conv1.register_forward_hook(lambda _, __, output: seen.update(pooled=output))
    network.deconv1.register_forward_pre_hook(lambda _, inputs: seen.update(unpooled=inputs[0]))
    with torch.no_grad():
        network(torch.rand(1, 3, 193, 200))
    pooled, unpooled = seen["pooled"], seen["unpooled"]
    assert unpooled.shape == pooled.shape
    maxima = torch.max_pool2d(pooled, 2, ceil_mode=True).repeat_interleave(2, 2).repeat_interleave(2, 3)[..., :193, :]
    assert unpooled.any()
    assert (pooled == maxima)[unpooled != 0].all()


def test_the_dense_layers_see_all_of_a_small_image():
    """The authors' 224 x 224 px give one vector, which fc6_deconv spreads over 7 x 7 px."""
    network, shapes = DeconvNet(width=1 / 32).eval(), {}
    for name in ("fc6", "fc7", "fc6_deconv"):
        network.get_submodule(name).register_forward_hook(
            lambda _, __, output, name=name: shapes.update({name: tuple(output.shape[1:])})
        )
    network(torch.rand(1, 3, 224, 224))
    assert shapes == {"fc6": (128, 1, 1), "fc7": (128, 1, 1), "fc6_deconv": (16, 7, 7)}


def test_dropout_follows_the_deeper_stages():
    drops = [name for name, layer in DeconvNet(dropout=0.5, width=1 / 32).named_modules() if "dropout" in name]
    assert drops == [*(f"conv{n}.dropout" for n in (3, 4, 5)), "dropout", *(f"deconv{n}.dropout" for n in (5, 4, 3))]
    assert DeconvNet(width=1 / 32).dropout.p == 0


def vgg16(narrow, publisher):
    """Make weights of VGG-16 with a publisher's names, of the shapes of a narrow network; dense layers are flat."""
    places = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    stages = [
        (stage, n) for stage, count in zip(range(1, 6), (2, 2, 3, 3, 3), strict=True) for n in range(1, count + 1)
    ]
    weights = {}
    for place, (stage, n) in zip(places, stages, strict=True):
        name = f"features.{place}" if publisher == "torchvision" else f"conv{stage}_{n}"
        conv = narrow.get_submodule(f"conv{stage}.conv{stage}_{n}.conv")
        weights |= {f"{name}.weight": torch.randn(conv.weight.shape), f"{name}.bias": torch.randn(conv.bias.shape)}
    for layer, name in (("fc6", "classifier.0"), ("fc7", "classifier.3")):
        name = name if publisher == "torchvision" else layer
        conv = narrow.get_submodule(f"{layer}.conv")
        weights |= {
            f"{name}.weight": torch.randn(conv.weight.flatten(1).shape),
            f"{name}.bias": torch.randn(len(conv.bias)),
        }
    return weights


@pytest.mark.parametrize("publisher", ["caffe", "torchvision"])
def test_vgg16_finds_its_places(publisher):
    network = DeconvNet(width=1 / 32)
    weights = vgg16(network, publisher)
    assert network.load_published(weights | {"fc8.weight": torch.zeros(1)}) == ["fc8.weight"]
    first, last = ("features.28", "classifier.0") if publisher == "torchvision" else ("conv5_3", "fc6")
    assert torch.equal(network.conv5.conv5_3.conv.weight, weights[f"{first}.weight"])
    assert torch.equal(network.fc6.conv.weight.flatten(1), weights[f"{last}.weight"])


def test_the_authors_network_finds_its_places():
    """All layers by the names of the authors' prototxt file, batch normalization too."""
    network = DeconvNet(width=1 / 32)
    special = {"fc6_deconv.conv": "fc6-deconv", "fc6_deconv.norm": "fc6-deconv-bn", "seg_score": "seg-score-voc"}
    norms = {"conv": "bn", "deconv": "debn", "fc6": "bnfc6", "fc7": "bnfc7"}
    weights = {}
    for name, values in network.state_dict().items():
        layer, _, kind = name.rpartition(".")
        own, _, part = layer.removesuffix(".").rpartition(".")
        own = own.rpartition(".")[2]
        begin, number = (own, "") if own.startswith("fc") else (own[:-3], own[-3:])
        published = special.get(layer) or (own if part == "conv" else f"{norms[begin]}{number}")
        if kind != "num_batches_tracked":
            weights[f"{published}.{kind}"] = torch.randn(values.shape)
    assert {"bn1_1.weight", "debn5_3.running_mean", "bnfc7.bias", "deconv1_2.weight"} <= weights.keys()
    assert network.load_published(weights) == []
    assert torch.equal(network.deconv4.deconv4_3.norm.running_var, weights["debn4_3.running_var"])
    assert torch.equal(network.fc6_deconv.conv.weight, weights["fc6-deconv.weight"])
    del weights["debn2_1.bias"]
    with pytest.raises(InputError, match="DeconvNet: these weights don't fit: 1 tensors missing"):
        network.load_published(weights)


def test_storage_of_segnets_comparison():
    """The recipes' MB, of weights, batch norm's statistics and FCN's frozen kernels."""
    with torch.device("meta"):
        networks = SegNet(3, 11), DeepLabVGG(3, 11), FCN8s(3, 11), DeconvNet(3, 11)
    stored = [sum(tensor.nbytes for tensor in network.state_dict().values()) / 1e6 for network in networks]
    assert [round(size) for size in stored] == [118, 82, 537, 1007]
