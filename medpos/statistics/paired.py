"""Compare two models on the same cases: mean difference, interval and test.

Cases of one subject (its phases, its slices) are not independent, so intervals draw whole subjects and tests count
subjects.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from medpos.core.errors import InputError
from medpos.metrics import summarize
from medpos.statistics.grid import Array

SMALL = 20  # fewer subjects than this are called few
FEWEST = 6  # with 5 subjects the smallest two-sided p is 2 / 2^5 = 0.06: the test could never reject at 0.05
# Equal differences must stay ties, and zeros zeros, despite rounding in the mean over seeds or slices.
_DECIMALS = 12


@dataclass(frozen=True)
class PairedComparison:
    """Hold the comparison of two models, a and b, on the same cases.

    Args:
        n: number of pairs of finite values.
        subjects: number of subjects of these pairs.
        missing: number of pairs left out because a value is NaN.
        infinite: number of pairs left out because a value is infinite.
        mean_difference: mean of a - b over the pairs, in the metric's unit. None without pairs.
        ci95: bounds of its 95 % percentile bootstrap interval, whole subjects drawn. None for fewer than two subjects.
        p: p-value of the two-sided Wilcoxon signed-rank test of the subjects' mean differences, 0 to 1. None for fewer
            than 6 subjects, or where all differences are zero.
        effect_size: matched-pairs rank-biserial correlation, -1 (b higher in every subject) to 1 (a higher). None
            where all differences are zero.
        small: True for fewer than 20 subjects.
    """

    n: int
    subjects: int
    missing: int
    infinite: int
    mean_difference: float | None
    ci95: list[float] | None
    p: float | None
    effect_size: float | None
    small: bool


def compare_paired(
    a: npt.ArrayLike, b: npt.ArrayLike, subjects: Sequence[Hashable], seed: int = 0, resamples: int = 2000
) -> PairedComparison:
    """Compare two models on the same cases.

    Args:
        a: value of the first model for each case.
        b: value of the second model for each case, in the same order.
        subjects: subject of each case.
        seed: random seed of the bootstrap.
        resamples: number of bootstrap samples.

    Raises:
        InputError: different lengths.

    Reference:
        F. Wilcoxon, "Individual comparisons by ranking methods", Biometrics Bulletin 1(6), 1945 (zeros dropped).
        D. S. Kerby, "The simple difference formula", Comprehensive Psychology 3, 2014 (effect size).
    """
    first, second = _pairs(a, b, len(subjects))
    missing = np.isnan(first) | np.isnan(second)
    infinite = ~missing & (np.isinf(first) | np.isinf(second))
    kept = ~missing & ~infinite
    names = [str(name) for name, keep in zip(subjects, kept, strict=True) if keep]
    difference = first[kept] - second[kept]
    summary = summarize(difference, names, seed, resamples)
    means = _subject_means(difference, names)
    return PairedComparison(
        n=summary["n"],
        subjects=means.size,
        missing=int(missing.sum()),
        infinite=int(infinite.sum()),
        mean_difference=summary["mean"],
        ci95=summary["ci95"],
        p=float(stats.wilcoxon(means).pvalue) if means.size >= FEWEST and means.any() else None,
        effect_size=_rank_biserial(means),
        small=means.size < SMALL,
    )


def _pairs(a: npt.ArrayLike, b: npt.ArrayLike, count: int) -> tuple[Array, Array]:
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if not first.shape == second.shape == (count,):
        raise InputError(
            f"expected one value of each model and one subject per case, got shapes {first.shape} and {second.shape} "
            f"and {count} subjects; give three lists of equal length"
        )
    return first, second


def _subject_means(values: Array, subjects: Sequence[str]) -> Array:
    members = np.unique(np.array(subjects, dtype=str), return_inverse=True)[1]
    return np.round(np.bincount(members, values) / np.bincount(members), _DECIMALS)


def _rank_biserial(differences: Array) -> float | None:
    """Compute the share of the rank sum in favor of a, minus the share in favor of b."""
    changed = differences[differences != 0]
    if not changed.size:
        return None
    ranks = stats.rankdata(np.abs(changed))
    return float((ranks * np.sign(changed)).sum() / ranks.sum())


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust the p-values of one family of tests by Holm's method, which bounds the chance of any false rejection.

    Args:
        p_values: p-values, 0 to 1; None (or NaN) for a test that was not made. It stays None and isn't counted.

    Returns:
        Adjusted p-values in the same order, 0 to 1.

    Raises:
        InputError: a value outside 0 to 1.

    Reference:
        S. Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statistics 6(2), 1979.
    """
    values = np.array([np.nan if p is None else p for p in p_values], np.float64)
    made = np.flatnonzero(~np.isnan(values))
    if ((values[made] < 0) | (values[made] > 1)).any():
        raise InputError(f"p_values: expected numbers from 0 to 1 or None, got {values[made].tolist()}; correct them")
    order = made[np.argsort(values[made], kind="stable")]
    factors = np.arange(order.size, 0, -1)
    adjusted: list[float | None] = [None] * values.size
    for place, value in zip(order, np.maximum.accumulate(values[order] * factors), strict=True):
        adjusted[place] = min(1.0, float(value))
    return adjusted
