"""Collect the results of the models of a study in one long table."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from medpos.core.errors import InputError
from medpos.data.conditions import is_clean
from medpos.metrics import METRICS
from medpos.runs import files
from medpos.statistics.criteria import DICE_LOST
from medpos.statistics.grid import CONDITION
from medpos.study import models
from medpos.study.declaration import name_moved
from medpos.study.models import Model
from medpos.study.plan import Planner

_COLUMNS = ["data", "model", "seed", "case", "subject", "split", *CONDITION, "organ", *METRICS]


def collect(planner: Planner, found: Sequence[Model]) -> pd.DataFrame:
    """Collect the rows of the trained models under the study's conditions.

    Args:
        planner: planner of the study.
        found: models of the study.

    Returns:
        One row per data set, model, seed, case, condition and organ; the columns are ``data``, ``model``, ``seed``, in
        a cross-validation ``fold``, those of ``metrics.csv``, and the study's
        :attr:`medpos.study.declaration.Study.measures`. Under shifts the moved clean predictions are a model of their
        own, without these measures.

    Raises:
        InputError: a subject was tested in two folds.
    """
    study, parts = planner.study, []
    for model in found:
        if files.Run(model.folder()).is_trained:
            about = {"data": model.data, "model": model.variant, "seed": model.seed, "fold": model.fold}
            parts += [{**about, **row} for row in _rows_of(planner, model)]
            about["model"] = name_moved(model.variant)
            moved = models.read_moved(model.folder(), model.config, planner.conditions(model))
            parts += [{**about, **row} for row in moved]
    columns = [*_COLUMNS[:3], *(["fold"] if study.folds else []), *_COLUMNS[3:], *study.measures]
    table = pd.DataFrame(parts, columns=columns)
    if study.folds:
        check_folds(table)
    table = table.astype({"severity": int, "seed": int, **dict.fromkeys((*METRICS, *study.measures), float)})
    return add_dice_lost(table) if DICE_LOST in study.measures else table


def _rows_of(planner: Planner, model: Model) -> list[dict[str, Any]]:
    run, conditions, study = model.folder(), planner.conditions(model), planner.study
    rows: list[dict[str, Any]] = [*models.read_rows(run, model.config, conditions)]
    if study.needs_calibration:
        rows = models.add_calibration(rows, run, model.config, conditions)
    return models.add_alarms(rows, run, model.config, conditions) if study.needs_lights else rows


def add_dice_lost(table: pd.DataFrame) -> pd.DataFrame:
    """Add ``dice_lost``: the Dice of the clean image less that of the row, case by case and organ by organ.

    Args:
        table: the long table; a row without a clean one of its model, seed, case and organ gets NaN.
    """
    keys = ["data", "model", "seed", "case", "organ"]
    clean = table[is_clean(table)].set_index(keys)["dice"]
    places = pd.MultiIndex.from_frame(table[keys])
    return table.assign(**{DICE_LOST: clean.reindex(places).to_numpy() - table["dice"].to_numpy()})


def check_folds(table: pd.DataFrame) -> None:
    """Check that each subject was tested in one fold alone, so that no model was trained on a subject of its test."""
    folds = table.groupby(["data", "subject"])["fold"].nunique()
    if len(twice := folds[folds > 1]):
        data, subject = twice.index[0]
        raise InputError(
            f"{data}: subject {subject}: expected tests in one fold, got {twice.iloc[0]}; delete the runs of these "
            "folds, made by a version that divided them differently, and run the study again"
        )
