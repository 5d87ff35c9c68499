"""Per-case, per-organ metrics of a MONAI evaluator."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed
from ignite.engine import Engine, Events

from medpos.core.labels import Label, as_labels
from medpos.data.conditions import Condition
from medpos.metrics import CaseTruth, mean_of_finite

Row = dict[str, Any]


class CaseMetrics:
    """Collects one row per case, condition and organ; serves as ``key_val_metric`` of a MONAI evaluator.

    The rows stand in ``engine.state.rows`` when the epoch ends. The key metric is the mean foreground Dice: mean over
    the organs of a case, then over the cases; NaN, never zero, where nothing could be measured.
    ``engine.state.metrics`` also holds
    ``dice/<organ>`` and ``hd95_mm/<organ>``.

    Args:
        labels: the classes, background first.
    """

    def __init__(self, labels: Sequence[Label]) -> None:
        self.labels = tuple(labels)
        self.rows: list[Row] = []
        self._truths: dict[str, CaseTruth] = {}

    def attach(self, engine: Engine, name: str) -> None:
        """Measure every iteration of this evaluator; the key metric is stored under ``name``."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._update)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._finish, name)

    def _reset(self, engine: Engine) -> None:
        self.rows = []

    def _update(self, engine: Engine) -> None:
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            self.rows += self._measure(item, output)

    def _measure(self, item: Row, output: Row) -> list[Row]:
        identity = identity_of(item)
        prediction, truth = (as_labels(output[k]) for k in ("pred", "label"))
        spacing = tuple(float(s) for s in item["spacing_mm"])
        case = self._truths.get(item["case"])
        if case is None or not case.is_of(truth, spacing):  # under another shift, for instance
            case = self._truths[item["case"]] = CaseTruth(truth, self.labels, spacing)
        return [{**identity, **row} for row in case.measure(prediction)]

    def _finish(self, engine: Engine, name: str) -> None:
        organs = [label.name for label in self.labels]
        self.rows = gathered(self.rows, lambda row: organs.index(row["organ"]))
        engine.state.rows = self.rows
        engine.state.metrics[name] = mean_foreground_dice(self.rows)
        for label in self.labels[1:]:
            for metric in ("dice", "hd95_mm"):
                values = [row[metric] for row in self.rows if row["organ"] == label.name]
                engine.state.metrics[f"{metric}/{label.name}"] = mean_of_finite(values)


def condition_of(item: Row) -> Condition:
    """The condition under which an item of a batch was served."""
    return Condition(item["degradation"], int(item["severity"]), int(item["shift_x"]), int(item["shift_y"]))


def identity_of(item: Row) -> Row:
    """The columns that say which case it is, and under which condition."""
    condition = condition_of(item)
    place = {"degradation": condition.degradation, "severity": condition.severity, "shift": condition.shift}
    return {**{k: item[k] for k in ("case", "subject", "split")}, **place}


def mean_foreground_dice(rows: Sequence[Row]) -> float:
    """Mean over organs within a case and condition, then over those; what can't be measured is left out."""
    cases: dict[tuple[Any, ...], list[float]] = {}
    for row in rows:
        key = (row["case"], row["degradation"], row["severity"], row["shift"])
        cases.setdefault(key, []).append(row["dice"])
    return mean_of_finite([mean_of_finite(values) for values in cases.values()])


def gathered(rows: list[Row], place: Callable[[Row], int] = lambda row: 0) -> list[Row]:
    """Rows of all processes, in one order on each of them; the sampler's padding may measure a case twice.

    Args:
        rows: of this process, with the columns of :func:`identity_of`.
        place: of a row among those of its case and condition.
    """
    if not torch.distributed.is_initialized():
        return rows
    parts: list[list[Row]] = [[] for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(parts, rows)
    rows = [row for part in parts for row in part]
    conditions = list(dict.fromkeys((row["degradation"], row["severity"], row["shift"]) for row in rows))
    unique = {
        (conditions.index((row["degradation"], row["severity"], row["shift"])), row["case"], place(row)): row
        for row in rows
    }
    return [unique[key] for key in sorted(unique)]
