"""Summarize one metric over many cases."""

from collections.abc import Hashable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt


def summarize(
    values: Sequence[float] | npt.NDArray[Any],
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
    resamples: int = 2000,
) -> dict[str, Any]:
    """Compute mean, spread and interval of a metric, and count the values that can't be averaged.

    Args:
        values: one value per case; NaN for a missing, inf for an infinite one.
        groups: subject of each value; the bootstrap draws whole subjects, because cases of one subject are not
            independent. None: each value is a subject of its own.
        seed: random seed of the bootstrap.
        resamples: number of bootstrap samples.

    Returns:
        ``mean``, ``sd`` (n - 1 in the denominator) and ``ci95`` [low, high] (percentile bootstrap of the mean) of the
        finite values; ``n``, their number; ``missing`` and ``infinite``, the numbers of the others. The mean of no
        value and the spread of fewer than two values are None, and so is the interval of fewer than two subjects. Only
        types that JSON has.

    Reference:
        B. Efron and R. Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3.
    """
    array = np.asarray(values, dtype=np.float64).ravel()
    kept = np.isfinite(array)
    finite = array[kept]
    names = np.arange(array.size) if groups is None else np.unique([str(g) for g in groups], return_inverse=True)[1]
    spread = finite.size >= 2
    return {
        "mean": float(finite.mean()) if finite.size else None,
        "sd": float(finite.std(ddof=1)) if spread else None,
        "ci95": _interval(finite, names[kept], seed, resamples) if spread else None,
        "n": int(finite.size),
        "missing": int(np.isnan(array).sum()),
        "infinite": int(np.isinf(array).sum()),
    }


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


@lru_cache(maxsize=32)  # most cells of a table have the same number of values
def draws(count: int, seed: int, resamples: int) -> npt.NDArray[np.int32]:
    """Draw bootstrap samples [resamples, count]: each row holds ``count`` of the units 0 to count - 1, with repeats."""
    return np.random.default_rng(seed).integers(0, count, (resamples, count), dtype=np.int32)


def _interval(
    finite: npt.NDArray[np.float64], groups: npt.NDArray[np.intp], seed: int, resamples: int
) -> list[float] | None:
    _, members = np.unique(groups, return_inverse=True)
    sums, sizes = np.bincount(members, finite), np.bincount(members)
    if sizes.size < 2:
        return None
    drawn = draws(sizes.size, seed, resamples)
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    return [float(bound) for bound in np.percentile(means, [2.5, 97.5])]
