"""Test the fully convolutional networks: sizes, alignment, bilinear kernels, skips and stages."""

import functools

import pytest
import torch
from torch import nn

from medpos.core.errors import InputError
from medpos.networks import FCN8s, FCN16s, FCN32s, FCNAlexNet, FCNGoogLeNet
from medpos.networks.layers.published import transplant

BUILD = {
    "32s": FCN32s,
    "16s": FCN16s,
    "8s": FCN8s,
    "8s, at once": lambda **options: FCN8s(at_once=True, **options),
    "AlexNet": FCNAlexNet,
    "GoogLeNet": FCNGoogLeNet,
    "GoogLeNet, torchvision": lambda **options: FCNGoogLeNet(trunk="torchvision", **options),
}
# Name of the last upsampling, its kernel, stride and the offset of the crop behind it.
LAST = {
    "32s": ("upscore", 64, 32, 19),
    "16s": ("upscore16", 32, 16, 27),
    "8s": ("upscore8", 16, 8, 31),
    "8s, at once": ("upscore8", 16, 8, 31),
    "AlexNet": ("upscore", 63, 32, 18),
    "GoogLeNet": ("upscore", 63, 32, 98),
    "GoogLeNet, torchvision": ("upscore", 63, 32, 106),
}
SKIP_OFFSETS = {16: 5, 8: 9}  # of pool4 and pool3, by their stride


def scored(name, seed=0, **options):
    """Build a narrow network with random score layers."""
    torch.manual_seed(seed)
    model = BUILD[name](width=1 / 16, out_channels=4, **options).eval()
    for layer_name, layer in model.named_children():
        if layer_name.startswith("score_"):
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
    return model


def image(*size):
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1)) - 0.5


def recorded(model, x):
    """Record the input and output of every layer by its name."""
    found = {}
    for name, layer in model.named_children():
        layer.register_forward_hook(lambda _, given, output, name=name: found.update({name: (given[0], output)}))
    output = model(x)
    return found, output


@functools.cache
def path(name):
    """List kernel size, stride, padding and whether it is a pooling, for the layers up to the scores, in order.

    Of parallel branches it follows the one with the largest kernels.
    """
    layers = []

    def record(label, layer):
        size, stride, padding = (
            value if isinstance(value, int) else value[0] for value in (layer.kernel_size, layer.stride, layer.padding)
        )
        if "score_pool" not in label and not any(f"branch{branch}" in label for branch in (1, 2, 4)):
            layers.append((size, stride, padding, isinstance(layer, nn.MaxPool2d)))

    with torch.device("meta"):
        model = BUILD[name](width=1 / 64)
        for label, layer in model.named_modules():
            if isinstance(layer, (nn.Conv2d, nn.MaxPool2d)):
                layer.register_forward_hook(lambda layer, _, __, label=label: record(label, layer))
        model(torch.empty(2, 3, 1, 1))
    return layers


def upsampled(name, side):
    """Compute the side of the last upsampling's output from the image's side."""
    _, kernel, stride, _ = LAST[name]
    sides, jump = {}, 1
    for size, step, padding, pool in path(name):
        side = (side + 2 * padding - size + (step - 1) * pool) // step + 1
        jump *= step
        sides[jump] = side
    assert jump == 32
    while jump > stride:
        side, jump = (side - 1) * 2 + 4, jump // 2
        assert side + SKIP_OFFSETS[jump] <= sides[jump]  # or the skip would be cut too small
    return (side - 1) * stride + kernel


@pytest.mark.parametrize("name", BUILD)
def test_every_size_from_1_to_800_is_preserved(name):
    for side in range(1, 801):
        assert upsampled(name, side) >= LAST[name][3] + side


@pytest.mark.parametrize("size", [(1, 2), (31, 33), (64, 45)])
@pytest.mark.parametrize("name", BUILD)
@torch.no_grad()
def test_sizes_of_real_images(name, size):
    found, output = recorded(scored(name), image(*size))
    assert output.shape == (1, 4, *size)
    assert found[LAST[name][0]][1].shape[2:] == tuple(upsampled(name, side) for side in size)


@pytest.mark.parametrize(("name", "expected"), [("32s", 404), ("AlexNet", 355), ("GoogLeNet", 715)])
def test_receptive_field(name, expected):
    sees, jump = 1, 1
    for size, stride, _, _ in path(name):
        sees, jump = sees + (size - 1) * jump, jump * stride
    assert (sees, jump) == (expected, 32)
    if name == "GoogLeNet":
        assert sees + (7 - 1) * jump == 907  # with the average pooling that is left out


@pytest.mark.parametrize("name", BUILD)
@torch.no_grad()
def test_crop_offsets_put_scores_where_their_fields_are(name):
    """Compare the position of unit i, jump i + center, after upsampling stride i + (kernel - 1) / 2, with the crop."""
    last, kernel, stride, offset = LAST[name]
    jump, middle, middles = 1, 0.0, {}
    for size, step, padding, pool in path(name):
        middle, jump = middle + ((size - 1) / 2 - padding) * jump, jump * step
        if pool:
            middles[jump] = middle
    while jump > stride:
        jump //= 2
        middle -= (4 - 1) / 2 * jump
        assert (middle - middles[jump]) / jump == SKIP_OFFSETS[jump]
    assert (kernel - 1) / 2 - middle == offset
    found, output = recorded(scored(name), image(9, 14))
    assert torch.equal(output, found[last][1][:, :, offset : offset + 9, offset : offset + 14])


@pytest.mark.parametrize("name", ["16s", "8s", "8s, at once"])
@torch.no_grad()
def test_scores_of_the_skips_are_cut_and_added(name):
    found, _ = recorded(scored(name), image(40, 9))
    cut = {"upscore16": ("upscore2", "score_pool4", 5), "upscore_pool4": ("upscore2", "score_pool4", 5)}
    cut["upscore8"] = ("upscore_pool4", "score_pool3", 9)
    assert len(cut.keys() & found.keys()) == (1 if name == "16s" else 2)
    for layer in cut.keys() & found.keys():
        up, skip, offset = cut[layer]
        scores, (height, width) = found[up][1], found[up][1].shape[2:]
        added = found[skip][1][:, :, offset : offset + height, offset : offset + width]
        torch.testing.assert_close(found[layer][0], scores + added, rtol=0, atol=0)


class TestUpsampling:
    @pytest.mark.parametrize(
        ("name", "layer", "size", "factor"),
        [
            ("8s", "upscore2", 4, 2),
            ("8s", "upscore_pool4", 4, 2),
            ("8s", "upscore8", 16, 8),
            ("16s", "upscore2", 4, 2),
            ("16s", "upscore16", 32, 16),
            ("32s", "upscore", 64, 32),
            ("AlexNet", "upscore", 63, 32),
            ("GoogLeNet", "upscore", 63, 32),
        ],
    )
    def test_bilinear_kernels_stand_on_the_diagonal_of_the_classes(self, name, layer, size, factor):
        weight = scored(name).get_submodule(layer).weight
        assert weight.shape == (4, 4, size, size)
        assert weight[0, 0].sum().item() == factor**2
        if size == 4:
            assert (16 * weight[0, 0, 1]).tolist() == [3, 9, 9, 3]
        for one in range(4):
            for other in range(4):
                assert torch.equal(weight[one, other], weight[0, 0] * (one == other))

    def test_a_linear_map_stays_linear(self):
        model = scored("8s")
        with torch.no_grad():
            rows, columns = torch.meshgrid(torch.arange(9.0), torch.arange(9.0), indexing="ij")
            plane = (rows + 3 * columns).expand(1, 4, 9, 9)
            inner = model.upscore8(plane)[0, 2, 16:-16, 16:-16]
        torch.testing.assert_close(inner[1:] - inner[:-1], torch.full_like(inner[1:], 1 / 8))
        torch.testing.assert_close(inner[:, 1:] - inner[:, :-1], torch.full_like(inner[:, 1:], 3 / 8))

    @pytest.mark.parametrize(
        ("upsampling", "learned"),
        [
            ("frozen", set()),
            ("intermediate", {"upscore2.weight", "upscore_pool4.weight"}),
            ("learned", {"upscore2.weight", "upscore_pool4.weight", "upscore8.weight"}),
        ],
    )
    def test_parameters_that_learn(self, upsampling, learned):
        model = scored("8s", upsampling=upsampling)
        assert {name for name, _ in model.named_parameters() if name.startswith("up")} == learned
        assert model.state_dict().keys() == scored("8s").state_dict().keys()

    @pytest.mark.parametrize("network", [FCN8s, FCNAlexNet, FCNGoogLeNet])
    def test_unknown(self, network):
        with pytest.raises(InputError, match="upsampling: expected one of frozen, intermediate, learned"):
            network(upsampling="bicubic")


@pytest.mark.parametrize("name", BUILD)
@torch.no_grad()
def test_a_new_network_has_zero_scores(name):
    torch.manual_seed(0)
    model = BUILD[name](width=1 / 16)
    assert torch.equal(model(image(5, 4)), torch.zeros(1, 21, 5, 4))


class TestStages:
    @torch.no_grad()
    def test_a_new_16s_is_the_32s_upsampled_by_2_and_16(self):
        earlier, later = scored("32s"), FCN16s(width=1 / 16, out_channels=4).eval()
        new, unused = transplant(later, earlier.state_dict())
        assert new == ["upscore2.weight", "score_pool4.weight", "score_pool4.bias", "upscore16.weight"]
        assert unused == ["upscore.weight"]
        x = image(50, 37)
        scores = recorded(earlier, x)[0]["score_fr"][1]
        expected = later.upscore16(later.upscore2(scores))[:, :, 27 : 27 + 50, 27 : 27 + 37]
        assert expected.abs().sum() > 0
        assert torch.equal(later(x), expected)
        assert not torch.allclose(later(x), earlier(x), rtol=1e-3)  # two bilinear kernels aren't one

    @torch.no_grad()
    def test_a_new_8s_is_the_16s_upsampled_by_2_and_8(self):
        earlier, later = scored("16s"), FCN8s(width=1 / 16, out_channels=4).eval()
        new, unused = transplant(later, earlier.state_dict())
        assert new == ["upscore_pool4.weight", "score_pool3.weight", "score_pool3.bias", "upscore8.weight"]
        assert unused == ["upscore16.weight"]
        x = image(41, 50)
        fused = recorded(earlier, x)[0]["upscore16"][0]
        expected = later.upscore8(later.upscore_pool4(fused))[:, :, 31 : 31 + 41, 31 : 31 + 50]
        assert torch.equal(later(x), expected)

    @torch.no_grad()
    def test_at_once_scales_the_inputs_of_the_skip_scores(self):
        plain, at_once = scored("8s"), scored("8s, at once")
        new, unused = transplant(at_once, plain.state_dict())
        assert new == ["scale_pool4.weight", "scale_pool3.weight"]
        assert not unused
        # the same scores from weights that are so much smaller
        plain.score_pool4.weight *= 0.01
        plain.score_pool3.weight *= 0.0001
        torch.testing.assert_close(at_once(image(20, 21)), plain(image(20, 21)), rtol=1e-4, atol=1e-4)

    def test_scales_are_768_values_that_do_not_learn(self):
        with torch.device("meta"):
            plain, at_once = FCN8s(), FCN8s(at_once=True)
        extra = at_once.state_dict().keys() - plain.state_dict().keys()
        assert sum(at_once.state_dict()[name].numel() for name in extra) == 768
        assert len(list(plain.parameters())) == len(list(at_once.parameters()))


@pytest.mark.parametrize(
    ("name", "places", "probability"),
    [
        ("32s", ["fc6.dropout", "fc7.dropout"], 0.5),
        ("AlexNet", ["fc6.dropout", "fc7.dropout"], 0.5),
        ("GoogLeNet", ["dropout"], 0.4),
    ],
)
def test_dropout(name, places, probability):
    found = {name: layer.p for name, layer in scored(name).named_modules() if isinstance(layer, nn.Dropout)}
    assert found == dict.fromkeys(places, probability)
    dropped = scored(name).get_submodule(places[-1]).train()(torch.ones(10_000))
    assert (dropped == 0).float().mean().item() == pytest.approx(probability, abs=0.03)
