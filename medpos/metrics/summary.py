"""Summarize one metric over many cases."""

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medpos.metrics.intervals import estimate_mean

# What summary.json says of its intervals.
INTERVAL = "95 % interval of the mean: Student's t over subjects, within the limits of the metric"


def summarize(
    values: Sequence[float] | npt.NDArray[Any],
    groups: Sequence[Hashable] | None = None,
    limits: tuple[float, float] = (-math.inf, math.inf),
) -> dict[str, Any]:
    """Compute mean, spread and interval of a metric, and count the values that can't be averaged.

    Args:
        values: one value per case; NaN for a missing, inf for an infinite one.
        groups: subject of each value; subjects are counted, because cases of one subject are not independent. None:
            each value is a subject of its own.
        limits: smallest and greatest possible value, at which the interval ends; see :func:`limits_of`.

    Returns:
        ``mean``, ``sd`` (n - 1 in the denominator) and ``ci95`` [low, high] of the mean
        (:func:`medpos.metrics.intervals.estimate_mean`) of the finite values; ``n``, their number; ``missing`` and
        ``infinite``, the numbers of the others; ``median`` of all values but the missing, where infinite ones rank
        last, None where it is infinite. The mean of no value and the spread of fewer than two values are None,
        and so is the interval of fewer than two subjects. Only types that JSON has.
    """
    array = np.asarray(values, dtype=np.float64).ravel()
    finite = array[np.isfinite(array)]
    names = np.arange(array.size) if groups is None else np.array([str(g) for g in groups])
    ci95 = estimate_mean(array[:, None], names).ci95
    return {
        "mean": float(finite.mean()) if finite.size else None,
        "sd": float(finite.std(ddof=1)) if finite.size >= 2 else None,
        "ci95": None if ci95 is None else [min(max(end, limits[0]), limits[1]) for end in ci95],
        "median": _median(array),
        "n": int(finite.size),
        "missing": int(np.isnan(array).sum()),
        "infinite": int(np.isinf(array).sum()),
    }


def _median(values: npt.NDArray[Any]) -> float | None:
    """Compute the median, infinite values last; None where it is infinite, or there is none."""
    ranked = np.sort(values[~np.isnan(values)])
    middle = ranked[(ranked.size - 1) // 2 : ranked.size // 2 + 1]
    return float(middle.mean()) if middle.size and np.isfinite(middle).all() else None


def limits_of(metric: str) -> tuple[float, float]:
    """Return the smallest and greatest possible value of a metric or score; distances and numbers have no greatest."""
    if metric == "dice_lost":
        return -1.0, 1.0
    return 0.0, math.inf if metric.endswith("_mm") or metric.startswith("objects_") else 1.0


def mean_of_finite(values: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> float:
    """Compute the mean of the finite values; NaN, never zero, where there is none.

    Args:
        values: any number of values; NaN and infinity are left out.
        weights: weight of each value, 0 or more; None: equal weights.
    """
    array = np.asarray(values, dtype=np.float64)
    importance = np.ones_like(array) if weights is None else np.asarray(weights, dtype=np.float64)
    kept = np.isfinite(array) & (importance > 0)
    if not kept.any():
        return float("nan")
    return float(array[kept].mean() if weights is None else np.average(array[kept], weights=importance[kept]))
