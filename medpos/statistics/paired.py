"""Test paired differences without assuming a distribution, and adjust the p-values of a family of tests."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from medpos.core.errors import InputError
from medpos.statistics.grid import Array

SMALL = 20  # fewer subjects than this are called few
FEWEST = 6  # with 5 subjects the smallest two-sided p is 2 / 2^5 = 0.06: the test could never reject at 0.05
# Equal differences must stay ties, and zeros zeros, despite rounding in the mean over seeds or slices.
_DECIMALS = 12


def signed_rank(differences: npt.ArrayLike) -> tuple[float | None, float | None]:
    """Test whether differences are symmetric about zero, by Wilcoxon's signed-rank test.

    Args:
        differences: mean difference of each subject.

    Returns:
        Two-sided p-value, 0 to 1; None for fewer than 6 subjects, or where all differences are zero. Matched-pairs
        rank-biserial correlation, -1 (all negative) to 1 (all positive); None where all differences are zero.

    Reference:
        F. Wilcoxon, "Individual comparisons by ranking methods", Biometrics Bulletin 1(6), 1945 (zeros dropped).
        D. S. Kerby, "The simple difference formula", Comprehensive Psychology 3, 2014 (effect size).
    """
    rounded: Array = np.asarray(differences, np.float64).round(_DECIMALS)
    tested = rounded.size >= FEWEST and rounded.any()
    return float(stats.wilcoxon(rounded).pvalue) if tested else None, _rank_biserial(rounded)


def _rank_biserial(differences: Array) -> float | None:
    """Compute the share of the rank sum of positive differences, minus the share of negative ones."""
    changed = differences[differences != 0]
    if not changed.size:
        return None
    ranks = stats.rankdata(np.abs(changed))
    return float((ranks * np.sign(changed)).sum() / ranks.sum())


def smallest_p(subjects: int) -> float:
    """Return the smallest two-sided p-value of the signed-rank test: all differences have the same sign."""
    return min(1.0, 2.0 ** (1 - subjects))


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
