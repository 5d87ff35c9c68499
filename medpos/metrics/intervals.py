"""Estimate a mean over subjects and trainings, with an interval that holds for few of both.

Subjects and seeds are crossed: every trained network segments every subject. A value is then the sum of a mean, an
effect of the subject, an effect of the seed and a rest, and the mean over all has the variance

    var_subject / n + var_seed / K + var_rest / (n K)

for n subjects and K seeds, which the mean squares of a two-way analysis of variance estimate. With one seed, the second
term can't be estimated: the interval is then that of Student's t on the subjects' means, and holds for the networks at
hand. A bootstrap isn't used, because with few subjects or seeds its intervals are too narrow.

A share of cases (:data:`SHARES`) gets its interval with a few made-up subjects added, because no alarm among 28 cases
says nothing about the spread: without them the interval would have no width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

Array = npt.NDArray[np.float64]

# Metrics that are 0 or 1 in each case, so that their mean is a share of the cases.
SHARES = frozenset({"alarm"})
_DECIMALS = 12  # a spread below this is rounding
_CONFIDENCE = 0.975  # quantile of a two-sided 95 % interval


@dataclass(frozen=True)
class Estimate:
    """Hold an estimated quantity and its uncertainty.

    Args:
        value: the quantity. None where nothing could be measured.
        se: its standard error. None for fewer than two subjects.
        df: degrees of freedom of its t distribution. None for fewer than two subjects.
        subjects: number of subjects.
        seeds: number of trainings.
        middle: middle of its interval; None for ``value``.
        low: smallest possible value, where the interval ends.
        high: greatest possible value, likewise.
    """

    value: float | None
    se: float | None
    df: float | None
    subjects: int
    seeds: int
    middle: float | None = None
    low: float = -np.inf
    high: float = np.inf

    @property
    def _middle(self) -> float | None:
        return self.value if self.middle is None else self.middle

    @property
    def ci95(self) -> list[float] | None:
        """Bounds of the 95 % interval. None for fewer than two subjects."""
        if self._middle is None or self.se is None or self.df is None:
            return None
        half = _quantile(self.df) * self.se
        return [max(self._middle - half, self.low), min(self._middle + half, self.high)]

    def p_above(self, bound: float) -> float:
        """Return the one-sided p-value against "at most ``bound``"; 1 without an interval."""
        return self._p(bound, 1)

    def p_below(self, bound: float) -> float:
        """Return the one-sided p-value against "at least ``bound``"; 1 without an interval."""
        return self._p(bound, -1)

    def _p(self, bound: float, sign: int) -> float:
        if self._middle is None or self.se is None or self.df is None:
            return 1.0
        distance = sign * (self._middle - bound)
        if self.se == 0:
            return 0.0 if distance > 0 else 1.0
        return float(special.stdtr(self.df, -distance / self.se))


def find_added(metric: str, is_difference: bool = False) -> tuple[float, ...]:
    """Return the values of subjects that are added for the interval of a share of cases, or of a difference of shares.

    Args:
        metric: name of the metric; for those that aren't in ``SHARES`` there are none.
        is_difference: whether it is the difference of two models or conditions, on the same cases.

    Reference:
        A. Agresti and B. A. Coull, "Approximate Is Better than 'Exact' for Interval Estimation of Binomial
        Proportions", The American Statistician 52(2), 1998 (two subjects of either value).
        A. Agresti and Y. Min, "Simple Improved Confidence Intervals for Comparing Matched Proportions", Statistics in
        Medicine 24(5), 2005 (half a pair of each of the four kinds; here two with the same sum and sum of squares).
    """
    if metric not in SHARES:
        return ()
    return (-(0.5**0.5), 0.5**0.5) if is_difference else (0.0, 0.0, 1.0, 1.0)


def estimate_mean(
    values: npt.ArrayLike, subjects: Sequence[Any] | npt.NDArray[Any], added: Sequence[float] = ()
) -> Estimate:
    """Estimate the mean over seeds of the mean over cases.

    Args:
        values: value of each case and seed, [cases, seeds]; those that aren't finite are left out.
        subjects: subject of each case. Cases of one subject (its phases, its slices) are not independent, so subjects
            are counted, not cases.
        added: values of further subjects, from :func:`find_added`, for the interval alone.
    """
    array = np.asarray(values, np.float64)
    finite = np.isfinite(array)
    sums, sizes = (sum_by_subject(part, subjects) for part in (np.where(finite, array, 0), finite))
    rows, columns = sizes.any(axis=1), sizes.any(axis=0)
    sums, sizes = sums[rows][:, columns], sizes[rows][:, columns]
    found = estimate(*linearize(sums, sizes))
    if not added or found.se is None:
        return found
    more = np.broadcast_to(sizes.mean(axis=0), (len(added), sizes.shape[1]))
    wide = estimate(*linearize(np.vstack([sums, np.array(added)[:, None] * more]), np.vstack([sizes, more])))
    low = 0.0 if min(added) >= 0 else -1.0
    return replace(wide, value=found.value, subjects=found.subjects, middle=wide.value, low=low, high=1.0)


def sum_by_subject(values: npt.NDArray[Any], subjects: Sequence[Any] | npt.NDArray[Any]) -> Array:
    """Add up the rows of each subject: [cases, seeds] becomes [subjects, seeds]."""
    members = np.unique(np.asarray(subjects), return_inverse=True)[1]
    sums = np.zeros((int(members.max(initial=-1)) + 1, values.shape[1]))
    np.add.at(sums, members, values)
    return sums


def linearize(sums: Array, sizes: Array) -> tuple[float | None, Array]:
    """Compute the mean over seeds of a ratio of sums over subjects, and the part of each subject and seed in its error.

    Args:
        sums: numerator of each subject and seed, [subjects, seeds]; for a mean, the sum of the subject's values.
        sizes: denominator, likewise, 0 or more; for a mean, the number of the subject's values.

    Returns:
        The ratio (None for no subject, or where the denominators of a seed add up to 0), and residuals
        [subjects, seeds] with mean 0: the value of each subject and seed less the ratio where all sizes are equal.

    Reference:
        W. G. Cochran, "Sampling Techniques", 3rd ed., 1977, section 6.3 (linearized variance of a ratio).
    """
    total = sizes.sum(axis=0)
    if not (sizes.size and total.all()):
        return None, np.zeros((0, 0))
    ratios = sums.sum(axis=0) / total
    residuals = len(sizes) * (sums - ratios * sizes) / total + (ratios - ratios.mean())
    return float(ratios.mean()), residuals


def estimate(value: float | None, residuals: Array) -> Estimate:
    """Make the estimate of a quantity from its residuals [subjects, seeds]; see :func:`linearize`."""
    subjects, seeds = residuals.shape
    if value is None or subjects < 2:
        return Estimate(value, None, None, subjects, seeds)
    variance, critical = spread(residuals)
    se = float(np.sqrt(variance))
    return Estimate(
        value, se if se > 10.0**-_DECIMALS else 0.0, _effective_df(float(critical), residuals), subjects, seeds
    )


def spread(residuals: Array) -> tuple[Array, Array]:
    """Compute the variance of a mean over crossed subjects and seeds, and the quantile for its 95 % interval.

    Args:
        residuals: residuals [..., subjects, seeds] with mean 0, from two subjects on.

    Returns:
        Variance of the mean, [...], and the number of standard errors from the mean to the end of the interval, [...].
        That number is the mean of Student's quantiles for subjects and for seeds, weighted by their shares of the
        variance. The share of the seeds is 0 where their means differ by no more than the rest explains, so the
        interval is never narrower than that of the subjects' means.

    Reference:
        S. Searle, G. Casella and C. McCulloch, "Variance Components", 1992, chapter 4 (mean squares).
        W. G. Cochran, "Approximate significance levels of the Behrens-Fisher test", Biometrics 20(1), 1964 (quantile).
    """
    count, seeds = residuals.shape[-2:]
    by_subject, by_seed = residuals.mean(axis=-1), residuals.mean(axis=-2)
    of_subjects = (by_subject**2).sum(axis=-1) / (count - 1) / count
    student = _quantile(count - 1)
    if seeds == 1:
        return of_subjects, np.full_like(of_subjects, student)
    rest = residuals - by_subject[..., :, None] - by_seed[..., None, :]
    of_rest = (rest**2).sum(axis=(-2, -1)) / ((count - 1) * (seeds - 1)) / (count * seeds)
    of_seeds = np.maximum((by_seed**2).sum(axis=-1) / (seeds - 1) / seeds - of_rest, 0)
    variance = of_subjects + of_seeds
    share = np.divide(of_seeds, variance, out=np.zeros_like(variance), where=variance > 0)
    return variance, student + share * (_quantile(seeds - 1) - student)


def _quantile(df: float) -> float:
    """Return the 97.5 % quantile of Student's t."""
    return float(special.stdtrit(df, _CONFIDENCE))


def _effective_df(critical: float, residuals: Array) -> float:
    """Return the degrees of freedom for which Student's 97.5 % quantile is ``critical``."""
    subjects, seeds = residuals.shape
    ends = sorted({subjects - 1, max(seeds - 1, 1) if seeds > 1 else subjects - 1})
    low, high = (_quantile(end) - critical for end in (ends[0], ends[-1]))
    if low <= 0 or high >= 0:  # at one of the ends, but for rounding
        return float(ends[0] if low <= 0 else ends[-1])
    return float(optimize.brentq(lambda df: _quantile(df) - critical, ends[0], ends[-1]))
