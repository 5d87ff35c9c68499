"""Check class weights by hand."""

import numpy as np
import pytest
import torch

from medpos.core.errors import InputError
from medpos.losses import inverse_frequency, median_frequency

COUNTS = [[6, 2, 0], [4, 0, 4]]


def test_inverse_frequency_by_hand():
    weights = inverse_frequency(COUNTS)
    assert weights.dtype == torch.float32
    assert weights.tolist() == [1, 5, 2.5]  # 10 / 10, 10 / 2, 10 / 4


def test_median_frequency_by_hand():
    # 10 of 16 pixels; 2 of the 8 of the first image alone; 4 of the 8 of the second. Median 1/2.
    weights = median_frequency(COUNTS)
    assert weights.dtype == torch.float32
    assert weights.tolist() == pytest.approx([0.8, 2, 1])


def test_median_of_an_even_number_of_classes():
    # 6/8, 2/8, of median 1/2; whoever looked at all images alike would get 6/16 and 2/16.
    assert median_frequency([[6, 2], [0, 0]]).tolist() == pytest.approx([2 / 3, 2])


def test_images_without_a_class_do_not_count_for_it():
    more = [*COUNTS, [800, 0, 0]]
    assert (median_frequency(more)[1] / median_frequency(more)[2]).item() == pytest.approx(2)  # as without it
    assert inverse_frequency(more)[1] == 405


@pytest.mark.parametrize(("balance", "wanted"), [(inverse_frequency, [1, 0, 2]), (median_frequency, [0.75, 0, 1.5])])
def test_a_class_without_pixels(balance, wanted):
    assert balance([[4, 0, 2]]).tolist() == pytest.approx(wanted)  # frequencies 2/3 and 1/3, median 1/2


def test_sums_beyond_32_bits():
    counts = np.full((3, 2), 2**31 - 1, dtype=np.int32)
    assert inverse_frequency(counts).tolist() == [1, 1]
    assert median_frequency(torch.from_numpy(counts)).tolist() == [1, 1]


@pytest.mark.parametrize("balance", [inverse_frequency, median_frequency])
@pytest.mark.parametrize("counts", [[3, 4], [[0.5, 0.5]], [[-1, 2]], np.zeros((0, 2), int)])
def test_bad_counts_are_refused(balance, counts):
    with pytest.raises(InputError, match=r"expected whole numbers of pixels \[cases, classes\]"):
        balance(counts)


def test_counts_without_pixels_are_refused():
    with pytest.raises(InputError, match="expected pixels of the background"):
        inverse_frequency([[0, 4]])
    with pytest.raises(InputError, match="all counts are 0"):
        median_frequency([[0, 0]])
