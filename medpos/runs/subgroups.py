"""Measure subgroups of the test cases: by phase, group, sex, age and level of the heart.

``subgroups.csv`` stands beside ``metrics.csv`` and has a row per case, organ and subgroup, on clean images: the Dice of
the case, or of a third of its slices. What a data set doesn't know has no rows.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medpos.core.labels import IGNORED, MEAN_OF_ORGANS, Label
from medpos.core.rules import is_finite
from medpos.data.conditions import CLEAN
from medpos.metrics import limits_of, mean_of_finite, overlap, summarize
from medpos.runs.cases import CaseView
from medpos.runs.tables import SCORE_COLUMNS, Row

COLUMNS = (*SCORE_COLUMNS, "by", "subgroup", "organ", "dice")
LEVELS = ("base", "mid", "apex")
TITLES = {"phase": "phase", "group": "group", "sex": "sex", "age": "age", "level": "level of the heart"}
_AGES = ((45, "below 45"), (65, "45 to 64"), (np.inf, "65 and above"))


def find_subgroups(entry: Mapping[str, Any]) -> dict[str, str]:
    """Return the subgroups of a case by what they are formed by.

    Args:
        entry: entry of the case in ``dataset.json``; ``phase``, ``group``, ``sex`` and ``age`` in years count where
            they are known.
    """
    found = {name: str(entry[name]).strip() for name in ("phase", "group", "sex") if entry.get(name)}
    if is_finite(entry.get("age")):
        found["age"] = next(name for end, name in _AGES if float(entry["age"]) < end)
    return {name: value for name, value in found.items() if value}


def find_levels(truth: npt.NDArray[Any]) -> dict[str, npt.NDArray[np.intp]]:
    """Divide the slices of a short-axis heart into thirds.

    Args:
        truth: label map of the ground truth [X, Y, Z], not 0 inside the heart.

    Returns:
        Indices of the slices at ``base``, ``mid`` and ``apex``; slices without the heart belong to none. The base is
        the end with the larger area. Empty for an image, or for a heart in fewer than three slices.

    Reference:
        M. D. Cerqueira et al., "Standardized myocardial segmentation and nomenclature for tomographic imaging of the
        heart", Circulation 105(4), 2002 (equal thirds along the long axis).
    """
    areas = np.count_nonzero((truth != 0) & (truth != IGNORED), axis=(0, 1)) if truth.ndim == 3 else np.zeros(0, int)
    slices = np.flatnonzero(areas)
    if slices.size < len(LEVELS):
        return {}
    end = slices.size // len(LEVELS)
    if areas[slices[-end:]].sum() > areas[slices[:end]].sum():
        slices = slices[::-1]
    return dict(zip(LEVELS, np.array_split(slices, len(LEVELS)), strict=True))


def measure_subgroups(
    rows: Sequence[Row], entries: Iterable[Mapping[str, Any]], views: Iterable[CaseView], labels: Sequence[Label]
) -> list[Row]:
    """Make the rows of ``subgroups.csv``.

    Args:
        rows: rows of ``metrics.csv``.
        entries: entries of the cases in ``dataset.json``.
        views: segmented cases; those with a phase are hearts and have levels.
        labels: the classes, background first.
    """
    subgroups = {str(entry["case"]): find_subgroups(entry) for entry in entries}
    clean = [row for row in rows if (row["severity"], row["shift"]) == (CLEAN.severity, CLEAN.shift)]
    found = [
        {**{key: row[key] for key in (*SCORE_COLUMNS, "organ", "dice")}, "by": by, "subgroup": subgroup}
        for row in clean
        for by, subgroup in subgroups.get(row["case"], {}).items()
    ]
    places = {row["case"]: {key: row[key] for key in SCORE_COLUMNS} for row in clean}
    for view in views:
        if view.phase and view.case in places:
            found += [{**places[view.case], **row} for row in _measure_levels(view, labels)]
    return found


def _measure_levels(view: CaseView, labels: Sequence[Label]) -> Iterator[Row]:
    for level, slices in find_levels(view.truth).items():
        truth, prediction = view.truth[..., slices], view.prediction[..., slices]
        counted = truth != IGNORED
        dice = overlap(prediction[counted], truth[counted], len(labels))["dice"]
        for label, value in zip(labels[1:], dice, strict=True):
            yield {"by": "level", "subgroup": level, "organ": label.name, "dice": float(value)}


def summarize_subgroups(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Summarize the Dice of each subgroup and organ.

    Args:
        rows: rows of ``subgroups.csv``, of one or several trainings; a case may have a row for each of them.

    Returns:
        One entry per subgroup and organ, the mean of organs last, in the order in which they appear: ``by``,
        ``subgroup``, ``organ``, ``subjects``, and what :func:`medpos.metrics.summarize` gives. Subgroups are compared
        with each other, so there are none where all cases are in the same one.
    """
    parts: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        parts.setdefault((row["by"], row["subgroup"]), []).append(row)
    kinds = [by for by, _ in parts]
    out = []
    for (by, subgroup), part in parts.items():
        for organ, values, subjects in _by_organ(part) if kinds.count(by) > 1 else ():
            about = {"by": by, "subgroup": subgroup, "organ": organ, "subjects": len(set(subjects))}
            out.append({**about, **summarize(values, subjects, limits_of("dice"))})
    return sorted(out, key=lambda entry: kinds.index(entry["by"]))


def _by_organ(rows: Sequence[Row]) -> Iterator[tuple[str, list[float], list[str]]]:
    """Yield each organ and their mean with its values and their subjects."""
    organs: dict[str, list[Row]] = {}
    cases: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        organs.setdefault(row["organ"], []).append(row)
        cases.setdefault((row["case"], row.get("seed")), []).append(row)
    for organ, part in organs.items():
        yield organ, [row["dice"] for row in part], [row["subject"] for row in part]
    means = [mean_of_finite([row["dice"] for row in part]) for part in cases.values()]
    yield MEAN_OF_ORGANS, means, [part[0]["subject"] for part in cases.values()]
