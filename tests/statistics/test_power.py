"""Check the power against published examples, and by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from medpos.statistics.power import power_to_confirm


def test_one_end_is_power_t_test_of_r():
    """Compare with ``power.t.test(n = 20, delta = 1, sd = 1)``, the example of R's documentation."""
    assert power_to_confirm(math.sqrt(2 / 20), 38, 0, math.inf, 1) == pytest.approx(0.8689528, abs=5e-8)
    assert power_to_confirm(math.sqrt(2 / 20), 38, -math.inf, 0, -1) == pytest.approx(0.8689528, abs=5e-8)


def test_two_ends_are_power_tost_of_r():
    """Compare with ``sampleN.TOST(CV = 0.3)`` of PowerTOST: 40 subjects in a 2x2 crossover, power 0.815845."""
    se = math.sqrt(2 * math.log(1 + 0.3**2) / 40)
    found = power_to_confirm(se, 38, math.log(0.8), math.log(1.25), math.log(0.95), alpha=0.1)
    assert found == pytest.approx(0.815845, abs=5e-7)


@pytest.mark.parametrize(("true", "n"), [(0.0, 8), (0.01, 20)])
def test_by_simulation(true, n):
    rng = np.random.default_rng(0)
    values = rng.normal(true, 0.025, (20000, n))
    half = stats.t.ppf(0.975, n - 1) * values.std(axis=1, ddof=1) / math.sqrt(n)
    inside = np.mean((values.mean(axis=1) - half > -0.03) & (values.mean(axis=1) + half < 0.03))
    found = power_to_confirm(0.025 / math.sqrt(n), n - 1, -0.03, 0.03, true)
    assert found == pytest.approx(inside, abs=0.02)


def test_power_is_no_less_than_nothing():
    assert 0 <= power_to_confirm(1.0, 7, -0.03, 0.03, 0.0) < 1e-12


@pytest.mark.parametrize(("n", "alpha", "power"), [(8, 0.05, 0.414), (8, 0.05 / 8, 0.066), (16, 0.05 / 8, 0.568)])
def test_small_power_for_two_ends_is_exact(n, alpha, power):
    """Compare with 200,000 studies, of which each draws its mean and its standard error."""
    rng, se = np.random.default_rng(0), 0.03 / math.sqrt(n)
    found = rng.normal(0, se, 200_000)
    half = stats.t.ppf(1 - alpha / 2, n - 1) * se * np.sqrt(rng.chisquare(n - 1, 200_000) / (n - 1))
    exact = power_to_confirm(se, n - 1, -0.03, 0.03, 0.0, alpha)
    assert exact == pytest.approx(np.mean(np.abs(found) + half < 0.03), abs=5e-3)
    assert exact == pytest.approx(power, abs=1e-3)
