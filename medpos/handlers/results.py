"""Write the results of an evaluation: metrics.csv, summary.json and a table in the log."""

import logging

from ignite.engine import Engine, Events

from medpos.core.device import is_main_process
from medpos.core.files import write_csv, write_json
from medpos.data.folder import DataFolder
from medpos.runs import files
from medpos.runs.folder import RunFolder
from medpos.runs.tables import COLUMNS, add_scores, summarize_conditions
from medpos.runs.text import format_results

logger = logging.getLogger(__name__)


class ResultTable:
    """Write ``metrics.csv``, then ``summary.json``, which marks the run as finished, and log the results table.

    Args:
        run: run folder that gets the files.
        source: the data set; every output says if its data are phantoms.
        bundle: name of the bundle, for the title.
    """

    def __init__(self, run: RunFolder, source: DataFolder, bundle: str) -> None:
        self.run = run
        self.source = source
        self.bundle = bundle

    def attach(self, engine: Engine) -> None:
        """Write at the end of the evaluator ``engine``.

        Its ``state.rows`` come from CaseMetrics, its ``state.scores``, if any, from Scores.
        """
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _write(self, engine: Engine) -> None:
        if not is_main_process():
            return
        folder, rows = self.run.results, engine.state.rows
        write_csv(folder / files.METRICS, COLUMNS, rows)
        conditions = summarize_conditions(rows)
        if scores := getattr(engine.state, "scores", None):
            conditions = add_scores(conditions, scores)
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
        text = format_results(conditions, title, self.source.phantom)
        logger.info("results\n%s\nresults are in %s", text, folder)
