"""Measure scores of cases and of the whole set in a MONAI evaluator, beside the metrics per organ."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine

from medpos.core.device import is_main_process
from medpos.core.errors import InputError
from medpos.core.files import write_csv
from medpos.core.labels import as_labels
from medpos.handlers.rows import RowCollector, case_columns
from medpos.metrics import mean_of_finite
from medpos.metrics.scores import CaseMaps, Score
from medpos.runs import files
from medpos.runs.folder import RunFolder
from medpos.runs.tables import SCORE_COLUMNS, Row, ScoreResults, by_condition


class Scores(RowCollector):
    """Measure scores of every case under every condition, beside CaseMetrics in the same evaluator.

    It is a handler, or the key metric of the evaluator under the name of one of the scores.
    ``engine.state.scores`` holds the result when the epoch ends, a :class:`medpos.runs.tables.ScoreResults`, which
    ResultTable adds to its own. ``engine.state.metrics`` holds each score by its name: the mean over cases and
    conditions, and for a score of the set the mean over the conditions.

    Args:
        scores: the scores, such as :class:`medpos.metrics.InstanceScores`.
        run: run folder that gets ``scores.csv``, with a row per case and condition; None writes no file.
    """

    def __init__(self, scores: Sequence[Score], run: RunFolder | None = None) -> None:
        super().__init__()
        self.scores = tuple(scores)
        self.run = run

    def measure(self, item: Row, output: Row) -> list[Row]:
        """Measure every score of one case under one condition."""
        case = _case_maps(item, output)
        return [{**case_columns(item), "measured": [score.of_case(case) for score in self.scores]}]

    def finish(self, engine: Engine, name: str) -> None:
        """Store the scores of an epoch and write their table."""
        results = self._results()
        engine.state.scores = results
        values = {name: [row[name] for row in results.rows] for name in results.names}
        values |= {name: [found[name] for found in results.sets.values()] for name in results.set_names}
        engine.state.metrics |= {name: mean_of_finite(found) for name, found in values.items()}
        if self.run is not None and is_main_process():
            write_csv(self.run.results / files.SCORES, (*SCORE_COLUMNS, *results.names), results.rows)

    def _results(self) -> ScoreResults:
        sets = {
            key: _merge(score.of_set([row["measured"][n] for row in part]) for n, score in enumerate(self.scores))
            for key, part in by_condition(self.rows).items()
        }
        cases = [
            {**{k: row[k] for k in SCORE_COLUMNS}, **_merge(found.values for found in row["measured"])}
            for row in self.rows
        ]
        return ScoreResults(cases, sets)


def _case_maps(item: Row, output: Row) -> CaseMaps:
    instances = item.get("instances")
    return CaseMaps(
        as_labels(output["pred"]),
        as_labels(output["label"]),
        tuple(float(s) for s in item["spacing_mm"]),
        None if instances is None else _as_integers(instances),
    )


def _as_integers(instances: torch.Tensor) -> np.ndarray[Any, Any]:
    """Convert an instance map [1, X, Y(, Z)] to integers [X, Y(, Z)]."""
    numbers: np.ndarray[Any, Any] = instances[0].to(torch.int64).cpu().numpy()
    return numbers


def _merge(parts: Iterable[dict[str, float]]) -> dict[str, float]:
    """Merge the values of several scores, which mustn't share a name."""
    merged: dict[str, float] = {}
    for part in parts:
        if shared := sorted(merged.keys() & part.keys()):
            raise InputError(
                f"expected every score once, got {', '.join(shared)} from two scores; leave out one of them"
            )
        merged |= part
    return merged
