"""Tabulate the measurements of a run: one row per case, organ and condition, and a summary per condition."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medpos.data.conditions import CLEAN
from medpos.metrics import METRICS, SHOWN, limits_of, summarize
from medpos.metrics.confusion import VOID, Confusion, class_scores, scores_by_class
from medpos.statistics.grid import CONDITION

Row = dict[str, Any]
Key = tuple[Any, ...]  # degradation, severity and shift of a condition
CLEAN_KEY: Key = (CLEAN.degradation, CLEAN.severity, CLEAN.shift)
SCORE_COLUMNS = ("case", "subject", "split", *CONDITION)  # of scores.csv, before the scores
COLUMNS = (*SCORE_COLUMNS, "organ", *METRICS)  # of metrics.csv
CONFUSION_COLUMNS = (*CONDITION, "true", "predicted", "pixels")  # of confusion.csv
EARLIER_COLUMNS = (*SCORE_COLUMNS, "organ", *SHOWN)  # of the tables of earlier versions


@dataclass(frozen=True, eq=False)
class ScoreResults:
    """Hold the scores of an evaluation.

    Args:
        rows: one row per case and condition: the ``SCORE_COLUMNS``, then every score of the case by its name.
        sets: scores of the whole set by name, for each condition as :func:`condition_key` gives it.
    """

    rows: list[Row]
    sets: dict[Key, dict[str, float]]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the scores of a case."""
        return tuple(name for name in (self.rows[0] if self.rows else ()) if name not in SCORE_COLUMNS)

    @property
    def set_names(self) -> tuple[str, ...]:
        """Names of the scores of the set."""
        return tuple(dict.fromkeys(name for found in self.sets.values() for name in found))


@dataclass(frozen=True, eq=False)
class Confusions:
    """Hold the confusion matrix of a whole set for each condition.

    Args:
        classes: names of the classes, in the order of their indices.
        counts: numbers of pixels [C, C] for each condition as :func:`condition_key` gives it, true classes in rows,
            predicted ones in columns; ignored pixels, and those of a true class 0 named ``void``, aren't counted.
    """

    classes: tuple[str, ...]
    counts: dict[Key, Confusion]

    @classmethod
    def add(cls, classes: Sequence[str], cases: Iterable[tuple[Key, Confusion]]) -> "Confusions":
        """Add up the confusion matrices [C, C] of cases, each with its condition."""
        counts: dict[Key, Confusion] = {}
        for key, found in cases:
            total = counts.setdefault(key, np.zeros_like(found))
            total += found
            if classes[0] == VOID:
                total[0] = 0
        return cls(tuple(classes), counts)

    @property
    def rows(self) -> Iterator[Row]:
        """Rows of ``confusion.csv``."""
        for key, found in self.counts.items():
            condition = dict(zip(CONDITION, key, strict=True))
            for true, of_class in zip(self.classes, found.tolist(), strict=True):
                for predicted, pixels in zip(self.classes, of_class, strict=True):
                    yield {**condition, "true": true, "predicted": predicted, "pixels": pixels}


def condition_key(row: Row) -> Key:
    """Return the condition of a row: degradation, severity and shift."""
    return tuple(row[name] for name in CONDITION)


def by_condition(rows: Iterable[Row]) -> dict[Key, list[Row]]:
    """Group rows by their condition, in the order in which the conditions appear."""
    conditions: dict[Key, list[Row]] = {}
    for row in rows:
        conditions.setdefault(condition_key(row), []).append(row)
    return conditions


def summarize_conditions(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Summarize each metric per condition and organ, in the order in which they appear.

    Returns:
        One entry per condition: its ``degradation``, ``severity`` and ``shift``; ``organs``, each with its metrics as
        :func:`medpos.metrics.summarize` gives them; and ``mean_foreground_dice`` over the cases. Intervals are
        over subjects.
    """
    return [
        {
            **dict(zip(CONDITION, key, strict=True)),
            "organs": _by_organ(part),
            "mean_foreground_dice": _mean_foreground_dice(part),
        }
        for key, part in by_condition(rows).items()
    ]


def _by_organ(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    organs: dict[str, list[Row]] = {}
    for row in rows:
        organs.setdefault(row["organ"], []).append(row)
    return {
        organ: {m: summarize([r[m] for r in part], [r["subject"] for r in part], limits_of(m)) for m in METRICS}
        for organ, part in organs.items()
    }


def _mean_foreground_dice(rows: Sequence[Row]) -> dict[str, Any]:
    cases: dict[str, list[float]] = {}
    for row in rows:
        cases.setdefault(row["case"], []).append(row["dice"])
    subjects = {row["case"]: row["subject"] for row in rows}
    means = [float(np.nanmean(v)) if np.isfinite(v).any() else float("nan") for v in cases.values()]
    return summarize(means, [subjects[case] for case in cases], limits_of("dice"))


def add_scores(conditions: Sequence[dict[str, Any]], results: ScoreResults) -> list[dict[str, Any]]:
    """Add ``scores`` to every condition.

    Args:
        conditions: entries as :func:`summarize_conditions` gives them.
        results: scores of the same evaluation.

    Returns:
        The entries with ``scores``: each score of a case as :func:`medpos.metrics.summarize` gives it, with the
        subjects as groups; and ``set``, the scores of the whole set as plain numbers, None where nothing could be
        measured.
    """
    return [{**entry, "scores": _scores(results, condition_key(entry))} for entry in conditions]


def _scores(results: ScoreResults, condition: Key) -> dict[str, Any]:
    rows = [row for row in results.rows if condition_key(row) == condition]
    subjects = [row["subject"] for row in rows]
    of_set = or_none(results.sets.get(condition, {}))
    found = {name: summarize([row[name] for row in rows], subjects, limits_of(name)) for name in results.names}
    return {**found, "set": of_set}


def add_confusions(conditions: Sequence[dict[str, Any]], confusions: Confusions) -> list[dict[str, Any]]:
    """Add what follows from the confusion matrix of the whole set to every condition.

    Args:
        conditions: entries as :func:`summarize_conditions` or :func:`add_scores` gives them.
        confusions: confusion matrices of the same evaluation.

    Returns:
        The entries with ``classes``, the scores of each class by its name as
        :func:`medpos.metrics.confusion.scores_by_class` computes them, and with those of
        :func:`medpos.metrics.confusion.class_scores` in ``set`` of ``scores``, where scores of these names stay as they
        are. None where nothing could be measured. A class named ``void`` is left out.
    """
    return [_add_confusion(entry, confusions.classes, confusions.counts[condition_key(entry)]) for entry in conditions]


def _add_confusion(entry: dict[str, Any], classes: Sequence[str], counts: Confusion) -> dict[str, Any]:
    has_void = classes[0] == VOID
    by_class = scores_by_class(counts)
    found = {name: or_none({k: v[n] for k, v in by_class.items()}) for n, name in enumerate(classes)}
    scores = entry.get("scores", {"set": {}})
    of_set = {**scores["set"], **or_none(class_scores(counts, not has_void)), **scores["set"]}
    kept = {name: values for name, values in found.items() if not (has_void and name == VOID)}
    return {**entry, "classes": kept, "scores": {**scores, "set": of_set}}


def or_none(values: Mapping[str, float | np.float64]) -> dict[str, float | None]:
    """Replace numbers that aren't finite, which JSON lacks, by None."""
    return {name: float(value) if np.isfinite(value) else None for name, value in values.items()}
