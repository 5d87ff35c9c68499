"""Tabulate and draw how well a report's runs tell which of their predictions are bad, without the truth."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from medpos.core.labels import labels_of, title
from medpos.plotting.risk_coverage import draw_risk_coverage
from medpos.plotting.style import Drawing
from medpos.report.calibration import IDENTITY, MOST_DRAWN, collect_rows
from medpos.report.sources import Run
from medpos.report.tables import Cell, Table, count_cell, number_cell, organ_cell, slug, stated_cell, text_cell
from medpos.runs import files
from medpos.runs.calibration import PREDICTED_COLUMNS
from medpos.statistics.grid import CONDITION
from medpos.transforms.naming import condition_title
from medpos.trust.calibration import EXPECTED
from medpos.trust.failure import FAILED_BELOW, LEAST, risk_coverage, score_failures

_STATED = {
    "auroc": "AUROC",
    "excess_aurc": "excess AURC",
    "aurc": "AURC",
    "correlation": "rank correlation",
}
_SCORES_NOTE = (
    f"A failure is a Dice below {FAILED_BELOW}. AUROC: how likely a failure has a lower expectation than another case, "
    "0.5 is chance; AURC: mean of 1 - Dice over the best cases by expectation, of 1 case to all; excess: how much of "
    f"it a perfect order would save, 0 is best; none is stated of fewer than {LEAST} cases. Cases of all seeds together"
)
_EXPECTED_NOTE = f"The expected Dice comes from the probabilities alone, without the truth. {_SCORES_NOTE}"
_PREDICTED_NOTE = (
    "Predicted without the truth by curves that medpos calibrate fitted to validation images: from the probabilities, "
    "from what members, views or passes with dropout agree about, from shape and place against the training masks, and "
    f"the mean of all. All conditions together; the CSV has each. {_SCORES_NOTE}"
)
_PLACE = ["data", "split", "model"]


def expect(rows: pd.DataFrame, metrics: pd.DataFrame) -> pd.DataFrame:
    """Add the measured Dice to the expected one.

    Args:
        rows: table from :func:`medpos.report.calibration.collect_calibration`.
        metrics: long table of the metrics per case.

    Returns:
        Long table with the columns ``predicted`` and ``dice``.
    """
    # Not by the evaluation: that of an earlier version has the Dice under a condition, a later one the probabilities.
    same = [*IDENTITY, "run", "case", *CONDITION, "organ"]
    found = rows.merge(metrics[[*same, "dice"]], on=same, validate="one_to_one")
    return found.assign(predicted=found[EXPECTED], predictor="expected Dice")


def collect_predicted(runs: Sequence[Run]) -> pd.DataFrame:
    """Collect predicted and measured Dice of every case, which ``medpos calibrate --failures`` has written.

    Returns:
        Long table with the columns that identify the run, and those of ``predicted_dice.csv``; empty without any.

    Raises:
        InputError: a file is malformed.
    """
    limits = dict.fromkeys(("predicted", "dice"), (0.0, 1.0))
    return collect_rows(runs, files.PREDICTED_DICE, PREDICTED_COLUMNS, limits, ["case", "predictor"])


def tabulate_failures(rows: pd.DataFrame) -> Table:
    """Tabulate how well the expected Dice of every model tells which predictions are bad, under every condition.

    Args:
        rows: table from :func:`expect`.
    """
    shown, records = [], []
    labels = labels_of(rows["organ"].unique())
    for place, found in _score(rows, [*_PLACE, *CONDITION, "organ"]):
        condition = text_cell(condition_title(*(place[column] for column in CONDITION)))
        shown.append((*_cells(place, labels), condition, *_numbers(found)))
        records.append({**place, **found})
    head = ("organ", "data", "model", "condition", "expected Dice", "Dice", *_STATED.values(), "failures", "n")
    caption = "Expected Dice against Dice"
    return Table("failures", caption, _EXPECTED_NOTE, head, tuple(shown), pd.DataFrame(records))


def tabulate_predictors(rows: pd.DataFrame) -> Table:
    """Tabulate how well each predictor of the Dice tells which predictions are bad, all conditions together.

    Args:
        rows: table from :func:`collect_predicted`.

    Returns:
        The table; its file has the scores under each condition too.
    """
    labels = labels_of(rows["organ"].unique())
    together = list(_score(rows, [*_PLACE, "organ", "predictor"]))
    shown = [(*_cells(place, labels), text_cell(place["predictor"]), *_numbers(found)) for place, found in together]
    whole = dict(zip(CONDITION, ("all", "", ""), strict=True))
    records = [{**place, **found} for place, found in _score(rows, [*_PLACE, *CONDITION, "organ", "predictor"])]
    records += [{**whole, **place, **found} for place, found in together]
    head = ("organ", "data", "model", "predictor", "predicted Dice", "Dice", *_STATED.values(), "failures", "n")
    caption = "Predicted Dice against Dice"
    return Table("predicted_failures", caption, _PREDICTED_NOTE, head, tuple(shown), pd.DataFrame(records))


def _score(rows: pd.DataFrame, keys: list[str]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return for each group of cases its place, and its scores."""
    return [
        (
            dict(zip(keys, key, strict=True)),
            score_failures(*(part[name].tolist() for name in ("predicted", "dice", "case"))),
        )
        for key, part in rows.groupby(keys, sort=False)
    ]


def _cells(place: Mapping[str, Any], labels: Any) -> tuple[Cell, ...]:
    split = "" if place["split"] == "test" else f", {place['split']}"
    return organ_cell(place["organ"], labels), text_cell(f"{place['data']}{split}"), text_cell(place["model"])


def _numbers(found: Mapping[str, Any]) -> tuple[Cell, ...]:
    means = (number_cell(found[name]) for name in ("expected", "dice"))
    few = found["aurc"] is None  # which is stated of all others
    stated = (stated_cell(found[name], 0 if few else found["n"]) for name in _STATED)
    return *means, *stated, *map(count_cell, (found["failures"], found["n"]))


def draw_failures(rows: pd.DataFrame) -> list[Drawing]:
    """Draw risk-coverage curves of every model, all conditions and seeds together.

    Args:
        rows: table from :func:`expect` or :func:`collect_predicted`; organs with fewer than 8 cases are left out.
    """
    drawings = []
    for n, (key, part) in enumerate(rows.groupby(_PLACE, sort=False), 1):
        data, split, model = map(str, key)
        curves: dict[str, dict[str, list[float]]] = {}
        ideals: dict[str, list[float]] = {}
        for (organ, predictor), cases in part.dropna(subset=["predicted", "dice"]).groupby(
            ["organ", "predictor"], sort=False
        ):
            if cases["case"].nunique() >= LEAST:
                predicted, dice = (cases[name].to_numpy(np.float64) for name in ("predicted", "dice"))
                curves.setdefault(str(organ), {})[str(predictor)] = risk_coverage(predicted, dice).tolist()
                ideals[str(organ)] = risk_coverage(dice, dice).tolist()
        if 0 < len(curves) <= MOST_DRAWN:
            caption = f"{model} on {data}{'' if split == 'test' else f', {split}'}"
            alt = f"Risk-coverage curves of {caption}. {_describe(curves, ideals)}"
            figure = draw_risk_coverage(curves, ideals)
            drawings.append(Drawing(f"risk_coverage_{n:02d}_{slug(model)[:40]}", caption, alt, figure))
    return drawings


def _describe(curves: Mapping[str, Mapping[str, Sequence[float]]], ideals: Mapping[str, Sequence[float]]) -> str:
    """Describe in words how much is won by keeping the better half of the cases."""
    parts = []
    for organ, by_predictor in curves.items():
        half = (len(ideals[organ]) - 1) // 2
        kept = ", ".join(f"{curve[half]:.3f} by {name}" for name, curve in by_predictor.items())
        parts.append(
            f"{title(organ)}: mean of 1 - Dice {ideals[organ][-1]:.3f} of all cases, of the better half {kept}, "
            f"{ideals[organ][half]:.3f} in perfect order"
        )
    return f"{'; '.join(parts)}."
