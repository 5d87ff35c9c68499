"""Test the border weight of U-Net 2015, equation 2."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from medpos.core.errors import InputError
from medpos.transforms import border_weight


def two_cells(gap=5):
    """Draw two cells of 6 columns each, ``gap`` columns apart."""
    instances = np.zeros((12 + gap, 20), dtype=np.int32)
    instances[:6], instances[-6:] = 1, 2
    return instances


def random_cells(count, size, seed=0):
    """Draw squares with sides of 3 to 9 px, which may touch and overlap."""
    rng = np.random.default_rng(seed)
    instances = np.zeros(size, dtype=np.int32)
    for number in range(1, count + 1):
        x, y, side = rng.integers(0, size[0]), rng.integers(0, size[1]), rng.integers(3, 10)
        instances[x : x + side, y : y + side] = number
    return instances


def brute_force(instances, w0=10.0, sigma=5.0):
    """Compute the weights from one distance map of the whole image for each cell, sorted."""
    numbers = [n for n in np.unique(instances) if n]
    d1, d2 = np.sort([ndimage.distance_transform_edt(instances != n) for n in numbers], axis=0)[:2]
    return np.where(instances == 0, w0 * np.exp(-((d1 + d2) ** 2) / (2 * sigma**2)), 0)


def test_gap_of_five_pixels_by_hand():
    weight = border_weight(two_cells())
    assert weight.dtype == torch.float32
    assert weight.shape == (17, 20)
    # d1 + d2 = 1 + 5 = 2 + 4 = 3 + 3 everywhere in the gap.
    torch.testing.assert_close(weight[6:11], torch.full((5, 20), 10 * math.exp(-36 / 50)))
    assert weight[8, 10].item() == pytest.approx(4.867523, abs=1e-6)


def test_weights_are_zero_on_cells():
    assert not border_weight(two_cells())[two_cells() > 0].any()


def test_two_nearest_of_three_cells():
    instances = np.zeros((1, 12), dtype=np.int32)
    instances[0, [0, 4, 11]] = 1, 2, 3
    # Pixel 3 is 3 px from cell 1 and 1 px from cell 2; pixel 6 is 2 px from cell 2 and 5 px from cell 3, not 6 from 1.
    weight = border_weight(instances)[0]
    assert weight[3].item() == pytest.approx(10 * math.exp(-16 / 50), rel=1e-6)
    assert weight[6].item() == pytest.approx(10 * math.exp(-49 / 50), rel=1e-6)


def test_w0_and_sigma():
    weight = border_weight(two_cells(), w0=2, sigma=3)
    assert weight[8, 10].item() == pytest.approx(2 * math.exp(-36 / 18), rel=1e-6)


@pytest.mark.parametrize(("count", "size", "sigma"), [(8, (40, 50), 5), (60, (120, 90), 5), (30, (70, 70), 1.5)])
def test_equals_brute_force(count, size, sigma):
    instances = random_cells(count, size)
    found = border_weight(instances, sigma=sigma).numpy()
    wanted = brute_force(instances, sigma=sigma)
    assert wanted.max() > 1
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_numbers_may_have_gaps_and_any_integer_type():
    instances = two_cells()
    spread = np.where(instances == 2, 40000, instances).astype(np.uint16)
    assert torch.equal(border_weight(spread), border_weight(instances))
    assert torch.equal(border_weight(torch.from_numpy(instances).long()), border_weight(instances))


@pytest.mark.parametrize("cells", [0, 1])
def test_fewer_than_two_cells(cells):
    instances = two_cells()
    instances[instances > cells] = 0
    assert not border_weight(instances).any()


def test_cells_out_of_reach():
    assert border_weight(two_cells(27)).max() > 0
    assert border_weight(two_cells(200)).max() == 0


@pytest.mark.parametrize(
    "given", [{"instances": np.zeros((1, 4, 4), int)}, {"instances": np.zeros((4, 4))}, {"w0": 0}, {"sigma": 0}]
)
def test_bad_input(given):
    with pytest.raises(InputError, match="expected"):
        border_weight(**{"instances": two_cells(), **given})
