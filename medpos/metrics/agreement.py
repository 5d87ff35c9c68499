"""Measure how far predicted clinical indices agree with true ones."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from medpos.core.errors import InputError

_WITHIN_95 = 1.96  # standard deviations on each side of the mean that hold 95 % of a normal distribution
Values = npt.NDArray[np.float64]


def agreement(true: npt.ArrayLike, predicted: npt.ArrayLike) -> dict[str, Any]:
    """Compute the agreement of a predicted index with the true one.

    Args:
        true: true value of each subject; NaN where there is none.
        predicted: predicted value of each subject, in the same order.

    Returns:
        ``n``, pairs of finite values; ``missing``, the other pairs; ``bias``, mean of predicted - true; ``sd`` of these
        differences (n - 1 in the denominator); ``lower`` and ``upper``, the 95 % limits of agreement, bias - 1.96 sd
        and bias + 1.96 sd; ``mean_absolute_error`` (all in the index's unit); ``correlation``, Pearson's, -1 to 1;
        ``ccc``, Lin's concordance correlation coefficient, and ``icc``, the intraclass correlation ICC(A,1) of
        absolute agreement, both up to 1; ``proportional_bias``, slope of the difference over the mean of both, 0 where
        the error doesn't depend on the size. ``bias_ci95``, ``lower_ci95``, ``upper_ci95`` and
        ``proportional_bias_ci95`` are their 95 % intervals (Student's t). A statistic is None where there are too few
        pairs, and a correlation or slope also where all values are equal. Only types that JSON has.

    Raises:
        InputError: different lengths.

    Reference:
        J. M. Bland and D. G. Altman, "Statistical methods for assessing agreement between two methods of clinical
        measurement", Lancet 327(8476), 1986, and "Measuring agreement in method comparison studies", Statistical
        Methods in Medical Research 8(2), 1999, section 3 (slope); L. I. Lin, "A concordance correlation coefficient to
        evaluate reproducibility", Biometrics 45(1), 1989; K. O. McGraw and S. P. Wong, "Forming inferences about some
        intraclass correlation coefficients", Psychological Methods 1(1), 1996, table 4.
    """
    first, second, missing = _measured(true, predicted)
    difference = second - first
    bias = float(difference.mean()) if difference.size else None
    sd = float(difference.std(ddof=1)) if difference.size > 1 else None
    lower, upper = (None, None) if bias is None or sd is None else (bias - _WITHIN_95 * sd, bias + _WITHIN_95 * sd)
    varied = difference.size > 1 and np.ptp(first) > 0 and np.ptp(second) > 0
    return {
        "n": difference.size,
        "missing": missing,
        "bias": bias,
        "sd": sd,
        "lower": lower,
        "upper": upper,
        **_intervals(bias, sd, difference.size),
        **_slope(first, second),
        "correlation": float(np.corrcoef(first, second)[0, 1]) if varied else None,
        "ccc": _concordance(first, second) if varied else None,
        "icc": _intraclass(first, second) if varied else None,
        "mean_absolute_error": float(np.abs(difference).mean()) if difference.size else None,
    }


def category_agreement(true: npt.ArrayLike, predicted: npt.ArrayLike, threshold: float) -> dict[str, Any]:
    """Compare whether an index is above a threshold, such as a cardiothoracic ratio above 0.5.

    Args:
        true: true value of each subject; NaN where there is none.
        predicted: predicted value of each subject, in the same order.
        threshold: largest value that isn't above, in the index's unit.

    Returns:
        ``n``, pairs of finite values; ``both_above``, ``true_above`` (in truth alone), ``predicted_above`` (in the
        prediction alone) and ``both_below``, their numbers; ``agreement``, the share of pairs on the same side, 0 to 1;
        ``kappa``, Cohen's kappa, up to 1. A share of nothing is None, and so is kappa where all are on one side.

    Raises:
        InputError: different lengths.

    Reference:
        J. Cohen, "A coefficient of agreement for nominal scales", Educational and Psychological Measurement 20(1),
        1960.
    """
    first, second, _ = _measured(true, predicted)
    a, b = first > threshold, second > threshold
    n = a.size
    same = float((a == b).mean()) if n else None
    chance = float(a.mean() * b.mean() + (~a).mean() * (~b).mean()) if n else 1.0
    return {
        "n": n,
        "both_above": int((a & b).sum()),
        "true_above": int((a & ~b).sum()),
        "predicted_above": int((~a & b).sum()),
        "both_below": int((~a & ~b).sum()),
        "agreement": same,
        "kappa": None if same is None or chance == 1 else (same - chance) / (1 - chance),
    }


def _intervals(bias: float | None, sd: float | None, n: int) -> dict[str, list[float] | None]:
    """Compute the intervals of the bias and of the limits of agreement (Bland and Altman 1986 and 1999)."""
    if bias is None or sd is None:
        return dict.fromkeys(("bias_ci95", "lower_ci95", "upper_ci95"))
    t = float(stats.t.ppf(0.975, n - 1))
    around_bias = t * sd / n**0.5
    around_limit = t * sd * (1 / n + _WITHIN_95**2 / (2 * (n - 1))) ** 0.5
    ends = {
        "bias_ci95": (bias, around_bias),
        "lower_ci95": (bias - _WITHIN_95 * sd, around_limit),
        "upper_ci95": (bias + _WITHIN_95 * sd, around_limit),
    }
    return {name: [value - half, value + half] for name, (value, half) in ends.items()}


def _slope(first: Values, second: Values) -> dict[str, Any]:
    """Fit the difference over the mean of both values."""
    names = "proportional_bias", "proportional_bias_ci95"
    mean = (first + second) / 2
    if mean.size < 3 or np.ptp(mean) == 0:
        return dict.fromkeys(names)
    fit = stats.linregress(mean, second - first)
    half = float(stats.t.ppf(0.975, mean.size - 2)) * float(fit.stderr)
    return dict(zip(names, (float(fit.slope), [float(fit.slope) - half, float(fit.slope) + half]), strict=True))


def _concordance(first: Values, second: Values) -> float:
    """Compute Lin's coefficient; moments have n in the denominator, as in his paper."""
    covariance = ((first - first.mean()) * (second - second.mean())).mean()
    return float(2 * covariance / (first.var() + second.var() + (first.mean() - second.mean()) ** 2))


def _intraclass(first: Values, second: Values) -> float:
    """Compute ICC(A,1) from the mean squares of a two-way table, subjects by truth and prediction."""
    table = np.stack([first, second], axis=1)
    n, k = table.shape
    subjects, methods, whole = table.mean(axis=1), table.mean(axis=0), table.mean()
    of_subjects = k * ((subjects - whole) ** 2).sum() / (n - 1)
    of_methods = n * ((methods - whole) ** 2).sum() / (k - 1)
    rest = ((table - subjects[:, None] - methods + whole) ** 2).sum() / ((n - 1) * (k - 1))
    return float((of_subjects - rest) / (of_subjects + (k - 1) * rest + k * (of_methods - rest) / n))


def _measured(
    true: npt.ArrayLike, predicted: npt.ArrayLike
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], int]:
    """Return the pairs of finite values, and the number of the other pairs."""
    first, second = np.asarray(true, np.float64), np.asarray(predicted, np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        raise InputError(
            f"expected one true and one predicted value per subject, got shapes {first.shape} and {second.shape}; give "
            "two lists of equal length"
        )
    kept = np.isfinite(first) & np.isfinite(second)
    return first[kept], second[kept], int((~kept).sum())
