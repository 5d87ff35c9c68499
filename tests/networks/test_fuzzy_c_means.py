"""Test fuzzy c-means against its definition."""

import numpy as np
import pytest
import torch

from medpos.core.errors import InputError
from medpos.networks.encoder_decoder.fuzzy_c_means import FuzzyCMeans

CENTERS, COUNTS = (0.2, 0.5, 0.8), (300, 2000, 1500)


@pytest.fixture(scope="module")
def values():
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(c, 0.05, n) for c, n in zip(CENTERS, COUNTS, strict=True)]).clip(0.01, 1)


def by_definition(values, centers, m, steps):
    """Iterate the two equations of Bezdek, each membership by its double sum."""
    for _ in range(steps):
        distance = np.abs(values[None] - np.array(centers)[:, None])
        ratios = (distance[:, None] / distance[None]) ** (2 / (m - 1))
        memberships = 1 / ratios.sum(axis=1)
        centers = (memberships**m @ values) / (memberships**m).sum(axis=1)
    return centers, memberships


@pytest.mark.parametrize("fuzziness", [1.5, 2.0])
def test_centers_and_memberships_are_those_of_the_definition(fuzziness, values):
    """The centers for 2 are also those of scikit-fuzzy 0.5.0: 0.20171, 0.49939, 0.80072."""
    model = FuzzyCMeans(fuzziness=fuzziness)
    different, counts = torch.from_numpy(values).unique(return_counts=True)
    found = model.find_centers(different, counts)
    wanted, memberships = by_definition(values, [0.3, 0.6, 0.9], fuzziness, 200)
    assert found.tolist() == pytest.approx(wanted.tolist(), abs=1e-4)
    if fuzziness == 2:
        assert found.tolist() == pytest.approx([0.20171, 0.49939, 0.80072], abs=1e-4)
    logits = model(torch.from_numpy(values).reshape(1, 1, -1, 4))
    assert logits.shape == (1, 4, len(values) // 4, 4)
    shown = logits.exp()[0, 1:].reshape(3, -1).numpy()
    np.testing.assert_allclose(shown, memberships, atol=2e-3)


def test_the_background_is_in_no_cluster(values):
    volume = torch.from_numpy(values[:60]).reshape(1, 1, 3, 4, 5).clone()
    volume[..., 0] = 0
    found = FuzzyCMeans()(volume).argmax(1)
    assert (found[..., 0] == 0).all()
    assert (found[..., 1:] > 0).all()
    assert (FuzzyCMeans()(torch.zeros(1, 1, 3, 3)).argmax(1) == 0).all()


def test_the_tissues_of_the_training_are_matched_to_the_clusters_by_order(values):
    """Where tissue 1 is the brightest, as CSF is in T2, it gets the brightest cluster."""
    model = FuzzyCMeans()
    images = torch.tensor([0.0, 0.9, 0.5, 0.1]).reshape(1, 1, 2, 2)
    model.add(images, torch.tensor([[[0, 1], [2, 3]]]))
    model.add(images * 0.5, torch.tensor([[[0, 1], [2, 3]]]))
    assert model.means.tolist() == pytest.approx([0, 0.675, 0.375, 0.075])
    found = model(torch.tensor(values).reshape(1, 1, -1, 4)).argmax(1).ravel().numpy()
    assert np.mean(found[: COUNTS[0]] == 3) > 0.9
    assert np.mean(found[-COUNTS[2] :] == 1) > 0.9


@pytest.mark.parametrize("fuzziness", [1, 0, float("nan")])
def test_no_exponent(fuzziness):
    with pytest.raises(InputError, match="fuzziness: expected a number above 1"):
        FuzzyCMeans(fuzziness=fuzziness)


def test_labels_beyond_the_classes_are_refused():
    with pytest.raises(InputError, match="expected label values 0 to 3, got 4 to 4"):
        FuzzyCMeans().add(torch.ones(1, 1, 2, 2), torch.full((1, 2, 2), 4))
