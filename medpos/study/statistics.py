"""Comparisons of models over cases, subjects and seeds.

All take the long table of a study, one row a case, organ, condition and seed: ``data``, ``model``, ``seed``, ``case``,
``subject``, ``split``, ``degradation``, ``severity``, ``shift``, ``organ`` and the metrics.

Cases of one subject (its phases, its slices) are not independent, so intervals draw whole subjects and tests count
subjects. NaN (organ in neither truth nor prediction) is left out of every mean and counted as missing; an infinite
distance makes the means that it enters infinite, and these are left out and counted as infinite. The mean of organs is
taken case by case.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from medpos.errors import InputError
from medpos.metrics import summarise
from medpos.metrics.summary import draws
from medpos.results import MEAN_OF_ORGANS

Array = npt.NDArray[np.float64]

CONDITION = ("degradation", "severity", "shift")
SMALL = 20  # fewer subjects than this are called few
FEWEST = 6  # of 5 subjects the least two-sided p is 2 / 2^5 = 0.06: the test could never reject at 0.05
_KEYS = ("data", "model", "seed", "case", "subject", *CONDITION, "organ")
# Equal differences must stay ties, and zeros zeros, in spite of the rounding of the mean over seeds or slices.
_DECIMALS = 12


@dataclass(frozen=True)
class Paired:
    """Two models on the same cases.

    Args:
        n: pairs of finite values.
        subjects: to whom they belong.
        missing: pairs left out because a value is NaN.
        infinite: pairs left out because a value is infinite.
        mean_difference: mean over the pairs of a - b, in the metric's unit. None without pairs.
        ci95: bounds of its 95 % percentile bootstrap interval, whole subjects drawn. None for fewer than two subjects.
        p: two-sided Wilcoxon signed-rank test of the subjects' mean differences. None for fewer than 6 subjects, or
            where all differences are zero.
        effect_size: matched-pairs rank-biserial correlation, -1 (b higher in every subject) to 1 (a higher). None
            where all differences are zero.
        small: fewer than 20 subjects.
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


@dataclass(frozen=True)
class Effect:
    """A mean, or a mean difference of two models, over cases, conditions and seeds.

    Args:
        value: in the metric's unit. None where nothing could be measured.
        ci95: bounds of its 95 % interval, subjects and seeds drawn. None for fewer than two subjects.
        n: cases that enter.
        subjects: to whom they belong.
        seeds: trained networks of each model; of two models, the smaller number. With 1, the interval knows nothing of
            the spread of training.
        missing: cases times conditions left out because a model has no value there.
        infinite: the same, because the only values are infinite.
        small: fewer than 20 subjects.
    """

    value: float | None
    ci95: list[float] | None
    n: int
    subjects: int
    seeds: int
    missing: int
    infinite: int
    small: bool


def paired(
    a: npt.ArrayLike, b: npt.ArrayLike, subjects: Sequence[Hashable], seed: int = 0, resamples: int = 2000
) -> Paired:
    """Compare two models on the same cases.

    Args:
        a: one value a case of the first model.
        b: the same of the second, in the same order.
        subjects: the subject of each case.
        seed: of the bootstrap.
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
    summary = summarise(difference, names, seed, resamples)
    means = _subject_means(difference, names)
    return Paired(
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
            f"a has shape {first.shape}, b {second.shape}, and there are {count} subjects; "
            "needed is one value of each model and one subject a case"
        )
    return first, second


def _subject_means(values: Array, subjects: Sequence[str]) -> Array:
    members = np.unique(np.array(subjects, dtype=str), return_inverse=True)[1]
    return np.round(np.bincount(members, values) / np.bincount(members), _DECIMALS)


def _rank_biserial(differences: Array) -> float | None:
    """Share of the rank sum in favour of a, minus the share in favour of b."""
    changed = differences[differences != 0]
    if not changed.size:
        return None
    ranks = stats.rankdata(np.abs(changed))
    return float((ranks * np.sign(changed)).sum() / ranks.sum())


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust p-values of one family of tests, so that the chance of any false rejection stays below the level.

    Args:
        p_values: 0 to 1; None (or NaN) for a test that was not made. It stays None and isn't counted.

    Returns:
        Adjusted values in the same order, 0 to 1.

    Raises:
        InputError: a value outside 0 to 1.

    Reference:
        S. Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statistics 6(2), 1979.
    """
    values = np.array([np.nan if p is None else p for p in p_values], np.float64)
    made = np.flatnonzero(~np.isnan(values))
    if ((values[made] < 0) | (values[made] > 1)).any():
        raise InputError(f"p-values are {values[made].tolist()}, needed are numbers from 0 to 1, or None")
    order = made[np.argsort(values[made], kind="stable")]
    factors = np.arange(order.size, 0, -1)
    adjusted: list[float | None] = [None] * values.size
    for place, value in zip(order, np.maximum.accumulate(values[order] * factors), strict=True):
        adjusted[place] = min(1.0, float(value))
    return adjusted


def compare(table: pd.DataFrame, a: str, b: str, metric: str = "dice") -> pd.DataFrame:
    """Compare two models on the same cases, per data set, condition and organ.

    Seeds are averaged case by case before, so interval and test tell of new subjects, for these trained networks;
    :func:`effect` draws the seeds too. A case that only one of the models has counts as missing.

    Args:
        table: the long table.
        a: name of a model.
        b: name of another.
        metric: column to compare.

    Returns:
        A row for each data set, condition and organ that both models have, ``mean of organs`` last of each condition:
        ``seeds_a``, ``seeds_b``, ``mean_a`` and ``mean_b`` (over the pairs), the fields of :class:`Paired` (``ci95`` as
        ``ci95_low`` and ``ci95_high``), ``p_holm``, adjusted over all rows of the result, and ``tests``, the number
        of tests it was adjusted for. What doesn't exist is NaN.

    Raises:
        InputError: a column or model is missing, nothing is common, or the table is inconsistent.
    """
    _need_models(table, a, b)
    rows = [
        {"data": data, **row}
        for data, grid in _grids(table[table["model"].isin([a, b])], metric)
        if a in grid.models and b in grid.models
        for row in _compared(grid, a, b)
    ]
    if not rows:
        raise InputError(f"{a} and {b} have no data set, condition and organ in common; evaluate both on the same")
    frame = pd.DataFrame(rows)
    numbers = ["mean_a", "mean_b", "mean_difference", "ci95_low", "ci95_high", "p", "effect_size"]
    frame[numbers] = frame[numbers].astype(float)
    frame["p_holm"] = np.array(holm(frame["p"].tolist()), np.float64)
    frame["tests"] = int(frame["p"].notna().sum())
    return frame


def _compared(grid: "_Grid", a: str, b: str) -> Iterator[dict[str, Any]]:
    for place, about in grid.cells():
        first, second = grid.models[a].at(place), grid.models[b].at(place)
        if first.seeds and second.seeds:
            rows = first.present.any(axis=1) | second.present.any(axis=1)
            one, other = _mean(first.values[rows], 1), _mean(second.values[rows], 1)
            result = asdict(paired(one, other, grid.subjects[rows].tolist()))
            low, high = result.pop("ci95") or (None, None)
            kept = np.isfinite(one) & np.isfinite(other)
            means = {
                "mean_a": float(one[kept].mean()) if kept.any() else None,
                "mean_b": float(other[kept].mean()) if kept.any() else None,
            }
            seeds = {"seeds_a": first.seeds, "seeds_b": second.seeds}
            yield {**about, **seeds, **means, **result, "ci95_low": low, "ci95_high": high}


def over_seeds(table: pd.DataFrame, metric: str = "dice") -> pd.DataFrame:
    """Sum a metric up over cases and seeds, per data set, model, condition and organ.

    The variance components are those of a two-way random-effects analysis of variance without replication, cases by
    seeds, estimated from the mean squares of the cases that have a value at every seed; a negative estimate is 0. What
    a seed does to a case alone can't be told from noise and is the residual. The bootstrap of a mean of few seeds is
    too narrow: of K seeds it sees a share (K - 1) / K of their variance.

    Args:
        table: the long table.
        metric: column to sum up.

    Returns:
        A row for each data set, model, condition and organ, ``mean of organs`` last of each condition: ``mean`` over
        seeds of the mean over cases, ``sd`` of those (NaN for one seed), ``seeds``, ``n`` (cases with a finite value),
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
        for data, grid in _grids(table, metric)
        for model, samples in grid.models.items()
        for place, about in grid.cells()
        if samples.at(place).seeds
    ]
    frame = pd.DataFrame(rows)
    numbers = ["mean", "sd", "ci95_low", "ci95_high", "variance_seed", "variance_case", "variance_residual"]
    frame[numbers] = frame[numbers].astype(float)
    return frame


def _summed(samples: "_Samples", subjects: npt.NDArray[np.intp]) -> dict[str, Any]:
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
    """Variance components of [cases, seeds]; see :func:`over_seeds`."""
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


def effect(
    table: pd.DataFrame,
    a: str,
    b: str | None = None,
    conditions: Callable[[pd.DataFrame], "pd.Series[bool]"] | None = None,
    data: str | None = None,
    organ: str | None = None,
    metric: str = "dice",
) -> Effect:
    """Mean of a metric, or mean difference of two models, over a set of conditions.

    The mean is the mean over seeds of the mean over cases and conditions. The bootstrap draws subjects, common to both
    models, and the seeds of each model apart, because networks that share a seed's number share no training; see
    :func:`over_seeds` for what it can't see with few seeds. A case under a condition enters when both models have a
    value there.

    Args:
        table: the long table.
        a: name of a model.
        b: name of the model that is subtracted. None: the mean of ``a`` alone.
        conditions: chooses rows by their condition, such as ``lambda t: t["severity"] > 0``. None: all.
        data: name of the data set. None: the only one.
        organ: name of the organ. None: the mean of organs.
        metric: column to average.

    Raises:
        InputError: a column, model, data set or organ is missing, the data set is not clear, or the table is
            inconsistent.
    """
    models = [a] if b is None else [a, b]
    _need_models(table, *models)
    part = table[table["model"].isin(models) & ((table["data"] == data) if data else True)]
    part = part if conditions is None else part[conditions(part)]
    grid = _only_grid(part, metric, models, sorted(table["data"].map(str).unique()))
    wanted = MEAN_OF_ORGANS if organ is None else organ
    if wanted not in grid.organs:
        raise InputError(f"organ is {organ!r}, the table has {', '.join(grid.organs)}")
    return _effect(grid, [grid.models[model].organ(grid.organs.index(wanted)) for model in models])


def _only_grid(part: pd.DataFrame, metric: str, models: Sequence[str], names: Sequence[str]) -> "_Grid":
    found = list(_grids(part, metric)) if len(part) else []
    if len(found) != 1:
        raise InputError(
            f"the chosen rows hold {len(found)} data sets, needed is one; the table has {', '.join(names)}: name it in "
            "data, and let conditions keep some of its rows"
        )
    grid = found[0][1]
    if lacking := [model for model in models if model not in grid.models]:
        raise InputError(
            f"{' and '.join(lacking)}: no row under the chosen conditions; evaluate there, or choose others"
        )
    return grid


def _effect(grid: "_Grid", sides: Sequence["_Samples"]) -> Effect:
    """From the models' values [condition, case, seed] under all conditions."""
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
    """Pigeonhole bootstrap of the mean of [rows, seeds], minus that of the second of ``sides`` where there is one."""
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
        # Each model has a stream of its own, so that its seeds are drawn apart. A seed can't be drawn where none of the
        # drawn subjects has a value.
        chosen = _weights(values.shape[1], seed + 1 + n, resamples) * (sizes > 0)
        means = sums / np.maximum(sizes, 1)
        total += (-1) ** n * _ratio(np.einsum("rk,rk->r", means, chosen), chosen.sum(axis=1))
    bounds = np.nanpercentile(total, [2.5, 97.5])
    return [float(bound) for bound in bounds]


@lru_cache(maxsize=32)
def _weights(count: int, seed: int, resamples: int) -> Array:
    """How often each bootstrap sample [resamples, count] holds each unit."""
    cells = draws(count, seed, resamples) + count * np.arange(resamples)[:, None]
    weights = np.bincount(cells.ravel(), minlength=resamples * count).reshape(resamples, count).astype(np.float64)
    weights.setflags(write=False)
    return weights


def _seed_means(values: Array) -> Array:
    """Mean over the cases of [cases, seeds], for each seed that has a finite value."""
    means = _mean(np.where(np.isfinite(values), values, np.nan), 0)
    return means[~np.isnan(means)]


def _mean(values: Array, axis: int) -> Array:
    """Mean of what is not NaN; NaN of nothing, infinite where a value is."""
    known = ~np.isnan(values)
    return _ratio(values.sum(axis, where=known), known.sum(axis, dtype=np.float64))


def _ratio(sums: Array, sizes: Array) -> Array:
    ratio: Array = np.divide(sums, sizes, out=np.full(sizes.shape, np.nan), where=sizes > 0)
    return ratio


@dataclass(frozen=True, eq=False)
class _Samples:
    """Values of a model [..., case, seed] and whether the table has them; it may have them as NaN."""

    values: Array
    present: npt.NDArray[np.bool_]

    @property
    def seeds(self) -> int:
        return int(self.present.any(axis=tuple(range(self.present.ndim - 1))).sum())

    def at(self, place: tuple[int, int]) -> "_Samples":
        return _Samples(self.values[place], self.present[place])

    def organ(self, place: int) -> "_Samples":
        return _Samples(self.values[:, place], self.present[:, place])


@dataclass(frozen=True, eq=False)
class _Grid:
    """A data set's part of the table as arrays [condition, organ, case, seed], the mean of organs last."""

    conditions: list[dict[str, Any]]
    organs: list[str]
    subjects: npt.NDArray[np.intp]  # of each case
    models: dict[str, _Samples]

    def cells(self) -> Iterator[tuple[tuple[int, int], dict[str, Any]]]:
        """Place and description of each condition and organ."""
        for c, condition in enumerate(self.conditions):
            for o, organ in enumerate(self.organs):
                yield (c, o), {**condition, "organ": organ}


def _grids(table: pd.DataFrame, metric: str) -> Iterator[tuple[str, _Grid]]:
    if lacking := [name for name in (*_KEYS, metric) if name not in table.columns]:
        raise InputError(f"the table has no column {', '.join(lacking)}; it has {', '.join(map(str, table.columns))}")
    if table.empty:
        raise InputError("the table has no rows; evaluate a model first")
    if empty := [name for name in _KEYS if table[name].isna().any()]:
        raise InputError(f"the table has empty cells in {', '.join(empty)}; only metrics may be missing")
    if "split" in table.columns and table["split"].nunique() > 1:
        found = ", ".join(sorted(table["split"].astype(str).unique()))
        raise InputError(f"the table mixes the splits {found}; keep the rows of one, such as table['split'] == 'test'")
    for data, part in table.groupby("data", sort=False):
        # A file of unshifted conditions alone is read as numbers, others as text.
        yield str(data), _grid(part.assign(shift=part["shift"].astype(str)), metric)


def _grid(part: pd.DataFrame, metric: str) -> _Grid:
    condition = part.groupby(list(CONDITION), sort=False).ngroup().to_numpy()
    organ, organs = pd.factorize(part["organ"])
    case, cases = pd.factorize(part["case"])
    owners = part[["case", "subject"]].drop_duplicates()
    if (twice := owners["case"].duplicated()).any():
        raise InputError(f"case {owners['case'][twice].iloc[0]} belongs to several subjects; needed is one")
    try:
        values = part[metric].to_numpy(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"column {metric} holds something that is no number ({error})") from error
    models = {}
    for model, rows in part.groupby("model", sort=False).indices.items():
        seed, seeds = pd.factorize(part["seed"].iloc[rows])
        shape = (int(condition.max()) + 1, len(organs), len(cases), len(seeds))
        models[str(model)] = _filled(shape, (condition[rows], organ[rows], case[rows], seed), values[rows], str(model))
    return _Grid(
        [{str(k): v for k, v in row.items()} for row in part[list(CONDITION)].drop_duplicates().to_dict("records")],
        [*map(str, organs), MEAN_OF_ORGANS],
        pd.factorize(owners["subject"])[0],
        models,
    )


def _filled(shape: tuple[int, ...], places: tuple[npt.NDArray[Any], ...], found: Array, model: str) -> _Samples:
    values, present = np.full(shape, np.nan), np.zeros(shape, np.bool_)
    values[places], present[places] = found, True
    if present.sum() < found.size:
        raise InputError(
            f"model {model}: {found.size - int(present.sum())} rows repeat a case, organ, condition and seed; keep one "
            "of each, such as by table.drop_duplicates(['data', 'model', 'seed', 'case', 'degradation', 'severity', "
            "'shift', 'organ'])"
        )
    return _Samples(
        np.concatenate([values, _mean(values, 1)[:, None]], axis=1),
        np.concatenate([present, present.any(axis=1, keepdims=True)], axis=1),
    )


def _need_models(table: pd.DataFrame, *models: str) -> None:
    found = sorted(map(str, table["model"].unique())) if "model" in table.columns else []
    if lacking := [model for model in models if model not in found]:
        raise InputError(f"no row of model {', '.join(lacking)}; the table has {', '.join(found) or 'none'}")
