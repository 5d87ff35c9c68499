"""Check the long table of a study and convert it to arrays."""

from collections.abc import Hashable, Iterator
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
    """Hold the values of a model [..., case, seed], whether the table has each of them (as NaN too), and its seeds."""

    values: Array
    present: npt.NDArray[np.bool_]
    names: tuple[Hashable, ...]

    @property
    def seeds(self) -> int:
        """Number of seeds with any value."""
        return int(self.present.any(axis=tuple(range(self.present.ndim - 1))).sum())

    def at(self, place: tuple[Any, ...]) -> "Samples":
        """Return the values of some conditions and organs, by their indices or slices."""
        return Samples(self.values[place], self.present[place], self.names)


@dataclass(frozen=True, eq=False)
class Grid:
    """Hold the values of one data set as arrays [condition, organ, case, seed], with the mean of organs last."""

    conditions: list[dict[str, Any]]
    organs: list[str]
    subjects: npt.NDArray[np.intp]  # index of each case's subject
    models: dict[str, Samples]

    def cells(self) -> Iterator[tuple[tuple[int, int], dict[str, Any]]]:
        """Yield index and description of each condition and organ."""
        for c, condition in enumerate(self.conditions):
            for o, organ in enumerate(self.organs):
                yield (c, o), {**condition, "organ": organ}


def grids(table: pd.DataFrame, metric: str) -> Iterator[tuple[str, Grid]]:
    """Yield name and arrays of each data set of a long table.

    Args:
        table: the long table, see :mod:`medpos.statistics.effects`.
        metric: column with the values.

    Raises:
        InputError: a column is missing, a cell other than a metric is empty, the table is empty, splits are mixed, a
            row is repeated, or a value isn't a number.
    """
    if lacking := [name for name in (*KEYS, metric) if name not in table.columns]:
        raise InputError(
            f"the table has no column {', '.join(lacking)}, only {', '.join(map(str, table.columns))}; add it"
        )
    if table.empty:
        raise InputError("the table has no rows; evaluate a model first")
    if empty := [name for name in KEYS if table[name].isna().any()]:
        raise InputError(f"the table has empty cells in {', '.join(empty)}; fill them, only metrics may be empty")
    if "split" in table.columns and table["split"].nunique() > 1:
        found = ", ".join(sorted(table["split"].astype(str).unique()))
        raise InputError(f"expected one split, got {found}; keep the rows of one, such as table['split'] == 'test'")
    for data, part in table.groupby("data", sort=False):
        # pandas reads the shifts of a file without shifted conditions as numbers, others as text.
        yield str(data), _grid(part.assign(shift=part["shift"].astype(str)), metric)


def _grid(part: pd.DataFrame, metric: str) -> Grid:
    condition = part.groupby(list(CONDITION), sort=False).ngroup().to_numpy()
    organ, organs = pd.factorize(part["organ"])
    case, cases = pd.factorize(part["case"])
    owners = part[["case", "subject"]].drop_duplicates()
    if (twice := owners["case"].duplicated()).any():
        raise InputError(
            f"case {owners['case'][twice].iloc[0]}: expected one subject, got several subjects; give each case a name "
            "of its own"
        )
    try:
        values = part[metric].to_numpy(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"column {metric}: expected numbers, got something else ({error}); correct it") from error
    models = {}
    for model, rows in part.groupby("model", sort=False).indices.items():
        seed, seeds = pd.factorize(part["seed"].iloc[rows])
        shape = (int(condition.max()) + 1, len(organs), len(cases), len(seeds))
        places = (condition[rows], organ[rows], case[rows], seed)
        models[str(model)] = _filled(shape, places, values[rows], str(model), tuple(seeds))
    return Grid(
        [{str(k): v for k, v in row.items()} for row in part[list(CONDITION)].drop_duplicates().to_dict("records")],
        [*map(str, organs), MEAN_OF_ORGANS],
        pd.factorize(owners["subject"])[0],
        models,
    )


def _filled(
    shape: tuple[int, ...],
    places: tuple[npt.NDArray[Any], ...],
    found: Array,
    model: str,
    names: tuple[Hashable, ...],
) -> Samples:
    values, present = np.full(shape, np.nan), np.zeros(shape, np.bool_)
    values[places], present[places] = found, True
    if present.sum() < found.size:
        raise InputError(
            f"model {model}: {found.size - int(present.sum())} rows repeat a case, organ, condition and seed; keep one "
            "of each by table.drop_duplicates(['data', 'model', 'seed', 'case', 'degradation', 'severity', "
            "'shift', 'organ'])"
        )
    return Samples(
        np.concatenate([values, mean(values, 1)[:, None]], axis=1),
        np.concatenate([present, present.any(axis=1, keepdims=True)], axis=1),
        names,
    )


def check_models(table: pd.DataFrame, *models: str) -> None:
    """Check that a table has rows of these models.

    Raises:
        InputError: a model is missing.
    """
    found = sorted(map(str, table["model"].unique())) if "model" in table.columns else []
    if lacking := [model for model in models if model not in found]:
        raise InputError(
            f"the table has no row of model {', '.join(lacking)}; choose from {', '.join(found) or 'none'}"
        )


def mean(values: Array, axis: int) -> Array:
    """Compute the mean without NaN; NaN where all values are, infinite where any value is."""
    known = ~np.isnan(values)
    return ratio(values.sum(axis, where=known), known.sum(axis, dtype=np.float64))


def ratio(sums: Array, sizes: Array) -> Array:
    """Compute ``sums / sizes``, NaN where the size is 0."""
    result: Array = np.divide(sums, sizes, out=np.full(sizes.shape, np.nan), where=sizes > 0)
    return result
