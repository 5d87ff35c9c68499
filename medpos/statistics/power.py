"""Compute the power of a test at the precision that a study reached."""

import math

from scipy import integrate, special, stats


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
        The power, 0 to 1, by a noncentral t distribution for a range with one end; for two ends by Phillips' integral
        over the standard error that a study may find.

    Reference:
        J. L. Hodges and E. L. Lehmann, "Testing the approximate validity of statistical hypotheses", Journal of the
        Royal Statistical Society B 16(2), 1954 (equivalence by two one-sided tests).
        K. F. Phillips, "Power of the two one-sided tests procedure in bioequivalence", J. Pharmacokinetics and
        Biopharmaceutics 18(2), 1990 (power).
    """
    critical = float(stats.t.ppf(1 - alpha / 2, df))
    below, above = (true - low) / se, (high - true) / se
    if math.isinf(below) or math.isinf(above):
        return float(1 - stats.nct.cdf(critical, df, min(below, above)))

    def confirm(ratio: float) -> float:
        """Return the density of a found standard error, over the true one, times the chance to confirm with it."""
        inside = special.ndtr(above - critical * ratio) - special.ndtr(critical * ratio - below)
        return float(inside * stats.chi.pdf(ratio * math.sqrt(df), df) * math.sqrt(df))

    widest = (below + above) / (2 * critical)  # beyond it the interval is wider than the range
    found = integrate.quad(confirm, 0, min(widest, 1 + 10 / math.sqrt(df)), limit=200)[0]
    return min(1.0, max(0.0, float(found)))
