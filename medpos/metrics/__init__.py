"""Metrics per case and organ, and the one policy for empty masks.

| prediction, truth | Dice, IoU, sensitivity, precision | HD95, mean surface distance |
|---|---|---|
| both empty | NaN: left out of the mean, counted as missing | NaN: the same |
| one of them empty | 0 | inf: left out of the mean, counted as infinite |

An organ that is never found so reads Dice 0 with n cases and a distance with n infinite, never a perfect distance of 0.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medpos.errors import InputError
from medpos.labels import Label
from medpos.metrics.overlap import overlap
from medpos.metrics.summary import summarise
from medpos.metrics.surface import bounding_box, surface_distances

__all__ = ["METRICS", "case_metrics", "overlap", "summarise", "surface_distances"]

METRICS = ("dice", "iou", "sensitivity", "precision", "hd95_mm", "assd_mm")


def case_metrics(
    prediction: npt.ArrayLike, truth: npt.ArrayLike, labels: Sequence[Label], spacing_mm: Sequence[float]
) -> list[dict[str, Any]]:
    """Measures one case, organ by organ.

    Args:
        prediction: label map [X, Y] or [X, Y, Z].
        truth: the same for the truth, equal shape.
        labels: the classes; index 0 is the background.
        spacing_mm: size of a pixel along each axis, mm.

    Returns:
        A row for each foreground class, in the order of ``labels``: ``organ`` and the ``METRICS``.

    Raises:
        InputError: different shapes, a spacing that doesn't fit, or a value that is none of the labels.
    """
    predicted, true = np.asarray(prediction), np.asarray(truth)
    if predicted.shape != true.shape:
        raise InputError(f"the prediction has shape {predicted.shape}, the truth {true.shape}; both must be equal")
    if len(spacing_mm) != true.ndim or not all(0 < size < np.inf for size in spacing_mm):
        raise InputError(f"spacing_mm is {tuple(spacing_mm)}, needed are {true.ndim} positive numbers, one an axis")
    predicted, true = _label_map("prediction", predicted, labels), _label_map("truth", true, labels)
    if (foreground := (predicted | true) != 0).any():
        box = bounding_box(foreground)
        predicted, true = predicted[box], true[box]
    overlaps = overlap(predicted, true, max(label.index for label in labels) + 1)
    rows = []
    for label in labels:
        if label.index == 0:
            continue
        hd95, assd = surface_distances(predicted == label.index, true == label.index, spacing_mm)
        values = {name: float(value[label.index - 1]) for name, value in overlaps.items()}
        rows.append({"organ": label.name, **values, "hd95_mm": hd95, "assd_mm": assd})
    return rows


def _label_map(name: str, values: npt.NDArray[Any], labels: Sequence[Label]) -> npt.NDArray[np.uint8]:
    """Makes sure that every value is a label, and gives the map as small integers."""
    indices = [label.index for label in labels]
    allowed = np.zeros(256, dtype=bool)
    allowed[indices] = True
    with np.errstate(invalid="ignore"):
        small = values.astype(np.uint8)
    if not (allowed[small].all() and (small == values).all()):
        found = ", ".join(f"{value:g}" for value in np.unique(values)[:20])
        raise InputError(f"the {name} holds the values {found}; the labels are {', '.join(map(str, indices))}")
    return small
