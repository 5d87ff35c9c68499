"""Test transforms: exact values, identity, repeated calls, and unchanged inputs."""

import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import NormalizeIntensityd, ScaleIntensityRanged
from scipy import ndimage

from medpos.core.errors import InputError
from medpos.data.conditions import degradations
from medpos.transforms import (
    KINDS,
    SEVERITIES,
    SOURCES,
    TABLES,
    UNITS,
    Degraded,
    PositionChannels,
    ScaleToUnit,
    Shifted,
    StandardizePerSlice,
    SubtractMeanImage,
    degrade,
    position_channels,
    shift,
)
from medpos.transforms.intensity.degradations import gaussian_blur, gaussian_noise, name_table, shot_noise

STUDY = TABLES["study"]
RUNNING = [
    PositionChannels(2.0),
    Degraded(),
    Shifted(),
    StandardizePerSlice(),
    ScaleToUnit(),
]


def rng():
    return np.random.default_rng(0)


def random_item(*shape, **more):
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, *shape, generator=generator)
    return {"image": image, "label": (image > 0.5).to(torch.uint8), "case": "patient001", **more}


BUSY = {"degradation": "shot_noise", "severity": 3, "shift_x": 2, "shift_y": -1}


@pytest.mark.parametrize("transform", RUNNING, ids=lambda t: type(t).__name__)
@pytest.mark.parametrize("shape", [(12, 9), (12, 9, 3)])
class TestEveryTransform:
    def test_plain_tensor_in_and_out_and_input_unchanged(self, transform, shape):
        item = random_item(*shape, **BUSY)
        before = {key: value.clone() for key, value in item.items() if torch.is_tensor(value)}
        result = transform(item)
        assert type(result["image"]) is torch.Tensor
        assert result["image"].dtype == torch.float32
        assert result["image"].shape[1:] == shape
        assert result["label"].dtype == torch.uint8
        assert not torch.equal(result["image"], before["image"])
        for key, value in before.items():
            assert torch.equal(item[key], value), key

    def test_label_untouched_unless_shifted(self, transform, shape):
        item = random_item(*shape, **BUSY)
        assert (transform(item)["label"] is item["label"]) == (not isinstance(transform, Shifted))

    def test_replay_and_pickle_give_equal_results(self, transform, shape):
        item = random_item(*shape, **BUSY)
        copy = pickle.loads(pickle.dumps(transform))
        assert torch.equal(transform(item)["image"], copy(item)["image"])

    def test_meta_tensor_numpy_and_slices(self, transform, shape):
        item = random_item(*shape, **BUSY)
        expected = transform(item)["image"]
        affine = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0]))
        meta = transform({**item, "image": MetaTensor(item["image"], affine=affine)})["image"]
        assert isinstance(meta, MetaTensor)
        assert torch.equal(meta.affine.float(), affine)
        assert torch.equal(meta.as_tensor(), expected)
        assert torch.equal(
            transform({**item, "image": item["image"].numpy(), "label": item["label"]})["image"], expected
        )
        if len(shape) == 3 and not isinstance(transform, Degraded):
            one = {key: value[..., 1] if torch.is_tensor(value) else value for key, value in item.items()}
            torch.testing.assert_close(transform(one)["image"], expected[..., 1], rtol=0, atol=1e-6)

    def test_missing_key_is_an_error(self, transform, shape):
        with pytest.raises(KeyError, match="image"):
            transform({"label": torch.zeros(1, *shape)})


class TestPositionChannels:
    @pytest.mark.parametrize("alpha", [0.1, 1.0, 3.0, 100.0])
    @pytest.mark.parametrize(("range", "low"), [("symmetric", -1.0), ("positive", 0.0)])
    def test_equations(self, alpha, range, low):
        width, height = 7, 5
        x, y = position_channels((width, height), alpha, range)
        for u in np.arange(width):
            expected = alpha * (2 * u / (width - 1) - 1) if low else alpha * u / (width - 1)
            torch.testing.assert_close(x[u], torch.full((height,), float(expected), dtype=torch.float32))
        single = float(np.float32(alpha))
        for channel, axis in ((x, 0), (y, 1)):
            assert (channel.select(axis, 0) == low * single).all()
            assert (channel.select(axis, -1) == single).all()
            assert channel.diff(dim=1 - axis).abs().max() == 0

    def test_order_is_intensity_x_y(self):
        item = random_item(6, 4)
        result = PositionChannels(1.0)(item)["image"]
        assert torch.equal(result[:1], item["image"])
        assert torch.equal(result[1:], position_channels((6, 4), 1.0))

    def test_uint8(self):
        image = torch.tensor([[[0, 255], [7, 9], [1, 2]]], dtype=torch.uint8)
        result = PositionChannels(0.5)({"image": image})["image"]
        assert result.dtype == torch.float32
        assert torch.equal(result[0], image[0].float())
        assert torch.equal(result[1], torch.tensor([[-0.5, -0.5], [0.0, 0.0], [0.5, 0.5]]))

    def test_transposed_axes(self):
        item = random_item(6, 4, 3)
        columns_first = PositionChannels(2.0, x_axis=1)(item)["image"]
        rows_first = PositionChannels(2.0, x_axis=2)({"image": item["image"].transpose(1, 2)})["image"]
        assert torch.equal(rows_first.transpose(1, 2), columns_first)

    def test_one_pixel_is_zero(self):
        for range in ("symmetric", "positive"):
            x, y = position_channels((1, 3), 5.0, range)
            assert (x == 0).all()
            assert y[0, -1] == 5

    def test_a_copy_of_the_cached_grid_is_returned(self):
        transform, item = PositionChannels(1.0), random_item(4, 4)
        transform(item)["image"].zero_()
        assert transform(item)["image"][1].abs().max() == 1

    @pytest.mark.parametrize("alpha", [0.0, -1.0, math.inf, math.nan])
    def test_bad_alpha(self, alpha):
        with pytest.raises(InputError, match=r"alpha .* expected a finite number above 0"):
            PositionChannels(alpha)

    def test_bad_options(self):
        with pytest.raises(InputError, match="expected one of symmetric, positive, got 'sym'"):
            PositionChannels(1.0, "sym")
        with pytest.raises(InputError, match="x_axis: expected 1"):
            PositionChannels(1.0, x_axis=0)


class TestDegradations:
    def test_tables_are_complete(self):
        assert SOURCES.keys() == TABLES.keys()
        for table in TABLES.values():
            assert table.keys() == KINDS.keys() == UNITS.keys()
            for kind, values in table.items():
                assert len(values) == len(SEVERITIES)
                assert list(values) == sorted(values, reverse=kind == "shot_noise")

    @pytest.mark.parametrize(
        ("sigma", "center", "radius"),
        zip(STUDY["gaussian_blur"], (0.618694, 0.282925, 0.159156, 0.101860, 0.070737), (2, 3, 4, 5, 6), strict=True),
    )
    def test_blur_of_a_point(self, sigma, center, radius):
        point = np.zeros((1, 31, 31), dtype=np.float32)
        point[0, 15, 15] = 1
        blurred = gaussian_blur(point, sigma, rng())
        assert blurred[0, 15, 15] == pytest.approx(center, abs=1e-6)
        assert np.flatnonzero(blurred[0, 15]).tolist() == list(range(15 - radius, 15 + radius + 1))

    @pytest.mark.parametrize("sigma", STUDY["gaussian_blur"])
    def test_blur_equals_scipy_in_every_slice(self, sigma):
        volume = rng().random((2, 20, 17, 3), dtype=np.float32)
        blurred = gaussian_blur(volume, sigma, rng())
        for channel, z in np.ndindex(2, 3):
            expected = ndimage.gaussian_filter(volume[channel, ..., z], sigma, mode="nearest", truncate=4)
            np.testing.assert_array_equal(blurred[channel, ..., z], np.clip(expected, 0, 1))

    @pytest.mark.parametrize("sigma", STUDY["gaussian_noise"])
    def test_noise_on_black_and_on_gray(self, sigma):
        black = np.zeros((1, 400, 400), dtype=np.float32)
        assert gaussian_noise(black, sigma, rng()).mean() == pytest.approx(sigma / math.sqrt(2 * math.pi), rel=0.015)
        gray = gaussian_noise(np.full_like(black, 0.5), sigma, rng())
        if sigma <= 0.12:  # 4 sigma and more from the clipping
            assert gray.std() == pytest.approx(sigma, rel=0.01)
        assert gray.mean() == pytest.approx(0.5, abs=0.002)

    @pytest.mark.parametrize("photons", STUDY["shot_noise"])
    def test_shot_noise_of_gray(self, photons):
        counts = rng().poisson(0.5 * photons, 160_000) / photons
        noisy = shot_noise(np.full((1, 400, 400), 0.5, dtype=np.float32), photons, rng())
        assert noisy.mean() == pytest.approx(0.5, abs=0.004)
        # At 15 photons 0.5 + 4 std is above 1, so compare with what is cut off as well.
        assert noisy.std() == pytest.approx(np.minimum(counts, 1).std(), rel=0.01)
        if photons >= 30:
            assert noisy.std() == pytest.approx(math.sqrt(0.5 / photons), rel=0.01)
        np.testing.assert_allclose(noisy * photons, np.round(noisy * photons), atol=1e-3)

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("table", TABLES)
    def test_range_and_growth(self, kind, table):
        y, x = np.mgrid[:64, :64] / 10
        image = torch.from_numpy((0.5 + 0.5 * np.sin(x * y)).astype(np.float32))[None]
        changes = []
        for severity in SEVERITIES:
            degraded = degrade(image, kind, severity, "a", table=table)
            assert degraded.min() >= 0
            assert degraded.max() <= 1
            changes.append(float((degraded - image).square().mean()))
        assert changes == sorted(changes)
        assert changes[0] > 0

    @pytest.mark.parametrize(("kind", "severity"), [("none", 0), ("none", 3), ("gaussian_noise", 0), ("shot_noise", 0)])
    def test_identity(self, kind, severity):
        item = random_item(8, 8, degradation=kind, severity=severity)
        assert Degraded()(item)["image"] is item["image"]
        item = random_item(8, 8)
        assert Degraded()(item)["image"] is item["image"]

    @pytest.mark.parametrize("kind", ["gaussian_noise", "shot_noise"])
    def test_seeded_by_case_kind_severity_and_seed(self, kind):
        image = random_item(16, 16)["image"]
        results = [
            degrade(image, kind, severity, case, seed)
            for severity, case, seed in ((1, "a", 0), (2, "a", 0), (1, "b", 0), (1, "a", 1))
        ]
        for index, result in enumerate(results):
            for other in results[:index]:
                assert not torch.equal(result, other)

    def test_independent_of_order_process_and_global_seed(self):
        conditions = [(kind, severity, case) for kind in KINDS for severity in (1, 5) for case in ("a", "b")]
        image = random_item(8, 8)["image"]
        forward = {c: degrade(image, *c) for c in conditions}
        torch.manual_seed(5)
        for condition in reversed(conditions):
            assert torch.equal(degrade(image, *condition), forward[condition])
        code = (
            "import numpy as np; from medpos.transforms.intensity.degradations import degrade;"
            "print(repr(degrade(np.full((1, 4, 4), .5, np.float32), 'gaussian_noise', 2, 'é 1').tolist()))"
        )
        # A new process hashes strings differently.
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        assert other == repr(degrade(np.full((1, 4, 4), 0.5, np.float32), "gaussian_noise", 2, "é 1").tolist())

    def test_quantise(self):
        levels = torch.arange(256).float().reshape(1, 16, 16) / 255
        degraded = degrade(levels, "gaussian_noise", 1, "a", quantise=True) * 255
        torch.testing.assert_close(degraded, degraded.round(), rtol=0, atol=1e-4)
        exact = degrade(levels, "gaussian_noise", 1, "a") * 255
        assert ((exact - degraded) > -0.01).all()
        assert ((exact - degraded) < 1).all()
        flat = torch.full((1, 8, 8), 153 / 255)
        torch.testing.assert_close(degrade(flat, "gaussian_blur", 5, "a", quantise=True), flat)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"degradation": "gausian_blur"}, "got 'gausian_blur'; did you mean 'gaussian_blur'"),
            ({"degradation": "gausian_blur", "severity": 0}, "did you mean 'gaussian_blur'"),
            ({"severity": 6}, "severity: expected 0"),
            ({"severity": -1}, "severity: .* got -1"),
            ({"severity": 2.5}, "severity: .* got 2.5"),
            (
                {"image": torch.full((1, 4, 4), 1.5)},
                r"patient001: shot_noise: expected .* in \[0, 1\], got 1.5",
            ),
            ({"image": torch.full((1, 4, 4), math.nan)}, r"expected intensities in \[0, 1\], got nan"),
        ],
    )
    def test_bad_input(self, change, message):
        with pytest.raises(InputError, match=message):
            Degraded()(random_item(4, 4, **{**BUSY, **change}))

    def test_a_table_of_numbers(self):
        image = random_item(8, 8)["image"]
        numbers = {"gaussian_blur": [0.5, 1, 2, 3, 4]}
        assert torch.equal(
            degrade(image, "gaussian_blur", 2, "a", table=numbers),
            degrade(image, "gaussian_blur", 3, "a", table="study"),
        )
        assert [condition.severity for condition in degradations(numbers)] == [0, 1, 2, 3, 4, 5]
        with pytest.raises(InputError, match="expected one of none, gaussian_blur, got 'shot_noise'"):
            degrade(image, "shot_noise", 1, "a", table=numbers)

    @pytest.mark.parametrize("table", TABLES)
    def test_the_numbers_of_a_published_table_have_its_name(self, table):
        numbers = {kind: list(strengths) for kind, strengths in TABLES[table].items()}
        assert name_table(numbers) == name_table(table) == table
        own = {**numbers, "shot_noise": [9, 8, 7, 6, 5]}
        assert name_table(own) == own

    @pytest.mark.parametrize(
        ("table", "message"),
        [
            ({"gausian_noise": [1, 2, 3, 4, 5]}, "got 'gausian_noise'; did you mean 'gaussian_noise'"),
            ({"shot_noise": [1, 2]}, r"shot_noise: expected 5 numbers above 0, mild to strong, got \[1, 2\]"),
            ({"shot_noise": [4, 3, 2, 1, 0]}, "expected 5 numbers above 0"),
        ],
    )
    def test_a_wrong_table_of_numbers(self, table, message):
        with pytest.raises(InputError, match=message):
            Degraded(table=table)

    def test_bad_table_and_missing_case(self):
        with pytest.raises(InputError, match="did you mean 'imagenet_c'"):
            Degraded(table="imagenet")
        item = random_item(4, 4, **BUSY)
        del item["case"]
        with pytest.raises(InputError, match="expected an item with 'case'"):
            Degraded()(item)


class TestMeanImage:
    def test_every_slice_of_an_image_or_volume(self):
        mean, image = torch.rand(2, 4, 5), torch.rand(2, 4, 5, 3)
        found = SubtractMeanImage(lambda: mean)({"image": image})["image"]
        assert torch.equal(found, image - mean[..., None])
        assert torch.equal(SubtractMeanImage(lambda: mean)({"image": image[..., 1]})["image"], found[..., 1])

    def test_a_mean_of_each_channel_fits_every_size(self):
        image, means = torch.rand(2, 4, 5), torch.tensor([1.0, 2.0]).reshape(2, 1, 1)
        assert torch.equal(SubtractMeanImage(lambda: means)({"image": image})["image"], image - means)

    def test_another_size_is_refused(self):
        with pytest.raises(InputError, match="image: expected images of 4 x 5 px, as the mean image has, got 5 x 4 px"):
            SubtractMeanImage(lambda: torch.zeros(1, 4, 5))({"image": torch.zeros(1, 5, 4)})


class TestShift:
    @pytest.mark.parametrize(("dx", "dy"), [(0, 0), (3, 0), (-3, 0), (0, 2), (0, -2), (4, -5), (11, 0), (0, 8)])
    def test_content_moves(self, dx, dy):
        image = random_item(12, 9)["image"]
        moved = shift(image, dx, dy, fill=-1.0)
        for x, y in np.ndindex(12, 9):
            inside = 0 <= x - dx < 12 and 0 <= y - dy < 9
            assert moved[0, x, y] == (image[0, x - dx, y - dy] if inside else -1)

    @pytest.mark.parametrize(("dx", "dy"), [(12, 0), (-12, 0), (0, 9), (100, -100)])
    def test_all_fill(self, dx, dy):
        assert (shift(random_item(12, 9)["image"], dx, dy, 0.25) == 0.25).all()

    def test_image_and_label_move_alike_each_with_its_fill(self):
        item = random_item(12, 9, shift_x=-3, shift_y=2)
        result = Shifted(fill=(0.75, 3))(item)
        assert torch.equal(result["image"], shift(item["image"], -3, 2, 0.75))
        assert torch.equal(result["label"], shift(item["label"], -3, 2, 3))
        assert result["label"].dtype == torch.uint8

    def test_without_a_shift_nothing_is_copied(self):
        item = random_item(4, 4)
        assert Shifted()(item)["image"] is item["image"]

    def test_position_channels_stay(self):
        item = random_item(12, 9, shift_x=3)
        result = PositionChannels(1.0)(Shifted()(item))["image"]
        assert torch.equal(result[1:], position_channels((12, 9), 1.0))

    def test_fills_must_fit_the_keys(self):
        assert Shifted(fill=2.0).fill == {"image": 2.0, "label": 2.0}
        with pytest.raises(InputError, match="Shifted: fill: expected one value, or 2, one for each key, got 1"):
            Shifted(fill=(0.0,))


class TestIntensity:
    @pytest.mark.parametrize("scale", [1e-4, 1.0, 4095.0])
    def test_standardize_per_slice(self, scale):
        volume = random_item(32, 24, 5)["image"] * scale + 10 * scale
        result = StandardizePerSlice()({"image": volume})["image"].numpy()
        np.testing.assert_allclose(result.mean((1, 2)), 0, atol=1e-4)
        np.testing.assert_allclose(result.std((1, 2)), 1, atol=1e-4)

    @pytest.mark.parametrize("transform", [StandardizePerSlice(), ScaleToUnit()])
    def test_constant_slice_becomes_zero(self, transform):
        volume = random_item(33, 17, 3)["image"]
        volume[..., 1] = 0.1  # its float32 mean isn't 0.1
        result = transform({"image": volume})["image"]
        assert (result[..., 1] == 0).all()
        assert torch.isfinite(result).all()
        assert result[..., 2].std() > 0.1

    def test_scale_to_unit_per_slice(self):
        volume = random_item(8, 8, 3)["image"] * torch.tensor([1.0, 10.0, 1000.0]) - 5
        result = ScaleToUnit()({"image": volume})["image"]
        assert (result.amin((1, 2)) == 0).all()
        assert (result.amax((1, 2)) == 1).all()

    @pytest.mark.parametrize("transform", [StandardizePerSlice(), ScaleToUnit()])
    def test_integers(self, transform):
        image = torch.arange(12, dtype=torch.uint8).reshape(1, 3, 4)
        expected = transform({"image": image.float()})["image"]
        assert torch.equal(transform({"image": image})["image"], expected)

    def test_monais_transforms_do_what_the_docstring_says(self):
        item = random_item(6, 6)
        scaled = NormalizeIntensityd(keys="image", subtrahend=0.4, divisor=0.2)(item)["image"]
        torch.testing.assert_close(scaled, (item["image"] - 0.4) / 0.2)
        ranged = ScaleIntensityRanged(keys="image", a_min=0.2, a_max=0.6, b_min=0, b_max=1, clip=True)(item)["image"]
        torch.testing.assert_close(ranged, ((item["image"] - 0.2) / 0.4).clamp(0, 1))
