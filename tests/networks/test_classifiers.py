"""Test ResNet and DenseNet: torchvision's names and shapes, published counts, dilation, and published weights."""

import dataclasses
import functools
import io

import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from medpos.bundle.pretrained import begin
from medpos.core.errors import InputError
from medpos.networks import DenseNetClassifier, DilatedResNet, ResNetClassifier
from medpos.networks.classification.densenet import DEPTHS as DENSENETS

# Parameters as torchvision publishes them, and the tensors of the state dicts.
PUBLISHED = {
    (ResNetClassifier, 18): (11_689_512, 122),
    (ResNetClassifier, 50): (25_557_032, 320),
    (ResNetClassifier, 101): (44_549_160, 626),
    (DenseNetClassifier, 161): (28_681_000, 967),
    (DenseNetClassifier, 201): (20_013_928, 1207),
}
BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
GROWTH = {161: (48, 96, (6, 12, 36, 24)), 201: (32, 64, (6, 12, 48, 32))}


@functools.cache
def on_paper(network, depth, **options):
    with torch.device("meta"):
        return network(depth=depth, **options).eval()


def small(network, depth, **options):
    torch.manual_seed(0)
    return network(depth=depth, width=1 / 16, **options).eval()


def image(*size, batch=1):
    return torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(1))


def conv(name, out_channels, in_channels, side):
    return {f"{name}.weight": (out_channels, in_channels, side, side)}


def norm(name, channels):
    return {f"{name}.{kind}": (channels,) for kind in ("weight", "bias", "running_mean", "running_var")}


def dense(name, out_channels, in_channels):
    return {f"{name}.weight": (out_channels, in_channels), f"{name}.bias": (out_channels,)}


def resnet_layout(depth):
    """List the names and shapes of torchvision's state dict, by the rules of its published files."""
    basic = depth == 18
    shapes, last = conv("conv1", 64, 3, 7) | norm("bn1", 64), 64
    for stage, blocks in enumerate(BLOCKS[depth], 1):
        inner = 32 * 2**stage
        outer = inner if basic else 4 * inner
        for n in range(blocks):
            name = f"layer{stage}.{n}"
            parts = (
                [(inner, last, 3), (inner, inner, 3)]
                if basic
                else [(inner, last, 1), (inner, inner, 3), (outer, inner, 1)]
            )
            for place, part in enumerate(parts, 1):
                shapes |= conv(f"{name}.conv{place}", *part) | norm(f"{name}.bn{place}", part[0])
            if n == 0 and last != outer:
                shapes |= conv(f"{name}.downsample.0", outer, last, 1) | norm(f"{name}.downsample.1", outer)
            last = outer
    return shapes | dense("fc", 1000, last)


def densenet_layout(depth):
    """List the names and shapes of the published files, which have a dot before the last digit of a layer."""
    growth, last, blocks = GROWTH[depth]
    shapes = conv("features.conv0", last, 3, 7) | norm("features.norm0", last)
    for block, layers in enumerate(blocks, 1):
        for n in range(1, layers + 1):
            name = f"features.denseblock{block}.denselayer{n}"
            shapes |= norm(f"{name}.norm.1", last) | conv(f"{name}.conv.1", 4 * growth, last, 1)
            shapes |= norm(f"{name}.norm.2", 4 * growth) | conv(f"{name}.conv.2", growth, 4 * growth, 3)
            last += growth
        if block < 4:
            name = f"features.transition{block}"
            shapes |= norm(f"{name}.norm", last) | conv(f"{name}.conv", last // 2, last, 1)
            last //= 2
    return shapes | norm("features.norm5", last) | dense("classifier", 1000, last)


def layout(network, depth):
    return (resnet_layout if network is ResNetClassifier else densenet_layout)(depth)


def values_of(shapes):
    """Give every tensor a value of its own, without memory for its copies."""
    return {name: torch.tensor(float(n)).expand(shape) for n, (name, shape) in enumerate(shapes.items())}


@pytest.mark.parametrize(("network", "depth"), PUBLISHED)
class TestPublished:
    def test_counts(self, network, depth):
        parameters, tensors = PUBLISHED[network, depth]
        model, shapes = on_paper(network, depth), layout(network, depth)
        assert sum(parameter.numel() for parameter in model.parameters()) == parameters
        by_hand = {name: shape for name, shape in shapes.items() if "running" not in name}
        assert sum(torch.Size(shape).numel() for shape in by_hand.values()) == parameters
        counters = sum(name.endswith("running_var") for name in shapes)
        assert len(model.state_dict()) == len(shapes) + counters == tensors

    def test_every_published_tensor_has_its_place(self, network, depth):
        own = {name: tuple(tensor.shape) for name, tensor in on_paper(network, depth).state_dict().items()}
        wanted = {
            name.replace("norm.", "norm").replace("conv.", "conv") if ".denselayer" in name else name: shape
            for name, shape in layout(network, depth).items()
        }
        assert {name: shape for name, shape in own.items() if not name.endswith("num_batches_tracked")} == wanted

    def test_classifies_224_px_from_a_map_of_7_px(self, network, depth):
        model, found = on_paper.__wrapped__(network, depth), []
        last = model.layer4 if network is ResNetClassifier else model.features
        last.register_forward_hook(lambda _, __, output: found.append(output.shape[1:]))
        assert model(torch.zeros(2, 3, 224, 224, device="meta")).shape == (2, 1000)
        channels = {18: 512, 50: 2048, 101: 2048, 161: 2208, 201: 1920}[depth]
        assert found == [(channels, 7, 7)]


@pytest.mark.parametrize(("network", "depth"), [(ResNetClassifier, 18), (DenseNetClassifier, 161)])
def test_published_values_are_loaded(network, depth, tmp_path):
    weights = values_of(layout(network, depth))
    model = network(depth=depth)
    torch.save({name: tensor.contiguous() for name, tensor in weights.items()}, tmp_path / "published.pth")
    begin(model, weights=str(tmp_path / "published.pth"), publisher="torchvision")
    own = {name: tensor for name, tensor in model.state_dict().items() if not name.endswith("num_batches_tracked")}
    assert [tensor.flatten()[0].item() for tensor in own.values()] == list(range(len(weights)))
    missing = {name: tensor for name, tensor in weights.items() if name != next(iter(weights))}
    with pytest.raises(InputError, match="1 tensors missing"):
        model.load_published(missing)


def test_a_dilated_resnet_begins_with_the_classifier(tmp_path):
    classifier = small(ResNetClassifier, 50)
    model = small(DilatedResNet, 50)
    before = model.final.conv1.weight.clone()
    nn.init.ones_(classifier.bn1.running_mean)
    assert model.load_published(classifier.state_dict()) == ["fc.weight", "fc.bias"]
    assert torch.equal(model.bn1.running_mean, torch.ones(4))
    assert torch.equal(model.final.conv1.weight, before)
    torch.save(classifier.state_dict(), tmp_path / "model.pt")
    begin(small(DilatedResNet, 50), transplant=str(tmp_path / "model.pt"))


class TestResNet:
    def test_the_stride_is_in_the_3_x_3_convolution(self):
        block = on_paper(ResNetClassifier, 50).layer2[0]
        assert (block.conv1.stride, block.conv2.stride) == ((1, 1), (2, 2))
        assert not on_paper(ResNetClassifier, 50).maxpool.ceil_mode

    @pytest.mark.parametrize("size", [(64, 64), (65, 58)])
    @pytest.mark.parametrize("depth", [18, 50])
    @pytest.mark.parametrize("output_stride", [16, 8])
    @torch.no_grad()
    def test_dilation_computes_the_classifier_s_features_between_its_positions_too(self, output_stride, depth, size):
        classifier = small(ResNetClassifier, depth)
        dilated = small(DilatedResNet, depth, output_stride=output_stride)
        dilated.load_published(classifier.state_dict())
        every, given = 32 // output_stride, image(*size)
        found = nn.Sequential(*list(dilated)[:-1])(given)[:, :, ::every, ::every]
        wanted = nn.Sequential(*list(classifier)[:-3])(given)
        assert wanted.shape[2] == 2 + (size[0] > 64)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))

    def test_dilations_of_each_stage(self):
        def dilations(output_stride):
            model = on_paper(DilatedResNet, 101, output_stride=output_stride)
            stages = [getattr(model, f"layer{stage}") for stage in (2, 3, 4)]
            return [[block.conv2.dilation[0] for block in (stage[0], stage[1], stage[-1])] for stage in stages]

        assert dilations(32) == [[1, 1, 1]] * 3
        assert dilations(16) == [[1, 1, 1], [1, 1, 1], [1, 2, 2]]
        assert dilations(8) == [[1, 1, 1], [1, 2, 2], [2, 4, 4]]

    def test_parameters_of_table_3(self):
        model = on_paper(DilatedResNet, 101)
        assert sum(parameter.numel() for parameter in model.parameters()) == 44_549_160 - 2_049_000 + 21 * 2049
        assert model.final.conv1.kernel_size == (1, 1)
        assert {layer.momentum for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)} == {0.01}

    @torch.no_grad()
    def test_scores_are_upsampled_bilinearly(self):
        model = small(DilatedResNet, 18)
        scores = nn.Sequential(*model)(image(40, 33))
        assert scores.shape[2:] == (3, 3)
        torch.testing.assert_close(model(image(40, 33)), F.interpolate(scores, (40, 33), mode="bilinear"))

    def test_frozen_by_an_argument(self):
        model = small(DilatedResNet, 18, freeze_bn=True).train()
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        model(image(40, 40, batch=2)).sum().backward()
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
        assert model.bn1.weight.grad is None

    def test_refusals(self):
        with pytest.raises(InputError, match="depth: expected one of 18, 50, 101, got 34"):
            ResNetClassifier(depth=34)
        with pytest.raises(InputError, match="output_stride: expected one of 32, 16, 8, got 4"):
            DilatedResNet(output_stride=4)


class TestDenseNet:
    @torch.no_grad()
    def test_every_layer_appends_to_an_unchanged_input(self):
        layer, given = small(DenseNetClassifier, 161).features.denseblock1.denselayer2, torch.rand(1, 9, 5, 6) - 0.5
        found = layer(given)
        assert found.shape == (1, 12, 5, 6)
        assert torch.equal(found[:, :9], given)

    def test_a_transition_halves_channels_and_size(self):
        transition = on_paper(DenseNetClassifier, 201).features.transition2
        assert transition(torch.zeros(1, 512, 28, 30, device="meta")).shape == (1, 256, 14, 15)

    @torch.no_grad()
    def test_the_smallest_image(self):
        model = small(DenseNetClassifier, 161)
        assert model(image(29, 30)).shape == (1, 1000)
        with pytest.raises(InputError, match="at least 29 px"):
            model(image(28, 30))
        model.smallest = 1
        with pytest.raises(RuntimeError):
            model(image(28, 30))
        with pytest.raises(InputError, match="depth: expected one of 161, 201, got 121"):
            DenseNetClassifier(depth=121)


@pytest.mark.parametrize(
    ("network", "depth"), [(ResNetClassifier, 18), (ResNetClassifier, 50), (DenseNetClassifier, 161)]
)
class TestAnyClassifier:
    def test_every_parameter_gets_a_gradient(self, network, depth):
        model = small(network, depth, out_channels=5).train()
        (model(image(64, 70, batch=2)) * torch.arange(10.0).reshape(2, 5)).sum().backward()
        assert all(parameter.grad is not None for parameter in model.parameters())

    @torch.no_grad()
    def test_exports(self, network, depth, monkeypatch):
        monkeypatch.setitem(DENSENETS, 161, dataclasses.replace(DENSENETS[161], layers=(2, 1, 1, 1)))  # takes less time
        model, given, buffer = small(network, depth, out_channels=5), image(40, 33), io.BytesIO()
        wanted = model(given)
        with torch.jit.optimized_execution(False):
            torch.testing.assert_close(torch.jit.script(model)(given), wanted)
        torch.onnx.export(model, (given,), buffer, dynamo=False)
        session = onnxruntime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
        found = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: given.numpy()})[0])
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))
