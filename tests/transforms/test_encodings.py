"""Test the position channels beyond the linear ones: exact values, symmetries, periods, refusals."""

import math

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from medpos.core.errors import InputError
from medpos.transforms import ENCODINGS, PositionChannels, Shifted, channel_count, position_channels

IN_IMAGE = ["linear", "radial", "fourier"]
RANGES = {"symmetric": -1.0, "positive": 0.0}
SIZES = [(9, 9), (10, 13), (31, 12), (64, 64)]


def item(*shape, dtype=torch.float32):
    image = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))
    return {"image": (image * 200).to(dtype), "label": torch.zeros(1, *shape, dtype=torch.uint8)}


@pytest.mark.parametrize("alpha", [0.1, 3.0, 100.0])
@pytest.mark.parametrize("range", RANGES)
@pytest.mark.parametrize("encoding", IN_IMAGE)
@pytest.mark.parametrize("size", SIZES)
class TestEveryEncoding:
    def test_number_type_and_range(self, size, encoding, range, alpha):
        channels = position_channels(size, alpha, range, encoding=encoding, bands=3)
        assert channels.shape == (channel_count(encoding, 3), *size)
        assert channels.dtype == torch.float32
        single = float(np.float32(alpha))
        assert channels.min() >= RANGES[range] * single
        # Every channel reaches its upper end to within the distance of two pixels.
        assert channels.max() == single
        assert channels.flatten(1).amax(1).min() > 0.3 * alpha

    def test_positive_is_the_symmetric_range_shifted(self, size, encoding, range, alpha):
        symmetric = position_channels(size, alpha, "symmetric", encoding=encoding).double()
        positive = position_channels(size, alpha, "positive", encoding=encoding).double()
        torch.testing.assert_close(positive, (symmetric + alpha) / 2, rtol=1e-6, atol=1e-6 * alpha)

    def test_no_two_pixels_are_alike(self, size, encoding, range, alpha):
        places = position_channels(size, alpha, range, encoding=encoding).flatten(1).T / alpha
        assert torch.cdist(places.double(), places.double()).fill_diagonal_(9).min() > 1e-3

    def test_exchanging_the_axes_transposes(self, size, encoding, range, alpha):
        one = position_channels(size, alpha, range, encoding=encoding)
        other = position_channels(size[::-1], alpha, range, x_axis=2, encoding=encoding)
        assert torch.equal(other.transpose(1, 2), one)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("shape", [(12, 9), (12, 9, 3)])
class TestTransform:
    def test_appends_the_channels(self, encoding, shape):
        data = item(*shape)
        result = PositionChannels(2.0, encoding=encoding, bands=2)(data)["image"]
        assert torch.equal(result[:1], data["image"])
        assert torch.equal(result[1:], position_channels(shape, 2.0, encoding=encoding, bands=2))
        assert result.is_contiguous()
        assert result.shape[0] == 1 + channel_count(encoding, 2)

    def test_slices_of_a_volume_are_as_single_images(self, encoding, shape):
        if len(shape) == 3:
            transform, data = PositionChannels(2.0, encoding=encoding), item(*shape)
            one = transform({**data, "image": data["image"][..., 1]})["image"]
            assert torch.equal(transform(data)["image"][..., 1], one)

    def test_shift_leaves_the_channels(self, encoding, shape):
        transform = PositionChannels(1.0, encoding=encoding, bands=2)
        moved = transform(Shifted()({**item(*shape), "shift_x": 3, "shift_y": -2}))["image"]
        still = transform(item(*shape))["image"]
        assert torch.equal(moved[1:], still[1:])
        assert not torch.equal(moved[0], still[0])

    def test_integers_and_metadata(self, encoding, shape):
        data = item(*shape, dtype=torch.uint8)
        result = PositionChannels(0.5, encoding=encoding)({**data, "image": MetaTensor(data["image"])})["image"]
        assert isinstance(result, MetaTensor)
        assert result.dtype == torch.float32
        assert torch.equal(result.as_tensor()[1:], position_channels(shape, 0.5, encoding=encoding))

    def test_a_copy_of_the_cached_grid_is_returned(self, encoding, shape):
        transform = PositionChannels(1.0, encoding=encoding)
        first = transform(item(*shape))["image"].clone()
        transform(item(*shape))["image"].zero_()
        assert torch.equal(transform(item(*shape))["image"], first)


def test_linear_is_the_default_to_the_bit():
    for range in RANGES:
        x, y = position_channels((7, 4), 3.0, range)
        named = position_channels((7, 4), 3.0, range, encoding="linear", bands=9)
        assert torch.equal(torch.stack([x, y]), named)
        u = torch.arange(7, dtype=torch.float64) / 6
        equation = 3.0 * (2 * u - 1) if range == "symmetric" else 3.0 * u
        assert torch.equal(x, equation.float()[:, None].expand(7, 4))


class TestRadial:
    @pytest.mark.parametrize("range", RANGES)
    def test_exact_ends(self, range):
        distance, cosine, sine = position_channels((9, 7), 3.0, range, encoding="radial")
        low = 3.0 * RANGES[range]
        middle = (low + 3.0) / 2
        assert distance[4, 3] == low
        assert [distance[u, v] for u in (0, -1) for v in (0, -1)] == [3.0] * 4
        assert (cosine[4, 3], sine[4, 3]) == (middle, middle)
        assert (cosine[0, 3], sine[0, 3]) == (low, middle)
        assert (cosine[-1, 3], sine[-1, 3]) == (3.0, middle)
        assert (cosine[4, 0], sine[4, 0]) == (middle, low)
        assert (cosine[4, -1], sine[4, -1]) == (middle, 3.0)

    @pytest.mark.parametrize("size", SIZES)
    def test_symmetries(self, size):
        distance, cosine, sine = position_channels(size, 1.0, encoding="radial")
        for axis, odd, even in ((0, cosine, sine), (1, sine, cosine)):
            assert torch.equal(distance.flip(axis), distance)
            assert torch.equal(odd.flip(axis), -odd)
            assert torch.equal(even.flip(axis), even)
        if size[0] == size[1]:
            assert torch.equal(distance.T, distance)
            assert torch.equal(cosine.T, sine)

    @pytest.mark.parametrize("size", SIZES)
    def test_x_and_y_can_be_recovered(self, size):
        distance, cosine, sine = position_channels(size, 1.0, encoding="radial").double()
        radius = (distance + 1) / 2 * math.sqrt(2)
        linear = position_channels(size, 1.0).double()
        torch.testing.assert_close(torch.stack([radius * cosine, radius * sine]), linear, rtol=0, atol=1e-6)

    def test_a_side_of_one_pixel_is_the_center(self):
        distance, cosine, sine = position_channels((1, 3), 2.0, encoding="radial")
        assert (cosine == 0).all()
        assert sine.tolist() == [[-2, 0, 2]]
        assert distance[0, 1] == -2


class TestFourier:
    @pytest.mark.parametrize("range", RANGES)
    def test_equation(self, range):
        channels = position_channels((12, 7), 3.0, range, encoding="fourier", bands=3).double()
        expected = []
        for axis, size in ((0, 12), (1, 7)):
            u = np.arange(size) / (size - 1)
            for k in (0, 1, 2):
                for wave in (np.cos, np.sin):
                    values = wave(2**k * math.pi * u)
                    values = 3 * values if range == "symmetric" else 1.5 * (values + 1)
                    expected.append(np.broadcast_to(values[:, None] if axis == 0 else values, (12, 7)))
        torch.testing.assert_close(channels, torch.from_numpy(np.stack(expected)), rtol=0, atol=1e-6)

    def test_exact_ends(self):
        channels = position_channels((12, 8), 3.0, encoding="fourier", bands=3)
        x = channels[:6, :, 0]
        assert x[:, 0].tolist() == [3, 0, 3, 0, 3, 0]
        assert x[:, -1].tolist() == [-3, 0, 3, 0, 3, 0]  # only the lowest band tells the edges apart
        assert position_channels((9, 9), 3.0, encoding="fourier", bands=1)[:2, 4, 0].tolist() == [0, 3]

    def test_waves_of_one_kind_are_orthogonal(self):
        """Expect the orthogonality of discrete cosine and sine transforms of type I; a cosine's two ends count half."""
        size, bands = 65, 6
        x = position_channels((size, size), 1.0, encoding="fourier", bands=bands)[: 2 * bands, :, 0].double()
        weight = torch.ones(size, dtype=torch.float64)
        weight[[0, -1]] = 0.5
        for kind in (x[0::2], x[1::2]):
            product = kind * weight @ kind.T
            torch.testing.assert_close(product, torch.eye(bands).double() * (size - 1) / 2, rtol=0, atol=1e-5)

    def test_period_halves_with_every_band(self):
        size = 129
        x = position_channels((size, 9), 1.0, encoding="fourier", bands=4)[:8, :, 0]
        for band, period in enumerate((256, 128, 64, 32)):
            for wave in x[2 * band : 2 * band + 2]:
                half = period // 2
                assert torch.equal(wave[half:], -wave[: size - half])
        torch.testing.assert_close(x[0::2] ** 2 + x[1::2] ** 2, torch.ones(4, size), rtol=0, atol=1e-6)

    def test_bands_nest(self):
        few, many = (position_channels((16, 16), 1.0, encoding="fourier", bands=bands) for bands in (2, 4))
        assert torch.equal(torch.cat([many[:4], many[8:12]]), few)

    def test_too_many_bands_for_the_pixels_are_refused(self):
        PositionChannels(1.0, encoding="fourier", bands=5)(item(17, 40))
        with pytest.raises(
            InputError, match=r"bands \(encoding_bands\): expected at most 4 for 16 px .*got 5; use fewer"
        ):
            PositionChannels(1.0, encoding="fourier", bands=5)(item(16, 40))
        with pytest.raises(InputError, match="expected at most 0 for 1 px"):
            position_channels((1, 9), 1.0, encoding="fourier")


@pytest.mark.parametrize("encoding", ["polar", "", None, "Linear"])
def test_bad_encoding(encoding):
    with pytest.raises(InputError, match="encoding: expected one of linear, radial, fourier, learned, coordconv"):
        PositionChannels(1.0, encoding=encoding)


@pytest.mark.parametrize("bands", [0, -1, 17, 2.0, True, "4"])
def test_bad_bands(bands):
    with pytest.raises(InputError, match=r"bands \(encoding_bands\): expected a whole number, 1 to 16"):
        PositionChannels(1.0, encoding="fourier", bands=bands)
