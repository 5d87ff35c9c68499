"""Check metrics by hand, against MONAI, on empty masks, and by their properties on random masks."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.metrics import (
    compute_average_surface_distance,
    compute_confusion_matrix_metric,
    compute_dice,
    compute_hausdorff_distance,
    compute_iou,
    compute_surface_dice,
    get_confusion_matrix,
)
from scipy import ndimage

from medpos.core import memory
from medpos.core.errors import InputError
from medpos.core.labels import ACDC, CLAVICLES, JSRT
from medpos.metrics import (
    METRICS,
    CaseTruth,
    case_metrics,
    limits_of,
    overlap,
    summarize,
    surface,
    surface_dice,
    surface_distances,
)

OVERLAPS = ("dice", "iou", "sensitivity", "precision")


def square(start, stop, size=12):
    mask = np.zeros((size, size), dtype=bool)
    mask[start[0] : stop[0], start[1] : stop[1]] = True
    return mask


def blobs(seed, shape, share=0.3):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 1.5)
    return noise > np.quantile(noise, 1 - share)


class TestOverlap:
    def test_by_hand(self):
        truth = np.array([[0, 1, 1, 1], [0, 1, 2, 2]])
        prediction = np.array([[1, 1, 1, 0], [0, 0, 2, 1]])
        # Class 1: 4 true, 4 predicted, 2 common. Class 2: 2 true, 1 predicted, 1 common.
        result = overlap(prediction, truth, 3)
        assert result["dice"].tolist() == [0.5, pytest.approx(2 / 3)]
        assert result["iou"].tolist() == [pytest.approx(1 / 3), 0.5]
        assert result["sensitivity"].tolist() == [0.5, 0.5]
        assert result["precision"].tolist() == [0.5, 1.0]
        # Of 8 pixels, 2 are in neither mask of class 1, and 6 in neither of class 2.
        assert result["accuracy"].tolist() == [4 / 8, 7 / 8]
        assert result["specificity"].tolist() == [2 / 4, 1.0]
        assert result["npv"].tolist() == [2 / 4, 6 / 7]

    def test_empty_masks(self):
        truth = np.array([0, 1, 0, 0], dtype=np.uint8)
        prediction = np.array([0, 0, 2, 0], dtype=np.uint8)
        for name, values in overlap(prediction, truth, 4).items():
            defined = {"accuracy": [0.75, 0.75], "specificity": [1, 0.75], "npv": [0.75, 1]}
            assert values[:2].tolist() == defined.get(name, [0, 0]), name
            assert math.isnan(values[2]), name

    @pytest.mark.parametrize("seed", range(20))
    def test_properties_and_monai(self, seed):
        rng = np.random.default_rng(seed)
        truth, prediction = rng.integers(0, 4, (2, 9, 8, 3)).astype(rng.choice([np.uint8, np.int64, np.int16]))
        result, back = overlap(prediction, truth, 4), overlap(truth, prediction, 4)
        np.testing.assert_array_equal(result["dice"], back["dice"])
        np.testing.assert_array_equal(result["sensitivity"], back["precision"])
        np.testing.assert_array_equal(result["specificity"], back["npv"])
        np.testing.assert_allclose(result["dice"], 2 * result["iou"] / (1 + result["iou"]))
        np.testing.assert_allclose(2 / result["dice"], 1 / result["sensitivity"] + 1 / result["precision"])
        one_hot = [torch.tensor(np.stack([m == c for c in range(4)])[None]) for m in (prediction, truth)]
        np.testing.assert_allclose(result["dice"], compute_dice(*one_hot, include_background=False)[0], rtol=1e-6)
        np.testing.assert_allclose(result["iou"], compute_iou(*one_hot, include_background=False)[0], rtol=1e-6)
        counts = get_confusion_matrix(*(part.float() for part in one_hot), include_background=False)
        for name in ("specificity", "accuracy", "npv"):
            title = {"npv": "negative predictive value"}.get(name, name)
            np.testing.assert_allclose(result[name], compute_confusion_matrix_metric(title, counts)[0], rtol=1e-6)


class TestSurfaceDistances:
    def test_equal_masks(self):
        assert surface_distances(square((2, 2), (8, 9)), square((2, 2), (8, 9)), (0.5, 2.0)) == (0, 0)

    def test_two_points(self):
        one, other = square((1, 1), (2, 2)), square((4, 5), (5, 6))
        assert surface_distances(one, other, (1, 1)) == (5, 5)
        assert surface_distances(one, other, (2.0, 0.5)) == (math.hypot(6, 2), math.hypot(6, 2))

    def test_surface_dice_by_hand_and_monai(self):
        one, other, nothing = square((1, 1), (2, 2)), square((4, 5), (5, 6)), square((0, 0), (0, 0))
        assert [surface_dice(one, other, (1, 1), limit) for limit in (4.99, 5)] == [0, 1]
        # A line of 4 px against its first 2 px: distances 0, 0, 1.5, 3 one way and 0, 0 back.
        assert surface_dice(square((3, 2), (4, 6)), square((3, 2), (4, 4)), (1, 1.5), 1.5) == 5 / 6
        assert surface_dice(nothing, one, (1, 1), 9) == 0
        assert math.isnan(surface_dice(nothing, nothing, (1, 1), 9))
        first, second = blobs(1, (40, 33)), blobs(2, (40, 33))
        masks = [torch.tensor(mask)[None, None].float() for mask in (first, second)]
        expected = compute_surface_dice(*masks, class_thresholds=[2.0], include_background=True, spacing=(1.5, 0.8))
        assert surface_dice(first, second, (1.5, 0.8), 2.0) == pytest.approx(float(expected), rel=1e-6)

    def test_two_lines(self):
        """Compare a line of 4 px with its first 2 px: distances 0, 0, 1, 2 one way and 0, 0 back."""
        hd95, assd = surface_distances(square((3, 2), (4, 6)), square((3, 2), (4, 4)), (1, 1.5))
        assert assd == pytest.approx(1.5 * 3 / 6)
        assert hd95 == pytest.approx(1.5 * (1 + 0.85))  # 95 % of the way through 4 values: position 2.85

    def test_square_in_square(self):
        """Compare a ring of 16 px (5 x 5) with one of 8 px (3 x 3): sqrt 2 at the corners, 1 elsewhere."""
        hd95, assd = surface_distances(square((2, 2), (7, 7)), square((3, 3), (6, 6)), (1, 1))
        assert assd == pytest.approx((12 + 4 * math.sqrt(2) + 8) / 24)
        assert hd95 == pytest.approx(math.sqrt(2))

    def test_the_image_border_counts_as_surface(self):
        full = np.ones((9, 9), dtype=bool)
        center = square((4, 4), (5, 5), 9)
        # The boundary of the full image is its outermost ring, 4 px away at the sides and sqrt 32 in the corners.
        hd95, assd = surface_distances(center, full, (1, 1))
        ring = [math.hypot(x - 4, y - 4) for x in range(9) for y in range(9) if {x, y} & {0, 8}]
        assert assd == pytest.approx((sum(ring) + 4) / (len(ring) + 1))
        assert hd95 == pytest.approx(np.percentile(ring, 95))

    @pytest.mark.parametrize("shape", [(6, 6), (6, 6, 3), (6, 6, 1)])
    def test_empty_masks(self, shape):
        empty, full = np.zeros(shape, dtype=bool), np.ones(shape, dtype=bool)
        spacing = (1.0,) * len(shape)
        assert all(map(math.isnan, surface_distances(empty, empty, spacing)))
        assert surface_distances(empty, full, spacing) == (math.inf, math.inf)
        assert surface_distances(full, empty, spacing) == (math.inf, math.inf)

    @pytest.mark.parametrize("axis", [0, 1, 2])
    def test_one_slice_is_an_image(self, axis):
        one, other = blobs(0, (20, 17)), blobs(1, (20, 17))
        expected = surface_distances(one, other, (1.5, 0.7))
        spacing = [1.5, 0.7]
        spacing.insert(axis, 10.0)
        volumes = [np.expand_dims(mask, axis) for mask in (one, other)]
        assert surface_distances(*volumes, spacing) == expected
        assert surface_distances(np.ones((1, 1, 1)), np.ones((1, 1, 1)), (1, 1, 1)) == (0, 0)

    @pytest.mark.parametrize("dense", [0.0, 1.0], ids=["transform", "tree"])
    @pytest.mark.parametrize("seed", range(8))
    @pytest.mark.parametrize(
        ("shape", "spacing"), [((24, 19), (1.0, 1.0)), ((24, 19), (0.7, 2.5)), ((15, 14, 6), (1.4, 1.2, 9.0))]
    )
    def test_monai_agrees(self, shape, spacing, seed, dense, monkeypatch):
        monkeypatch.setattr(surface, "_DENSE", dense)
        one, other = blobs(seed, shape, 0.1 + seed / 12), blobs(100 + seed, shape, 0.3)
        tensors = [torch.tensor(mask[None, None]) for mask in (one, other)]
        hd95 = compute_hausdorff_distance(*tensors, include_background=True, percentile=95, spacing=spacing)
        assd = compute_average_surface_distance(*tensors, include_background=True, symmetric=True, spacing=spacing)
        assert surface_distances(one, other, spacing) == pytest.approx((hd95.item(), assd.item()), abs=1e-5)

    @pytest.mark.parametrize("seed", range(10))
    def test_properties(self, seed):
        one, other = blobs(seed, (26, 22)), blobs(50 + seed, (26, 22))
        spacing = (1.3, 0.8)
        result = surface_distances(one, other, spacing)
        assert surface_distances(other, one, spacing) == pytest.approx(result)
        assert surface_distances(one.T, other.T, spacing[::-1]) == pytest.approx(result)
        assert surface_distances(np.pad(one, 5), np.pad(other, 5), spacing) == pytest.approx(result)
        assert surface_distances(one, other, (2.6, 1.6)) == pytest.approx([2 * value for value in result])
        assert 0 < result[1] < result[0]

    @pytest.mark.parametrize("dense", [0.0, 0.09, 1.0], ids=["transform", "both", "tree"])
    @pytest.mark.parametrize("seed", range(6))
    @pytest.mark.parametrize(("shape", "spacing"), [((90, 81), (0.7, 2.5)), ((60, 44, 5), (1.4, 1.2, 9.0))])
    def test_scipy_agrees_far_from_the_truth_too(self, shape, spacing, seed, dense, monkeypatch):
        """Compare with erosion and distance transform of the whole image, mask by mask."""
        monkeypatch.setattr(surface, "_DENSE", dense)
        truth, prediction = np.zeros((2, *shape), dtype=bool)
        place = tuple(slice(n // 8, n // 4 + 2) for n in shape[:2])
        truth[place] = blobs(seed, truth[place].shape, 0.5)
        prediction[place] = blobs(50 + seed, truth[place].shape, 0.5)
        prediction |= np.random.default_rng(seed).random(shape) > 0.997  # fragments beyond the kept margin
        rings = [mask & ~ndimage.binary_erosion(mask) for mask in (prediction, truth)]
        one, other = (ndimage.distance_transform_edt(~ring, sampling=spacing) for ring in rings)
        forth, back = other[rings[0]], one[rings[1]]
        expected = (max(np.percentile(forth, 95), np.percentile(back, 95)), np.concatenate([forth, back]).mean())
        assert surface_distances(prediction, truth, spacing) == pytest.approx(expected, abs=1e-9, rel=1e-12)
        assert np.argwhere(rings[0]).max() > np.argwhere(rings[1]).max() + surface._MARGIN

    @pytest.mark.parametrize("shape", [(60, 50), (20, 18, 16)])
    def test_bits_of_distances_are_those_of_scipy(self, shape):
        pixels = np.argwhere(blobs(0, shape, 0.1)).astype(np.int32)
        elsewhere, spacing = ~blobs(0, shape, 0.1), np.array([1.3, 0.7, 2.9])[: len(shape)]
        whole = ndimage.distance_transform_edt(elsewhere, spacing)
        others = np.argwhere(elsewhere).astype(np.int32)
        found = surface._nearest_in(np.zeros(len(shape), np.int32), np.array(shape, np.int32), others, pixels, spacing)
        assert (found == whole[elsewhere]).all()
        around = surface.Surface(pixels, spacing)
        assert around.kept
        assert (around.distances_of(others) == whole[elsewhere]).all()

    @pytest.mark.parametrize("size", [1, 2, 3, 20, 21, 22, 101, 1000])
    def test_percentile_is_that_of_numpy(self, size):
        rng = np.random.default_rng(size)
        for values in (rng.random(size), rng.integers(0, 4, size).astype(float)):
            assert surface._percentile95(values) == np.percentile(values, 95)


class TestCaseMetrics:
    @pytest.mark.parametrize("shape", [(40, 33), (30, 33, 4), (30, 33, 1)])
    def test_a_truth_that_is_reused(self, shape):
        """Compare with one-off measurements, in any order, and after a change of the array behind the truth."""
        spacing = (1.5, 0.8, 7.0)[: len(shape)]
        maps = [(blobs(n, shape, 0.5) * (1 + blobs(9 + n, shape, 0.6))).astype(np.uint8) for n in range(5)]
        given = maps[0].copy()
        truth = CaseTruth(given, JSRT, spacing)
        assert truth.is_of(given, spacing)
        given[:] = 0
        assert truth.is_of(maps[0], spacing)
        assert not truth.is_of(given, spacing)
        assert not truth.is_of(maps[0], [2 * size for size in spacing])
        for prediction in [*maps, *reversed(maps)]:
            again, once = truth.measure(prediction), case_metrics(prediction.astype(float), maps[0], JSRT, spacing)
            assert str(again) == str(once)
            distances = surface_distances(prediction == 2, maps[0] == 2, spacing)
            assert (again[1]["hd95_mm"], again[1]["assd_mm"]) == distances

    @pytest.mark.parametrize("shape", [(40, 33), (24, 19, 11), (30, 33, 1), (1, 20, 9)])
    @pytest.mark.parametrize("kept", [0, 9000])
    def test_parts_and_what_is_kept_change_no_bit(self, shape, kept, monkeypatch):
        spacing = (1.5, 0.8, 0.7)[: len(shape)]
        truth, *predictions = [blobs(n, shape, 0.5) * (1 + blobs(9 + n, shape, 0.6)) for n in range(4)]
        whole = [case_metrics(prediction, truth, JSRT, spacing) for prediction in predictions]
        monkeypatch.setattr(memory, "PART", 100)
        monkeypatch.setattr(surface, "_KEPT", kept)
        case = CaseTruth(np.asfortranarray(truth), JSRT, spacing)
        for prediction, wanted in zip([*predictions, *predictions], [*whole, *whole], strict=True):
            assert str(case.measure(np.asfortranarray(prediction))) == str(wanted)

    def test_rows_and_values(self):
        truth, prediction = np.zeros((2, 30, 30), dtype=np.int64)
        truth[3:9, 3:9], prediction[3:9, 4:10] = 1, 1
        truth[20:25, 20:25] = 2
        rows = case_metrics(prediction, truth, JSRT, (2.0, 2.0))
        assert [row["organ"] for row in rows] == ["right_lung", "left_lung", "heart"]
        assert all(tuple(row) == ("organ", *METRICS) for row in rows)
        assert rows[0]["dice"] == pytest.approx(30 / 36)
        expected = surface_distances(prediction == 1, truth == 1, (2.0, 2.0))
        assert (rows[0]["hd95_mm"], rows[0]["assd_mm"]) == expected
        assert [rows[1][name] for name in (*OVERLAPS, "surface_dice")] == [0, 0, 0, 0, 0]
        assert [rows[1][name] for name in ("specificity", "accuracy")] == [1, 1 - 25 / 900]
        strict = [replace(label, tolerance_mm=0.1) for label in JSRT]
        assert rows[0]["surface_dice"] == 1 > case_metrics(prediction, truth, strict, (2.0, 2.0))[0]["surface_dice"]
        assert rows[1]["hd95_mm"] == rows[1]["assd_mm"] == math.inf
        assert all(math.isnan(rows[2][name]) for name in METRICS)
        assert {type(row[name]) for row in rows for name in METRICS} == {float}

    def test_all_background(self):
        rows = case_metrics(np.zeros((8, 8, 3)), np.zeros((8, 8, 3)), ACDC, (1, 1, 10))
        assert all(math.isnan(row[name]) for row in rows for name in METRICS)

    def test_ignored_pixels_are_background_in_both(self):
        truth, prediction = np.zeros((2, 12, 12), np.uint8)
        truth[2:8, 2:8], prediction[2:8, 2:6] = 1, 1
        truth[4:8, 2:8], prediction[9:11, 9:11] = 255, 2
        truth[9:12, 9:12] = 255
        given = CaseTruth(truth, JSRT, (1.0, 1.0))
        rows = given.measure(prediction)
        # Of 2 x 6 true pixels 2 x 4 are found, and nothing else; the lung in the ignored corner is in neither.
        assert [rows[0][name] for name in OVERLAPS] == pytest.approx([0.8, 2 / 3, 2 / 3, 1])
        assert rows[0]["hd95_mm"] == 2
        # 144 pixels, of which 24 + 9 are ignored.
        assert rows[0]["accuracy"] == pytest.approx((144 - 33 - 4) / (144 - 33))
        assert np.isnan(rows[1]["dice"])
        assert given.is_of(truth, (1.0, 1.0))
        assert not given.is_of(np.where(truth == 255, 0, truth), (1.0, 1.0))

    def test_tensors_and_cropping(self):
        rng = np.random.default_rng(0)
        truth, prediction = np.zeros((2, 40, 40, 4), dtype=np.uint8)
        truth[10:20, 12:30, 1:3], prediction[10:20, 12:30, 1:3] = rng.integers(0, 6, (2, 10, 18, 2))
        labels = JSRT + CLAVICLES
        rows = case_metrics(torch.tensor(prediction), torch.tensor(truth), labels, (1, 1, 5))
        for name, values in overlap(prediction, truth, 6).items():
            assert [row[name] for row in rows] == values.tolist()
        for row, label in zip(rows, labels[1:], strict=True):
            distances = surface_distances(prediction == label.index, truth == label.index, (1, 1, 5))
            assert (row["hd95_mm"], row["assd_mm"]) == distances

    @pytest.mark.parametrize(
        ("prediction", "truth", "spacing", "message"),
        [
            (
                np.zeros((4, 4)),
                np.zeros((4, 5)),
                (1, 1),
                r"prediction: expected the shape of the truth, \(4, 5\), got \(4, 4\)",
            ),
            (np.zeros((4, 4)), np.zeros((4, 4)), (1, 1, 1), "expected 2 positive numbers"),
            (np.zeros((4, 4)), np.zeros((4, 4)), (1, 0), r"spacing_mm: .* got \(1, 0\)"),
            (
                np.full((4, 4), 4),
                np.zeros((4, 4)),
                (1, 1),
                "prediction: expected the labels 0, 1, 2, 3, got the values 4",
            ),
            (np.zeros((4, 4)), np.full((4, 4), -1), (1, 1), "truth: .* got the values -1"),
            (np.zeros((4, 4)), np.full((4, 4), 256), (1, 1), "truth: .* got the values 256"),
            (np.full((4, 4), 0.5), np.zeros((4, 4)), (1, 1), "prediction: .* got the values 0.5"),
            (np.full((4, 4), np.nan), np.zeros((4, 4)), (1, 1), "prediction: .* got the values nan"),
        ],
    )
    def test_bad_input(self, prediction, truth, spacing, message):
        with pytest.raises(InputError, match=message):
            case_metrics(prediction, truth, JSRT, spacing)


class TestSummarise:
    def test_by_hand(self):
        result = summarize([1.0, 2.0, 3.0, math.nan, math.inf, math.nan])
        assert (result["mean"], result["sd"]) == (2.0, 1.0)
        assert (result["n"], result["missing"], result["infinite"]) == (3, 2, 1)
        # Student's t with 2 degrees of freedom: 4.3027 standard errors of 1 / sqrt(3).
        assert result["ci95"] == pytest.approx([2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5])
        assert json.loads(json.dumps(result, allow_nan=False)) == result

    def test_too_few_values(self):
        nothing = {"mean": None, "sd": None, "ci95": None, "median": None, "n": 0}
        assert summarize([]) == {**nothing, "missing": 0, "infinite": 0}
        assert summarize([math.nan, math.inf]) == {**nothing, "missing": 1, "infinite": 1}
        one = {"mean": 0.25, "sd": None, "ci95": None, "median": 0.25, "n": 1}
        assert summarize([0.25]) == {**one, "missing": 0, "infinite": 0}

    def test_infinite_values_rank_last(self):
        assert summarize([math.nan, 1, math.inf, 3])["median"] == 3
        assert summarize([1, math.inf, 3, 2])["median"] == 2.5
        assert summarize([1, math.inf])["median"] is None

    def test_subjects_are_counted(self):
        values = [0.1, 0.5, 0.9, 0.2, math.nan, 0.6]
        assert summarize(values, groups="abcdef") == summarize(values)
        assert summarize(values, groups="aaaaaa")["ci95"] is None
        # Two subjects, of three and two values: residuals 2 (1.5 - 3 * 0.46) / 5 and the opposite, 0.048; the
        # standard error of their mean is 0.048, and Student's t with 1 degree of freedom 12.706.
        found = summarize(values, groups="aaabbb")
        assert found["mean"] == pytest.approx(0.46)
        assert found["ci95"] == pytest.approx([0.46 - 12.706205 * 0.048, 0.46 + 12.706205 * 0.048])

    def test_the_interval_ends_at_the_limits(self):
        assert summarize([0.1, 0.5, 0.9], limits=limits_of("dice"))["ci95"] == [0, 1]
        low, high = summarize([1.0, 50.0, 90.0], limits=limits_of("hd95_mm"))["ci95"]
        assert (low, high > 100) == (0, True)

    def test_interval_is_about_normal(self):
        values = np.random.default_rng(0).normal(5, 2, 400)
        low, high = summarize(values)["ci95"]
        half = 1.96 * values.std() / 20
        assert low == pytest.approx(values.mean() - half, abs=0.03)
        assert high == pytest.approx(values.mean() + half, abs=0.03)
        assert summarize(values) == summarize(values.tolist())
