"""Measure the quantity of a criterion on one data set, with its values matched by case, organ, condition and seed."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from medpos.core.errors import InputError
from medpos.core.labels import MEAN_OF_ORGANS
from medpos.metrics.intervals import SHARES, find_added
from medpos.statistics.criteria import Criterion, select_conditions
from medpos.statistics.grid import CONDITION, Array, Grid, grids, mean
from medpos.statistics.judging import Quantity, place_of
from medpos.statistics.matching import LeftOut, match

_CURVES = ("slope", "area")


@dataclass(frozen=True, eq=False)
class Measured:
    """Hold the values that a criterion is about.

    Args:
        grid: values of its models on one data set.
        criterion: the criterion.
        chosen: indices of its conditions.
        reference: index of the condition that is subtracted; None for none.
    """

    grid: Grid
    criterion: Criterion
    chosen: npt.NDArray[np.intp]
    reference: int | None

    @property
    def organs(self) -> list[str]:
        """Names of the organs, without their mean; none for a measure of whole cases."""
        return [] if self.criterion.measure in SHARES else self.grid.organs[:-1]

    def quantity(self, organ: str) -> tuple[Quantity, LeftOut | None]:
        """Return the quantity for an organ or their mean, and what had no partner (None where nothing is subtracted).

        Args:
            organ: name of an organ, or ``mean of organs``.
        """
        about, each = self.criterion, (slice(None), slice(-1))
        first = self.grid.models[about.model].at((self.chosen,)).at(each)
        other = self.grid.models[about.minus or about.model]
        second = other.at((self.chosen if self.reference is None else [self.reference],)).at(each)
        pairs = match(first, second)
        pairs = pairs.complete() if about.judge in _CURVES else pairs
        pairs = pairs.mean_of_organs() if organ == MEAN_OF_ORGANS else pairs.organ(self.grid.organs.index(organ))
        is_alone = not about.minus and self.reference is None
        places = [place_of(self.grid.conditions[n]) for n in self.chosen]
        b = None if is_alone else pairs.b[:, 0]
        added = find_added(about.measure, not is_alone)
        return Quantity(places, pairs.a[:, 0], b, self.grid.subjects, added), None if is_alone else pairs.left_out


def find_measured(rows: pd.DataFrame, criterion: Criterion) -> Measured | str:
    """Find the values of a criterion.

    Args:
        rows: rows of the long table of one data set.
        criterion: the criterion.

    Returns:
        The values, or the reason why there are none.

    Raises:
        InputError: the table is inconsistent, or ``minus_conditions`` selects several conditions.
    """
    if rows.empty:
        return "the data set was not run"
    models = [model for model in (criterion.model, criterion.minus) if model]
    if lacking := [model for model in models if model not in set(rows["model"])]:
        return f"no result of {' and '.join(lacking)}"
    rows = rows[rows["model"].isin(models)]
    if criterion.measure not in rows or rows[criterion.measure].isna().all():
        return f"no {criterion.measure} was measured"
    [(_, grid)] = grids(rows, criterion.measure)
    conditions = pd.DataFrame(grid.conditions, columns=list(CONDITION))
    is_chosen = select_conditions(criterion.conditions)(conditions)
    if criterion.min_dice_lost is not None:
        is_chosen &= _mean_by_condition(rows, "dice_lost", criterion.model) >= criterion.min_dice_lost
        if not is_chosen.any():
            return f"no condition loses {criterion.min_dice_lost:g} of Dice"
    if criterion.judge in _CURVES and is_chosen.any():
        is_chosen |= select_conditions("clean")(conditions)
    chosen = np.flatnonzero(is_chosen)
    reference = _reference(conditions, criterion)
    if not chosen.size or reference == -1 or (criterion.organ and criterion.organ not in grid.organs):
        return "a condition or organ was not tested"
    return Measured(grid, criterion, chosen, reference)


def _mean_by_condition(rows: pd.DataFrame, metric: str, model: str) -> Array:
    """Average a metric over organs, cases and seeds of a model under each condition; NaN where it has no value."""
    [(_, grid)] = grids(rows, metric)
    values = grid.models[model].values[:, -1]
    return mean(values.reshape(len(values), -1), 1)


def _reference(conditions: pd.DataFrame, criterion: Criterion) -> int | None:
    """Return the index of the condition that is subtracted, -1 where it is missing."""
    if not criterion.minus_conditions:
        return None
    found = np.flatnonzero(select_conditions(criterion.minus_conditions)(conditions))
    if len(found) > 1:
        raise InputError(
            f"criterion {criterion.text!r}: minus_conditions: expected one condition such as clean, got {len(found)}; "
            "choose one"
        )
    return int(found[0]) if found.size else -1
