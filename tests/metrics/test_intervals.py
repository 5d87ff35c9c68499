"""Check the intervals against published examples, by hand, and by counting how often they hold the truth."""

import itertools
import math
from dataclasses import astuple

import numpy as np
import pytest
from scipy import stats

from benchmarks.coverage import EFFECTS, SEED_SDS, SEEDS, SUBJECTS, bootstrap_coverage, coverage, simulate
from medpos.metrics.intervals import Estimate, estimate_mean, find_added, linearize


def test_one_seed_is_the_paired_t_test_of_r():
    """Compare with ``t.test(extra ~ group, data = sleep, paired = TRUE)``, the example of R's documentation."""
    first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    found = estimate_mean(np.subtract(first, second)[:, None], range(10))
    assert found.value == pytest.approx(-1.58)
    assert found.df == 9
    assert found.value / found.se == pytest.approx(-4.0621, abs=5e-5)
    assert 2 * found.p_below(0) == pytest.approx(0.002833, abs=5e-7)
    assert found.ci95 == pytest.approx([-2.4598858, -0.7001142], abs=5e-8)


def test_the_variance_is_that_of_the_mean_squares():
    """Two-way random effects by hand: (MS subjects + MS seeds - MS rest) / (n K)."""
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, (9, 1)) + rng.normal(0, 2, (1, 4)) + rng.normal(0, 0.5, (9, 4))
    by_subject, by_seed, whole = values.mean(axis=1), values.mean(axis=0), values.mean()
    of_subjects = 4 * ((by_subject - whole) ** 2).sum() / 8
    of_seeds = 9 * ((by_seed - whole) ** 2).sum() / 3
    rest = ((values - by_subject[:, None] - by_seed + whole) ** 2).sum() / 24
    found = estimate_mean(values, range(9))
    assert found.value == pytest.approx(whole)
    assert found.se**2 == pytest.approx((of_subjects + of_seeds - rest) / 36)
    share = (of_seeds - rest) / (of_subjects + of_seeds - rest)
    critical = (1 - share) * stats.t.ppf(0.975, 8) + share * stats.t.ppf(0.975, 3)
    assert found.ci95 == pytest.approx([whole - critical * found.se, whole + critical * found.se])
    assert 3 < found.df < 8


def test_equal_seeds_are_one_seed():
    values = np.random.default_rng(1).normal(size=(8, 1))
    one, three = estimate_mean(values, range(8)), estimate_mean(np.tile(values, 3), range(8))
    assert (three.value, three.se, three.df) == pytest.approx((one.value, one.se, one.df))
    assert (one.seeds, three.seeds) == (1, 3)


def test_a_constant_is_certain():
    found = estimate_mean(np.full((8, 3), -0.02), range(8))
    assert found.ci95 == [-0.02, -0.02]
    assert (found.p_above(-0.03), found.p_above(-0.01), found.p_below(0.0)) == (0, 1, 0)


@pytest.mark.parametrize(("alarms", "n"), [(0, 28), (1, 28), (20, 20), (7, 40)])
def test_a_share_has_the_interval_of_agresti_and_coull(alarms, n):
    """With Student's quantile, for few subjects: by hand, and never narrower than half of the exact interval."""
    found = estimate_mean(np.arange(n)[:, None] < alarms, range(n), find_added("alarm"))
    middle = (alarms + 2) / (n + 4)
    half = stats.t.ppf(0.975, n + 3) * math.sqrt(middle * (1 - middle) / (n + 3))
    assert (found.value, found.subjects) == (alarms / n, n)
    assert found.ci95 == pytest.approx([max(middle - half, 0), min(middle + half, 1)])
    exact = stats.binomtest(alarms, n).proportion_ci()
    assert found.ci95[1] - found.ci95[0] > (exact.high - exact.low) / 2
    assert (2 * found.p_below(0.5) < 0.05) == (exact.high < 0.5)


def test_a_difference_of_shares_is_that_of_agresti_and_min():
    """Half a pair of each of the four kinds: variance of the differences by hand."""
    differences = np.array([1] * 6 + [-1] * 2 + [0] * 12, float)
    found = estimate_mean(differences[:, None], range(20), find_added("alarm", is_difference=True))
    more = np.array([*differences, 0.5**0.5, -(0.5**0.5)])
    assert found.value == pytest.approx(0.2)
    assert found.se == pytest.approx(more.std(ddof=1) / math.sqrt(22))
    assert (more**2).sum() == pytest.approx(8 + 1)
    assert find_added("dice") == find_added("dice", is_difference=True) == ()


def test_a_share_of_no_alarm_is_not_certain():
    both = estimate_mean(np.zeros((12, 3)), np.repeat(range(6), 2), find_added("alarm"))
    assert (both.value, both.subjects, both.seeds) == (0, 6, 3)
    assert both.ci95[1] > 0.3
    assert estimate_mean(np.zeros((1, 1)), [0], find_added("alarm")).ci95 is None


def test_subjects_are_counted_not_cases():
    values = np.random.default_rng(2).normal(size=(6, 2))
    twice = estimate_mean(np.repeat(values, 2, axis=0), np.repeat(range(6), 2))
    assert astuple(twice) == pytest.approx(astuple(estimate_mean(values, range(6))))


def test_unequal_subjects_have_the_linearized_variance():
    """A subject with more cases has more weight; the jackknife finds the same standard error."""
    rng = np.random.default_rng(4)
    subjects = rng.integers(0, 30, 200)
    values = rng.normal(0, 1, 30)[subjects] + rng.normal(0, 1, 200)
    found = estimate_mean(values[:, None], subjects)
    assert found.value == pytest.approx(values.mean())
    left = np.array([values[subjects != s].mean() for s in range(30)])
    assert found.se == pytest.approx(math.sqrt(29 / 30 * ((left - left.mean()) ** 2).sum()), rel=0.1)


def test_left_out():
    nan, inf = math.nan, math.inf
    found = estimate_mean([[1, 2], [3, nan], [nan, nan], [inf, 4]], range(4))
    assert (found.value, found.subjects, found.seeds) == (pytest.approx(2.5), 3, 2)
    assert estimate_mean(np.zeros((0, 2)), []) == Estimate(None, None, None, 0, 0)
    lone = estimate_mean([[1.0, 2.0]], ["a"])
    assert (lone.value, lone.ci95, lone.p_above(0)) == (1.5, None, 1.0)


def test_a_ratio_without_a_denominator_is_nothing():
    assert linearize(np.ones((3, 1)), np.zeros((3, 1)))[0] is None


@pytest.mark.parametrize("draw", EFFECTS.values(), ids=EFFECTS)
@pytest.mark.parametrize("seeds", SEEDS)
def test_coverage(seeds, draw):
    """Expect 95 % intervals to hold the truth in at least 93 % of simulated studies, for every size and spread."""
    rng = np.random.default_rng(16)
    found = {
        (subjects, sd): coverage(simulate(subjects, seeds, sd, draw, 2500, rng))
        for subjects, sd in itertools.product(SUBJECTS, SEED_SDS if seeds > 1 else (0.0,))
    }
    # Chance alone moves each share of 2,500 by 0.0044 (one standard deviation).
    assert min(found.values()) >= 0.93, found
    assert np.mean(list(found.values())) <= 0.97, found


def test_a_bootstrap_of_few_subjects_is_too_narrow():
    """The reason why no interval is one: fewer than 93 % hold the truth for 8 subjects."""
    rng = np.random.default_rng(16)
    assert max(bootstrap_coverage(simulate(8, 1, 0.0, EFFECTS["normal"], 500, rng), rng)) < 0.93
