"""Measure in a MONAI evaluator whether the probabilities of the network mean what they say."""

import threading

import numpy as np
import torch
import torch.distributed
from ignite.engine import Engine
from monai.engines.utils import IterationEvents

from medpos.core.device import is_main_process
from medpos.core.files import write_csv
from medpos.core.labels import ALL_CLASSES, IGNORED
from medpos.data.folder import DataFolder
from medpos.handlers.rows import RowCollector, case_columns
from medpos.handlers.tensorboard import TensorBoard
from medpos.metrics.confusion import VOID
from medpos.plotting.reliability import draw_reliability
from medpos.runs import files
from medpos.runs.calibration import CALIBRATION_COLUMNS, RELIABILITY_COLUMNS, Calibrations
from medpos.runs.folder import RunFolder
from medpos.runs.tables import Key, Row, condition_key
from medpos.trust.calibration import EXPECTED, Counts, count_probabilities, expect_dice, score_calibration, score_sizes

_COUNTS = "counts"  # of an output, and of a case's first row


class Calibration(RowCollector):
    """Measure the calibration of every case under every condition, beside CaseMetrics in the same evaluator.

    The probabilities are the softmax of the network's output, counted on its device before the postprocessing.
    ``engine.state.calibrations`` holds the result when the epoch ends, a
    :class:`medpos.runs.calibration.Calibrations`, which ResultTable adds to its own.

    Args:
        source: the data set, for its classes.
        run: run folder that gets ``calibration.csv``, with a row per case, condition and organ, and
            ``reliability.csv``; None writes no file.
        board: TensorBoard writer of the run, which gets the reliability diagram of clean images; None leaves it out.
    """

    def __init__(self, source: DataFolder, run: RunFolder | None = None, board: TensorBoard | None = None) -> None:
        super().__init__()
        self.classes = tuple(label.name for label in source.labels)
        self.run = run
        self.board = board
        self._totals: dict[Key, Counts] = {}
        self._lock = threading.Lock()

    def attach(self, engine: Engine, name: str = "") -> None:
        """Measure every iteration of an evaluator; the arguments are those of :class:`RowCollector`."""
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._count)
        super().attach(engine, name)

    def _count(self, engine: Engine) -> None:
        output = engine.state.output
        truth = output["label"]
        if self.classes[0] == VOID:
            truth = torch.where(truth == 0, IGNORED, truth)
        output[_COUNTS] = count_probabilities(output["pred"], truth)

    def _reset(self, engine: Engine) -> None:
        super()._reset(engine)
        self._totals = {}

    def measure(self, item: Row, output: Row) -> list[Row]:
        """Score every organ of one case under one condition, and all classes together."""
        counts = output[_COUNTS].cpu().numpy().astype(np.int64)
        scores = score_calibration(counts) | score_sizes(counts) | {EXPECTED: expect_dice(counts)}
        columns = case_columns(item)
        rows: list[Row] = [
            {**columns, "organ": name, **{score: float(values[n]) for score, values in scores.items()}}
            for n, name in enumerate((*self.classes, ALL_CLASSES))
            if n
        ]
        if torch.distributed.is_initialized():  # several processes may have the same case
            rows[0][_COUNTS] = counts
        else:
            self._add(condition_key(columns), counts)
        return rows

    def _add(self, key: Key, counts: Counts) -> None:
        with self._lock:  # several cases may be measured at once
            self._totals[key] = self._totals.get(key, 0) + counts

    def position(self, row: Row) -> int:
        """Return the index of the row's organ."""
        return (*self.classes, ALL_CLASSES).index(row["organ"])

    def finish(self, engine: Engine, name: str) -> None:
        """Store the scores of an epoch, write their tables, and draw the reliability diagram."""
        for row in self.rows:
            if _COUNTS in row:
                self._add(condition_key(row), row.pop(_COUNTS))
        keys = dict.fromkeys(map(condition_key, self.rows))  # in the order of the conditions
        found = Calibrations(self.rows, {key: self._totals[key] for key in keys}, self.classes)
        engine.state.calibrations = found
        if not is_main_process():
            return
        if self.run is not None:
            write_csv(self.run.results / files.CALIBRATION, CALIBRATION_COLUMNS, found.rows)
            write_csv(self.run.results / files.RELIABILITY, RELIABILITY_COLUMNS, found.diagrams)
        if self.board is not None and (clean := found.clean_diagrams):
            self.board.writer.add_figure(f"{self.board.part}/reliability", draw_reliability(clean))
