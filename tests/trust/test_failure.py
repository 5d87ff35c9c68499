"""Check scores of failure detection against scikit-learn, by definition and by hand."""

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import linregress, spearmanr
from sklearn.metrics import roc_auc_score

from medpos.trust.calibration import count_probabilities, expect_dice
from medpos.trust.failure import FAILED_BELOW, risk_coverage, score_failures


def cases(seed, n=40, noise=0.1):
    draw = np.random.default_rng(seed)
    dice = draw.beta(6, 2, n)
    return np.round(dice + draw.normal(0, noise, n), 1), dice  # rounded, so that some are equal


def test_the_auroc_is_that_of_scikit_learn():
    expected, dice = cases(0)
    found = score_failures(expected, dice)
    failed = dice < FAILED_BELOW
    assert found["auroc"] == pytest.approx(roc_auc_score(failed, -expected))
    assert (found["n"], found["failures"]) == (40, failed.sum())
    assert found["correlation"] == pytest.approx(spearmanr(expected, dice).statistic)
    assert found["pearson"] == pytest.approx(linregress(expected, dice).rvalue)


def test_the_curve_is_the_mean_over_all_orders_of_equal_cases():
    expected, dice = np.array([0.9, 0.5, 0.5, 0.5, 0.2]), np.array([0.8, 0.1, 0.6, 0.9, 0.3])
    orders = [[0, *middle, 4] for middle in itertools.permutations([1, 2, 3])]
    curves = [np.cumsum(1 - dice[order]) / np.arange(1, 6) for order in orders]
    np.testing.assert_allclose(risk_coverage(expected, dice), np.mean(curves, axis=0))


def test_a_perfect_order_has_no_excess_and_a_wrong_one_the_most():
    _, dice = cases(1)
    perfect, wrong = score_failures(dice, dice), score_failures(-dice, dice)
    assert perfect["excess_aurc"] == pytest.approx(0, abs=1e-12)
    assert (perfect["auroc"], wrong["auroc"]) == (1, 0)
    some = score_failures(*cases(1))
    assert 0 < some["excess_aurc"] < wrong["excess_aurc"]
    constant = score_failures(np.ones(len(dice)), dice)
    assert constant["auroc"] == 0.5
    assert constant["aurc"] == pytest.approx(np.mean(1 - dice))
    assert constant["correlation"] is None


def test_the_areas_by_hand():
    """Losses by expectation: 0.1, 0.5, 0.3, so the curve is 0.1, 0.3, 0.3; a perfect order has 0.1, 0.2, 0.3."""
    expected, dice = np.array([0.7, 0.9, 0.8, *[0.1] * 5]), np.array([0.7, 0.9, 0.5, *[0.7] * 5])
    np.testing.assert_allclose(risk_coverage(expected[:3], dice[:3]), [0.1, 0.3, 0.3])
    np.testing.assert_allclose(risk_coverage(dice[:3], dice[:3]), [0.1, 0.2, 0.3])
    found = score_failures(expected, dice)
    curve, perfect = [0.1, 0.3, *[0.3] * 6], [(0.1 + 0.3 * (k - 1)) / k for k in range(1, 8)] + [0.3]
    assert found["aurc"] == pytest.approx(np.mean(curve))
    assert found["excess_aurc"] == pytest.approx(np.mean(curve) - np.mean(perfect))


def test_few_cases_have_counts_and_means_alone():
    found = score_failures([0.5] * 7 + [np.nan], [0.9] * 6 + [0.1, 0.5])
    assert (found["n"], found["failures"], found["expected"]) == (7, 1, 0.5)
    assert {found[name] for name in ("auroc", "aurc", "excess_aurc", "correlation", "pearson")} == {None}
    assert score_failures([], [])["dice"] is None
    assert score_failures([0.5] * 9, [0.9] * 9)["auroc"] is None  # no failure to find


def test_the_expected_dice_is_that_of_the_label_map_where_no_class_is_above_one_half():
    logits = torch.from_numpy(np.random.default_rng(1).normal(0, 0.4, (1, 4, 30, 30))).float()
    chance, predicted = logits.softmax(1)[0].numpy(), logits.argmax(1)[0].numpy()
    counts = count_probabilities(logits, torch.zeros(1, 1, 30, 30, dtype=torch.uint8))[0].numpy().astype(np.int64)
    for n in (1, 2, 3):
        inside = predicted == n
        wanted = 2 * chance[n][inside].sum() / (inside.sum() + chance[n].sum())
        assert expect_dice(counts)[n] == pytest.approx(wanted, abs=1e-3)
        assert chance[n].max() > 0.5 > np.median(chance[n][inside])


def counts_of(chance, truth):
    logits = torch.from_numpy(np.log(np.stack([1 - chance, chance]))[None]).float()
    return count_probabilities(logits, torch.from_numpy(truth)[None, None]).sum(0).numpy().astype(np.int64)


def test_the_expected_dice_is_the_mean_dice_of_truths_that_follow_the_probabilities():
    draw = np.random.default_rng(0)
    chance = 1 / (1 + np.exp(-draw.normal(-2, 3, (60, 60))))
    predicted = chance > 0.5
    truths = draw.random((200, 60, 60)) < chance
    dice = 2 * (truths & predicted).sum((1, 2)) / (truths.sum((1, 2)) + predicted.sum())
    found = expect_dice(counts_of(chance, truths[0].astype(np.uint8)))
    assert found[1] == pytest.approx(dice.mean(), abs=2e-3)
    assert np.isnan(found[0])
    assert found[2] == found[1]
    nothing = expect_dice(counts_of(np.full((4, 4), 0.1), np.zeros((4, 4), np.uint8)))
    assert nothing[1:].tolist() == [0, 0]


def test_the_number_of_different_cases_decides_whether_scores_are_stated():
    expected, dice = list(np.linspace(0.1, 0.9, 16)), list(np.linspace(0.3, 0.95, 16))
    assert score_failures(expected, dice, [f"c{n // 2}" for n in range(16)])["auroc"] == 1
    few = score_failures(expected, dice, [f"c{n % 7}" for n in range(16)])
    assert (few["n"], few["aurc"], few["auroc"]) == (16, None, None)
