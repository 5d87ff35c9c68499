"""Compare models over cases, subjects and seeds.

Every function takes the long table of a study, with one row per case, organ, condition and seed: ``data``, ``model``,
``seed``, ``case``, ``subject``, ``split``, ``degradation``, ``severity``, ``shift``, ``organ`` and the metrics.

Cases of one subject (its phases, its slices) are not independent, so intervals draw whole subjects and tests count
subjects. NaN (organ in neither ground truth nor prediction) is left out of every mean and counted as missing; an
infinite distance makes every mean over it infinite, and such means are left out and counted as infinite. The mean of
organs is computed case by case.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from medpos.core.errors import InputError
from medpos.core.labels import MEAN_OF_ORGANS
from medpos.metrics.summary import draws
from medpos.statistics.grid import Array, Grid, Samples, check_models, grids, mean, ratio
from medpos.statistics.paired import SMALL, compare_paired, holm


@dataclass(frozen=True)
class Effect:
    """Hold a mean, or a mean difference of two models, over cases, conditions and seeds.

    Args:
        value: mean or mean difference, in the metric's unit. None where nothing could be measured.
        ci95: bounds of its 95 % interval, subjects and seeds drawn. None for fewer than two subjects.
        n: number of cases in the mean.
        subjects: number of subjects of these cases.
        seeds: number of trained networks per model; for two models the smaller one. With 1, the interval doesn't
            include the spread between trainings.
        missing: number of cases times conditions left out because a model has no value there.
        infinite: number of cases times conditions left out because all values are infinite.
        small: True for fewer than 20 subjects.
    """

    value: float | None
    ci95: list[float] | None
    n: int
    subjects: int
    seeds: int
    missing: int
    infinite: int
    small: bool


def compare_models(table: pd.DataFrame, a: str, b: str, metric: str = "dice") -> pd.DataFrame:
    """Compare two models on the same cases, per data set, condition and organ.

    Seeds are first averaged case by case, so interval and test generalize to new subjects, but not to new trainings;
    :func:`estimate_effect` draws the seeds too. A case that only one of the models has counts as missing.

    Args:
        table: the long table.
        a: name of the first model.
        b: name of the second model.
        metric: column to compare.

    Returns:
        One row per data set, condition and organ that both models have, ``mean of organs`` last in each condition:
        ``seeds_a``, ``seeds_b``, ``mean_a`` and ``mean_b`` (over the pairs), the fields of :class:`PairedComparison`
        (``ci95`` as ``ci95_low`` and ``ci95_high``), ``p_holm``, adjusted over the organs and conditions of the data
        set, and ``tests``, the number of tests it was adjusted for. Values that don't exist are NaN.

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
    families = frame.groupby("data", sort=False)["p"]
    frame["p_holm"] = families.transform(lambda p: np.array(holm(p.tolist()), np.float64))
    frame["tests"] = families.transform("count").astype(int)
    return frame


def _compared(grid: Grid, a: str, b: str) -> Iterator[dict[str, Any]]:
    for place, about in grid.cells():
        first, second = grid.models[a].at(place), grid.models[b].at(place)
        if first.seeds and second.seeds:
            rows = first.present.any(axis=1) | second.present.any(axis=1)
            one, other = mean(first.values[rows], 1), mean(second.values[rows], 1)
            result = asdict(compare_paired(one, other, grid.subjects[rows].tolist()))
            low, high = result.pop("ci95") or (None, None)
            kept = np.isfinite(one) & np.isfinite(other)
            means = {
                "mean_a": float(one[kept].mean()) if kept.any() else None,
                "mean_b": float(other[kept].mean()) if kept.any() else None,
            }
            seeds = {"seeds_a": first.seeds, "seeds_b": second.seeds}
            yield {**about, **seeds, **means, **result, "ci95_low": low, "ci95_high": high}


def summarize_over_seeds(table: pd.DataFrame, metric: str = "dice") -> pd.DataFrame:
    """Summarize a metric over cases and seeds, per data set, model, condition and organ.

    The variance components are those of a two-way random-effects analysis of variance without replication, cases by
    seeds, estimated from the mean squares of the cases that have a value at every seed; a negative estimate is 0. An
    interaction of seed and case can't be told from noise and is the residual. The bootstrap of a mean of few seeds is
    too narrow: with K seeds it includes a share (K - 1) / K of their variance.

    Args:
        table: the long table.
        metric: column to summarize.

    Returns:
        One row per data set, model, condition and organ, ``mean of organs`` last in each condition: ``mean`` over seeds
        of the mean over cases, ``sd`` of these means (NaN for one seed), ``seeds``, ``n`` (cases with a finite value),
        ``subjects``, ``missing`` and ``infinite`` (values, so up to cases times seeds), ``ci95_low`` and ``ci95_high``
        (percentile bootstrap of the mean that draws subjects and seeds independently of each other; NaN for fewer than
        two subjects), ``variance_seed``, ``variance_case``, ``variance_residual`` (the metric's unit squared; NaN for
        one seed or one case), ``small`` (fewer than 20 subjects).

    Raises:
        InputError: a column is missing or the table is inconsistent.

    Reference:
        S. Searle, G. Casella and C. McCulloch, "Variance Components", 1992, chapter 4.
        A. B. Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1(2), 2007.
    """
    rows = [
        {"data": data, "model": model, **about, **_summed(samples.at(place), grid.subjects)}
        for data, grid in grids(table, metric)
        for model, samples in grid.models.items()
        for place, about in grid.cells()
        if samples.at(place).seeds
    ]
    frame = pd.DataFrame(rows)
    numbers = ["mean", "sd", "ci95_low", "ci95_high", "variance_seed", "variance_case", "variance_residual"]
    frame[numbers] = frame[numbers].astype(float)
    return frame


def _summed(samples: Samples, subjects: npt.NDArray[np.intp]) -> dict[str, Any]:
    finite = np.isfinite(samples.values)
    kept = finite.any(axis=1)
    means = _seed_means(samples.values)
    low, high = _interval([samples.values[kept]], subjects[kept]) or (None, None)
    count = np.unique(subjects[kept]).size
    return {
        "mean": float(means.mean()) if means.size else None,
        "sd": float(means.std(ddof=1)) if means.size > 1 else None,
        "seeds": samples.seeds,
        "n": int(kept.sum()),
        "subjects": count,
        "missing": int((samples.present & np.isnan(samples.values)).sum()),
        "infinite": int(np.isinf(samples.values).sum()),
        "ci95_low": low,
        "ci95_high": high,
        **_components(samples.values[:, finite.any(axis=0)]),
        "small": count < SMALL,
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


def estimate_effect(
    table: pd.DataFrame,
    a: str,
    b: str | None = None,
    conditions: Callable[[pd.DataFrame], "pd.Series[bool]"] | None = None,
    data: str | None = None,
    organ: str | None = None,
    metric: str = "dice",
) -> Effect:
    """Estimate the mean of a metric, or the mean difference of two models, over a set of conditions.

    The mean is the mean over seeds of the mean over cases and conditions. The bootstrap draws subjects, common to both
    models, and the seeds of each model separately, because networks with the same seed share no training; see
    :func:`summarize_over_seeds` for its limits with few seeds. A case under a condition counts where both models have a
    value.

    Args:
        table: the long table.
        a: name of the first model.
        b: name of the model that is subtracted. None: the mean of ``a`` alone.
        conditions: function that selects rows by condition, such as ``lambda t: t["severity"] > 0``. None: all.
        data: name of the data set. None: the only one.
        organ: name of the organ. None: the mean of organs.
        metric: column to average.

    Raises:
        InputError: a column, model, data set or organ is missing, there are several data sets and ``data`` is None, or
            the table is inconsistent.
    """
    models = [a] if b is None else [a, b]
    check_models(table, *models)
    part = table[table["model"].isin(models) & ((table["data"] == data) if data else True)]
    part = part if conditions is None else part[conditions(part)]
    grid = _only_grid(part, metric, models, sorted(table["data"].map(str).unique()))
    wanted = MEAN_OF_ORGANS if organ is None else organ
    if wanted not in grid.organs:
        raise InputError(
            f"organ: expected one of {', '.join(grid.organs)}, got {organ!r}; choose an organ of the table"
        )
    return _effect(grid, [grid.models[model].organ(grid.organs.index(wanted)) for model in models])


def _only_grid(part: pd.DataFrame, metric: str, models: Sequence[str], names: Sequence[str]) -> Grid:
    found = list(grids(part, metric)) if len(part) else []
    if len(found) != 1:
        raise InputError(
            f"expected rows of one data set, got {len(found)} data sets; choose one of {', '.join(names)} by data, and "
            "keep some of its rows by conditions"
        )
    grid = found[0][1]
    if lacking := [model for model in models if model not in grid.models]:
        raise InputError(
            f"{' and '.join(lacking)}: no row under the chosen conditions; evaluate there, or choose other conditions"
        )
    return grid


def _effect(grid: Grid, sides: Sequence[Samples]) -> Effect:
    """Estimate the effect from the models' values [condition, case, seed]."""
    count, cases = sides[0].values.shape[:2]
    case = np.tile(np.arange(cases), count)
    flat = [side.values.reshape(count * cases, -1) for side in sides]
    kept = np.all([np.isfinite(values).any(axis=1) for values in flat], axis=0)
    infinite = ~kept & np.all([(~np.isnan(values)).any(axis=1) for values in flat], axis=0)
    present = np.any([side.present.any(axis=2).ravel() for side in sides], axis=0)
    subjects, chosen = grid.subjects[case[kept]], [values[kept] for values in flat]
    first, *others = (_seed_means(values) for values in chosen)
    names = np.unique(subjects).size
    return Effect(
        value=float(first.mean() - sum(other.mean() for other in others)) if kept.any() else None,
        ci95=_interval(chosen, subjects),
        n=np.unique(case[kept]).size,
        subjects=names,
        seeds=min(means.size for means in (first, *others)),
        missing=int((present & ~kept & ~infinite).sum()),
        infinite=int(infinite.sum()),
        small=names < SMALL,
    )


def _interval(
    sides: Sequence[Array], subjects: npt.NDArray[np.intp], seed: int = 0, resamples: int = 2000
) -> list[float] | None:
    """Bootstrap the mean of values [rows, seeds], minus that of a second model, by the pigeonhole method."""
    members = np.unique(subjects, return_inverse=True)[1]
    count = int(members.max(initial=-1)) + 1
    if count < 2:
        return None
    drawn, total = _weights(count, seed, resamples), np.zeros(resamples)
    for n, values in enumerate(sides):
        finite = np.isfinite(values)
        used = finite.any(axis=0)
        values, finite = values[:, used], finite[:, used]
        by_subject = np.zeros((2, count, values.shape[1]))
        np.add.at(by_subject[0], members, np.where(finite, values, 0))
        np.add.at(by_subject[1], members, finite)
        sums, sizes = drawn @ by_subject
        # Each model has a random stream of its own, so that its seeds are drawn independently. A seed can't be drawn
        # where none of the drawn subjects has a value.
        chosen = _weights(values.shape[1], seed + 1 + n, resamples) * (sizes > 0)
        means = sums / np.maximum(sizes, 1)
        total += (-1) ** n * ratio(np.einsum("rk,rk->r", means, chosen), chosen.sum(axis=1))
    bounds = np.nanpercentile(total, [2.5, 97.5])
    return [float(bound) for bound in bounds]


@lru_cache(maxsize=32)
def _weights(count: int, seed: int, resamples: int) -> Array:
    """Count how often each bootstrap sample holds each unit: [resamples, count]."""
    cells = draws(count, seed, resamples) + count * np.arange(resamples)[:, None]
    weights = np.bincount(cells.ravel(), minlength=resamples * count).reshape(resamples, count).astype(np.float64)
    weights.setflags(write=False)
    return weights


def _seed_means(values: Array) -> Array:
    """Compute the mean over cases of values [cases, seeds], for each seed that has a finite value."""
    means = mean(np.where(np.isfinite(values), values, np.nan), 0)
    return means[~np.isnan(means)]
