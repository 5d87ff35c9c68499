"""Test DeepLab: grid of 8 px, field of view, sums of heads, scales, frozen norms, published weights."""

import pytest
import torch
from monai.engines import SupervisedTrainer
from monai.inferers import SimpleInferer
from torch import nn
from torch.nn import functional as F  # noqa: N812

from medpos.core.errors import InputError
from medpos.inferers import FastInferer
from medpos.losses import ScoreCrossEntropy
from medpos.networks import DeepLabResNet, DeepLabVGG
from medpos.networks.fully_convolutional.deeplab import MULTI_SCALE
from medpos.networks.fully_convolutional.vgg import LAYERS, STAGES, TORCHVISION
from medpos.optim.groups import parameter_groups

# v1, table 2, and v2; the heads in the table of all networks are left out.
COUNTS = {
    (DeepLabVGG, "7x7"): 134_346_581,
    (DeepLabVGG, "small_fov"): 65_140_565,
    (DeepLabVGG, "4x4"): 65_140_565,
    (DeepLabVGG, "aspp_s"): 37_877_652,
    (DeepLabResNet, "1x1"): 42_500_160 + 21 * (2048 + 1),
    (DeepLabResNet, "large_fov"): 42_887_253,
    (DeepLabResNet, "aspp_s"): 44_048_532,
}
RATES = {"aspp_s": (2, 4, 8, 12), "aspp_l": (6, 12, 18, 24), "large_fov": (12,)}


def narrow(network=DeepLabVGG, width=1 / 32, **options):
    torch.manual_seed(0)
    return network(width=width, **options).eval()


def image(*size, batch=1):
    return torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("network", "head"), COUNTS)
def test_counts_and_sizes(network, head):
    with torch.device("meta"):
        model = network(head=head)
        assert sum(p.numel() for p in model.parameters()) == COUNTS[network, head]
        assert model.train()(torch.zeros(1, 3, 321, 321)).shape == (1, 21, 41, 41)
        assert model.eval()(torch.zeros(1, 3, 513, 321)).shape == (1, 21, 513, 321)


def test_trunk_of_resnet101():
    with torch.device("meta"):
        trunk = DeepLabResNet().trunk
    assert sum(p.numel() for p in trunk.parameters()) == 42_500_160
    for stage, dilation in {"layer1": 1, "layer2": 1, "layer3": 2, "layer4": 4}.items():
        blocks = trunk.get_submodule(stage)
        assert {block.conv2.dilation for block in blocks} == {(dilation, dilation)}
    # The stride is the first 1 x 1 convolution's, unlike torchvision's.
    assert (trunk.layer2[0].conv1.stride, trunk.layer2[0].conv2.stride) == ((2, 2), (1, 1))
    assert trunk.layer3[0].conv1.stride == trunk.layer4[0].conv1.stride == (1, 1)
    assert trunk.maxpool.ceil_mode


@pytest.mark.parametrize(("network", "sizes"), [(DeepLabVGG, range(1, 801)), (DeepLabResNet, (1, 9, 10, 16, 57))])
@torch.no_grad()
def test_every_size_of_8k_plus_1_is_taken_and_no_other(network, sizes):
    with torch.device("meta"):
        model = network(width=1 / 64)
        for size in sizes:
            if size % 8 == 1:
                assert model.eval()(torch.zeros(1, 3, size, 9)).shape == (1, 21, size, 9)
                assert model.train()(torch.zeros(1, 3, size, 9)).shape == (1, 21, size // 8 + 1, 2)
            else:
                with pytest.raises(
                    InputError, match=f"{network.__name__}: expected sides that are .* got {size} x 9 px"
                ):
                    model(torch.zeros(1, 3, size, 9))
        with pytest.raises(
            InputError, match=r"expected sides that are 8 k \+ 1 .* got 500 x 500 px; .* 497 x 497 or 505 x 505"
        ):
            model(torch.zeros(1, 3, 500, 500))


@torch.no_grad()
def test_a_score_of_large_fov_sees_435_px_around_every_8th():
    """Set a pixel to NaN, which reaches exactly the scores that depend on it."""
    model, middle = narrow(width=1 / 64), 224
    strips = torch.zeros(4, 3, 1, 449)
    for strip, place in zip(strips, (middle - 217, middle - 218, middle + 217, middle + 218), strict=True):
        strip[:, :, place] = torch.nan
    with torch.backends.mkldnn.flags(enabled=False):  # whose fast algorithms mix neighbors
        seen = model.scores(strips)[:, 0, 0, middle // 8].isnan()
    assert seen.tolist() == [True, False, True, False]


@pytest.mark.parametrize("head", ["aspp_s", "aspp_l"])
@torch.no_grad()
def test_heads_of_the_pyramid_are_parallel_and_their_scores_summed(head):
    for model in (narrow(head=head), narrow(DeepLabResNet, head=head)):
        features = model.trunk(image(33, 33))
        parts = [one(features) for one in model.heads]
        torch.testing.assert_close(model.scores(image(33, 33)), parts[0] + parts[1] + parts[2] + parts[3])
        firsts = [one if isinstance(one, nn.Conv2d) else one.fc6 for one in model.heads]
        assert tuple(first.dilation[0] for first in firsts) == RATES[head]
    assert not hasattr(narrow(head=head).trunk, "pool5a")
    assert isinstance(narrow().trunk.pool5a, nn.AvgPool2d)


@torch.no_grad()
def test_whole_images_are_enlarged_with_corners_on_corners():
    model = narrow()
    scores, logits = model.scores(image(33, 41)), model(image(33, 41))
    torch.testing.assert_close(logits[:, :, ::8, ::8], scores, rtol=0, atol=1e-6)
    torch.testing.assert_close(logits[:, :, 4, 0], (scores[:, :, 0, 0] + scores[:, :, 1, 0]) / 2, rtol=0, atol=1e-6)


@torch.no_grad()
def test_resnet_without_large_fov_scores_each_pixel_by_its_own_features():
    model = narrow(DeepLabResNet, head="1x1")
    [head] = model.heads
    features = model.trunk(image(33, 41))
    wanted = torch.einsum("nchw,kc->nkhw", features, head.weight[:, :, 0, 0]) + head.bias[:, None, None]
    torch.testing.assert_close(model.scores(image(33, 41)), wanted, rtol=1e-4, atol=1e-6)


def test_first_weights():
    for model, last in ((DeepLabVGG(head="aspp_l", width=1 / 4), "fc8"), (DeepLabResNet(width=1 / 4), None)):
        for head in model.heads:
            layer = head.get_submodule(last) if last else head
            assert layer.weight.std().item() == pytest.approx(0.01, rel=0.1)
            assert not layer.bias.any()


def test_dropout_is_in_both_dense_layers():
    drops = [name for name, layer in narrow(head="aspp_l").named_modules() if isinstance(layer, nn.Dropout)]
    assert drops == [f"heads.{n}.drop{layer}" for n in range(4) for layer in (6, 7)]


class TestScales:
    @pytest.mark.parametrize("network", [DeepLabVGG, DeepLabResNet])
    @torch.no_grad()
    def test_maximum_of_the_scales(self, network):
        model, whole = narrow(network, scales=MULTI_SCALE), image(65, 33)
        sizes = ((65, 33), (49, 25), (33, 17))
        scores = [model.scores(F.interpolate(whole, s, mode="bilinear", align_corners=True)) for s in sizes]
        same = [F.interpolate(one, (9, 5), mode="bilinear", align_corners=True) for one in scores]
        best = torch.stack(same).amax(0)
        torch.testing.assert_close(
            model(whole), F.interpolate(best, (65, 33), mode="bilinear", align_corners=True), rtol=1e-4, atol=1e-5
        )
        # Each scale is the best somewhere, or the test says nothing of it.
        assert all((best == one).any() for one in same)
        model.train()
        for layer in model.modules():
            if isinstance(layer, (nn.Dropout, nn.BatchNorm2d)):
                layer.eval()
        for found, wanted in zip(model(whole), [*scores, best], strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)

    def test_sizes(self):
        with torch.device("meta"):
            model = DeepLabVGG(width=1 / 64, scales=MULTI_SCALE)
            shapes = [tuple(output.shape[2:]) for output in model(torch.zeros(1, 3, 321, 97))]
            assert shapes == [(41, 13), (31, 10), (21, 7), (41, 13)]
            with pytest.raises(InputError, match=r"32 k \+ 1 .* 321 x 321 or 353 x 353"):
                model(torch.zeros(1, 3, 329, 329))

    def test_the_weights_are_those_of_one_scale(self):
        assert narrow().state_dict().keys() == narrow(scales=MULTI_SCALE).state_dict().keys()

    @torch.no_grad()
    def test_networks_can_be_scripted_and_traced(self):
        model = narrow(scales=MULTI_SCALE)
        for converted in (torch.jit.script(model), torch.jit.trace(model, image(33, 33), check_trace=False)):
            with torch.jit.optimized_execution(False):
                torch.testing.assert_close(converted(image(65, 33)), model(image(65, 33)), rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("amp", [True, False])
    def test_monais_trainer_handles_several_outputs(self, amp):
        model = narrow(scales=MULTI_SCALE)
        before = [p.detach().clone() for p in model.parameters()]
        trainer = SupervisedTrainer(
            device=torch.device("cpu"),
            max_epochs=1,
            train_data_loader=[{"image": image(33, 33, batch=2), "label": torch.ones(2, 33, 33, dtype=torch.long)}],
            network=model,
            optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
            loss_function=ScoreCrossEntropy(),
            inferer=FastInferer(SimpleInferer(), amp),
            decollate=False,
        )
        trainer.run()
        outputs = trainer.state.output["pred"]
        assert [tuple(output.shape[2:]) for output in outputs] == [(5, 5), (4, 4), (3, 3), (5, 5)]
        assert {output.dtype for output in outputs} == {torch.float32}
        assert sum(not torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True)) > len(before) // 2
        with torch.no_grad():
            assert FastInferer(SimpleInferer(), amp)(image(33, 33), model.eval()).shape == (1, 21, 33, 33)


class TestFrozenNorms:
    def test_training_moves_neither_statistics_nor_weights(self):
        model = narrow(DeepLabResNet).train()
        norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
        assert len(norms) == 1 + 33 * 3 + 4
        assert not any(norm.training for norm in norms)
        model(image(33, 33, batch=2)).sum().backward()
        assert all(p.grad is None for norm in norms for p in norm.parameters())
        assert not any(norm.running_mean.any() for norm in norms)
        assert model.trunk.conv1.weight.grad is not None

    def test_networks_learn_without_published_weights(self):
        model = narrow(DeepLabResNet, frozen_norms=False).train()
        model(image(33, 33, batch=2)).sum().backward()
        assert model.trunk.bn1.weight.grad is not None
        assert model.trunk.bn1.running_mean.any()


def vgg16(names):
    """Make weights of VGG-16: one value per tensor, and in the dense layers one value per position."""
    values, last, shapes = {}, 3, [channels for stage in STAGES.values() for channels in stage]
    for number, (layer, channels) in enumerate(zip(LAYERS, shapes, strict=True)):
        name = layer if names == "caffe" else f"features.{TORCHVISION[layer]}"
        values[f"{name}.weight"] = torch.full((1, 1, 1, 1), float(number)).expand(channels, last, 3, 3)
        values[f"{name}.bias"] = torch.full((1,), -float(number)).expand(channels)
        last = channels
    fc6, fc7, fc8 = ("fc6", "fc7", "fc8") if names == "caffe" else (f"classifier.{n}" for n in (0, 3, 6))
    places = torch.arange(49.0).expand(512, 49).reshape(-1)
    values[f"{fc6}.weight"] = places.expand(4096, 512 * 49)
    values[f"{fc6}.bias"] = values[f"{fc7}.bias"] = torch.arange(4096.0)
    values[f"{fc7}.weight"] = torch.arange(4096.0).expand(4096, 4096)
    return values | {f"{fc8}.weight": torch.zeros(1000, 4096), f"{fc8}.bias": torch.zeros(1000)}


class TestPublishedWeights:
    @pytest.mark.parametrize("names", ["caffe", "torchvision"])
    @pytest.mark.parametrize(("head", "kept"), [("large_fov", (0, 3, 6)), ("aspp_l", (0, 3, 6)), ("4x4", (0, 2, 4, 6))])
    def test_vgg16(self, names, head, kept):
        model, weights = DeepLabVGG(head=head), vgg16(names)
        left = model.load_published(weights)
        assert left == [name for name in weights if name.startswith(("fc8", "classifier.6"))]
        for number, layer in enumerate(LAYERS):
            conv = model.trunk.get_submodule(layer)
            assert (conv.weight == number).all()
            assert (conv.bias == -number).all()
        every = 1 if head == "4x4" else 4
        for one in model.heads:
            assert one.fc6.weight[5, 7].tolist() == [[7 * row + column for column in kept] for row in kept]
            assert torch.equal(one.fc6.bias, torch.arange(4096.0)[::every])
            assert torch.equal(one.fc7.weight[3].flatten(), torch.arange(4096.0)[::every])
            assert not one.fc8.bias.any()

    def test_whole_fc6(self):
        with torch.device("meta"):
            model = DeepLabVGG(head="7x7")
            assert model.load_published({name: torch.zeros(v.shape) for name, v in vgg16("torchvision").items()}) == [
                "classifier.6.weight",
                "classifier.6.bias",
            ]

    @pytest.mark.parametrize("head", ["large_fov", "aspp_s"])
    def test_the_authors_own(self, head):
        """Load the authors' names without mixing up the parallel heads."""
        model, twin = DeepLabVGG(head=head), DeepLabVGG(head=head)
        parallel, weights = len(model.heads) > 1, {}
        for name, values in twin.state_dict().items():
            place, _, kind = name.rpartition(".")
            kin = place.split(".")
            layer = kin[-1].replace("fc8", "fc8_voc12")
            weights[f"{layer}_{int(kin[1]) + 1}.{kind}" if kin[0] == "heads" and parallel else f"{layer}.{kind}"] = (
                values
            )
        assert "fc8_voc12_3.bias" in weights or not parallel
        assert model.load_published(weights) == []
        for name, values in model.state_dict().items():
            assert torch.equal(values, twin.state_dict()[name]), name
        # Other classes: the last layers are left over, and said so.
        left = DeepLabVGG(out_channels=19, head=head).load_published(weights)
        assert left == [name for name in weights if name.startswith("fc8_voc12")]

    def test_resnet101(self):
        with torch.device("meta"):
            model, twin = DeepLabResNet(), DeepLabResNet().state_dict()
        weights = {name.removeprefix("trunk."): values for name, values in twin.items() if name.startswith("trunk.")}
        assert weights["layer3.22.conv2.weight"].shape == (256, 256, 3, 3)
        assert weights["layer1.0.downsample.1.running_var"].shape == (256,)
        imagenet = weights | {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
        assert len(imagenet) == 626  # torchvision's, with the counters of batches
        assert model.load_published(imagenet) == ["fc.weight", "fc.bias"]
        heads = {f"fc1_voc12_c{n}.{kind}": twin[f"heads.{n}.{kind}"] for n in range(4) for kind in ("weight", "bias")}
        assert model.load_published(weights | heads) == []
        del heads["fc1_voc12_c2.bias"], weights["layer4.2.bn3.weight"]
        with pytest.raises(InputError, match="2 tensors missing"):
            model.load_published(weights | heads)

    def test_a_missing_or_narrow_layer_is_refused(self):
        weights = {name: torch.zeros(values.shape, device="meta") for name, values in vgg16("torchvision").items()}
        with torch.device("meta"):
            with pytest.raises(InputError, match="of another shape"):
                DeepLabVGG(width=1 / 2).load_published(weights)
            del weights["classifier.3.bias"]
            with pytest.raises(InputError, match=r"1 tensors missing \(first fc7_1.bias or fc7.bias or classifier.3"):
                DeepLabVGG().load_published(weights)


def test_last_layers_learn_ten_times_as_fast():
    model = narrow(head="aspp_l")
    factors = {r"fc8\.bias$": [20, 0], r"fc8\.": [10, 1], "bias$": [2, 0]}
    groups = parameter_groups(model, 1e-3, 5e-4, factors)
    assert [(group["lr"], len(group["params"])) for group in groups] == [(0.02, 4), (0.01, 4), (0.002, 21), (0.001, 21)]
    groups = parameter_groups(narrow(DeepLabResNet), 2.5e-4, 5e-4, {"^heads.*bias$": [20, 0], "^heads": [10, 1]})
    assert [(group["lr"], len(group["params"])) for group in groups] == [(5e-3, 4), (2.5e-3, 4), (2.5e-4, 104)]


def test_refusals():
    with pytest.raises(InputError, match="head: expected one of 7x7, small_fov, 4x4, large_fov, aspp_s"):
        narrow(head="aspp")
    with pytest.raises(
        InputError, match="head: expected one of 7x7, small_fov, 4x4, large_fov, aspp_s, aspp_l, got '1x1'"
    ):
        narrow(head="1x1")
    with pytest.raises(InputError, match="head: expected one of 1x1, large_fov"):
        narrow(DeepLabResNet, head="7x7")
    for scales in ((0.5,), (0, 1)):
        with pytest.raises(InputError, match=r"scales: expected .* 1 among them"):
            narrow(scales=scales)
