"""Decompose the variance of Dice: how much each factor of a study, the subjects and the trainings explain.

Every model of a study is tested on every subject with every seed, so the values are a complete table, cells (models and
conditions) by subjects by seeds, and its sum of squares is the sum of those of orthogonal terms. Models and conditions
are fixed; subjects and seeds are random samples. So a factor is tested against how much its effect varies between
subjects and between seeds, as :mod:`medpos.metrics.intervals` does for a difference: for two models F is the square of
the difference over its standard error.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from scipy import stats

from medpos.metrics.intervals import sum_by_subject
from medpos.statistics.grid import Array, Grid, grids, ratio
from medpos.statistics.judging import place_of

SUBJECT, SEED = "subject", "seed"
BY_SUBJECT, BY_SEED, REST = "factors x subject", "factors x seed", "rest"
_SINGULAR = 1e-9  # length below which a contrast is none


@dataclass(frozen=True)
class Term:
    """Hold one term of the decomposition.

    Args:
        term: name of the factor, or ``a x b`` for the part of two factors that neither has alone.
        df: degrees of freedom.
        sum_of_squares: sum of squares over all values, in squared Dice.
        share: part of the total sum of squares, 0 to 1.
        f: F statistic. None where the term isn't tested.
        df_error: degrees of freedom of its denominator.
        p: p-value of the F test, 0 to 1, without a correction.
    """

    term: str
    df: int
    sum_of_squares: float
    share: float
    f: float | None = None
    df_error: float | None = None
    p: float | None = None


def decompose(values: Array, factors: Mapping[str, Sequence[str]]) -> list[Term]:
    """Decompose the sum of squares of a complete table.

    Args:
        values: finite values [cells, subjects, seeds], of two subjects or more.
        factors: level of every cell, by factor. Factors are taken in this order, then pairs of them, each for what the
            earlier ones leave (sequential sums of squares); the order has no effect where every level of one factor
            has the levels of the other equally often.

    Returns:
        The factors, their pairs, ``subject``, ``seed``, ``factors x subject`` and ``factors x seed`` (how much effects
        differ between subjects and between trainings), and ``rest``. With one seed the terms of the seed are missing.

    Reference:
        S. Searle, G. Casella and C. McCulloch, "Variance Components", 1992, chapter 4 (mean squares);
        F. E. Satterthwaite, "An approximate distribution of estimates of variance components", Biometrics Bulletin
        2(6), 1946 (degrees of freedom of a sum of mean squares).
    """
    cells, subjects, seeds = values.shape
    whole = np.full((cells, 1), cells**-0.5)
    basis = dict(_contrasts(factors, whole))
    parts = {name: _split(np.tensordot(contrasts, values, (0, 0))) for name, contrasts in basis.items()}
    average = _split(np.tensordot(whole, values, (0, 0)))
    total = float(((values - values.mean()) ** 2).sum())
    each = {SUBJECT: subjects - 1, SEED: seeds - 1, REST: (subjects - 1) * (seeds - 1)}
    fixed = [_test_fixed(name, basis[name].shape[1], part, each, total) for name, part in parts.items()]
    of_cells = sum(term.df for term in fixed)
    random = [_test_random(name, each[name], average, each, total) for name in (SUBJECT, SEED) if each[name]]
    mixed = [
        _term(name, of_cells * each[of], sum(part[of] for part in parts.values()), total)
        for name, of in ((BY_SUBJECT, SUBJECT), (BY_SEED, SEED))
        if each[of]
    ]
    rest = average[REST] + sum(part[REST] for part in parts.values())
    return [*fixed, *random, *mixed, *([_term(REST, (of_cells + 1) * each[REST], rest, total)] if each[REST] else [])]


def _contrasts(factors: Mapping[str, Sequence[str]], before: Array) -> Iterator[tuple[str, Array]]:
    """Yield orthonormal contrasts [cells, df] of each factor and pair that has any, orthogonal to the earlier ones."""
    singles = [(name, list(levels)) for name, levels in factors.items()]
    pairs = [
        (f"{a} x {b}", [*zip(first, second, strict=True)])
        for (a, first), (b, second) in itertools.combinations(singles, 2)
    ]
    for name, levels in [*singles, *pairs]:
        codes = pd.factorize(pd.Series(levels, dtype=object))[0]
        columns = np.eye(codes.max() + 1)[codes]
        left, lengths, _ = np.linalg.svd(columns - before @ (before.T @ columns), full_matrices=False)
        found = left[:, lengths > _SINGULAR]
        if found.size:
            before = np.concatenate([before, found], axis=1)
            yield name, found


def _split(values: Array) -> dict[str, float]:
    """Split the sum of squares of contrasts [df, subjects, seeds] into their mean, subjects, seeds and the rest."""
    _, subjects, seeds = values.shape
    mean = values.mean(axis=(1, 2), keepdims=True)
    by_subject, by_seed = values.mean(axis=2, keepdims=True) - mean, values.mean(axis=1, keepdims=True) - mean
    return {
        "mean": float(subjects * seeds * (mean**2).sum()),
        SUBJECT: float(seeds * (by_subject**2).sum()),
        SEED: float(subjects * (by_seed**2).sum()),
        REST: float(((values - mean - by_subject - by_seed) ** 2).sum()),
    }


def _term(name: str, df: int, squares: float, total: float) -> Term:
    return Term(name, df, squares, squares / total if total else 0.0)


def _test_fixed(name: str, df: int, part: Mapping[str, float], each: Mapping[str, int], total: float) -> Term:
    """Test a factor against the variation of its effect between subjects and, as far as it exceeds the rest, seeds."""
    mean_squares = {of: part[of] / (df * each[of]) for of in each if each[of]}
    error, uncertainty = mean_squares[SUBJECT], mean_squares[SUBJECT] ** 2 / (df * each[SUBJECT])
    if each[SEED] and mean_squares[SEED] > mean_squares[REST]:
        error += mean_squares[SEED] - mean_squares[REST]
        uncertainty += sum(mean_squares[of] ** 2 / (df * each[of]) for of in (SEED, REST))
    return _test(_term(name, df, part["mean"], total), error, error**2 / uncertainty if uncertainty else 0.0)


def _test_random(name: str, df: int, part: Mapping[str, float], each: Mapping[str, int], total: float) -> Term:
    """Test subjects or seeds against their interaction; with one seed there is none."""
    term = _term(name, df, part[name], total)
    return _test(term, part[REST] / each[REST], each[REST]) if each[REST] else term


def _test(term: Term, error: float, df_error: float) -> Term:
    if error <= 0:
        return term
    f = term.sum_of_squares / term.df / error
    tested = {"f": f, "df_error": float(df_error), "p": float(stats.f.sf(f, term.df, df_error))}
    return Term(**{**asdict(term), **tested})


def decompose_table(table: pd.DataFrame, factors: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    """Decompose the mean Dice of organs of each data set: on clean images, and under each kind of degradation or shift.

    The severities of a kind are a factor as well. Values are means over the cases of a subject. A subject without a
    value under one of the conditions, with one model or seed, is left out everywhere.

    Args:
        table: the long table, see :mod:`medpos.statistics.effects`.
        factors: level of every model, by factor; other models are left out.

    Returns:
        One row per data set, kind of condition and term: ``data``, ``conditions``, the fields of :class:`Term`,
        ``subjects``, ``left_out`` (subjects) and ``seeds`` that all models have. None for a data set that lacks a
        model, or has fewer than two complete subjects.
    """
    models = list(next(iter(factors.values()), {}))
    rows = []
    for data, grid in grids(table, "dice"):
        for kind, cells in _kinds(grid) if set(models) <= set(grid.models) else []:
            values, left_out, seeds = _complete(grid, models, [n for n, _ in cells])
            if values.shape[1] < 2:
                continue
            levels = {name: [of[model] for model in models for _ in cells] for name, of in factors.items()}
            levels["shift" if "shift" in kind else "severity"] = [label for _ in models for _, label in cells]
            about = {"subjects": values.shape[1], "left_out": left_out, "seeds": seeds}
            rows += [{"data": data, "conditions": kind, **asdict(term), **about} for term in decompose(values, levels)]
    return pd.DataFrame(rows)


def _kinds(grid: Grid) -> Iterator[tuple[str, list[tuple[int, str]]]]:
    """Yield each kind of condition with index and label of its conditions."""
    places = [place_of(condition) for condition in grid.conditions]
    for kind in dict.fromkeys(place.kind for place in places):
        yield kind, [(n, place.label) for n, place in enumerate(places) if place.kind == kind]


def _complete(grid: Grid, models: Sequence[str], conditions: Sequence[int]) -> tuple[Array, int, int]:
    """Return values [models x conditions, subjects, seeds] of complete subjects, the number of others, and of seeds."""
    first = grid.models[models[0]].names
    seeds = [name for name in first if all(name in grid.models[model].names for model in models)]
    cells = []
    for model in models:
        samples = grid.models[model]
        chosen = samples.values[:, -1][:, :, [samples.names.index(name) for name in seeds]]
        for n in conditions:
            finite = np.isfinite(chosen[n])
            parts = (sum_by_subject(part, grid.subjects) for part in (np.where(finite, chosen[n], 0), finite))
            cells.append(ratio(*parts))
    values = np.stack(cells)
    complete = np.isfinite(values).all(axis=(0, 2))
    return values[:, complete], int((~complete).sum()), len(seeds)
