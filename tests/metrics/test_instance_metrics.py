"""Check scores of objects by hand, against scikit-image, and by their properties."""

import math

import numpy as np
import pytest
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from skimage.measure import label, regionprops
from skimage.metrics import adapted_rand_error as skimage_rand
from sklearn.metrics import jaccard_score

from medpos.core.errors import InputError
from medpos.metrics.instances import adapted_rand_error, components, match_boxes, pixel_error, seg_measure

FUNCTIONS = (seg_measure, pixel_error, adapted_rand_error)


def cells(seed, shape=(40, 50), share=0.4):
    """Draw an instance map of about a dozen blobs, numbered in order."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 2)
    return ndimage.label(noise > np.quantile(noise, 1 - share))[0]


def brute_force_seg(prediction, truth):
    """Compute SEG object by object, as the measure is defined."""
    values = []
    for number in np.unique(truth[truth > 0]):
        mask, value = truth == number, 0
        for other in np.unique(prediction[prediction > 0]):
            common = (mask & (prediction == other)).sum()
            if common > mask.sum() / 2:
                value = common / (mask | (prediction == other)).sum()
        values.append(value)
    return np.mean(values)


def test_components_touch_by_their_sides_or_by_corners():
    mask = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 0]])
    assert components(mask).tolist() == [[1, 0, 0], [0, 2, 2], [0, 0, 0]]
    assert components(mask, connectivity=2).tolist() == mask.tolist()


@pytest.mark.parametrize(("shape", "connectivity"), [((20, 30), 1), ((20, 30), 2), ((9, 8, 7), 1), ((9, 8, 7), 3)])
def test_components_are_those_of_skimage(shape, connectivity):
    mask = np.random.default_rng(0).random(shape) > 0.85
    found, wanted = components(mask, connectivity), label(mask, connectivity=connectivity)
    assert found.max() == wanted.max() > 5
    assert len(np.unique(np.stack([found.ravel(), wanted.ravel()]), axis=1).T) == wanted.max() + 1


def test_components_refuse_more_axes_than_there_are():
    with pytest.raises(InputError, match=r"connectivity: expected 1 to 2 for a mask of shape \(2, 2\), got 3"):
        components(np.ones((2, 2)), 3)


#            object 1 of 4 px    object 2 of 4 px
TRUTH = np.array([[1, 1, 1, 1, 0, 2, 2, 2, 2, 0]])


@pytest.mark.parametrize(
    ("prediction", "seg"),
    [
        ([[7, 7, 7, 7, 0, 5, 5, 5, 5, 0]], 1),
        ([[1, 1, 1, 0, 0, 0, 0, 0, 0, 0]], (3 / 4 + 0) / 2),
        ([[1, 1, 0, 0, 0, 2, 2, 2, 0, 0]], (0 + 3 / 4) / 2),  # half is not more than half
        ([[1, 1, 1, 1, 1, 1, 1, 1, 1, 1]], (4 / 10 + 4 / 10) / 2),  # merged
        ([[1, 1, 1, 3, 0, 2, 2, 2, 2, 2]], (3 / 4 + 4 / 5) / 2),
        ([[0, 0, 0, 0, 4, 0, 0, 0, 0, 4]], 0),
    ],
)
def test_seg_by_hand(prediction, seg):
    assert seg_measure(np.array(prediction), TRUTH) == pytest.approx(seg)


def test_pixel_error_by_hand():
    prediction = np.array([[1, 1, 1, 3, 3, 2, 0, 0, 2, 0]])  # one too many, two missed
    assert pixel_error(prediction, TRUTH) == pytest.approx(3 / 10)


def test_adapted_rand_error_by_hand():
    # Ordered pairs in one true object: 2 * 4 * 3 = 24.
    assert adapted_rand_error(TRUTH, TRUTH) == 0
    # Merged: of 8 * 7 = 56 predicted pairs 24 are true; F = 2 * 24 / (56 + 24).
    assert adapted_rand_error(np.ones_like(TRUTH), TRUTH) == pytest.approx(1 - 48 / 80)
    # The first object split in halves: 2 * 2 + 12 = 16 pairs, all true; F = 2 * 16 / (16 + 24).
    assert adapted_rand_error(np.array([[1, 1, 3, 3, 0, 2, 2, 2, 2, 0]]), TRUTH) == pytest.approx(1 - 32 / 40)
    # What is predicted on the true background makes no difference.
    assert adapted_rand_error(np.array([[1, 1, 1, 1, 1, 2, 2, 2, 2, 9]]), TRUTH) == 0
    # Predicted background within objects is one more object: 6 + 2 pairs agree, as many as are predicted.
    half = np.array([[0, 1, 1, 1, 0, 0, 2, 2, 2, 0]])
    assert adapted_rand_error(half, TRUTH) == pytest.approx(1 - 2 * 12 / (14 + 24))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("shape", [(40, 50), (14, 12, 10)])
def test_second_implementations(seed, shape):
    truth, prediction = cells(seed, shape), cells(seed + 100, shape)
    for other in (prediction, np.where(truth, truth, prediction), np.roll(truth, 2, axis=0)):
        assert adapted_rand_error(other, truth) == pytest.approx(skimage_rand(truth, other)[0], abs=1e-12)
        assert seg_measure(other, truth) == pytest.approx(brute_force_seg(other, truth), abs=1e-12)
        assert pixel_error(other, truth) == np.mean((other > 0) ^ (truth > 0))


def box(shape, *corners):
    """Draw rectangles, numbered in order, each from its first to its last corner."""
    out = np.zeros(shape, int)
    for number, (top, left, bottom, right) in enumerate(corners, 1):
        out[top:bottom, left:right] = number
    return out


def test_boxes_by_hand():
    true = box((20, 20), (0, 0, 4, 4), (10, 10, 14, 20))
    # Common 4 x 3 of 16 + 12 - 12 px, and 4 x 6 of 40 + 24 - 24; half is not more than half.
    assert match_boxes(box((20, 20), (0, 0, 4, 3), (10, 14, 14, 20)), true).tolist() == [12 / 16, 24 / 40]
    assert match_boxes(box((20, 20), (0, 0, 4, 2)), true).tolist() == []
    assert match_boxes(box((20, 20), (0, 0, 4, 2)), true, threshold=0.4).tolist() == [1 / 2]
    # The box around an L is that of the square; only boxes count, not pixels.
    square, corner = box((6, 6), (1, 1, 5, 5)), box((6, 6), (1, 1, 5, 2), (4, 1, 5, 5)) > 0
    assert match_boxes(corner.astype(int), square).tolist() == [1]
    assert (
        match_boxes(np.zeros((6, 6), int), square).tolist() == match_boxes(square, np.zeros((6, 6), int)).tolist() == []
    )


def test_each_box_is_matched_once_the_best_pair_first():
    true = box((10, 10), (0, 0, 10, 10))
    rings = np.zeros((10, 10), int)
    rings[0, :] = rings[:9, 0] = 1  # box 9 x 10
    rings[9, 1:] = rings[1:, 9] = 2  # box 9 x 9 beside it
    assert match_boxes(rings, true).tolist() == [9 / 10]
    assert match_boxes(true, rings).tolist() == [9 / 10]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shape", [(40, 50), (14, 12, 10)])
def test_boxes_of_a_second_implementation(seed, shape):
    truth, prediction = cells(seed, shape), np.roll(cells(seed, shape), 1, axis=1)
    ious = np.zeros((truth.max(), prediction.max()))
    for true in regionprops(truth):
        for predicted in regionprops(prediction):
            masks = np.zeros((2, *shape), bool)
            masks[0][true.slice] = masks[1][predicted.slice] = True
            ious[true.label - 1, predicted.label - 1] = jaccard_score(*masks.reshape(2, -1))
    ious[ious <= 0.5] = 0
    # The best assignment of all pairs at once is that of the best pairs first.
    right = [iou for iou in sorted(ious[linear_sum_assignment(ious, maximize=True)], reverse=True) if iou]
    assert match_boxes(prediction, truth).tolist() == pytest.approx(right)
    assert right
    numbers = np.random.default_rng(seed).choice(2**31 - 1, truth.max() + 1, replace=False)
    numbers[0] = 0
    assert match_boxes(prediction, numbers[truth]).tolist() == pytest.approx(right)


@pytest.mark.parametrize("seed", range(5))
def test_properties(seed):
    truth, prediction = cells(seed), np.roll(cells(seed), 2, axis=1)
    assert [function(truth, truth) for function in FUNCTIONS] == [1, 0, 0]
    rng = np.random.default_rng(seed)
    # Numbers up to 2^31 - 1 give the same scores.
    new = np.concatenate([[0], rng.choice(2**31 - 1, truth.max(), replace=False) + 1])
    for function in FUNCTIONS:
        value = function(prediction, truth)
        assert 0 < value < 1
        assert function(new[prediction], truth) == pytest.approx(value)
        assert function(prediction, new[truth]) == pytest.approx(value)
        assert function(prediction.T[::-1], truth.T[::-1]) == pytest.approx(value)
        assert function(prediction.astype(np.uint16), truth.astype(np.int32)) == value


@pytest.mark.filterwarnings("error")
def test_empty_maps():
    empty = np.zeros_like(TRUTH)
    assert [math.isnan(function(TRUTH, empty)) for function in FUNCTIONS] == [True, False, True]
    assert [math.isnan(function(empty, empty)) for function in FUNCTIONS] == [True, False, True]
    assert (pixel_error(TRUTH, empty), pixel_error(empty, TRUTH), pixel_error(empty, empty)) == (0.8, 0.8, 0)
    assert seg_measure(empty, TRUTH) == 0
    assert adapted_rand_error(empty, TRUTH) == pytest.approx(skimage_rand(TRUTH, empty)[0])
    assert all(math.isnan(function(empty[:0], empty[:0])) for function in FUNCTIONS)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_shapes_must_be_equal(function):
    with pytest.raises(InputError, match=r"prediction: expected the shape of the truth, \(10, 1\), got \(1, 10\)"):
        function(TRUTH, TRUTH.T)


@pytest.mark.parametrize("function", [seg_measure, adapted_rand_error, match_boxes])
@pytest.mark.parametrize("bad", [TRUTH - 1, TRUTH + 0.5])
def test_instance_maps_are_integers_from_0(function, bad):
    with pytest.raises(InputError, match="truth: expected integers from 0"):
        function(TRUTH, bad)
