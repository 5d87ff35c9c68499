"""Measure every case and organ in a MONAI evaluator."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from torch import Tensor

from medpos.core.errors import InputError
from medpos.core.labels import IGNORED, Label, as_labels
from medpos.data.conditions import CLEAN, Condition
from medpos.handlers.rows import RowCollector, case_columns, condition_of
from medpos.metrics import METRICS, CaseTruth, mean_of_finite, overlap_of
from medpos.runs import files
from medpos.runs.tables import Confusions, Row, condition_key
from medpos.transforms.spatial.shift import shift

logger = logging.getLogger(__name__)
_KEPT_BYTES = 2 << 30  # of the ground truth of all cases, with distances, between the conditions
_PART = 1 << 22  # pixels that are counted at a time, because PyTorch counts in 64 bits
_MOVED = "moved"  # key of a row for the metrics of the moved clean prediction
_CONFUSION = "confusion"  # key of a case's first row for its confusion matrix
_NOTHING = dict.fromkeys(METRICS, float("nan"))


def every(interval: int, last: int, step: int = 1) -> Callable[[int], bool]:
    """Choose epochs at equal distances, the first one and the last one.

    Args:
        interval: distance of the chosen epochs.
        last: number of the last epoch.
        step: distance of the epochs that there are to choose from.

    Returns:
        Function that tells whether the epoch of a number is chosen.
    """
    return partial(_is_chosen, interval=interval, last=last, step=step)


def _is_chosen(epoch: int, interval: int, last: int, step: int) -> bool:
    return epoch % interval < step or epoch <= step or epoch + step > last


class CaseMetrics(RowCollector):
    """Measure one row per case, condition and organ; for ``key_val_metric`` of a MONAI evaluator.

    ``engine.state.rows`` holds the rows when the epoch ends. The key metric is the mean foreground Dice: mean over the
    organs of a case, then over the cases; NaN, never zero, where nothing could be measured.
    ``engine.state.metrics`` also holds ``dice/<organ>`` and ``hd95_mm/<organ>``.

    ``engine.state.moved`` holds a row of the same form for every shifted image: the clean prediction, shifted with the
    image, against the shifted ground truth. It lacks only what leaves the frame, so it is the score of a network
    that finds the same at any place. The clean condition must come first.

    ``engine.state.confusions`` holds the confusion matrix of all cases for each condition, a
    :class:`medpos.runs.tables.Confusions`.

    Overlap alone is counted on the device of the label maps; surface distances are measured on the host.

    Args:
        labels: the classes, background first.
        surfaces: tells by the number of the epoch whether surface distances are measured; where they aren't, their
            columns are NaN, ``hd95_mm/<organ>`` is left out, and ``engine.state.has_surfaces`` is False. None measures
            them in every epoch.
    """

    def __init__(self, labels: Sequence[Label], surfaces: Callable[[int], bool] | None = None) -> None:
        super().__init__()
        self.labels = tuple(labels)
        self.surfaces = surfaces
        self._organs = [label.name for label in self.labels]
        self._truths: dict[str, CaseTruth] = {}
        self._clean: dict[str, Tensor] = {}  # clean prediction of each case
        self._has_surfaces = True

    def attach(self, engine: Engine, name: str = "") -> None:
        """Measure every iteration of an evaluator; the arguments are those of :class:`RowCollector`."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._choose)
        super().attach(engine, name)

    def _choose(self, engine: Engine) -> None:
        """Choose whether this epoch has surface distances."""
        self._has_surfaces = self.surfaces is None or self.surfaces(engine.state.epoch)
        engine.state.has_surfaces = self._has_surfaces

    def _reset(self, engine: Engine) -> None:
        super()._reset(engine)
        self._clean = {}

    def _update(self, engine: Engine) -> None:
        # Before the threads, which may come to a shifted image of a case first.
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            if condition_of(item) == CLEAN:
                self._clean[item["case"]] = output["pred"].byte()
        super()._update(engine)

    def begin(self, item: Row, output: Row) -> Callable[[], list[Row]] | None:
        """Count the overlap of one case where distances aren't measured."""
        if self._has_surfaces:
            return None
        return partial(
            self._read_counts, case_columns(item), _count_pairs(output["pred"], output["label"], len(self.labels))
        )

    def measure(self, item: Row, output: Row) -> list[Row]:
        """Measure every organ of one case under one condition."""
        columns = case_columns(item)
        return [{**columns, **row} for row in self._measure(item, output["pred"], output["label"])]

    def _measure(self, item: Row, prediction: Tensor, truth: Tensor) -> list[Row]:
        """Measure overlap and surface distances on the host, for a shifted image also those of the clean prediction."""
        name, spacing, condition = item["case"], tuple(float(s) for s in item["spacing_mm"]), condition_of(item)
        true = as_labels(truth)
        case = self._truths.get(name)
        if case is None or not case.is_of(true, spacing):  # under another shift, for instance
            case = CaseTruth(true, self.labels, spacing)
            self._keep(name, case)
        rows, counts = case.compare(as_labels(prediction))
        rows[0][_CONFUSION] = counts
        if not condition.is_shift or name not in self._clean:  # another process has predicted it
            return rows
        moved = case.measure(as_labels(_move(self._clean[name], condition)))
        return [{**row, _MOVED: found} for row, found in zip(rows, moved, strict=True)]

    def _keep(self, name: str, case: CaseTruth) -> None:
        """Keep the ground truth of a case for other conditions, as long as there is room."""
        kept = [truth.kept_bytes for other, truth in list(self._truths.items()) if other != name]
        if sum(kept) + case.kept_bytes <= _KEPT_BYTES:
            self._truths[name] = case
        else:
            self._truths.pop(name, None)

    def _read_counts(self, columns: Row, counts: Tensor) -> list[Row]:
        """Read the counts of :func:`_count_pairs` from their device."""
        *pairs, strange, ignored = counts.tolist()
        if strange:
            raise InputError(f"case {columns['case']}: {strange} pixels are none of the classes; check its labels")
        confusion = np.array(pairs).reshape(len(self.labels), len(self.labels))
        confusion[0, 0] -= ignored
        found = overlap_of(confusion)
        rows: list[Row] = [
            {**columns, "organ": organ, **_NOTHING, **{metric: float(values[n]) for metric, values in found.items()}}
            for n, organ in enumerate(self._organs[1:])
        ]
        rows[0][_CONFUSION] = confusion
        return rows

    def position(self, row: Row) -> int:
        """Return the index of the row's organ."""
        return self._organs.index(row["organ"])

    def finish(self, engine: Engine, name: str) -> None:
        """Store the rows and the mean metrics of an epoch."""
        counts = [(condition_key(row), row[_CONFUSION]) for row in self.rows if _CONFUSION in row]
        engine.state.confusions = Confusions.add(self._organs, counts)
        self.rows, engine.state.moved = _split(self.rows)
        engine.state.rows = self.rows
        engine.state.metrics[name] = mean_foreground_dice(self.rows)
        for organ in self._organs[1:]:
            for metric in ("dice", "hd95_mm"):
                values = [row[metric] for row in self.rows if row["organ"] == organ]
                engine.state.metrics[f"{metric}/{organ}"] = mean_of_finite(values)
            if not self._has_surfaces:
                del engine.state.metrics[f"hd95_mm/{organ}"]


def _split(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Split the rows from the metrics of the moved clean predictions, and return both with the columns of the table."""
    moved = [{**row, **row[_MOVED]} for row in rows if _MOVED in row]
    if len(moved) < sum(row["shift"] != CLEAN.shift and row["severity"] == CLEAN.severity for row in rows):
        logger.warning("%s is left out: it needs all conditions of a case in one process", files.MOVED)
        moved = []
    inner = (_MOVED, _CONFUSION)
    kept, moved = ([{k: v for k, v in row.items() if k not in inner} for row in part] for part in (rows, moved))
    return kept, moved


def _move(prediction: Tensor, condition: Condition) -> Tensor:
    """Shift a label map [1, X, Y(, Z)] as the condition shifts the image, and fill with background."""
    return shift(prediction, condition.shift_x, condition.shift_y)


def _count_pairs(prediction: Tensor, truth: Tensor, classes: int) -> Tensor:
    """Count the pixels of every pair of true and predicted class on the device of the maps.

    Args:
        prediction: predicted label map of any shape.
        truth: label map of the ground truth, of the same shape; pixels of 255 count as background in both maps.
        classes: number of classes C, with the background.

    Returns:
        Numbers of pixels [C * C + 2]; true class * C + predicted class, then pixels whose values are no classes, and
        those of 255.
    """
    counts = torch.zeros(classes * classes + 2, dtype=torch.long, device=prediction.device)
    for part in zip(prediction.flatten().split(_PART), truth.flatten().split(_PART), strict=True):
        predicted, true = (values.long() for values in part)
        known = (predicted >= 0) & (predicted < classes) & (true >= 0) & (true < classes)
        code = torch.where(known, true * classes + predicted, classes * classes)
        ignored = true == IGNORED
        code = torch.where(ignored, 0, code)
        counts.scatter_add_(0, code, torch.ones_like(code))
        counts[-1] += ignored.sum()
    return counts


def mean_foreground_dice(rows: Sequence[Row]) -> float:
    """Return the mean Dice over the organs of each case and condition, then over these; NaN is left out.

    Args:
        rows: rows of CaseMetrics.
    """
    cases: dict[tuple[Any, ...], list[float]] = {}
    for row in rows:
        cases.setdefault((row["case"], *condition_key(row)), []).append(row["dice"])
    return mean_of_finite([mean_of_finite(values) for values in cases.values()])
