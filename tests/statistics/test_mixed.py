"""Check the mixed model against published data, and against the mean squares of complete data."""

import math

import numpy as np
import pytest

from medpos.metrics.intervals import estimate_mean
from medpos.statistics.mixed import fit_mixed

# Diameters in mm of 24 plates (rows) by 6 samples of penicillin: O. L. Davies and P. L. Goldsmith (eds.), "Statistical
# Methods in Research and Production", 4th ed., 1972, section 6.6; the example of crossed random effects of R's lme4.
PENICILLIN = """
27 23 26 23 23 21  27 23 26 23 23 21  25 21 25 24 24 20  26 23 25 23 23 20  25 22 26 22 23 20  24 22 25 23 22 19
24 20 23 21 22 19  26 22 26 24 24 21  24 21 24 22 22 20  24 21 24 23 22 19  26 23 26 24 24 21  25 22 26 24 24 20
26 24 26 24 25 22  26 23 26 23 23 20  26 23 25 24 24 22  25 22 25 23 23 20  25 21 24 23 23 20  25 22 24 23 23 19
24 21 23 21 21 19  26 23 26 24 24 21  25 21 24 22 22 18  25 22 25 22 22 20  24 21 24 22 24 19  24 21 24 22 21 18
"""


def penicillin():
    return np.array(PENICILLIN.split(), float).reshape(24, 6)


def test_crossed_effects_are_those_of_lme4():
    """Compare with ``lmer(diameter ~ 1 + (1|plate) + (1|sample), Penicillin)``."""
    found = fit_mixed(penicillin(), range(24))
    assert found.value == pytest.approx(22.9722, abs=5e-5)
    assert found.se == pytest.approx(0.8086, abs=2e-4)
    assert (found.sd_subject, found.sd_seed, found.sd_rest) == pytest.approx((0.8467, 1.9316, 0.5499), abs=5e-4)


def test_complete_data_give_the_mean_squares():
    values = penicillin()
    found, expected = fit_mixed(values, range(24)), estimate_mean(values, range(24))
    assert (found.value, found.se) == pytest.approx((expected.value, expected.se), rel=1e-3)


def test_missing_values_give_nearly_the_same():
    values = penicillin() / 100
    values[np.random.default_rng(0).random(values.shape) < 0.1] = math.nan
    found, expected = fit_mixed(values, range(24)), estimate_mean(values, range(24))
    assert found.value == pytest.approx(expected.value, abs=0.1 * expected.se)
    assert found.se == pytest.approx(expected.se, rel=0.1)


def test_cases_of_a_subject_with_one_seed():
    rng = np.random.default_rng(1)
    values = np.repeat(rng.normal(0, 1, (20, 1)), 2, axis=0) + rng.normal(0, 0.3, (40, 1))
    found, expected = fit_mixed(values, np.repeat(range(20), 2)), estimate_mean(values, np.repeat(range(20), 2))
    assert (found.value, found.se) == pytest.approx((expected.value, expected.se), rel=1e-4)
    assert found.sd_seed is None


@pytest.mark.parametrize("values", [np.ones((8, 3)), np.eye(8)[:, :1], np.eye(2)])
def test_nothing_to_fit(values):
    assert fit_mixed(values, range(len(values))) is None


def test_without_statsmodels_there_is_no_second_analysis(monkeypatch):
    monkeypatch.setattr("medpos.statistics.mixed.find_spec", lambda name: None)
    assert fit_mixed(penicillin(), range(24)) is None
