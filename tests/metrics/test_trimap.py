"""Check bands around boundaries by hand and by brute force."""

import math

import numpy as np
import pytest

from medpos.core.errors import InputError
from medpos.core.labels import JSRT, Label
from medpos.metrics import TrimapScores
from medpos.metrics.scores import CaseMaps
from medpos.metrics.trimap import WIDTHS, boundary_distance, trimap_confusions, trimap_scores

LABELS = JSRT[:3]
HALVES = np.repeat([[0] * 6 + [1] * 4], 3, axis=0)


def case(prediction, truth):
    return CaseMaps(np.asarray(prediction), np.asarray(truth), (1.0,) * np.ndim(truth))


def test_distance_is_1_beside_a_boundary():
    assert boundary_distance(HALVES)[1].tolist() == [6, 5, 4, 3, 2, 1, 1, 2, 3, 4]
    assert np.isinf(boundary_distance(np.zeros((3, 4)))).all()


def test_distance_by_brute_force():
    rng = np.random.default_rng(0)
    truth = np.kron(rng.choice([0, 1, 2, 255], (4, 5)), np.ones((3, 3), int))
    places = np.argwhere(np.ones_like(truth))
    apart = np.linalg.norm(places[:, None] - places[None], axis=-1)
    other = truth.ravel()[:, None] != truth.ravel()[None]
    np.testing.assert_allclose(boundary_distance(truth).ravel(), np.where(other, apart, np.inf).min(1))


def test_void_is_a_boundary_and_not_counted():
    truth = np.array([[1, 1, 1, 255, 1, 1, 1, 1]])
    found = trimap_confusions(np.ones_like(truth), truth, 2, (1, 2, 3, 9))
    assert found[:, 1, 1].tolist() == [2, 4, 6, 7]
    assert found.sum() == 2 + 4 + 6 + 7


def test_widths_of_the_papers():
    assert list(WIDTHS) == list(range(1, 41))
    found = trimap_confusions(HALVES, HALVES, 2)
    assert found.shape == (40, 2, 2)
    assert found.sum(axis=(1, 2)).tolist() == [6, 12, 18, 24, 27] + [30] * 35


def test_scores_of_a_band():
    # A boundary a pixel too far right: within 1 px half of all is wrong, within 2 px a quarter.
    prediction = np.repeat([[0] * 7 + [1] * 3], 3, axis=0)
    near, far, whole = trimap_scores(trimap_confusions(prediction, HALVES, 2, (1, 2, 40)))
    assert near == {"mean_iou": pytest.approx((1 / 2 + 0) / 2), "accuracy": 1 / 2}
    assert far == {"mean_iou": pytest.approx((2 / 3 + 1 / 2) / 2), "accuracy": 3 / 4}
    assert whole == {"mean_iou": pytest.approx((6 / 7 + 3 / 4) / 2), "accuracy": 9 / 10}
    foreground = trimap_scores(trimap_confusions(prediction, HALVES, 2, (2,)), include_background=False)
    assert foreground[0]["mean_iou"] == 1 / 2


def test_a_set_has_one_matrix_per_band():
    score = TrimapScores(LABELS, widths=(1, 3))
    one, other = case(HALVES, HALVES), case([[0, 0, 0, 0]], [[0, 0, 1, 1]])
    measured = [score.of_case(each) for each in (one, other)]
    assert [m.values for m in measured] == [{}, {}]
    assert score.of_set(measured) == {
        "trimap_iou_1px": pytest.approx((4 / 5 + 3 / 4) / 2),
        "trimap_iou_3px": pytest.approx((11 / 13 + 9 / 11) / 2),
        "trimap_accuracy_1px": 7 / 8,
        "trimap_accuracy_3px": 20 / 22,
    }
    assert all(math.isnan(value) for value in score.of_set([]).values())
    assert all(math.isnan(value) for value in score.of_set([score.of_case(case([[1]], [[1]]))]).values())


def test_a_class_called_void_is_left_out():
    labels = (Label(0, "void", "#000000"), *LABELS[1:])
    found = TrimapScores(labels, widths=(1,)).of_case(case([[1, 1, 2, 2]], [[1, 0, 0, 2]])).kept
    assert found[0].tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 1]]
    score = TrimapScores(labels, widths=(9,))
    assert score.of_set([score.of_case(case([[0, 1, 2, 2]], [[1, 1, 2, 2]]))])["trimap_iou_9px"] == (1 / 2 + 1) / 2
    found = TrimapScores(labels, widths=(1,), void=False).of_case(case([[1, 1, 2, 2]], [[1, 0, 0, 2]])).kept
    assert found.sum() == 4


def test_volumes_slice_by_slice():
    volume = np.stack([HALVES, np.zeros_like(HALVES)], axis=2)
    score = TrimapScores(LABELS, widths=(2,))
    # The slices' contents differ everywhere, but there is a boundary in the first alone.
    assert score.of_case(case(volume, volume)).kept.sum() == 12


def test_refusals():
    with pytest.raises(InputError, match=r"expected an image \[X, Y\], got shape \(2, 2, 2\)"):
        boundary_distance(np.zeros((2, 2, 2)))
    for widths in ((), (0, 1)):
        with pytest.raises(InputError, match="from 1 upward"):
            trimap_confusions(HALVES, HALVES, 2, widths)
    with pytest.raises(InputError, match="expected the shape of the truth"):
        trimap_confusions(HALVES[:2], HALVES, 2)
