"""Test SUNet: modules with a shared expansion, multigrid dilation, one state dict, any size, published names."""

import dataclasses
import functools
import io

import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from medpos.core.errors import InputError
from medpos.core.labels import IGNORED
from medpos.losses.dense import summed_loss
from medpos.networks import SUNet, SUNetClassifier
from medpos.networks.sunet.module import Decoder, Grid, ResidualBlock, UNetModule, choose_grids, encoder
from medpos.networks.sunet.network import SMALLEST, VARIANTS, select_strongest

UNetPlus = functools.partial(UNetModule, levels=1)


@functools.cache
def on_paper(network, **options):
    """Build the network without memory for its values; no test may change it."""
    with torch.device("meta"):
        return network(**options).eval()


def small(network=SUNet, **options):
    torch.manual_seed(0)
    return network(variant="64", width=1 / 16, **options).eval()


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def convolutions(model):
    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, kinds)}


class TestTable1:
    @pytest.mark.parametrize(
        ("variant", "classification", "segmentation"),
        [("64", 6_910_248, 5_906_773), ("128", 24_704_360, 22_698_389), ("7-128", 39_113_832, 36_857_237)],
    )
    def test_parameters(self, variant, classification, segmentation):
        assert count(on_paper(SUNetClassifier, variant=variant)) == classification
        assert {count(on_paper(SUNet, variant=variant, output_stride=s)) for s in (32, 16, 8)} == {segmentation}

    def test_parameters_with_degridding(self):
        assert count(on_paper(SUNet, degridding=True)) == 49_798_805

    def test_published_count_of_the_128_is_of_its_weights(self):
        assert (
            sum(p.numel() for p in on_paper(SUNetClassifier, variant="128").parameters() if p.dim() > 1) == 24_618_176
        )

    @pytest.mark.parametrize(("variant", "layers"), [("64", 110), ("128", 110), ("7-128", 170)])
    def test_layers(self, variant, layers):
        names = list(convolutions(on_paper(SUNetClassifier, variant=variant)))
        shortcuts = [name for name in names if "shortcut" in name or "upsample" in name]
        assert len(shortcuts) == 5
        assert len(names) - len(shortcuts) == layers

    def test_46_and_44_convolutions_at_14_and_7_px(self):
        model, sizes = on_paper.__wrapped__(SUNetClassifier), []
        for layer in convolutions(model).values():
            if getattr(layer, "kernel_size", None) == (3, 3):
                layer.register_forward_hook(lambda _, __, output: sizes.append(output.shape[2]))
        assert model(torch.zeros(1, 3, 224, 224, device="meta")).shape == (1, 1000)
        # Deconvolutions of 4 px give 8 px, of which one is cut off.
        assert (sizes.count(14), sizes.count(7) + sizes.count(8)) == (46, 44)

    @pytest.mark.parametrize("output_stride", [32, 16, 8])
    def test_sizes(self, output_stride):
        model = on_paper(SUNet, variant="64", output_stride=output_stride)
        found = {}
        for size in (224, 500, 512):
            image = torch.zeros(1, 3, size, size, device="meta")
            found[size] = [features.shape[2] for features in model.levels(image)]
            assert model(image).shape == (1, 21, size, size)
        last = {32: (7, 15, 16), 16: (14, 31, 32), 8: (28, 62, 64)}[output_stride]
        blocks = {size: (size // 4, size // 4, size // 8) for size in (224, 500, 512)}
        third = {224: max(14, last[0]), 500: max(31, last[1]), 512: max(32, last[2])}
        for size, final in zip((224, 500, 512), last, strict=True):
            assert found[size] == [*blocks[size], third[size], final, final]


def module(kind=UNetModule, in_channels=6, out_channels=6, filters=4, **options):
    torch.manual_seed(0)
    return kind(in_channels, filters, out_channels, **options).eval()


def features(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


class TestModule:
    def test_ten_convolutions_and_their_parameters(self):
        with torch.device("meta"):
            whole, trimmed = UNetModule(512, 128, 512), UNetPlus(512, 128, 512)
        assert count(whole) == 1_463_424
        assert len(convolutions(whole)) == 10
        assert len(convolutions(trimmed)) == 6
        assert (whole.up[0].deconv0.in_channels, trimmed.up[0].deconv0.in_channels) == (256, 128)
        assert all(layer.bias is not None for layer in convolutions(whole).values())
        assert not any(isinstance(layer, nn.Dropout) for layer in on_paper(SUNet).modules())

    @pytest.mark.parametrize("kind", [UNetModule, UNetPlus])
    @torch.no_grad()
    def test_where_channels_change_both_paths_share_one_activation(self, kind):
        model = module(kind, out_channels=8)
        assert not any(name.startswith(("down.0.bn0", "down.0.relu0")) for name, _ in model.named_modules())
        nn.init.constant_(model.bn.bn0.bias, -1e3)  # nothing comes through the ReLU
        found = model(features(1, 6, 9, 8))
        assert torch.equal(found, model(features(1, 6, 9, 8) + 1))
        nn.init.constant_(model.bn.bn0.bias, 1.0)
        nn.init.zeros_(model.up[0].conv2.weight)
        nn.init.zeros_(model.up[0].conv2.bias)
        torch.testing.assert_close(
            model(features(1, 6, 9, 8)), model.upsample.conv0(F.relu(model.bn.bn0(features(1, 6, 9, 8))))
        )

    @torch.no_grad()
    def test_elsewhere_the_shortcut_is_the_input(self):
        model = module()
        assert not list(model.bn.parameters())
        nn.init.zeros_(model.up[0].conv2.weight)
        nn.init.zeros_(model.up[0].conv2.bias)
        assert torch.equal(model(features(1, 6, 9, 8)), features(1, 6, 9, 8))

    @torch.no_grad()
    def test_d1_takes_d2_then_e1(self):
        model, seen = module(), {}
        model.down[0].register_forward_hook(lambda _, __, output: seen.update(e1=output))
        model.up[1].register_forward_hook(lambda _, __, output: seen.update(d2=output))
        model.up[0].register_forward_pre_hook(lambda _, given: seen.update(d1=given[0]))
        model(features(1, 6, 9, 8))
        assert torch.equal(seen["d1"], torch.cat([seen["d2"], seen["e1"]], 1))

    def test_the_multigrid_of_figure_2(self):
        def pattern(kind, dilation, strided=False):
            model, order = module(kind, dilation=dilation, strided=strided), []
            for layer in convolutions(model).values():
                layer.register_forward_hook(lambda layer, _, __: order.append((layer.dilation[0], layer.stride[0])))
            model(features(1, 6, 16, 16))
            return [d for d, _ in order], {s for _, s in order}

        assert pattern(UNetModule, 2) == ([1, 2, 4, 4, 8, 8, 4, 4, 2, 1], {1})
        assert pattern(UNetPlus, 4) == ([1, 4, 8, 8, 4, 1], {1})
        assert pattern(UNetPlus, 2) == ([1, 2, 4, 4, 2, 1], {1})
        assert pattern(UNetModule, 1) == ([1] * 10, {1, 2})
        assert pattern(UNetModule, 2, strided=True) == ([1, *[2] * 8, 1], {1, 2})

    @pytest.mark.parametrize(("strided", "share"), [(True, 1 / 4), (False, 1.0)])
    def test_strides_of_dilated_filters_drop_points(self, strided, share):
        """Check section 6.2.1: no filter sees every other row and column."""
        grid = choose_grids(2, strided=strided)[0]
        image = features(1, 4, 16, 16).requires_grad_()
        conv = encoder(4, 4, grid).conv1
        conv(image).sum().backward()
        assert (image.grad != 0).float().mean().item() == pytest.approx(share)

    @pytest.mark.parametrize("dilation", [1, 2, 4])
    @torch.no_grad()
    def test_deconvolution_of_every_size_is_that_with_output_size(self, dilation):
        decoder = Decoder(3, 2, Grid(2, dilation, dilation)).eval()
        for size in range(1, 20):
            given, skip = features(1, 3, -(-size // 2), -(-(size + 3) // 2)), features(1, 2, size, size + 3)
            raised = decoder.deconv0(F.relu(decoder.bn0(given)), output_size=skip.shape[2:])
            torch.testing.assert_close(decoder(given, skip), decoder.deconv1(F.relu(decoder.bn1(raised))))

    @pytest.mark.parametrize("options", [{}, {"dilation": 2}, {"dilation": 4, "strided": True}])
    @pytest.mark.parametrize("kind", [UNetModule, UNetPlus])
    def test_every_size_is_kept(self, kind, options):
        with torch.device("meta"):
            model = kind(6, 4, 8, **options)
            for size in range(1, 21):
                assert model(torch.zeros(2, 6, size, 21 - size)).shape == (2, 8, size, 21 - size)

    @torch.no_grad()
    def test_the_stem_s_shortcut_reads_the_activated_features(self):
        block = ResidualBlock(4, 6).eval()
        nn.init.constant_(block.bn[0].bias, -1e3)
        assert torch.equal(block(features(1, 4, 9, 8)), block(features(1, 4, 9, 8) + 1))
        assert block(features(1, 4, 9, 8)).shape == (1, 6, 5, 4)
        names = [name for name, _ in small().features.named_children()]
        assert names[:3] == ["conv1", "residual1", "unet1_0"]


class TestOneStateDict:
    def test_is_unchanged_at_every_output_stride(self):
        whole = on_paper(SUNetClassifier).state_dict()
        assert len(whole) == 1195
        shapes = {name: tensor.shape for name, tensor in whole.items()}
        for stride in (16, 8):
            found = on_paper(SUNetClassifier, output_stride=stride).state_dict()
            assert {name: tensor.shape for name, tensor in found.items()} == shapes
        for options in ({"output_stride": 8}, {"output_stride": 8, "strided": True}):
            found = on_paper(SUNet, **options).state_dict()
            assert {n: t.shape for n, t in found.items() if n.startswith("features")} == {
                n: s for n, s in shapes.items() if n.startswith("features")
            }

    @pytest.mark.parametrize(
        ("output_stride", "strided", "expected"),
        [
            (32, False, [(1, 2), (1, 2), (1, 2), (1, 2)]),
            (16, False, [(1, 2), (1, 2), (1, 2), (2, 1)]),
            (8, False, [(1, 2), (1, 2), (2, 1), (4, 1)]),
            (8, True, [(1, 2), (1, 2), (2, 2), (4, 2)]),
        ],
    )
    def test_dilation_and_stride_of_each_block(self, output_stride, strided, expected):
        model = on_paper(SUNet, output_stride=output_stride, strided=strided)
        found = [set(), set(), set(), set()]
        for name, layer in model.features.named_modules():
            if name.endswith("down.0.conv1"):
                found[int(name[4]) - 1].add((layer.dilation[0], layer.stride[0]))
        assert found == [{pair} for pair in expected]

    @torch.no_grad()
    def test_output_strides_compute_with_the_same_weights(self):
        classifier, image = small(SUNetClassifier), features(1, 3, 64, 64)
        for stride in (32, 16, 8):
            model = small(output_stride=stride)
            nn.init.zeros_(model.final.conv1.weight)
            assert model.load_published(classifier.state_dict()) == ["linear.bias", "linear.weight"]
            ends = [end.shape[2] for end in model.levels(image)]
            assert ends == {32: [16, 16, 8, 4, 2, 2], 16: [16, 16, 8, 4, 4, 4], 8: [16, 16, 8, 8, 8, 8]}[stride]
            for found, expected in zip(model.levels(image)[:3], _levels(classifier, image), strict=False):
                assert torch.equal(found, expected)
            assert not model.final.conv1.weight.any()


def _levels(classifier, image):
    names, features, ends = list(classifier.features._modules), image, []
    for name in names[: names.index("avgpool2")]:
        features = classifier.features._modules[name](features)
        if name in ("residual1", "unet1_1", "unet2_3"):
            ends.append(features)
    return ends


def count_by_hand(variant, modules, depth=2, dense=False, classes=1000):
    """Count the classifier's parameters from the paper's text alone: figure 1, table 1 and section 3.1."""
    table = VARIANTS[variant]
    n, last = table.filters, 128

    def conv(inputs, outputs, side, norm=True):  # with its bias, and the batch normalization before it
        return inputs * outputs * side**2 + outputs + (2 * inputs if norm else 0)

    total = conv(3, 64, 7, norm=False) + conv(64, 128, 3) + conv(128, 128, 3) + conv(64, 128, 1, norm=False)
    for block, (number, table_outputs) in enumerate(zip(modules, table.outputs, strict=True), 1):
        levels = min(depth, {1: 4, 2: 4, 3: 3, 4: 1}[block])
        for _ in range(number):
            outputs = n if dense else table_outputs
            total += conv(last, n, 1) + 2 * levels * conv(n, n, 3)  # bottleneck, encoder
            total += conv(n, n, 3) + (levels - 1) * conv(2 * n, n, 3) + levels * conv(n, n, 3)  # decoder
            total += conv(n, outputs, 1)
            total += 0 if dense or last == outputs else conv(last, outputs, 1, norm=False)  # shortcut
            last = last + n if dense else outputs
    return total + 2 * last + last * classes + classes


# Of the classifier, by variant, depth, and whether connections are dense.
VARIED = {
    ("64", 3, False): 7_004_648,
    ("64", 4, False): 7_092_520,
    ("64", 2, True): 4_930_024,
    ("128", 3, False): 25_089_768,
    ("128", 4, False): 25_445_736,
    ("128", 2, True): 16_959_464,
    ("7-128", 3, False): 38_733_032,
    ("7-128", 4, False): 40_368_232,
    ("7-128", 2, True): 27_260_648,
}


class TestDepthAndDenseConnections:
    """Section 3.1: modules of two, three and four levels, and dense connections between modules."""

    @pytest.mark.parametrize(("variant", "depth", "dense"), VARIED)
    def test_parameters(self, variant, depth, dense):
        model = on_paper(SUNetClassifier, variant=variant, depth=depth, dense=dense)
        wanted = VARIED[variant, depth, dense]
        assert count(model) == count_by_hand(variant, VARIANTS[variant].modules[depth], depth, dense) == wanted

    @pytest.mark.parametrize("depth", [3, 4])
    @pytest.mark.parametrize("variant", VARIANTS)
    def test_no_other_number_of_modules_is_nearer_in_parameters(self, variant, depth):
        usual = VARIANTS[variant].modules
        aim = count_by_hand(variant, usual[2])
        choices = [(first, more, more, 1) for first in range(1, usual[2][0] + 1) for more in range(1, usual[2][1] + 1)]
        assert usual[depth] == min(choices, key=lambda modules: abs(count_by_hand(variant, modules, depth) - aim))

    @torch.no_grad()
    def test_every_level_takes_the_one_below_and_its_skip(self):
        model, order = module(levels=4), []
        for name, part in (("e", model.down), ("d", model.up)):
            for level, layer in enumerate(part, 1):
                layer.register_forward_hook(
                    lambda _, given, output, name=f"{name}{level}": order.append((name, given[0].shape[1:], output))
                )
        model(features(1, 6, 32, 16))
        assert [name for name, _, _ in order] == ["e1", "e2", "e3", "e4", "d4", "d3", "d2", "d1"]
        made = {name: output for name, _, output in order}
        assert [tuple(made[f"e{level}"].shape[2:]) for level in (1, 2, 3, 4)] == [(16, 8), (8, 4), (4, 2), (2, 1)]
        assert {tuple(given) for name, given, _ in order if name == "d2"} == {(8, 8, 4)}
        inside = torch.cat([made["d2"], made["e1"]], 1)
        assert torch.equal(model.inside(made["e1"]), inside)

    def test_the_multigrid_goes_on(self):
        grids = choose_grids(2, 4)
        assert [(grid.stride, grid.first, grid.second) for grid in grids] == [
            (1, 2, 4),
            (1, 4, 8),
            (1, 8, 16),
            (1, 16, 32),
        ]

    def test_levels_of_each_block(self):
        for depth in (2, 3, 4):
            model = on_paper(SUNetClassifier, variant="64", depth=depth)
            found = {name[4]: layer.levels for name, layer in model.features.named_children() if "unet" in name}
            assert found == {"1": depth, "2": depth, "3": min(depth, 3), "4": 1}

    @torch.no_grad()
    def test_a_dense_connection_appends_to_an_unchanged_input(self):
        model, given = module(out_channels=4, dense=True), features(1, 6, 9, 8)
        assert not list(model.bn.parameters())
        assert not list(model.upsample.parameters())
        found = model(given)
        assert torch.equal(found[:, :6], given)
        assert torch.equal(found[:, 6:], model.up[0](model.inside(model.down[0](given)), given))

    def test_dense_blocks_have_about_the_outputs_of_table_1(self):
        model = on_paper(SUNet, variant="64", dense=True)
        sizes = [level.shape[1] for level in model.levels(torch.zeros(1, 3, 64, 64, device="meta"))]
        assert sizes == [128, 256, 512, 768, 832, 21]  # table 1: 256, 512, 768, 1024

    @pytest.mark.parametrize("options", [{"depth": 3}, {"dense": True}])
    def test_one_state_dict_for_classification_and_every_output_stride(self, options):
        whole = on_paper(SUNetClassifier, **options).state_dict()
        for stride in (32, 16, 8):
            found = on_paper(SUNet, output_stride=stride, **options).state_dict()
            shared = {name: tensor.shape for name, tensor in found.items() if name.startswith("features")}
            assert shared == {name: whole[name].shape for name in whole if name.startswith("features")}

    def test_refusals(self):
        for depth in (1, 5):
            with pytest.raises(InputError, match=f"depth: expected one of 2, 3, 4, got {depth}"):
                SUNet(depth=depth)


def published(variant, classes=1000):
    """List the authors' names and shapes by the rules of their code; PyTorch 0.3 has no ``num_batches_tracked``."""
    table, shapes = VARIANTS[variant], {}

    def conv(name, out_channels, in_channels, size):
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (out_channels, in_channels, size, size), (out_channels,)

    def norm(name, channels):
        shapes.update({f"{name}.{kind}": (channels,) for kind in ("weight", "bias", "running_mean", "running_var")})

    conv("conv1", 64, 3, 7)
    norm("residual1.bn.0", 64)
    conv("residual1.conv.0", 128, 64, 3)
    norm("residual1.conv.2", 128)
    conv("residual1.conv.4", 128, 128, 3)
    conv("residual1.shortcut.0", 128, 64, 1)
    last, n = 128, table.filters
    for block, (modules, channels) in enumerate(zip(table.modules[2], table.outputs, strict=True), 1):
        levels = 1 if block == 4 else 2
        for place in range(modules):
            unet = f"unet{block}_{place}"
            if last != channels:
                norm(f"{unet}.bn.bn0", last)
                conv(f"{unet}.upsample.conv0", channels, last, 1)
            else:
                norm(f"{unet}.down.0.bn0", last)
            conv(f"{unet}.down.0.conv0", n, last, 1)
            for level in range(levels):
                for layer in "12":
                    norm(f"{unet}.down.{level}.bn{layer}", n)
                    conv(f"{unet}.down.{level}.conv{layer}", n, n, 3)
                wide = n if level == levels - 1 else 2 * n
                norm(f"{unet}.up.{level}.bn0", wide)
                shapes[f"{unet}.up.{level}.deconv0.weight"] = (wide, n, 3, 3)
                shapes[f"{unet}.up.{level}.deconv0.bias"] = (n,)
                norm(f"{unet}.up.{level}.bn1", n)
                conv(f"{unet}.up.{level}.deconv1", n, n, 3)
            norm(f"{unet}.up.0.bn2", n)
            conv(f"{unet}.up.0.conv2", channels, n, 1)
            last = channels
    norm("bn2", last)
    shapes = {f"module.features.{name}": shape for name, shape in shapes.items()}
    return shapes | {"module.linear.weight": (classes, last), "module.linear.bias": (classes,)}


class TestPublishedNames:
    def weights(self, variant):
        return {name: torch.tensor(float(i)).expand(s) for i, (name, s) in enumerate(published(variant).items())}

    @pytest.mark.parametrize("variant", ["64", "7-128"])
    def test_every_tensor_of_the_classifier_is_loaded(self, variant):
        names = {name.removeprefix("module."): shape for name, shape in published(variant).items()}
        own = {n: tuple(t.shape) for n, t in on_paper(SUNetClassifier, variant=variant).state_dict().items()}
        assert {n: s for n, s in own.items() if not n.endswith("num_batches_tracked")} == names

    def test_values_are_loaded_and_unused_tensors_listed(self):
        weights, model = self.weights("64"), SUNet(variant="64", output_stride=8)
        assert model.load_published(weights) == ["linear.bias", "linear.weight"]
        for name, tensor in model.state_dict().items():
            if f"module.{name}" in weights:
                assert torch.equal(tensor, weights[f"module.{name}"])
        assert SUNetClassifier(variant="64").load_published(weights) == []

    @pytest.mark.parametrize("degridding", [False, True])
    def test_heads_by_their_former_names(self, degridding):
        source, target = small(degridding=degridding), small(degridding=degridding)
        nn.init.ones_(source.final[-1].bias)
        later = source.state_dict()
        places = {name: str(place) for place, (name, _) in enumerate(source.final.named_children())}
        former = {}
        for name, tensor in later.items():
            head, layer, *rest = name.split(".")
            former["module." + ".".join([head, places[layer], *rest] if head == "final" else [name])] = tensor
        assert "module.final.0.weight" in former
        assert target.load_published(former) == []
        assert all(torch.equal(tensor, later[name]) for name, tensor in target.state_dict().items())

    def test_refusals(self):
        weights = small(SUNetClassifier).state_dict()
        with pytest.raises(InputError, match=r"linear.bias: expected shape \[7\], got \[1000\]"):
            small(SUNetClassifier, out_channels=7).load_published(weights)
        del weights["features.bn2.running_mean"]
        with pytest.raises(InputError, match=r"features.bn2.running_mean: .* got no such tensor"):
            small().load_published(weights)


class TestSUNet:
    @pytest.mark.parametrize("output_stride", [32, 16, 8])
    @torch.no_grad()
    def test_the_smallest_image(self, output_stride):
        least, model = SMALLEST[output_stride], small(output_stride=output_stride)
        assert model(features(1, 3, least, least + 1)).shape == (1, 21, least, least + 1)
        with pytest.raises(InputError, match=f"at least {least} px"):
            model(features(1, 3, least, least - 1))
        model.smallest = 1
        with pytest.raises(RuntimeError):
            model(features(1, 3, least - 1, least))

    @torch.no_grad()
    def test_levels_end_with_the_prediction_before_interpolation(self):
        model, image = small(degridding=True), features(1, 3, 50, 61)
        levels = model.levels(image)
        assert [level.shape[1] for level in levels] == [8, 16, 32, 48, 64, 21]
        torch.testing.assert_close(F.interpolate(levels[-1], (50, 61), mode="bilinear"), model(image))

    def test_strongest_map(self):
        given = torch.zeros(2, 3, 2, 2)
        given[0, 1], given[0, 2, 0, 0], given[1, 0] = -1, 3, 1
        assert torch.equal(select_strongest(given), torch.stack([given[0, 1], given[1, 0]]))

    def test_degridding_filters(self):
        first, second, last = (
            layer for layer in on_paper(SUNet, degridding=True).final if isinstance(layer, nn.Conv2d)
        )
        assert [(c.out_channels, c.kernel_size[0], c.dilation[0]) for c in (first, second, last)] == [
            (512, 3, 2),
            (512, 3, 1),
            (21, 1, 1),
        ]

    def test_weights_are_drawn_by_fan_out(self):
        model = SUNetClassifier(variant="64")
        for name, fan in {"conv1": 64 * 49, "unet1_1.up.0.deconv0": 128 * 9, "unet2_0.down.0.conv1": 64 * 9}.items():
            layer = model.features.get_submodule(name)
            assert layer.weight.std().item() == pytest.approx((2 / fan) ** 0.5, rel=0.03)
            assert not layer.bias.any()
        assert not model.linear.bias.any()

    def test_momentum_of_the_statistics(self):
        def momenta(model):
            return {layer.momentum for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)}

        assert momenta(small(degridding=True)) == {0.01}
        assert momenta(small(bn_momentum=0.1)) == {0.1} == momenta(small(SUNetClassifier))

    def test_frozen_by_an_argument(self):
        model = small(freeze_bn=True).train()
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        model(features(2, 3, 40, 40)).sum().backward()
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
        assert list(before) == list(small().state_dict())

    @pytest.mark.parametrize("options", [{"variant": "32"}, {"output_stride": 4}])
    def test_refusals(self, options):
        with pytest.raises(InputError, match="expected one of"):
            SUNet(**options)


class TestClassifier:
    @torch.no_grad()
    def test_is_the_mean_over_all_places(self):
        model = small(SUNetClassifier, out_channels=5)
        end = F.relu(model.features(features(2, 3, 70, 49)))
        torch.testing.assert_close(
            model(features(2, 3, 70, 49)), model.linear(F.adaptive_avg_pool2d(end, 1).flatten(1))
        )

    def test_every_parameter_gets_a_gradient(self):
        model = small(SUNetClassifier, out_channels=5).train()
        (model(features(2, 3, 64, 70)) * torch.arange(10.0).reshape(2, 5)).sum().backward()
        assert all(parameter.grad is not None for parameter in model.parameters())

    @torch.no_grad()
    def test_exports(self, monkeypatch):
        monkeypatch.setitem(
            VARIANTS, "64", dataclasses.replace(VARIANTS["64"], modules={2: (1, 1, 1, 1)})
        )  # takes less time
        model, buffer = small(SUNetClassifier, out_channels=5), io.BytesIO()
        image = features(2, 3, 40, 33)
        with torch.jit.optimized_execution(False):
            torch.testing.assert_close(torch.jit.script(model)(image), model(image))
        torch.onnx.export(model, (image,), buffer, dynamo=False)
        session = onnxruntime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
        found = session.run(None, {session.get_inputs()[0].name: image.numpy()})[0]
        torch.testing.assert_close(torch.from_numpy(found), model(image), rtol=1e-4, atol=1e-4)


def test_pytorch_s_mean_is_the_sum_over_valid_pixels():
    """Compute the authors' loss: summed cross-entropy over the number of pixels of the batch that aren't 255."""
    logits, labels = features(2, 21, 6, 7), torch.randint(21, (2, 6, 7), generator=torch.Generator().manual_seed(0))
    labels[0, :5] = IGNORED
    found = nn.CrossEntropyLoss(ignore_index=IGNORED)(logits, labels)
    torch.testing.assert_close(found, summed_loss(logits, labels) / (labels != IGNORED).sum())
