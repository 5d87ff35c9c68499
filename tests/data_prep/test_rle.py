import numpy as np
import pytest
from scipy.ndimage import binary_fill_holes
from skimage.measure import points_in_poly

from data_prep.phantoms.coco import trace_outlines
from data_prep.rle import SegmentationError, counts_from_text, counts_to_text, decode, fill_polygon, mask_to_counts

SHAPE = (23, 31)


def contains_centers(corners, shape):
    """Test with scikit-image whether the center of each pixel is inside, as a second implementation."""
    rows, columns = np.indices(shape)
    return points_in_poly(np.stack([columns.ravel() + 0.5, rows.ravel() + 0.5], 1), corners).reshape(shape)


def star(seed, corners=9):
    """Draw a polygon that crosses itself and the border of the picture."""
    rng = np.random.default_rng(seed)
    return rng.uniform((-6, -6), (SHAPE[1] + 6, SHAPE[0] + 6), (corners, 2))


def test_rectangle_by_hand():
    mask = decode([[1, 1, 4, 1, 4, 3, 1, 3]], (5, 6))
    assert np.argwhere(mask).tolist() == [[1, 1], [1, 2], [1, 3], [2, 1], [2, 2], [2, 3]]
    # A shift of a quarter pixel moves no edge across a pixel's center, one of three quarters moves all of them.
    assert np.array_equal(decode([[1.25, 1.25, 4.25, 1.25, 4.25, 3.25, 1.25, 3.25]], (5, 6)), mask)
    assert np.array_equal(decode([[1.75, 1.75, 4.75, 1.75, 4.75, 3.75, 1.75, 3.75]], (5, 6))[1:, 1:], mask[:-1, :-1])


@pytest.mark.parametrize("seed", range(8))
def test_polygons_against_a_second_implementation(seed):
    corners = star(seed)
    assert np.array_equal(fill_polygon(corners, SHAPE), contains_centers(corners, SHAPE))


def test_neighboring_polygons_share_no_pixel():
    left, right = ([[x, 0, 8.5, 0, 8.5, 23, x, 23]] for x in (0, 31))
    assert np.array_equal(decode(left, SHAPE), ~decode(right, SHAPE))


def test_several_polygons_are_joined():
    one, other = star(1), star(2)
    both = decode([one.ravel().tolist(), other.ravel().tolist()], SHAPE)
    assert np.array_equal(both, fill_polygon(one, SHAPE) | fill_polygon(other, SHAPE))
    assert not decode([], SHAPE).any()


def test_run_lengths_go_down_the_columns():
    mask = decode({"counts": [1, 2, 2, 1], "size": [3, 2]}, (3, 2))
    assert mask.astype(int).tolist() == [[0, 0], [1, 0], [1, 1]]
    assert mask_to_counts(mask) == [1, 2, 2, 1]
    assert mask_to_counts(~mask) == [0, 1, 2, 2, 1]


# What pycocotools 2.0 writes for these run lengths.
PACKED = {"146M": [1, 4, 6, 1], r"ag;\m2do00ccc0hUMeV_O0lVV2": [12017, 2988, 1012, 2988, 21095, 100, 3900, 100, 75800]}


@pytest.mark.parametrize("text", PACKED)
def test_packed_run_lengths(text):
    assert counts_from_text(text) == PACKED[text]
    assert counts_to_text(PACKED[text]) == text


@pytest.mark.parametrize("seed", range(4))
def test_packing_and_back(seed):
    mask = fill_polygon(star(seed), SHAPE)
    runs = mask_to_counts(mask)
    assert counts_from_text(counts_to_text(runs)) == runs
    for counts in (runs, counts_to_text(runs)):
        assert np.array_equal(decode({"counts": counts, "size": list(SHAPE)}, SHAPE), mask)
    long = np.random.default_rng(seed).integers(0, 1_000_000, 50).tolist()
    assert counts_from_text(counts_to_text(long)) == long


@pytest.mark.parametrize("seed", range(4))
def test_outlines_of_a_mask(seed):
    mask = fill_polygon(star(seed), SHAPE)
    found = decode(trace_outlines(mask), SHAPE)
    # A hole that is open at a corner alone may count as one or not.
    assert found[binary_fill_holes(mask, np.ones((3, 3)))].all()
    assert not found[~binary_fill_holes(mask)].any()


@pytest.mark.parametrize(
    "segmentation",
    [
        [[1, 2, 3]],
        [[1, 2, float("nan"), 4, 5, 6]],
        [["a", "b"]],
        {"counts": [3, 3], "size": [3, 3]},
        {"counts": [-1, 10], "size": [3, 3]},
        {"counts": "a°", "size": [3, 3]},
        {"counts": [9], "size": [9, 1]},
        {"counts": [9]},
        7,
        None,
    ],
)
def test_bad_segmentations_are_refused(segmentation):
    with pytest.raises(SegmentationError):
        decode(segmentation, (3, 3))
