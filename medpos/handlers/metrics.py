"""Measure every case and organ in a MONAI evaluator."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from torch import Tensor

from medpos.core.device import is_computing_apart
from medpos.core.errors import InputError
from medpos.core.labels import IGNORED, Label, as_labels
from medpos.handlers.rows import RowCollector, Rows, case_columns
from medpos.metrics import METRICS, CaseTruth, mean_of_finite, overlap_of
from medpos.runs.tables import Row, condition_key

_THREADS = 4  # that measure surfaces while a GPU computes
_NOTHING = dict.fromkeys(METRICS, float("nan"))


def every(interval: int, last: int, step: int = 1) -> Callable[[int], bool]:
    """Choose epochs at equal distances.

    Args:
        interval: distance of the chosen epochs.
        last: number of the last epoch, which is chosen too.
        step: distance of the epochs that there are to choose from.

    Returns:
        Function that tells whether the epoch of a number is chosen.
    """
    return partial(_is_chosen, interval=interval, last=last, step=step)


def _is_chosen(epoch: int, interval: int, last: int, step: int) -> bool:
    return epoch % interval < step or epoch + step > last


class CaseMetrics(RowCollector):
    """Measure one row per case, condition and organ; for ``key_val_metric`` of a MONAI evaluator.

    ``engine.state.rows`` holds the rows when the epoch ends. The key metric is the mean foreground Dice: mean over the
    organs of a case, then over the cases; NaN, never zero, where nothing could be measured.
    ``engine.state.metrics`` also holds ``dice/<organ>`` and ``hd95_mm/<organ>``.

    A GPU doesn't wait for it: surface distances are measured in threads while it computes, and overlap alone is counted
    on the GPU. Both give the same values as on the CPU.

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
        self._pool = ThreadPoolExecutor(_THREADS)
        self._has_surfaces = True

    def attach(self, engine: Engine, name: str = "") -> None:
        """Measure every iteration of an evaluator; the arguments are those of :class:`RowCollector`."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._choose)
        super().attach(engine, name)

    def _choose(self, engine: Engine) -> None:
        """Choose whether this epoch has surface distances."""
        self._has_surfaces = self.surfaces is None or self.surfaces(engine.state.epoch)
        engine.state.has_surfaces = self._has_surfaces

    def measure(self, item: Row, output: Row) -> Rows:
        """Measure every organ of one case under one condition."""
        columns, spacing = case_columns(item), tuple(float(s) for s in item["spacing_mm"])
        prediction, truth = output["pred"], output["label"]
        if not self._has_surfaces:
            return partial(self._overlap, columns, _count_pairs(prediction, truth, len(self.labels)))
        if is_computing_apart(prediction):
            # The thread waits for the GPU and copies the maps.
            return self._pool.submit(self._measure, columns, spacing, prediction, truth).result
        return self._measure(columns, spacing, prediction, truth)

    def _measure(self, columns: Row, spacing: Sequence[float], prediction: Tensor, truth: Tensor) -> list[Row]:
        true = as_labels(truth)
        case = self._truths.get(columns["case"])
        if case is None or not case.is_of(true, spacing):  # under another shift, for instance
            case = self._truths[columns["case"]] = CaseTruth(true, self.labels, spacing)
        return [{**columns, **row} for row in case.measure(as_labels(prediction))]

    def _overlap(self, columns: Row, counts: Tensor) -> list[Row]:
        *pairs, strange = counts.tolist()
        if strange:
            raise InputError(f"case {columns['case']}: {strange} pixels are none of the classes; check its labels")
        found = overlap_of(np.array(pairs).reshape(len(self.labels), len(self.labels)))
        return [
            {**columns, "organ": organ, **_NOTHING, **{metric: float(values[n]) for metric, values in found.items()}}
            for n, organ in enumerate(self._organs[1:])
        ]

    def position(self, row: Row) -> int:
        """Return the index of the row's organ."""
        return self._organs.index(row["organ"])

    def finish(self, engine: Engine, name: str) -> None:
        """Store the rows and the mean metrics of an epoch."""
        engine.state.rows = self.rows
        engine.state.metrics[name] = mean_foreground_dice(self.rows)
        for organ in self._organs[1:]:
            for metric in ("dice", "hd95_mm"):
                values = [row[metric] for row in self.rows if row["organ"] == organ]
                engine.state.metrics[f"{metric}/{organ}"] = mean_of_finite(values)
            if not self._has_surfaces:
                del engine.state.metrics[f"hd95_mm/{organ}"]


def _count_pairs(prediction: Tensor, truth: Tensor, classes: int) -> Tensor:
    """Count the pixels of every pair of true and predicted class on the device of the maps, without waiting for it.

    Args:
        prediction: predicted label map of any shape.
        truth: label map of the ground truth, of the same shape; pixels of 255 count as background in both maps.
        classes: number of classes C, with the background.

    Returns:
        Numbers of pixels [C * C + 1]; true class * C + predicted class, then pixels whose values are no classes.
    """
    predicted, true = prediction.long(), truth.long()
    known = (predicted >= 0) & (predicted < classes) & (true >= 0) & (true < classes)
    code = torch.where(known, true * classes + predicted, classes * classes)
    code = torch.where(true == IGNORED, 0, code).flatten()
    return torch.zeros(classes * classes + 1, dtype=torch.long, device=code.device).scatter_add_(
        0, code, torch.ones_like(code)
    )


def mean_foreground_dice(rows: Sequence[Row]) -> float:
    """Return the mean Dice over the organs of each case and condition, then over these; NaN is left out.

    Args:
        rows: rows of CaseMetrics.
    """
    cases: dict[tuple[Any, ...], list[float]] = {}
    for row in rows:
        cases.setdefault((row["case"], *condition_key(row)), []).append(row["dice"])
    return mean_of_finite([mean_of_finite(values) for values in cases.values()])
