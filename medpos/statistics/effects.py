"""Compare models over cases, subjects and seeds.

Every function takes the long table of a study, with one row per case, organ, condition and seed: ``data``, ``model``,
``seed``, ``case``, ``subject``, ``split``, ``degradation``, ``severity``, ``shift``, ``organ`` and the metrics.

NaN (organ in neither ground truth nor prediction) is left out of every mean and counted as missing; an infinite
distance makes every mean over it infinite, and such means are left out and counted as infinite. The mean of organs is
computed case by case. Intervals are those of :mod:`medpos.metrics.intervals`.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from medpos.core.errors import InputError
from medpos.metrics import limits_of
from medpos.metrics.intervals import estimate_mean, find_added, sum_by_subject
from medpos.statistics.grid import Array, Grid, Samples, check_models, grids, mean, ratio
from medpos.statistics.matching import Pairs, match
from medpos.statistics.paired import SMALL, holm, signed_rank


def compare_models(table: pd.DataFrame, a: str, b: str, metric: str = "dice") -> pd.DataFrame:
    """Compare two models on the same cases, organs, conditions and seeds; see :func:`medpos.statistics.matching.match`.

    Args:
        table: the long table.
        a: name of the first model.
        b: name of the second model.
        metric: column to compare.

    Returns:
        One row per data set, condition and organ that both models have, ``mean of organs`` last in each condition:
        ``seeds_a`` and ``seeds_b``, the trainings that were matched; ``mean_a`` and ``mean_b`` over the pairs; ``n``
        cases with a pair and ``subjects``, the number of theirs; ``mean_difference`` a - b, over seeds of the mean over
        cases, with ``ci95_low`` and ``ci95_high``; ``missing`` cases without a pair because of a NaN, and ``infinite``
        ones; ``only_a`` and ``only_b``, the values (cases times seeds) that only one model has; ``p`` and
        ``effect_size`` from :func:`medpos.statistics.paired.signed_rank` on the subjects' means; ``small``, fewer than
        20 subjects. Values that don't exist are NaN.

    Raises:
        InputError: a column or model is missing, the models have no row in common, or the table is inconsistent.
    """
    check_models(table, a, b)
    rows = [
        {"data": data, **row}
        for data, grid in grids(table[table["model"].isin([a, b])], metric)
        if a in grid.models and b in grid.models
        for row in _compared(grid, a, b)
    ]
    if not rows:
        raise InputError(f"{a} and {b} have no data set, condition and organ in common; evaluate both on the same data")
    frame = pd.DataFrame(rows)
    numbers = ["mean_a", "mean_b", "mean_difference", "ci95_low", "ci95_high", "p", "effect_size"]
    frame[numbers] = frame[numbers].astype(float)
    return frame


def adjust_primary(comparisons: pd.DataFrame, is_primary: "pd.Series[bool]") -> pd.DataFrame:
    """Adjust the p-values of the primary comparisons by Holm's method, and drop those of the others.

    Without a correction a p-value among many says little, and a correction over everything that was measured leaves
    none small, so the comparisons that decide are named in advance; the others have intervals alone.

    Args:
        comparisons: rows of :func:`compare_models`, of any number of pairs and data sets.
        is_primary: whether each row is primary.

    Returns:
        The rows with ``p`` of the primary ones alone, ``p_holm``, and ``tests``, the number of tests of the family.
    """
    p = comparisons["p"].where(is_primary)
    tests = int(p.notna().sum())
    return comparisons.assign(p=p, p_holm=np.array(holm(p.tolist()), np.float64), tests=tests)


def _compared(grid: Grid, a: str, b: str) -> Iterator[dict[str, Any]]:
    sides = grid.models[a], grid.models[b]
    for (c, o), about in grid.cells():
        own = [side.at((c, slice(o, o + 1))) for side in sides]
        if all(side.seeds for side in own):
            pairs = match(*own)
            left_out, is_mean = pairs.left_out, o == len(grid.organs) - 1
            chosen = match(*(side.at((c, slice(o))) for side in sides)).mean_of_organs() if is_mean else pairs
            present = np.any([side.present.any(axis=(0, 2)) for side in own], axis=0)
            yield {
                **about,
                "seeds_a": own[0].seeds - left_out.seeds_a,
                "seeds_b": own[1].seeds - left_out.seeds_b,
                **_difference(chosen, grid.subjects, present),
                "only_a": left_out.only_a,
                "only_b": left_out.only_b,
            }


def _difference(pairs: Pairs, subjects: npt.NDArray[np.intp], present: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Describe the differences of one organ, [1, cases, seeds], for the cases that a model has."""
    a, b, infinite = pairs.a[0], pairs.b[0], pairs.is_infinite[0].any(axis=1)
    differences = a - b
    kept = np.isfinite(differences).any(axis=1)
    found = estimate_mean(differences, subjects)
    low, high = found.ci95 or (None, None)
    p, effect_size = signed_rank(_subject_means(differences, subjects))
    return {
        "mean_a": _mean(a),
        "mean_b": _mean(b),
        "n": int(kept.sum()),
        "subjects": found.subjects,
        "missing": int((present & ~kept & ~infinite).sum()),
        "infinite": int((present & ~kept & infinite).sum()),
        "mean_difference": found.value,
        "ci95_low": low,
        "ci95_high": high,
        "p": p,
        "effect_size": effect_size,
        "small": found.subjects < SMALL,
    }


def _subject_means(values: Array, subjects: npt.NDArray[np.intp]) -> Array:
    """Compute the mean over seeds and cases of each subject that has a value."""
    finite = np.isfinite(values)
    sums, sizes = (sum_by_subject(part, subjects) for part in (np.where(finite, values, 0), finite))
    means = mean(ratio(sums, sizes), 1)
    return means[~np.isnan(means)]


def _mean(values: Array) -> float | None:
    means = _seed_means(values)
    return float(means.mean()) if means.size else None


def summarize_over_seeds(table: pd.DataFrame, metric: str = "dice") -> pd.DataFrame:
    """Summarize a metric over cases and seeds, per data set, model, condition and organ.

    The variance components are those of a two-way random-effects analysis of variance without replication, cases by
    seeds, estimated from the mean squares of the cases that have a value at every seed; a negative estimate is 0. An
    interaction of seed and case can't be told from noise and is the residual.

    Args:
        table: the long table.
        metric: column to summarize.

    Returns:
        One row per data set, model, condition and organ, ``mean of organs`` last in each condition: ``mean`` over seeds
        of the mean over cases, ``sd`` of these means (NaN for one seed), ``seeds``, ``n`` (cases with a finite value),
        ``subjects``, ``missing`` and ``infinite`` (values, so up to cases times seeds), ``ci95_low`` and ``ci95_high``
        (see :mod:`medpos.metrics.intervals`, within the limits of the metric; NaN for fewer than two subjects),
        ``variance_seed``, ``variance_case``, ``variance_residual`` (the metric's unit squared; NaN for one seed or one
        case), ``small`` (fewer than 20 subjects).

    Raises:
        InputError: a column is missing or the table is inconsistent.

    Reference:
        S. Searle, G. Casella and C. McCulloch, "Variance Components", 1992, chapter 4.
    """
    rows = [
        {"data": data, "model": model, **about, **_summed(samples.at(place), grid.subjects, metric)}
        for data, grid in grids(table, metric)
        for model, samples in grid.models.items()
        for place, about in grid.cells()
        if samples.at(place).seeds
    ]
    frame = pd.DataFrame(rows)
    numbers = ["mean", "sd", "ci95_low", "ci95_high", "variance_seed", "variance_case", "variance_residual"]
    frame[numbers] = frame[numbers].astype(float)
    return frame


def _summed(samples: Samples, subjects: npt.NDArray[np.intp], metric: str) -> dict[str, Any]:
    finite, limits = np.isfinite(samples.values), limits_of(metric)
    means = _seed_means(samples.values)
    found = estimate_mean(samples.values, subjects, find_added(metric))
    low, high = (min(max(end, limits[0]), limits[1]) for end in found.ci95) if found.ci95 else (None, None)
    return {
        "mean": found.value,
        "sd": float(means.std(ddof=1)) if means.size > 1 else None,
        "seeds": samples.seeds,
        "n": int(finite.any(axis=1).sum()),
        "subjects": found.subjects,
        "missing": int((samples.present & np.isnan(samples.values)).sum()),
        "infinite": int(np.isinf(samples.values).sum()),
        "ci95_low": low,
        "ci95_high": high,
        **_components(samples.values[:, finite.any(axis=0)]),
        "small": found.subjects < SMALL,
    }


def _components(values: Array) -> dict[str, float | None]:
    """Estimate the variance components of values [cases, seeds]; see :func:`summarize_over_seeds`."""
    complete = values[np.isfinite(values).all(axis=1)]
    cases, seeds = complete.shape
    if cases < 2 or seeds < 2:
        return {"variance_seed": None, "variance_case": None, "variance_residual": None}
    by_case, by_seed = complete.mean(axis=1), complete.mean(axis=0)
    rest = complete - by_case[:, None] - by_seed[None] + complete.mean()
    residual = float((rest**2).sum() / ((cases - 1) * (seeds - 1)))
    return {
        "variance_seed": max(0.0, float(by_seed.var(ddof=1)) - residual / cases),
        "variance_case": max(0.0, float(by_case.var(ddof=1)) - residual / seeds),
        "variance_residual": residual,
    }


def _seed_means(values: Array) -> Array:
    """Compute the mean over cases of values [cases, seeds], for each seed that has a finite value."""
    means = mean(np.where(np.isfinite(values), values, np.nan), 0)
    return means[~np.isnan(means)]
