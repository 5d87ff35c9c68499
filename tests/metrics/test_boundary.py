"""Check boundary F1 by hand, and against erosions and distance maps as a second implementation."""

import numpy as np
import pytest
from scipy import ndimage

from medpos.core.errors import InputError
from medpos.metrics.boundary import TOLERANCE, boundary_f1


def stripe(first, last, shape=(30, 40)):
    """Draw class 1 from column ``first`` to ``last`` over the whole height, else class 0; the diagonal is 50 px."""
    out = np.zeros(shape, np.uint8)
    out[:, first : last + 1] = 1
    return out


def scene(seed, shape=(48, 64), classes=4):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((classes, *shape)), (0, 4, 4))
    return noise.argmax(axis=0).astype(np.uint8)


def by_distance_maps(prediction, truth, reach):
    """Compute the score of each class of the truth from erosions and distance maps of the whole image."""
    found = {}
    for index in np.unique(truth[truth != 255]):
        contours = []
        for label_map in (np.where(truth == 255, 255, prediction), truth):
            mask = label_map == index
            contours.append(mask & ~ndimage.binary_erosion(mask))
        predicted, true = contours
        if not predicted.any():
            found[index] = 0
            continue
        precision = (ndimage.distance_transform_edt(~true)[predicted] <= reach).mean()
        recall = (ndimage.distance_transform_edt(~predicted)[true] <= reach).mean()
        found[index] = 2 * precision * recall / (precision + recall) if precision + recall else 0
    return found


def test_by_hand():
    # Columns 10 to 19 against 12 to 19: contours of two sides of 30 px and 8 or 6 px more on top and bottom. Within
    # 2 px both are met. Within 1 px the truth's left side (30 px) is missed, and of the predicted left side all but two
    # px at either end, which are near the truth's top and bottom.
    truth, prediction = stripe(10, 19), stripe(12, 19)
    assert boundary_f1(prediction, truth, 2.1 / 50)[1] == 1
    true, predicted = 2 * 30 + 2 * 8, 2 * 30 + 2 * 6
    recall, precision = (true - 30) / true, (predicted - 26) / predicted
    assert boundary_f1(prediction, truth, 1.1 / 50)[1] == pytest.approx(2 * precision * recall / (precision + recall))


def test_the_tolerance_is_a_part_of_the_diagonal():
    # 0.75 % of 500 px are 3.75 px: a shift by 3 px is met, one by 4 px isn't all.
    truth = stripe(100, 199, (300, 400))
    assert TOLERANCE == 0.0075
    assert boundary_f1(stripe(103, 202, (300, 400)), truth) == {0: 1, 1: 1}
    assert boundary_f1(stripe(104, 203, (300, 400)), truth)[1] < 0.6


def test_a_distance_equal_to_the_tolerance_matches():
    # 5 px along a diagonal of 3 and 4, on an image of 50 px: a tenth.
    truth, prediction = np.zeros((2, 30, 40), np.uint8)
    truth[10, 10], prediction[13, 14] = 1, 1
    assert boundary_f1(prediction, truth, 0.1)[1] == 1
    assert boundary_f1(prediction, truth, 0.0999)[1] == 0


def test_only_classes_of_the_truth_count():
    truth, prediction = stripe(10, 19), np.zeros((30, 40), np.uint8)
    assert boundary_f1(prediction, truth)[1] == 0
    assert set(boundary_f1(truth, prediction)) == {0}
    assert boundary_f1(truth, np.full_like(truth, 255)) == {}


def test_ignored_pixels_are_treated_as_outside():
    truth = stripe(10, 19)
    truth[:, 20:] = 255
    wide = stripe(10, 29)
    assert boundary_f1(wide, truth, 0.001) == {0: 1, 1: 1}
    cut = truth[:, :20], wide[:, :20]
    assert boundary_f1(cut[1], cut[0], 0.001) == boundary_f1(wide, truth, 0.001)
    assert boundary_f1(wide, np.where(truth == 255, 0, truth), 0.001)[1] < 1


@pytest.mark.parametrize("seed", range(10))
def test_second_implementation_and_properties(seed):
    truth, prediction = scene(seed), np.roll(scene(seed), 3, axis=0)
    holey = truth.copy()
    holey[10:20, 5:30] = 255
    for tolerance in (0.001, 0.02, 0.05):
        for other in (truth, holey):
            found = boundary_f1(prediction, other, tolerance)
            assert found == pytest.approx(by_distance_maps(prediction, other, tolerance * np.hypot(48, 64)))
    assert set(boundary_f1(truth, truth).values()) == {1}
    back = boundary_f1(truth, prediction)
    assert boundary_f1(prediction, truth) == pytest.approx(back)  # F1 is symmetric where both hold the classes
    order = np.random.default_rng(seed).permutation(4)
    other = boundary_f1(order[prediction], order[truth])
    assert {index: other[order[index]] for index in back} == pytest.approx(back)


def test_only_images():
    with pytest.raises(InputError, match=r"expected images \[X, Y\], got .*slice by slice"):
        boundary_f1(np.zeros((4, 4, 4)), np.zeros((4, 4, 4)))
    with pytest.raises(InputError, match="expected the shape of the truth"):
        boundary_f1(np.zeros((4, 4)), np.zeros((4, 5)))
