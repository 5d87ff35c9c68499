"""Compare the agreement of indices with published examples, other implementations and values by hand."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from medpos.core.errors import InputError
from medpos.metrics.agreement import agreement, category_agreement

# Peak expiratory flow of 17 people in l/min, large and mini Wright meter: Bland and Altman, Lancet 1986, table 1.
LARGE = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
MINI = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]


class TestAgreement:
    def test_by_hand(self):
        # Differences 1, -1, 3: mean 1, sd 2; true around 2 is -1, 0, 1, predicted around 3 is -1, -2, 3.
        found = agreement([1, 2, 3, math.nan, 5], [2, 1, 6, 4, math.nan])
        assert {key: found[key] for key in found if "ci95" not in key and key not in ("ccc", "icc")} == {
            "n": 3,
            "missing": 2,
            "bias": pytest.approx(1),
            "sd": pytest.approx(2),
            "lower": pytest.approx(1 - 3.92),
            "upper": pytest.approx(1 + 3.92),
            # Means 1.5, 1.5, 4.5 around 2.5: -1, -1, 2; differences around 1: 0, -2, 2.
            "proportional_bias": pytest.approx(6 / 6),
            "correlation": pytest.approx(4 / math.sqrt(2 * 14)),
            "mean_absolute_error": pytest.approx(5 / 3),
        }
        json.dumps(found, allow_nan=False)

    def test_the_published_example(self):
        # The paper's differences are large - mini: -2.1, sd 38.8, limits -79.7 and 75.5, bias -22.0 to 17.8.
        found = agreement(MINI, LARGE)
        assert (round(found["bias"], 1), round(found["sd"], 1)) == (-2.1, 38.8)
        # The paper takes 2 in place of 1.96.
        assert found["lower"] == pytest.approx(-79.7 + 0.04 * 38.8, abs=0.1)
        assert found["bias_ci95"] == pytest.approx([-22.0, 17.8], abs=0.15)
        # -114.3 to -45.1, with variance 3 sd^2 / n for the limit.
        assert found["lower_ci95"] == pytest.approx([-114.3, -45.1], abs=2)
        assert found["upper_ci95"][1] - found["upper_ci95"][0] == pytest.approx(69.2, rel=0.02)

    def test_slope_and_correlations_against_other_formulas(self):
        true = np.random.default_rng(1).normal(50, 10, 40)
        predicted = 1.3 * true + 2 + np.random.default_rng(2).normal(0, 3, 40)
        found = agreement(true, predicted)
        mean, difference = (true + predicted) / 2, predicted - true
        slope, cov = np.polyfit(mean, difference, 1, cov=True)
        assert found["proportional_bias"] == pytest.approx(slope[0])
        half = stats.t.ppf(0.975, 38) * cov[0, 0] ** 0.5
        assert found["proportional_bias_ci95"] == pytest.approx([slope[0] - half, slope[0] + half])
        assert found["proportional_bias_ci95"][0] > 0.1
        # Lin's coefficient is the correlation times a factor for the distance from the line of identity.
        v, u = predicted.std() / true.std(), (true.mean() - predicted.mean()) / (true.std() * predicted.std()) ** 0.5
        assert found["ccc"] == pytest.approx(found["correlation"] * 2 / (v + 1 / v + u * u))
        # ICC(A,1) from the covariance matrix: sigma_12 over the mean variance and the methods' variance.
        covariance = np.cov(true, predicted)
        apart = difference.mean() ** 2 / 2 - difference.var(ddof=1) / 80
        assert found["icc"] == pytest.approx(covariance[0, 1] / (np.trace(covariance) / 2 + apart))

    def test_the_same_values_agree_fully(self):
        found = agreement([1, 2, 4], [1, 2, 4])
        assert (found["ccc"], found["icc"], found["proportional_bias"]) == pytest.approx((1, 1, 0))

    def test_scipy(self):
        true, predicted = np.random.default_rng(0).normal(size=(2, 30))
        assert agreement(true, predicted)["correlation"] == pytest.approx(stats.pearsonr(true, predicted).statistic)

    def test_few(self):
        none = agreement([math.nan], [1])
        assert (none["n"], none["missing"], none["bias"], none["mean_absolute_error"]) == (0, 1, None, None)
        one = agreement([1], [3])
        assert (one["bias"], one["sd"], one["lower"], one["correlation"]) == (2, None, None, None)
        same = agreement([1, 1], [2, 3])
        assert all(same[name] is None for name in ("correlation", "ccc", "icc", "proportional_bias"))
        assert agreement([1, 1, 1], [1, 1, 1])["proportional_bias"] is None

    def test_lengths(self):
        with pytest.raises(InputError, match="one predicted value per subject"):
            agreement([1, 2], [1])


class TestCategories:
    def test_by_hand(self):
        true, predicted = [0.6, 0.6, 0.4, 0.4, 0.5, math.nan], [0.7, 0.5, 0.6, 0.3, 0.2, 0.9]
        found = category_agreement(true, predicted, 0.5)
        counts = {"both_above": 1, "true_above": 1, "predicted_above": 1, "both_below": 2}
        # Chance: 2/5 * 2/5 + 3/5 * 3/5 = 0.52.
        assert found == {"n": 5, **counts, "agreement": 0.6, "kappa": pytest.approx((0.6 - 0.52) / 0.48)}

    def test_one_side(self):
        found = category_agreement([0.6, 0.7], [0.8, 0.9], 0.5)
        assert (found["agreement"], found["kappa"]) == (1, None)
        assert category_agreement([], [], 0.5)["agreement"] is None
