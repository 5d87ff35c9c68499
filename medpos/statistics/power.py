"""Compute the power of a test at the precision that a study reached."""

import math

from scipy import stats


def power_to_confirm(se: float, df: float, low: float, high: float, true: float, alpha: float = 0.05) -> float:
    """Compute the chance that a 1 - ``alpha`` interval comes to lie inside a range.

    Args:
        se: standard error of the estimate, above 0.
        df: its degrees of freedom.
        low: lower end of the range; minus infinity for none.
        high: upper end of the range; infinity for none.
        true: the quantity's true value.
        alpha: chance of an error of the two-sided interval; each end has half of it.

    Returns:
        The power, 0 to 1: exact for a range with one end; for two ends by noncentral t distributions, which are exact
        but for a correction that vanishes where the power isn't small.

    Reference:
        J. L. Hodges and E. L. Lehmann, "Testing the approximate validity of statistical hypotheses", Journal of the
        Royal Statistical Society B 16(2), 1954 (equivalence by two one-sided tests).
        K. F. Phillips, "Power of the two one-sided tests procedure in bioequivalence", J. Pharmacokinetics and
        Biopharmaceutics 18(2), 1990 (power).
    """
    critical = float(stats.t.ppf(1 - alpha / 2, df))
    missed = 0.0
    if math.isfinite(low):
        missed += float(stats.nct.cdf(critical, df, (true - low) / se))
    if math.isfinite(high):
        missed += float(stats.nct.cdf(critical, df, (high - true) / se))
    return min(1.0, max(0.0, 1 - missed))
