"""Measure every case and organ in a MONAI evaluator."""

from collections.abc import Sequence
from typing import Any

from ignite.engine import Engine

from medpos.core.labels import Label, as_labels
from medpos.handlers.rows import RowCollector, case_columns
from medpos.metrics import CaseTruth, mean_of_finite
from medpos.runs.tables import Row, condition_key


class CaseMetrics(RowCollector):
    """Measure one row per case, condition and organ; for ``key_val_metric`` of a MONAI evaluator.

    ``engine.state.rows`` holds the rows when the epoch ends. The key metric is the mean foreground Dice: mean over the
    organs of a case, then over the cases; NaN, never zero, where nothing could be measured.
    ``engine.state.metrics`` also holds ``dice/<organ>`` and ``hd95_mm/<organ>``.

    Args:
        labels: the classes, background first.
    """

    def __init__(self, labels: Sequence[Label]) -> None:
        super().__init__()
        self.labels = tuple(labels)
        self._organs = [label.name for label in self.labels]
        self._truths: dict[str, CaseTruth] = {}

    def measure(self, item: Row, output: Row) -> list[Row]:
        """Measure every organ of one case under one condition."""
        columns = case_columns(item)
        prediction, truth = (as_labels(output[k]) for k in ("pred", "label"))
        spacing = tuple(float(s) for s in item["spacing_mm"])
        case = self._truths.get(item["case"])
        if case is None or not case.is_of(truth, spacing):  # under another shift, for instance
            case = self._truths[item["case"]] = CaseTruth(truth, self.labels, spacing)
        return [{**columns, **row} for row in case.measure(prediction)]

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


def mean_foreground_dice(rows: Sequence[Row]) -> float:
    """Return the mean Dice over the organs of each case and condition, then over these; NaN is left out.

    Args:
        rows: rows of CaseMetrics.
    """
    cases: dict[tuple[Any, ...], list[float]] = {}
    for row in rows:
        cases.setdefault((row["case"], *condition_key(row)), []).append(row["dice"])
    return mean_of_finite([mean_of_finite(values) for values in cases.values()])
