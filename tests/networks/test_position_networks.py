"""Test encodings inside the network, all with about the same number of parameters."""

import copy
import functools
import math

import pytest
import torch

from medpos.core.errors import InputError
from medpos.networks import (
    CoordConv2d,
    LearnedPosition,
    SmallCNN,
    UNet,
    add_coordinates,
    build_with_position,
    find_width,
)
from medpos.networks.layers.blocks import scale_stages
from medpos.networks.position_study.position import count_parameters
from medpos.transforms import ENCODINGS, PositionChannels, channel_count, position_channels

BEYOND = [encoding for encoding in ENCODINGS if encoding != "linear"]
BOTH = [UNet, SmallCNN]
BUDGET = {UNet: 13_395_524, SmallCNN: 76_292}


@functools.cache
def _built(network, encoding, options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_with_position(network, encoding, **dict(options)).eval()


def built(network, encoding, **options):
    return copy.deepcopy(_built(network, encoding, tuple(options.items())))


def image(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


def inputs(encoding, *shape, bands=4):
    """Make the input of a network with this encoding as the transforms do."""
    transform = PositionChannels(3.0, encoding=encoding, bands=bands)
    return torch.stack([transform({"image": one})["image"] for one in image(shape[0], 1, *shape[1:])])


def convolutions(network):
    return {name: layer for name, layer in network.named_modules() if isinstance(layer, torch.nn.Conv2d)}


@pytest.mark.parametrize(
    ("network", "encoding", "bands", "count", "widths"),
    [
        (UNet, "linear", 4, 13_395_524, [64, 128, 512]),
        (UNet, "radial", 4, 13_396_100, [64, 128, 512]),
        (UNet, "fourier", 4, 13_403_588, [64, 128, 512]),
        (UNet, "fourier", 16, 13_431_236, [64, 128, 512]),
        (UNet, "learned", 4, 13_396_036, [64, 128, 512]),
        (UNet, "coordconv", 4, 13_465_796, [64, 128, 512]),
        (SmallCNN, "linear", 4, 76_292, [64, 64, 64]),
        (SmallCNN, "radial", 4, 76_868, [64, 64, 64]),
        (SmallCNN, "fourier", 1, 76_289, [64, 63, 64]),
        (SmallCNN, "fourier", 4, 76_403, [60, 61, 61]),
        (SmallCNN, "fourier", 8, 76_156, [57, 57, 57]),
        (SmallCNN, "learned", 4, 76_804, [64, 64, 64]),
        (SmallCNN, "coordconv", 4, 76_234, [63, 63, 63]),
    ],
)
def test_parameter_counts_within_one_percent_of_the_linear_one(network, encoding, bands, count, widths):
    with torch.device("meta"):
        model = build_with_position(network, encoding, bands)
    assert count_parameters(model) == count
    assert count == pytest.approx(BUDGET[network], rel=0.01)
    found = [layer.out_channels for layer in convolutions(model).values()]
    assert (found[:3] if network is SmallCNN else [found[0], found[2], found[8]]) == widths


@pytest.mark.parametrize("options", [{"out_channels": 7}, {"conv_bias": False}, {"padding_mode": "reflect"}])
@pytest.mark.parametrize("encoding", BEYOND)
@pytest.mark.parametrize("bands", [1, 2, 3, 4, 5, 6, 8])
def test_budget_holds_for_all_options_and_bands(encoding, bands, options):
    count = count_parameters(build_with_position(SmallCNN, encoding, bands, **options))
    assert count == pytest.approx(count_parameters(SmallCNN(3, **options)), rel=0.01)


@pytest.mark.parametrize("network", BOTH)
def test_linear_is_the_plain_network_to_the_bit(network):
    torch.manual_seed(5)
    plain = network(in_channels=3, padding_mode="reflect").state_dict()
    torch.manual_seed(5)
    model = build_with_position(network, padding_mode="reflect")
    assert type(model) is network
    state = model.state_dict()
    assert list(state) == list(plain)
    assert all(torch.equal(state[key], plain[key]) for key in plain)


@pytest.mark.parametrize("network", BOTH)
@pytest.mark.parametrize("encoding", ENCODINGS)
@torch.no_grad()
def test_networks_accept_the_output_of_the_transform(network, encoding):
    model = built(network, encoding)
    x = inputs(encoding, 2, 32, 48)
    assert model.in_channels == x.shape[1] == 1 + channel_count(encoding)
    assert model(x).shape == (2, 4, 32, 48)
    if network is SmallCNN:
        assert model(inputs(encoding, 1, 9, 31)).shape == (1, 4, 9, 31)


@pytest.mark.parametrize("encoding", ["learned", "coordconv"])
@pytest.mark.parametrize("range", ["symmetric", "positive"])
@torch.no_grad()
def test_position_moves_the_output_of_a_constant_image_even_without_a_border(encoding, range):
    model = built(SmallCNN, encoding, padding_mode="reflect", range=range)
    inside = model(torch.full((1, 1, 24, 20), 0.5))[..., 4:-4, 4:-4]
    assert inside.std((2, 3)).min() > 1e-4


class TestCoordConv:
    @pytest.mark.parametrize("range", ["symmetric", "positive"])
    @pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 2), (7, 4), (33, 256)])
    def test_coordinates_are_those_of_the_transform(self, range, size):
        layer = CoordConv2d(5, 2, 3, 3.0, range, padding=1)
        found = layer.coordinates(image(2, 5, *size))[0]
        torch.testing.assert_close(found, position_channels(size, 3.0, range), rtol=0, atol=1e-6)
        for axis in (0, 1):
            if size[axis] > 1:
                low = -3 if range == "symmetric" else 0
                assert (found[axis].select(axis, 0) == low).all()
                assert (found[axis].select(axis, -1) == 3).all()

    @torch.no_grad()
    def test_equals_a_convolution_of_the_image_with_its_channels(self):
        layer = CoordConv2d(3, 2, 3, 2.0, padding=1)
        features = image(2, 3, 6, 9)
        channels = position_channels((6, 9), 2.0).expand(2, -1, -1, -1)
        expected = torch.nn.functional.conv2d(torch.cat([features, channels], 1), layer.weight, layer.bias, padding=1)
        torch.testing.assert_close(layer(features), expected)

    @pytest.mark.parametrize("network", BOTH)
    def test_every_3_x_3_convolution_and_no_other_gets_two_more_channels(self, network):
        plain, model = network(), add_coordinates(network(), 3.0)
        assert list(model.state_dict()) == list(plain.state_dict())
        for (name, one), (same, other) in zip(convolutions(plain).items(), convolutions(model).items(), strict=True):
            assert name == same
            assert isinstance(other, CoordConv2d) == (name != "score")
            assert other.weight.shape[1] == one.weight.shape[1] + 2 * (name != "score")
            assert (other.padding_mode, other.padding, other.stride) == (one.padding_mode, one.padding, one.stride)
        twice = add_coordinates(model, 3.0)
        assert count_parameters(twice) == count_parameters(model)

    @pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
    def test_memory_layout_and_half_precision_are_kept(self, layout):
        seen = []
        layer = CoordConv2d(8, 8, 3, 3.0, padding=1).to(memory_format=layout)
        layer._conv_forward = lambda x, weight, bias: seen.append(x) or x
        layer(image(2, 8, 6, 5).to(torch.bfloat16, memory_format=layout))
        assert seen[0].is_contiguous(memory_format=layout)
        assert seen[0].dtype == torch.bfloat16


class TestLearned:
    def test_starts_as_small_noise_of_its_own_seed(self):
        maps = [built(SmallCNN, "learned").position, build_with_position(SmallCNN, "learned").position]
        assert maps[0].shape == (1, 2, 16, 16)
        assert not torch.equal(*maps)
        for values in maps:
            assert values.std().item() == pytest.approx(0.02, rel=0.15)
            assert values.mean().abs() < 0.005

    @pytest.mark.parametrize("size", [(16, 16), (9, 31), (1, 4), (64, 48)])
    @torch.no_grad()
    def test_spans_the_image_from_corner_to_corner(self, size):
        """Expect the linear encoding at any size from a linear map."""
        model = LearnedPosition(Channels(), 3.0)
        model.position.copy_(position_channels((16, 16), 1.0)[None])
        x = image(2, 1, *size)
        result = model(x)
        assert torch.equal(result[:, :1], x)
        if min(size) > 1:
            torch.testing.assert_close(result[0, 1:], position_channels(size, 3.0), rtol=0, atol=1e-5)
        assert torch.equal(result[0, 1:], result[1, 1:])

    def test_a_wrong_shape_is_explained(self):
        with pytest.raises(
            InputError, match=r"LearnedPosition: expected an input \[N, C, H, W\], got shape \[1, 32, 32\]"
        ):
            built(SmallCNN, "learned")(torch.zeros(1, 32, 32))
        with pytest.raises(InputError, match=r"UNet: expected sides that are .* got 40 x 32 px"):
            built(UNet, "learned")(torch.zeros(1, 1, 40, 32))

    def test_training_finds_a_target_that_depends_on_position_alone(self):
        torch.manual_seed(0)
        model = build_with_position(SmallCNN, "learned", padding_mode="reflect").train()
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        target = torch.zeros(2, 16, 16, dtype=torch.long)
        target[:, 8:] = 1
        losses = []
        for _ in range(25):
            loss = torch.nn.functional.cross_entropy(model(torch.zeros(2, 1, 16, 16)), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.2 < math.log(2) < losses[0]


class Channels(torch.nn.Module):
    in_channels = 3

    def forward(self, image):
        return image


class TestWidth:
    @pytest.mark.parametrize("width", [0.3, 0.5, 0.945, 0.99, 1.0, 1.3])
    def test_scaled_stages_sum_up(self, width):
        stages = {"a": 64, "b": 64, "c": 128, "d": 7}
        result = scale_stages(stages, width)
        assert list(result) == list(stages)
        assert sum(result.values()) == round(width * sum(stages.values()))
        assert all(abs(result[name] - width * stages[name]) < 1 for name in stages)
        if width == 1:
            assert result == stages

    def test_every_stage_has_a_channel(self):
        assert scale_stages({"a": 4, "b": 4}, 0.01) == {"a": 1, "b": 1}

    @pytest.mark.parametrize("width", [0, -1.0, math.inf, math.nan])
    def test_bad_width(self, width):
        with pytest.raises(InputError, match=r"width: expected a factor above 0"):
            SmallCNN(width=width)

    @pytest.mark.parametrize("network", BOTH)
    @torch.no_grad()
    def test_a_narrower_network_runs(self, network):
        assert network(1, 4, width=0.37).eval()(image(1, 1, 32, 32)).shape == (1, 4, 32, 32)

    def test_the_nearest_width_is_found(self):
        budget = 40_000
        width = find_width(lambda width: SmallCNN(3, width=width), budget, tolerance=0.02)
        counts = [count_parameters(SmallCNN(3, width=total / 192)) for total in range(100, 193)]
        nearest = min(abs(count - budget) for count in counts)
        assert abs(count_parameters(SmallCNN(3, width=width)) - budget) == nearest

    def test_the_width_is_one_within_the_tolerance(self):
        assert find_width(lambda width: SmallCNN(4, width=width), 76_292) == 1.0

    @pytest.mark.parametrize("budget", [5, 10**9])
    def test_a_budget_out_of_reach_is_explained(self, budget):
        with pytest.raises(InputError, match=f"no width gives {budget} parameters within 1%; the nearest differs by"):
            find_width(lambda width: SmallCNN(3, width=width), budget)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoding": "polar"}, "encoding: expected one of linear, radial, fourier, learned, coordconv"),
        ({"encoding": "fourier", "bands": 0}, r"bands \(encoding_bands\): expected .* got 0"),
        ({"encoding": "learned", "alpha": 0.0}, r"alpha \(pe_alpha\): expected .* got 0.0"),
        ({"encoding": "coordconv", "range": "both"}, r"range \(pe_range\): expected .* got 'both'"),
        ({"encoding": "radial", "in_channels": 2}, "in_channels: expected at least 3"),
        (
            {"encoding": "radial", "padding_mode": "mirror"},
            "padding_mode: expected one of zeros, reflect, replicate, circular, got 'mirror'",
        ),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InputError, match=message):
        build_with_position(SmallCNN, **options)


class TestPositionDropout:
    """Zero the position channels of whole batches in training, and of none afterwards."""

    @pytest.fixture
    def network(self):
        return build_with_position(SmallCNN, dropout=0.25)

    def test_a_quarter_of_the_batches_has_no_position(self, network):
        seen = []
        network.network.register_forward_pre_hook(lambda _, images: seen.append(images[0]))
        torch.manual_seed(0)
        batch = inputs("linear", 3, 8, 8)
        for _ in range(400):
            network.train()(batch)
        zeroed = [bool((images[:, 1:] == 0).all()) for images in seen]
        assert 0.2 < sum(zeroed) / 400 < 0.3
        kept = [batch if not zero else batch * torch.tensor([1.0, 0, 0])[:, None, None] for zero in zeroed]
        assert all(torch.equal(one, other) for one, other in zip(seen, kept, strict=True))

    def test_an_evaluation_has_position_and_the_weights_are_those_of_the_network(self, network):
        plain, batch = built(SmallCNN, "linear"), inputs("linear", 2, 8, 8)
        assert network.state_dict().keys() == plain.state_dict().keys()
        network.load_state_dict(plain.state_dict())
        for _ in range(20):
            assert torch.equal(network.eval()(batch), plain(batch))

    @pytest.mark.parametrize(("options", "words"), [
        ({"dropout": 1.0}, r"share \(position_dropout\): expected at least 0 and below 1, got 1.0"),
        ({"dropout": 0.25, "encoding": "learned"}, r"\(position_dropout\): expected 0 for the encoding learned"),
    ])  # fmt: skip
    def test_bad_shares_are_refused(self, options, words):
        with pytest.raises(InputError, match=words):
            build_with_position(SmallCNN, **options)


def test_placebo_channels_say_nothing_about_position_and_cost_as_many_parameters():
    channels = position_channels((8, 6), 3.0, "positive", encoding="placebo")
    assert torch.equal(channels, torch.full((2, 8, 6), 3.0))
    count = count_parameters(build_with_position(SmallCNN, "placebo"))
    assert count == count_parameters(build_with_position(SmallCNN))
