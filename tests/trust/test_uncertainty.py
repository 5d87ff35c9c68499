import math

import numpy as np
import pytest
import torch
from scipy import stats
from skimage.measure import perimeter_crofton

from medpos.trust.uncertainty import Uncertainty, count_levels, entropy, measure_outline, mutual_information


def random_probabilities(seed, shape=(4, 6, 5)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).mul(3).softmax(0)


def test_entropy_is_that_of_scipy_as_a_share_of_the_largest():
    found = random_probabilities(0)
    torch.testing.assert_close(
        entropy(found), torch.from_numpy(stats.entropy(found.numpy(), base=4)), rtol=1e-5, atol=1e-6
    )
    sure = torch.zeros(4, 2)
    sure[1] = 1
    assert entropy(sure).tolist() == [0, 0]
    assert entropy(torch.full((4, 2), 0.25)).tolist() == pytest.approx([1, 1])


def test_mutual_information_is_the_mean_divergence_from_the_average():
    parts = [random_probabilities(seed) for seed in range(3)]
    mean = torch.stack(parts).mean(0)
    found = mutual_information(entropy(mean), parts)
    divergences = [stats.entropy(part.numpy(), mean.numpy()) for part in parts]  # Kullback and Leibler's
    np.testing.assert_allclose(found, np.mean(divergences, axis=0) / math.log(4), atol=1e-5)
    assert mutual_information(entropy(parts[0]), parts[:1]).abs().max() < 1e-6


def test_levels_hold_the_interval_of_a_size_whose_pixels_err_together():
    """The outline of a disc lies at a distance with a normal error: its true size is inside in nine of ten cases."""
    rows, columns = np.mgrid[:101, :101]
    radius = np.hypot(rows - 50, columns - 50)
    low, high = count_levels(torch.from_numpy(stats.norm.sf(radius, 30, 3)))
    radii = np.random.default_rng(0).normal(30, 3, 4000)
    sizes = (radius[None] <= radii[:, None, None]).sum((1, 2))
    assert np.mean((sizes >= low) & (sizes <= high)) == pytest.approx(0.9, abs=0.02)


def test_the_outline_of_a_disc_has_its_length():
    rows, columns = np.mgrid[:101, :101]
    disc = np.hypot(rows - 50, columns - 50) < 30
    length, beside = measure_outline(disc, (2.0, 2.0))
    assert length == pytest.approx(2 * 2 * math.pi * 30, rel=0.02)
    assert length == pytest.approx(2 * perimeter_crofton(disc, directions=2), rel=0.02)
    assert np.abs(np.hypot(rows - 50, columns - 50)[beside] - 30).max() < 1.5
    assert measure_outline(np.ones((4, 4), bool), (1.0, 1.0))[0] == 0  # the frame is no outline


def test_pixels_may_be_oblong():
    square = np.zeros((20, 20), bool)
    square[5:15, 8:12] = True
    assert measure_outline(square, (1.0, 3.0))[0] == pytest.approx(math.pi / 4 * (2 * 10 * 1.0 + 2 * 4 * 3.0))


@pytest.mark.parametrize(("depth", "spacing"), [(1, (2.0, 2.0, 9.0)), (3, (2.0, 2.0, 9.0)), (3, None)])
def test_an_outline_that_is_known_within_some_mm_is_in_doubt_by_them(depth, spacing):
    """A disc's outline, normal with a deviation of 3 px: 90 % lie within 1.645 deviations."""
    rows, columns = np.mgrid[:101, :101]
    organ = stats.norm.sf(np.hypot(rows - 50, columns - 50), 30, 3)
    found = Uncertainty.empty((101, 101, depth), 2, several=False)
    for z in range(depth):
        found.levels[1] += count_levels(torch.from_numpy(organ))
        found.maps[0, :, :, z] = entropy(torch.from_numpy(np.stack([1 - organ, organ])))
    labels = np.repeat((organ > 0.5)[..., None], depth, axis=2).astype(np.uint8)
    rows = {row["measure"]: row for row in found.measure(labels, spacing, ["background", "disc"])}
    size = 2.0 if spacing else 1.0
    doubt = rows["outline in doubt by"]
    assert doubt["value"] == pytest.approx(1.645 * 3 * size, rel=0.03)
    assert doubt["unit"] == ("mm" if spacing else "pixels")
    upper = rows["upper limit of area" if depth == 1 else "upper limit of volume"]
    expected = depth * math.pi * (30 + 1.645 * 3) ** 2 * (4.0 if depth == 1 else 4 * 9 / 1000 if spacing else 1)
    assert upper["value"] == pytest.approx(expected, rel=0.02)
    assert upper["unit"] == ("mm2" if depth == 1 else "ml" if spacing else "voxels")
    assert 0 < rows["entropy"]["value"] < rows["entropy at the outline"]["value"] < 1
