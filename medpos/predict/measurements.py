"""Measure organs on predicted label maps, and find what a reader must be warned of."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from medpos.core.files import write_csv
from medpos.core.labels import Label
from medpos.data.training_data import TrainingData
from medpos.io.scan import Array, Pixels
from medpos.metrics.clinical import (
    CHEST_CLASSES,
    CTR,
    VENTRICULAR_CLASSES,
    VENTRICULAR_UNITS,
    cardiothoracic_ratio,
    ventricular_function,
)
from medpos.trust.evidence import Floats
from medpos.trust.failure import FAILED_BELOW
from medpos.trust.quality import TOGETHER

COLUMNS = ("case", "subject", "phase", "structure", "measure", "value", "unit")
Row = dict[str, Any]

_FAR = 1.0  # allowed distance of the means, in standard deviations of the training set's gray values
_FLAT = 0.33  # smallest allowed contrast, as a share of the training set's standard deviation
_OUTSIDE = 0.05  # allowed share of pixels outside the training set's range
_PART = 1 << 20  # voxels that are counted at a time
_SPECK = 0.001  # share of an organ; smaller pieces aren't counted


def measure_organs(values: Pixels, spacing_mm: Sequence[float] | None, labels: Sequence[Label]) -> list[Row]:
    """Measure area or volume of every organ, and the cardiothoracic ratio of single images with heart and lungs.

    Args:
        values: label map [X, Y, Z] in training orientation.
        spacing_mm: spacing along its axes in mm; None: unknown, so pixels are counted.
        labels: classes, background first.

    Returns:
        Rows of ``structure``, ``measure``, ``value`` and ``unit``: mm2 or pixels for a single slice, ml or voxels for a
        volume; 0 for an organ that wasn't found, NaN for a ratio that is undefined.
    """
    counts = _count(values, len(labels) - 1)
    flat = values.shape[2] == 1
    size, unit = 1.0, "pixels" if flat else "voxels"
    if spacing_mm is not None:
        size = float(np.prod(spacing_mm[:2])) if flat else float(np.prod(spacing_mm)) / 1000
        unit = "mm2" if flat else "ml"
    kind = "area" if flat else "volume"
    rows = [
        {"structure": label.name, "measure": kind, "value": float(counts[label.index] * size), "unit": unit}
        for label in labels[1:]
    ]
    classes = {label.name: label.index for label in labels}
    if flat and set(CHEST_CLASSES) <= classes.keys():
        heart, first, second = (classes[name] for name in CHEST_CLASSES)
        ratio = cardiothoracic_ratio(values, heart, (first, second))
        rows.append({"structure": "heart", "measure": CTR, "value": ratio, "unit": ""})
    return rows


def measure_ventricles(cases: Iterable[tuple[str, str, Sequence[Row]]]) -> list[Row]:
    """Compute the indices of ventricular function of every subject with both phases.

    The phases are those named ED and ES; of numbered phases, those with the largest and the smallest left cavity, or
    right cavity where there is no left one.

    Args:
        cases: subject, phase and rows of :func:`measure_organs` for each case.

    Returns:
        Rows of ``subject``, ``structure`` (the side), ``measure``, ``value`` and ``unit``.
    """
    subjects: dict[str, dict[str, dict[str, float]]] = {}
    for subject, phase, rows in cases:
        volumes = {r["structure"]: r["value"] for r in rows if r["measure"] == "volume" and r["unit"] == "ml"}
        if phase and (found := {name: volumes[name] for name in VENTRICULAR_CLASSES if name in volumes}):
            subjects.setdefault(subject, {})[phase] = found
    return [
        {
            "subject": subject,
            "structure": name.partition(" ")[0],
            "measure": name.partition(" ")[2],
            "value": value,
            "unit": VENTRICULAR_UNITS[name],
        }
        for subject, volumes in subjects.items()
        if (pair := _choose_phases(volumes)) is not None
        for name, value in ventricular_function(*pair).items()
    ]


def _choose_phases(volumes: Mapping[str, dict[str, float]]) -> tuple[dict[str, float], dict[str, float]] | None:
    """Return the volumes at end-diastole and end-systole; None where a phase is missing."""
    if {"ED", "ES"} <= volumes.keys():
        return volumes["ED"], volumes["ES"]
    cavity = next((name for name in ("lv_cavity", "rv_cavity") if name in next(iter(volumes.values()))), None)
    if cavity is None or len(volumes) < 2 or {"ED", "ES"} & volumes.keys():
        return None
    ordered = sorted(volumes.values(), key=lambda one: one[cavity])
    return ordered[-1], ordered[0]


def tabulate_predicted_dice(dice: Mapping[str, Floats], labels: Sequence[Label]) -> list[Row]:
    """Tabulate the predicted Dice of every organ.

    Args:
        dice: predicted Dice [organs] by predictor, of all together first.
        labels: classes, background first.

    Returns:
        Rows as those of :func:`measure_organs`, without unit; NaN for an organ whose Dice can't be predicted.
    """
    return [
        {"structure": label.name, "measure": _title(predictor), "value": float(values[n]), "unit": ""}
        for n, label in enumerate(labels[1:])
        for predictor, values in dice.items()
    ]


def _title(predictor: str) -> str:
    return "predicted Dice" if predictor == TOGETHER else f"predicted Dice by {predictor}"


def find_dice_warnings(dice: Mapping[str, Floats], labels: Sequence[Label]) -> list[str]:
    """Find the organs whose predicted Dice, by all predictors together, is below 0.8; a line for each."""
    return [
        f"{label.title}: its Dice is predicted to be {value:.2f}, below {FAILED_BELOW}"
        for label, value in zip(labels[1:], dice.get(TOGETHER, ()), strict=False)
        if value < FAILED_BELOW
    ]


def find_label_warnings(values: Pixels, spacing_mm: Sequence[float] | None, labels: Sequence[Label]) -> list[str]:
    """Find what looks wrong with a label map.

    Warns of an unknown spacing, and of an organ that is missing, is in several pieces (specks of less than 0.1 % of the
    organ don't count) or touches the border of the image.

    Args:
        values: label map [X, Y, Z].
        spacing_mm: spacing along its axes in mm; None: unknown.
        labels: classes, background first.

    Returns:
        Warnings, one per line.
    """
    found = [] if spacing_mm is not None else ["spacing unknown: pixels are counted, give --spacing for mm"]
    for label, place in zip(labels[1:], _boxes(values, len(labels)), strict=True):
        if place is None:
            found.append(f"{label.title} is missing")
            continue
        inside = values[place] == label.index
        sizes = _count(*ndimage.label(inside))[1:]
        pieces = int((sizes >= max(1.0, _SPECK * sizes.sum())).sum())
        if pieces > 1:
            largest = 100 * sizes.max() / sizes.sum()
            share = f"{largest:.0f} %" if largest < 99.5 else "over 99 %"
            found.append(f"{label.title} is in {pieces} pieces, the largest {share}")
        if any(place[a].start == 0 or place[a].stop == values.shape[a] for a in (0, 1)):
            found.append(f"{label.title} touches the border")
    return found


def _count(values: Array, highest: int) -> Array:
    """Count the voxels of each value from 0 to the highest, in parts, because NumPy counts in 64 bits."""
    flat = values.reshape(-1)
    parts = (flat[first : first + _PART] for first in range(0, flat.size, _PART))
    counts: Array = np.sum([np.bincount(part, minlength=highest + 1) for part in parts], axis=0)
    return counts


def _boxes(values: Pixels, classes: int) -> list[tuple[slice, ...] | None]:
    boxes: list[tuple[slice, ...] | None] = list(ndimage.find_objects(values))
    return (boxes + [None] * classes)[: classes - 1]


def find_intensity_warnings(values: Array, data: TrainingData) -> list[str]:
    """Find out whether gray values are far from those of the training set.

    Args:
        values: gray values of any shape, in the units of training.
        data: description of the training data.

    Returns:
        One warning, or none.
    """
    low, high = data.intensity["low"], data.intensity["high"]
    planes = np.moveaxis(values, 2, 0) if values.ndim > 2 else [values]  # one by one, in 64 bits
    average = float(values.mean(dtype=np.float64))
    squares = sum(float(np.square(np.subtract(plane, average, dtype=np.float64)).sum()) for plane in planes)
    mean, std = average / (high - low), math.sqrt(squares / values.size) / (high - low)
    distance = (mean - low / (high - low) - data.intensity["mean"]) / data.intensity["std"]
    outside = sum(int(np.count_nonzero((plane < low) | (plane > high))) for plane in planes) / values.size
    found = []
    if abs(distance) > _FAR:
        found.append(f"mean {abs(distance):.1f} standard deviations too {'bright' if distance > 0 else 'dark'}")
    if std < _FLAT * data.intensity["std"]:
        found.append(f"contrast {std / data.intensity['std']:.2f} of training's")
    if outside > _OUTSIDE:
        found.append(f"{100 * outside:.0f} % of pixels outside {low:g} to {high:g}")
    return [f"intensity is far from the training set: {', '.join(found)}; see --window"] if found else []


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a CSV file; NaN and missing values become empty cells.

    Args:
        path: file to write.
        columns: names of the columns.
        rows: values by column.
    """
    write_csv(path, columns, ({key: _cell(value) for key, value in row.items()} for row in rows))


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return value
