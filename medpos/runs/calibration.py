"""Tabulate how well the probabilities of a run are calibrated: rows per case, reliability diagrams, a summary."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from medpos.core.labels import ALL_CLASSES
from medpos.metrics import summarize
from medpos.runs.tables import CLEAN_KEY, SCORE_COLUMNS, Key, Row, condition_key, or_none
from medpos.statistics.grid import CONDITION
from medpos.trust.calibration import (
    EXPECTED,
    LIMITS,
    SCORES,
    SIZES,
    Counts,
    add_all_classes,
    reliability_diagram,
    score_calibration,
)
from medpos.trust.failure import STATED, score_failures

CALIBRATION_COLUMNS = (*SCORE_COLUMNS, "organ", *SCORES, *SIZES, EXPECTED)  # of calibration.csv
# Of reliability.csv.
RELIABILITY_COLUMNS = (*CONDITION, "organ", "low", "high", "pixels", "probability", "frequency")
PREDICTED_COLUMNS = (*SCORE_COLUMNS, "organ", "predictor", "predicted", "dice")  # of predicted_dice.csv
# Of failures.csv.
FAILURE_COLUMNS = (*CONDITION, "organ", "predictor", "n", "failures", "expected", "dice", "error", *STATED)
SCALING_COLUMNS = (*CONDITION, "organ", "temperatures", *SCORES)  # of temperature_scaling.csv


@dataclass(frozen=True, eq=False)
class Calibrations:
    """Hold the calibration of an evaluation.

    Args:
        rows: one row per case, condition and organ, with the ``CALIBRATION_COLUMNS``; the last organ of each case is
            ``ALL_CLASSES``.
        totals: numbers of pixels [2 C, 2, BINS] of the whole set for each condition, as
            :func:`medpos.trust.calibration.count_probabilities` has them.
        classes: names of the C classes, background first.
    """

    rows: list[Row]
    totals: Mapping[Key, Counts]
    classes: Sequence[str]

    @property
    def diagrams(self) -> Iterator[Row]:
        """Rows of ``reliability.csv``."""
        for key, counts in self.totals.items():
            for organ, points in self._diagrams_of(counts).items():
                yield from ({**dict(zip(CONDITION, key, strict=True)), "organ": organ, **point} for point in points)

    @property
    def clean_diagrams(self) -> dict[str, list[dict[str, float]]]:
        """Points of the reliability diagram of every organ on clean images; empty where none was measured."""
        return self._diagrams_of(self.totals[CLEAN_KEY]) if CLEAN_KEY in self.totals else {}

    def _diagrams_of(self, counts: Counts) -> dict[str, list[dict[str, float]]]:
        of_organs = zip((*self.classes, ALL_CLASSES), add_all_classes(counts), strict=True)
        return {name: reliability_diagram(part) for name, part in of_organs if name != self.classes[0]}

    def add_to(self, conditions: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Add ``calibration`` to every condition of a summary.

        Args:
            conditions: entries as :func:`medpos.runs.tables.summarize_conditions` gives them, of the same evaluation.

        Returns:
            The entries with ``calibration``: for each organ, and for ``ALL_CLASSES``, each score and each of ``SIZES``
            as :func:`medpos.metrics.summarize` gives it over the cases, and ``set``, the scores of all pixels together.
        """
        return [{**entry, "calibration": self._summarize(condition_key(entry))} for entry in conditions]

    def add_failures(self, conditions: Sequence[dict[str, Any]], rows: Sequence[Row]) -> list[dict[str, Any]]:
        """Add ``failures`` to every condition of a summary: does the expected Dice tell which predictions are bad?

        Args:
            conditions: entries as :func:`medpos.runs.tables.summarize_conditions` gives them, of the same evaluation.
            rows: rows of ``metrics.csv`` of the evaluation.

        Returns:
            The entries with ``failures``: for each organ, what :func:`medpos.trust.failure.score_failures` gives.
        """
        expected = {(condition_key(row), row["case"], row["organ"]): row[EXPECTED] for row in self.rows}
        pairs: dict[tuple[Key, str], list[tuple[float, float]]] = {}
        for row in rows:
            key, organ = condition_key(row), row["organ"]
            guess = expected.get((key, row["case"], organ), float("nan"))
            pairs.setdefault((key, organ), []).append((guess, row["dice"]))
        return [
            {
                **entry,
                "failures": {o: score_failures(*np.transpose(pairs[condition_key(entry), o])) for o in entry["organs"]},
            }
            for entry in conditions
        ]

    @cached_property
    def _by_condition(self) -> dict[Key, dict[str, list[Row]]]:
        """Rows of each organ under each condition."""
        found: dict[Key, dict[str, list[Row]]] = {}
        for row in self.rows:
            found.setdefault(condition_key(row), {}).setdefault(row["organ"], []).append(row)
        return found

    def _summarize(self, key: Key) -> dict[str, Any]:
        organs = self._by_condition.get(key, {})
        of_set = score_calibration(self.totals[key])
        return {
            organ: {
                **{
                    s: summarize([r[s] for r in part], [r["subject"] for r in part], LIMITS[s])
                    for s in (*SCORES, *SIZES)
                },
                "set": or_none({s: of_set[s][n] for s in SCORES}),
            }
            for n, (organ, part) in enumerate(organs.items(), 1)
        }
