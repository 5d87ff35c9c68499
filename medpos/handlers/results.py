"""Leaves the table of an evaluation: metrics.csv, summary.json and the text on the screen."""

import logging

from ignite.engine import Engine, Events

from medpos.core.device import is_main_process
from medpos.core.files import write_json
from medpos.data.folder import DataFolder
from medpos.runs import files
from medpos.runs.folder import RunFolder
from medpos.runs.tables import summary, table, with_scores, write_csv

logger = logging.getLogger(__name__)


class ResultTable:
    """Writes ``metrics.csv``, then ``summary.json`` (which marks the run as finished), and logs the table.

    Args:
        run: where they go.
        source: the data set; phantom data are called so everywhere.
        bundle: name for the title.
    """

    def __init__(self, run: RunFolder, source: DataFolder, bundle: str) -> None:
        self.run = run
        self.source = source
        self.bundle = bundle

    def attach(self, engine: Engine) -> None:
        """Write when ``engine`` has gone through the test data.

        Its ``state.rows`` come from CaseMetrics, its ``state.scores``, if any, from Scores.
        """
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _write(self, engine: Engine) -> None:
        if not is_main_process():
            return
        folder, rows = self.run.results, engine.state.rows
        write_csv(rows, folder / files.METRICS)
        conditions = summary(rows)
        if scored := getattr(engine.state, "scores", None):
            conditions = with_scores(conditions, scored)
        split = rows[0]["split"]
        subjects = len({row["subject"] for row in rows})
        content = {
            "bundle": self.bundle,
            "data": self.source.name,
            "phantom": self.source.phantom,
            "nominal_spacing": self.source.nominal_spacing,
            "split": split,
            "subjects": subjects,
            "cases": len({row["case"] for row in rows}),
            "interval": "95 % percentile bootstrap of the mean, 2000 draws of subjects, seed 0",
            "conditions": conditions,
        }
        write_json(folder / files.SUMMARY, content)
        data = f"{self.source.name}{' PHANTOMS' if self.source.phantom else ''}"
        title = f"{self.bundle}: {split} split of {data}, {content['cases']} cases of {subjects} subjects"
        logger.info("results\n%s\nresults are in %s", table(conditions, title, self.source.phantom), folder)
