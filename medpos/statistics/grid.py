"""The long table of a study as arrays, checked."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from medpos.core.errors import InputError
from medpos.core.labels import MEAN_OF_ORGANS

Array = npt.NDArray[np.float64]

CONDITION = ("degradation", "severity", "shift")
KEYS = ("data", "model", "seed", "case", "subject", *CONDITION, "organ")


@dataclass(frozen=True, eq=False)
class Samples:
    """Values of a model [..., case, seed] and whether the table has them; it may have them as NaN."""

    values: Array
    present: npt.NDArray[np.bool_]

    @property
    def seeds(self) -> int:
        """Seeds of which any value is there."""
        return int(self.present.any(axis=tuple(range(self.present.ndim - 1))).sum())

    def at(self, place: tuple[int, int]) -> "Samples":
        """Those of one condition and organ: [case, seed]."""
        return Samples(self.values[place], self.present[place])

    def organ(self, place: int) -> "Samples":
        """Those of one organ: [condition, case, seed]."""
        return Samples(self.values[:, place], self.present[:, place])


@dataclass(frozen=True, eq=False)
class Grid:
    """A data set's part of the table as arrays [condition, organ, case, seed], the mean of organs last."""

    conditions: list[dict[str, Any]]
    organs: list[str]
    subjects: npt.NDArray[np.intp]  # of each case
    models: dict[str, Samples]

    def cells(self) -> Iterator[tuple[tuple[int, int], dict[str, Any]]]:
        """Place and description of each condition and organ."""
        for c, condition in enumerate(self.conditions):
            for o, organ in enumerate(self.organs):
                yield (c, o), {**condition, "organ": organ}


def grids(table: pd.DataFrame, metric: str) -> Iterator[tuple[str, Grid]]:
    """Gives each data set of a long table as arrays, by name.

    Raises:
        InputError: a column is missing, an identifying cell is empty, nothing is there, splits are mixed, a row is
            there twice, or a value is no number.
    """
    if lacking := [name for name in (*KEYS, metric) if name not in table.columns]:
        raise InputError(f"the table has no column {', '.join(lacking)}; it has {', '.join(map(str, table.columns))}")
    if table.empty:
        raise InputError("the table has no rows; evaluate a model first")
    if empty := [name for name in KEYS if table[name].isna().any()]:
        raise InputError(f"the table has empty cells in {', '.join(empty)}; only metrics may be missing")
    if "split" in table.columns and table["split"].nunique() > 1:
        found = ", ".join(sorted(table["split"].astype(str).unique()))
        raise InputError(f"the table mixes the splits {found}; keep the rows of one, such as table['split'] == 'test'")
    for data, part in table.groupby("data", sort=False):
        # A file of unshifted conditions alone is read as numbers, others as text.
        yield str(data), _grid(part.assign(shift=part["shift"].astype(str)), metric)


def _grid(part: pd.DataFrame, metric: str) -> Grid:
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
    return Grid(
        [{str(k): v for k, v in row.items()} for row in part[list(CONDITION)].drop_duplicates().to_dict("records")],
        [*map(str, organs), MEAN_OF_ORGANS],
        pd.factorize(owners["subject"])[0],
        models,
    )


def _filled(shape: tuple[int, ...], places: tuple[npt.NDArray[Any], ...], found: Array, model: str) -> Samples:
    values, present = np.full(shape, np.nan), np.zeros(shape, np.bool_)
    values[places], present[places] = found, True
    if present.sum() < found.size:
        raise InputError(
            f"model {model}: {found.size - int(present.sum())} rows repeat a case, organ, condition and seed; keep one "
            "of each, such as by table.drop_duplicates(['data', 'model', 'seed', 'case', 'degradation', 'severity', "
            "'shift', 'organ'])"
        )
    return Samples(
        np.concatenate([values, mean(values, 1)[:, None]], axis=1),
        np.concatenate([present, present.any(axis=1, keepdims=True)], axis=1),
    )


def need_models(table: pd.DataFrame, *models: str) -> None:
    """Refuses a table that lacks one of these models."""
    found = sorted(map(str, table["model"].unique())) if "model" in table.columns else []
    if lacking := [model for model in models if model not in found]:
        raise InputError(f"no row of model {', '.join(lacking)}; the table has {', '.join(found) or 'none'}")


def mean(values: Array, axis: int) -> Array:
    """Mean of what is not NaN; NaN of nothing, infinite where a value is."""
    known = ~np.isnan(values)
    return ratio(values.sum(axis, where=known), known.sum(axis, dtype=np.float64))


def ratio(sums: Array, sizes: Array) -> Array:
    """``sums / sizes``, NaN where the size is 0."""
    result: Array = np.divide(sums, sizes, out=np.full(sizes.shape, np.nan), where=sizes > 0)
    return result
