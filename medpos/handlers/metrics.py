"""Measure every case and organ in a MONAI evaluator."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from ignite.engine import Engine

from medpos.core.labels import Label, as_labels
from medpos.data.conditions import CLEAN, Condition
from medpos.handlers.rows import RowCollector, case_columns, condition_of
from medpos.metrics import CaseTruth, mean_of_finite
from medpos.runs import files
from medpos.runs.tables import Row, condition_key
from medpos.transforms.spatial.shift import shift

logger = logging.getLogger(__name__)
_MOVED = "moved"  # key of a row for the metrics of the moved clean prediction


class CaseMetrics(RowCollector):
    """Measure one row per case, condition and organ; for ``key_val_metric`` of a MONAI evaluator.

    ``engine.state.rows`` holds the rows when the epoch ends. The key metric is the mean foreground Dice: mean over the
    organs of a case, then over the cases; NaN, never zero, where nothing could be measured.
    ``engine.state.metrics`` also holds ``dice/<organ>`` and ``hd95_mm/<organ>``.

    ``engine.state.moved`` holds a row of the same form for every shifted image: the clean prediction, shifted with the
    image, against the shifted ground truth. It lacks only what leaves the frame, so it is the score of a network
    that finds the same at any place. The clean condition must come first.

    Args:
        labels: the classes, background first.
    """

    def __init__(self, labels: Sequence[Label]) -> None:
        super().__init__()
        self.labels = tuple(labels)
        self._organs = [label.name for label in self.labels]
        self._truths: dict[str, CaseTruth] = {}
        self._clean: dict[str, npt.NDArray[np.uint8]] = {}  # clean prediction of each case

    def measure(self, item: Row, output: Row) -> list[Row]:
        """Measure every organ of one case under one condition."""
        columns = case_columns(item)
        prediction, truth = (as_labels(output[k]) for k in ("pred", "label"))
        spacing = tuple(float(s) for s in item["spacing_mm"])
        case = self._truths.get(item["case"])
        if case is None or not case.is_of(truth, spacing):  # under another shift, for instance
            case = self._truths[item["case"]] = CaseTruth(truth, self.labels, spacing)
        rows = [{**columns, **row} for row in case.measure(prediction)]
        condition = condition_of(item)
        if condition == CLEAN:
            self._clean[item["case"]] = prediction
        elif condition.is_shift and item["case"] in self._clean:  # else another process has predicted it
            moved = case.measure(_move(self._clean[item["case"]], condition))
            rows = [{**row, _MOVED: found} for row, found in zip(rows, moved, strict=True)]
        return rows

    def position(self, row: Row) -> int:
        """Return the index of the row's organ."""
        return self._organs.index(row["organ"])

    def finish(self, engine: Engine, name: str) -> None:
        """Store the rows and the mean metrics of an epoch."""
        self.rows, engine.state.moved = _split(self.rows)
        engine.state.rows = self.rows
        engine.state.metrics[name] = mean_foreground_dice(self.rows)
        for organ in self._organs[1:]:
            for metric in ("dice", "hd95_mm"):
                values = [row[metric] for row in self.rows if row["organ"] == organ]
                engine.state.metrics[f"{metric}/{organ}"] = mean_of_finite(values)

    def _reset(self, engine: Engine) -> None:
        super()._reset(engine)
        self._clean = {}


def _split(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Split the rows from the metrics of the moved clean predictions, and return both as rows of one form."""
    moved = [{**row, **row[_MOVED]} for row in rows if _MOVED in row]
    if len(moved) < sum(row["shift"] != CLEAN.shift and row["severity"] == CLEAN.severity for row in rows):
        logger.warning("%s is left out: it needs all conditions of a case in one process", files.MOVED)
        moved = []
    kept, moved = ([{k: v for k, v in row.items() if k != _MOVED} for row in part] for part in (rows, moved))
    return kept, moved


def _move(prediction: npt.NDArray[np.uint8], condition: Condition) -> npt.NDArray[np.uint8]:
    """Shift a label map [X, Y(, Z)] as the condition shifts the image, and fill with background."""
    moved = shift(torch.from_numpy(prediction)[None], condition.shift_x, condition.shift_y)
    return as_labels(moved)


def mean_foreground_dice(rows: Sequence[Row]) -> float:
    """Return the mean Dice over the organs of each case and condition, then over these; NaN is left out.

    Args:
        rows: rows of CaseMetrics.
    """
    cases: dict[tuple[Any, ...], list[float]] = {}
    for row in rows:
        cases.setdefault((row["case"], *condition_key(row)), []).append(row["dice"])
    return mean_of_finite([mean_of_finite(values) for values in cases.values()])
