"""Collect the confusion matrices of a report's runs, and tabulate and draw them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from medpos.core.errors import InputError
from medpos.core.labels import labels_of, title
from medpos.metrics import summarize
from medpos.metrics.confusion import VOID, Confusion, scores_by_class
from medpos.plotting.confusion import MOST, draw_confusion
from medpos.plotting.style import Drawing
from medpos.report.sources import Run, add_run, as_numbers, clean_rows, read_rows
from medpos.report.tables import Table, count_cell, number_cell, organ_cell, slug, text_cell
from medpos.runs import files
from medpos.runs.tables import CONFUSION_COLUMNS
from medpos.statistics.grid import CONDITION

_IDENTITY = ["data", "split", "model", "seed"]
_COLUMNS = [*_IDENTITY, "run", "evaluation", *CONFUSION_COLUMNS]
# An evaluation under many conditions measures the clean images again.
_KEY = [*_IDENTITY, *CONDITION, "true", "predicted"]


@dataclass(frozen=True, eq=False)
class ModelConfusion:
    """Hold the confusion matrices of a model on clean images.

    Args:
        data: name of the data set, with the split where it isn't the test.
        model: name of the model.
        classes: names of the C classes.
        counts: numbers of pixels [seeds, C, C], true classes in rows, predicted ones in columns.
    """

    data: str
    model: str
    classes: tuple[str, ...]
    counts: Confusion


def collect_confusions(runs: Sequence[Run]) -> pd.DataFrame:
    """Collect every confusion matrix once; runs of earlier versions have none.

    Returns:
        Long table with the columns ``data``, ``split``, ``model``, ``seed`` (-1 where it is not recorded), ``run``,
        ``evaluation`` and those of ``confusion.csv``.

    Raises:
        InputError: a file is malformed.
    """
    parts = [
        add_run(_read(evaluation.folder / files.CONFUSION), run, evaluation).assign(split=evaluation.split)
        for run in runs
        for evaluation in run.pooled
        if (evaluation.folder / files.CONFUSION).is_file()
    ]
    if not parts:
        return pd.DataFrame(columns=_COLUMNS)
    return pd.concat(parts, ignore_index=True).drop_duplicates(_KEY, ignore_index=True)[_COLUMNS]


def _read(path: Path) -> pd.DataFrame:
    table = as_numbers(read_rows(path, CONFUSION_COLUMNS), ["pixels"], path)
    classes = list(dict.fromkeys(table["true"]))
    pairs = [(true, predicted) for true in classes for predicted in classes]
    for _, part in table.groupby(list(CONDITION), sort=False):
        if list(zip(part["true"], part["predicted"], strict=True)) != pairs:
            raise InputError(f"{path}: expected a line for every pair of classes in order, got others; evaluate again")
    if not (table["pixels"].between(0, 2**53) & (table["pixels"] % 1 == 0)).all():
        raise InputError(f"{path}: pixels: expected whole numbers from 0 upward, got others; evaluate again")
    return table.astype({"pixels": np.int64})


def clean_confusions(rows: pd.DataFrame) -> list[ModelConfusion]:
    """Return the confusion matrices of every model on clean images.

    Args:
        rows: table from :func:`collect_confusions`.
    """
    found = []
    for (data, split, model), part in clean_rows(rows).groupby(["data", "split", "model"], sort=False):
        classes = tuple(dict.fromkeys(part["true"]))
        # The lines of a seed are in the order of the matrix.
        counts = part["pixels"].to_numpy().reshape(-1, len(classes), len(classes))
        name = str(data) if split == "test" else f"{data}, {split}"
        found.append(ModelConfusion(name, str(model), classes, counts))
    return found


def tabulate_classes(confusions: Sequence[ModelConfusion]) -> Table:
    """Tabulate IoU and accuracy of every class over the whole set, clean images."""
    rows, records = [], []
    for confusion in confusions:
        labels = labels_of(confusion.classes[1:])
        for record in _class_records(confusion):
            records.append({"data": confusion.data, "model": confusion.model, **record})
            ratios = [number_cell(record[f"{k}_mean"], 3, record[f"{k}_sd"]) for k in ("iou", "class_accuracy")]
            counts = [count_cell(record[key]) for key in ("true_pixels", "predicted_pixels", "seeds")]
            names = text_cell(confusion.data), text_cell(confusion.model)
            rows.append((organ_cell(str(record["class"]), labels), *names, *ratios, *counts))
    return Table(
        "classes",
        "Classes over the whole set, clean images",
        "of the pixels of all cases together, mean ± sd over seeds; class accuracy: share of the true pixels that is "
        "right; pixels: of one seed, mean over seeds",
        ("class", "data", "model", "IoU", "class accuracy", "true pixels", "predicted pixels", "seeds"),
        tuple(rows),
        pd.DataFrame(records),
    )


def _class_records(confusion: ModelConfusion) -> Iterator[dict[str, object]]:
    """Compute the numbers of each class, over the seeds."""
    scores = [scores_by_class(counts) for counts in confusion.counts]
    true, predicted = (confusion.counts.sum(axis=axis).mean(axis=0) for axis in (2, 1))
    for n, name in enumerate(confusion.classes):
        if n or name != VOID:
            found = {key: summarize([seed[key][n] for seed in scores]) for key in ("iou", "class_accuracy")}
            spread = {f"{key}_{part}": values[part] for key, values in found.items() for part in ("mean", "sd")}
            counts = {"true_pixels": true[n], "predicted_pixels": predicted[n], "seeds": len(scores)}
            yield {"class": name, **spread, **counts}


def draw_confusions(confusions: Sequence[ModelConfusion]) -> list[Drawing]:
    """Draw the matrix of every model, the pixels of all seeds together, where its numbers are readable."""
    drawings = []
    for n, found in enumerate(confusions, 1):
        if len(found.classes) <= MOST:
            counts, titles = found.counts.sum(axis=0), [title(name) for name in found.classes]
            name = f"confusion_{n:02d}_{slug(found.model)[:40]}"
            alt = f"Confusion matrix of {found.model} on {found.data}. {_describe(counts, titles)}"
            drawings.append(Drawing(name, f"{found.model} on {found.data}", alt, draw_confusion(counts, titles)))
    return drawings


def _describe(counts: Confusion, titles: Sequence[str]) -> str:
    """Describe in words how much of each true class is right, and what it is most often taken for."""
    parts = []
    for n, (row, name) in enumerate(zip(counts, titles, strict=True)):
        if row.sum():
            wrong = np.where(np.arange(len(row)) == n, 0, row)
            most = int(wrong.argmax())
            taken = f", {wrong[most] / row.sum():.1%} taken for {titles[most]}" if wrong[most] else ""
            parts.append(f"{name}: {row[n] / row.sum():.1%} right{taken}")
    return f"{'; '.join(parts)}."
