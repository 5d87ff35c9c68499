"""Write the results of an evaluation: metrics.csv, confusion.csv, summary.json and a table in the log."""

import logging
from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

from ignite.engine import Engine, Events

from medpos.core.device import is_main_process
from medpos.core.files import write_csv, write_json
from medpos.data.folder import ALL, DataFolder
from medpos.handlers.charts import dice_of_cases
from medpos.handlers.tensorboard import TensorBoard
from medpos.metrics import INTERVAL
from medpos.runs import files
from medpos.runs.folder import RunFolder
from medpos.runs.subgroups import COLUMNS as SUBGROUP_COLUMNS
from medpos.runs.subgroups import measure_subgroups, summarize_subgroups
from medpos.runs.tables import COLUMNS, CONFUSION_COLUMNS, add_confusions, add_scores, summarize_conditions
from medpos.runs.text import format_results

logger = logging.getLogger(__name__)
Source = TypeVar("Source")


class ResultWriter(ABC, Generic[Source]):
    """Write the results of an evaluation when it has ended; the base of ResultTable and ClassTable.

    Args:
        run: run folder that gets the files.
        source: the data set; every output says if its data are phantoms.
        bundle: name of the bundle, for the title; by default that of the run.
        board: TensorBoard writer of the run; None leaves it out.
    """

    def __init__(self, run: RunFolder, source: Source, bundle: str = "", board: TensorBoard | None = None) -> None:
        self.run, self.source, self.bundle, self.board = run, source, bundle or run.bundle, board

    def attach(self, engine: Engine) -> None:
        """Write at the end of an evaluator, in the main process alone."""
        engine.add_event_handler(Events.COMPLETED, self._write)

    @abstractmethod
    def write(self, engine: Engine) -> None:
        """Write the results in ``engine.state``."""

    def _write(self, engine: Engine) -> None:
        if is_main_process():
            self.write(engine)


class ResultTable(ResultWriter[DataFolder]):
    """Write ``metrics.csv``, ``confusion.csv``, then ``summary.json``, which marks the run as finished; log the table.

    Where the cases belong to subgroups, ``subgroups.csv`` has their Dice; the summary compares them.
    Where images were shifted, ``moved_predictions.csv`` has the scores of the clean predictions shifted with them.

    The arguments are those of :class:`ResultWriter`.
    """

    def write(self, engine: Engine) -> None:
        """Write the results of CaseMetrics, and those of Scores and Calibration, if there are any."""
        folder, rows = self.run.results, engine.state.rows
        write_csv(folder / files.METRICS, COLUMNS, rows)
        if moved := getattr(engine.state, "moved", None):
            write_csv(folder / files.MOVED, COLUMNS, moved)
        confusions = engine.state.confusions
        write_csv(folder / files.CONFUSION, CONFUSION_COLUMNS, confusions.rows)
        conditions = summarize_conditions(rows)
        if scores := getattr(engine.state, "scores", None):
            conditions = add_scores(conditions, scores)
        conditions = add_confusions(conditions, confusions)
        if calibrations := getattr(engine.state, "calibrations", None):
            conditions = calibrations.add_failures(calibrations.add_to(conditions), rows)
        split = rows[0]["split"]
        subjects = len({row["subject"] for row in rows})
        content = {
            "bundle": self.bundle,
            "data": self.source.name,
            "phantom": self.source.phantom,
            "nominal_spacing": self.source.nominal_spacing,
            **({"warnings": self.source.warnings} if self.source.warnings else {}),
            "split": split,
            **({"training_cases": self.run.training_cases} if self.run.training_cases else {}),
            "subjects": subjects,
            "cases": len({row["case"] for row in rows}),
            **({"stopped": self.run.stopped} if self.run.stopped else {}),
            "interval": INTERVAL,
            "conditions": conditions,
            **({"subgroups": found} if (found := self._write_subgroups(engine)) else {}),
        }
        data = f"{self.source.name}{' PHANTOMS' if self.source.phantom else ''}"
        title = f"{self.bundle}: {split} split of {data}, {content['cases']} cases of {subjects} subjects"
        text = format_results(conditions, title, self.source.phantom, self.run.training_cases)
        if self.board is not None:
            self.board.write_results(conditions, dice_of_cases(rows), text)
        write_json(folder / files.SUMMARY, content)
        logger.info("results\n%s\nresults are in %s", text, folder)

    def _write_subgroups(self, engine: Engine) -> list[dict[str, Any]]:
        """Write ``subgroups.csv``, if there are any, and return their summary."""
        entries, views = self.source.cases(ALL), getattr(engine.state, "cases", [])
        rows = measure_subgroups(engine.state.rows, entries, views, self.source.labels)
        if rows:
            write_csv(self.run.results / files.SUBGROUPS, SUBGROUP_COLUMNS, rows)
        return summarize_subgroups(rows)
