"""Check the picture of a CRF's mean field: what each panel shows."""

import numpy as np

from medpos.core.labels import Label
from medpos.plotting.mean_field import center_scores, draw_mean_field


def softmax(scores):
    raised = np.exp(scores)
    return raised / raised.sum(axis=0)


def test_scores_are_those_before_softmax_with_mean_0():
    scores = np.random.default_rng(0).normal(size=(3, 4, 5))
    np.testing.assert_allclose(center_scores(softmax(scores)), scores - scores.mean(axis=0), atol=1e-6)


def test_panels():
    rng = np.random.default_rng(0)
    image, truth = rng.random((3, 4, 6)), rng.integers(0, 3, (4, 6))
    beliefs = {step: softmax(rng.normal(size=(3, 4, 6))) for step in (0, 1, 10)}
    drawn = draw_mean_field(image, truth, beliefs, Label(2, "bird", "#808000"), "phantoms")
    above, below = drawn.axes[:4], drawn.axes[4:]
    assert [axes.get_title() for axes in above] == ["image", "network", "CRF, step 1", "CRF, step 10"]
    assert below[0].get_title() == "truth: bird"
    shown = [[axes.images[0].get_array() for axes in row] for row in (above, below)]
    np.testing.assert_array_equal(shown[1][0], (truth == 2).T)
    for column, belief in enumerate(beliefs.values(), 1):
        np.testing.assert_array_equal(shown[1][column], belief[2].T)
        np.testing.assert_allclose(shown[0][column], center_scores(belief)[2].T)
        assert below[column].images[0].get_clim() == (0, 1)
        assert above[column].images[0].get_clim() == above[1].images[0].get_clim()  # one scale for all steps
    assert (above[1].get_ylabel(), below[1].get_ylabel()) == ("score", "belief")
