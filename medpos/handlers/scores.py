"""Scores of a MONAI evaluator beside the metrics per organ."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events

from medpos.core.device import is_main_process
from medpos.core.errors import InputError
from medpos.core.labels import as_labels
from medpos.handlers.metrics import gathered, identity_of
from medpos.metrics import mean_of_finite
from medpos.metrics.scores import CaseMaps, Score
from medpos.runs import files
from medpos.runs.folder import RunFolder
from medpos.runs.tables import SCORE_COLUMNS, Row, Scored, condition_key, write_csv


class Scores:
    """Asks scores about every case and every condition; beside CaseMetrics, in the same evaluator.

    ``engine.state.scores`` holds the result when the epoch ends, a :class:`medpos.runs.tables.Scored`, which
    ResultTable takes up. ``engine.state.metrics`` holds each score by its name: the mean over cases and conditions, and
    for a score of the set the mean over the conditions.

    Args:
        scores: what to ask, such as :class:`medpos.metrics.InstanceScores`.
        run: whose folder gets ``scores.csv``, a row a case and condition; None writes none.
    """

    def __init__(self, scores: Sequence[Score], run: RunFolder | None = None) -> None:
        self.scores = tuple(scores)
        self.run = run
        self._rows: list[Row] = []

    def attach(self, engine: Engine, name: str = "") -> None:
        """Follow the evaluator ``engine``, as a handler, or as its key metric ``name``, the name of a score."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._update)
        # Before the run completes: ResultTable wants it then, and a summary.json says that all the rest is there.
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._finish)

    def _reset(self, engine: Engine) -> None:
        self._rows = []

    def _update(self, engine: Engine) -> None:
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            case = _maps(item, output)
            self._rows.append({**identity_of(item), "measured": [score.of_case(case) for score in self.scores]})

    def _finish(self, engine: Engine) -> None:
        scored = self._scored(gathered(self._rows))
        engine.state.scores = scored
        values = {name: [row[name] for row in scored.rows] for name in scored.names}
        values |= {name: [found[name] for found in scored.sets.values()] for name in scored.set_names}
        engine.state.metrics |= {name: mean_of_finite(found) for name, found in values.items()}
        if self.run is not None and is_main_process():
            write_csv(scored.rows, self.run.results / files.SCORES, (*SCORE_COLUMNS, *scored.names))

    def _scored(self, rows: Sequence[Row]) -> Scored:
        conditions: dict[tuple[Any, ...], list[Row]] = {}
        for row in rows:
            conditions.setdefault(condition_key(row), []).append(row)
        sets = {
            key: _joined(score.of_set([row["measured"][n] for row in part]) for n, score in enumerate(self.scores))
            for key, part in conditions.items()
        }
        cases = [
            {**{k: row[k] for k in SCORE_COLUMNS}, **_joined(found.values for found in row["measured"])} for row in rows
        ]
        return Scored(cases, sets)


def _maps(item: Row, output: Row) -> CaseMaps:
    instances = item.get("instances")
    return CaseMaps(
        as_labels(output["pred"]),
        as_labels(output["label"]),
        tuple(float(s) for s in item["spacing_mm"]),
        None if instances is None else _integers(instances),
    )


def _integers(instances: torch.Tensor) -> np.ndarray[Any, Any]:
    """An instance map [1, X, Y(, Z)] as integers [X, Y(, Z)]."""
    numbers: np.ndarray[Any, Any] = instances[0].to(torch.int64).cpu().numpy()
    return numbers


def _joined(parts: Iterable[dict[str, float]]) -> dict[str, float]:
    """The values of several scores, which mustn't share a name."""
    joined: dict[str, float] = {}
    for part in parts:
        if shared := sorted(joined.keys() & part.keys()):
            raise InputError(f"two scores give {', '.join(shared)}; needed is each name once: leave out one of them")
        joined |= part
    return joined
