"""Rank the true class of every classified image, and write the results of a classification."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from ignite.engine import Engine

from medpos.core.files import write_csv, write_json
from medpos.core.labels import Label
from medpos.data.classification import ImageClasses
from medpos.data.schema import SPLITS
from medpos.handlers.results import ResultWriter
from medpos.handlers.rows import RowCollector, condition_columns
from medpos.runs import files
from medpos.runs.tables import CLEAN_KEY, Row, by_condition, condition_key
from medpos.runs.text import PHANTOM_NOTE
from medpos.statistics.grid import CONDITION

logger = logging.getLogger(__name__)
RANKS = (1, 5)
COLUMNS = ("case", *CONDITION, "class", "predicted", "rank")  # of predictions.csv


class TopK(RowCollector):
    """Measure top-1 and top-5 accuracy: the shares of images with their class first, or among the first five.

    For ``key_val_metric`` of a MONAI evaluator: ``engine.state.metrics`` holds ``top1`` under the name of the key
    metric, and ``top5``; ``engine.state.rows`` holds one row per image and condition with the rank of its class, 1 is
    the first.

    Args:
        labels: the classes.
    """

    def __init__(self, labels: Sequence[Label]) -> None:
        super().__init__()
        self.labels = tuple(labels)

    def measure(self, item: Row, output: Row) -> list[Row]:
        """Rank the true class of one image; ``output`` has ``pred`` [classes] and ``label``, the class's index."""
        scores, label = torch.as_tensor(output["pred"]).flatten(), int(output["label"])
        # A class with the same score as the true one is ranked before it, so that equal scores are no success.
        rank = int((scores >= scores[label]).sum()) if bool(scores.isfinite().all()) else len(scores)
        true, predicted = (self.labels[n].name for n in (label, int(scores.argmax())))
        condition = condition_columns(item)
        return [{"case": item["case"], **condition, "class": true, "predicted": predicted, "rank": rank}]

    def finish(self, engine: Engine, name: str) -> None:
        """Store the rows and the shares of an epoch."""
        engine.state.rows = self.rows
        found = top_shares(self.rows)
        engine.state.metrics |= {name: found["top1"], "top5": found["top5"]}


def top_shares(rows: Sequence[Row]) -> dict[str, float]:
    """Return ``top1`` and ``top5``, the shares of images with their class first, or among the first five, 0 to 1."""
    return {f"top{k}": sum(row["rank"] <= k for row in rows) / len(rows) for k in RANKS}


class ClassTable(ResultWriter[ImageClasses]):
    """Write ``predictions.csv``, then ``summary.json``, which marks the run as finished, and log the shares.

    The arguments are those of :class:`medpos.handlers.ResultWriter`.
    """

    def write(self, engine: Engine) -> None:
        """Write ``state.rows`` of an evaluator with :class:`TopK` as its key metric."""
        entries = [
            {**dict(zip(CONDITION, key, strict=True)), "images": len(part), **top_shares(part)}
            for key, part in by_condition(engine.state.rows).items()
        ]
        write_csv(self.run.results / files.PREDICTIONS, COLUMNS, engine.state.rows)
        about = {"bundle": self.bundle, "data": self.source.name, "phantom": self.source.phantom, "split": SPLITS[1]}
        about |= {"stopped": self.run.stopped} if self.run.stopped else {}
        lines = [f"{self.bundle}: {SPLITS[1]} images of {self.source.name}", *map(_line, entries)]
        text = "\n".join([*lines, *([PHANTOM_NOTE] if self.source.phantom else [])])
        if self.board is not None:
            clean = [row for row in engine.state.rows if condition_key(row) == CLEAN_KEY]
            hits = {f"top{k}": [float(row["rank"] <= k) for row in clean] for k in RANKS}
            self.board.write_results(entries, hits, text)
        write_json(self.run.results / files.SUMMARY, {**about, "conditions": entries})
        logger.info("results\n%s\nresults are in %s", text, self.run.results)


def _line(entry: dict[str, Any]) -> str:
    place = f"{entry['degradation']} {entry['severity']}, shift {entry['shift']} px"
    return f"{place}: top-1 {entry['top1']:.3f}, top-5 {entry['top5']:.3f} of {entry['images']} images"
