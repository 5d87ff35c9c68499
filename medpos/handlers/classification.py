"""Count the classified images of an evaluation and write their table."""

from collections.abc import Sequence
from typing import Any

import torch
from ignite.engine import Engine, Events

from medpos.core.device import is_main_process
from medpos.core.files import write_json
from medpos.core.labels import Label
from medpos.data.classification import ImageClasses, logger
from medpos.data.schema import SPLITS
from medpos.handlers.metrics import condition_of, gathered
from medpos.runs import files
from medpos.runs.folder import RunFolder
from medpos.runs.tables import PHANTOM_NOTE, condition_key, write_csv

ROW = ("case", "degradation", "severity", "shift", "class", "predicted", "rank")


class TopK:
    """Shares of images whose class is the first, and among the first five; ``key_val_metric`` of a MONAI evaluator.

    ``engine.state.metrics`` holds ``top1`` under the name of the key metric, and ``top5``; ``engine.state.rows`` an
    entry an image and condition with the rank of its class, 1 the first.

    Args:
        labels: the classes, for their names.
    """

    def __init__(self, labels: Sequence[Label]) -> None:
        self.labels = tuple(labels)
        self.rows: list[dict[str, Any]] = []

    def attach(self, engine: Engine, name: str) -> None:
        """Follow the evaluator ``engine``; its items have ``case``, its outputs ``pred`` [classes] and ``label``."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._update)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._finish, name)

    def _reset(self, engine: Engine) -> None:
        self.rows = []

    def _update(self, engine: Engine) -> None:
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            scores, label = torch.as_tensor(output["pred"]).flatten(), int(output["label"])
            # A class as probable as the true one counts as before it, so that equal scores are no success.
            rank = int((scores >= scores[label]).sum()) if bool(scores.isfinite().all()) else len(scores)
            names = (self.labels[n].name for n in (label, int(scores.argmax())))
            condition = condition_of(item)
            place = (condition.degradation, condition.severity, condition.shift)
            self.rows.append(dict(zip(ROW, (item["case"], *place, *names, rank), strict=True)))

    def _finish(self, engine: Engine, name: str) -> None:
        self.rows = engine.state.rows = gathered(self.rows)
        found = shares(self.rows)
        engine.state.metrics |= {name: found["top1"], "top5": found["top5"]}


def shares(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """``top1`` and ``top5``: the share of images whose class is the first, and among the first five."""
    return {f"top{k}": sum(row["rank"] <= k for row in rows) / len(rows) for k in (1, 5)}


class ClassTable:
    """Writes ``predictions.csv``, then ``summary.json``, which marks the run as finished, and logs the shares.

    Args:
        run: where they go.
        source: the data set; phantom data are called so everywhere.
        bundle: name for the title.
    """

    def __init__(self, run: RunFolder, source: ImageClasses, bundle: str) -> None:
        self.run, self.source, self.bundle = run, source, bundle

    def attach(self, engine: Engine) -> None:
        """Write when ``engine``, whose key metric is :class:`TopK`, has gone through the images."""
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _write(self, engine: Engine) -> None:
        if not is_main_process():
            return
        conditions: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for row in engine.state.rows:
            conditions.setdefault(condition_key(row), []).append(row)
        entries = [
            {**dict(zip(ROW[1:4], key, strict=True)), "images": len(part), **shares(part)}
            for key, part in conditions.items()
        ]
        write_csv(engine.state.rows, self.run.results / files.PREDICTIONS, ROW)
        about = {"bundle": self.bundle, "data": self.source.name, "phantom": self.source.phantom, "split": SPLITS[1]}
        write_json(self.run.results / files.SUMMARY, {**about, "conditions": entries})
        lines = [f"{self.bundle}: {SPLITS[1]} images of {self.source.name}", *map(_line, entries)]
        note = [PHANTOM_NOTE] if self.source.phantom else []
        logger.info("results\n%s\nresults are in %s", "\n".join([*lines, *note]), self.run.results)


def _line(entry: dict[str, Any]) -> str:
    place = f"{entry['degradation']} {entry['severity']}, shift {entry['shift']} px"
    return f"{place}: top-1 {entry['top1']:.3f}, top-5 {entry['top5']:.3f} of {entry['images']} images"
