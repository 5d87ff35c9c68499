"""Metrics per case and organ, and the one policy for empty masks.

| prediction, truth | Dice, IoU, sensitivity, precision | HD95, mean surface distance |
|---|---|---|
| both empty | NaN: left out of the mean, counted as missing | NaN: the same |
| one of them empty | 0 | inf: left out of the mean, counted as infinite |

An organ that is never found so reads Dice 0 with n cases and a distance with n infinite, never a perfect distance of 0.

The scores of ``medpos.metrics.scores`` keep to the same:

| prediction, truth | SEG | adapted Rand error | pixel error | boundary F1 of a class |
|---|---|---|---|---|
| both empty | NaN: left out of the mean, counted as missing | NaN: the same | 0 | NaN: the same |
| truth empty | NaN: the same | NaN: the same | share of pixels | NaN: the same |
| prediction empty | 0 | as defined: all true objects merged to one | share of pixels | 0 |

Of a set, a class without true pixels is left out of C and of the weighted means, and one that is neither there nor
predicted out of the mean IoU.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medpos.core.errors import InputError
from medpos.core.labels import IGNORED, Label
from medpos.metrics.overlap import overlap
from medpos.metrics.scores import ClassScores, InstanceScores, WeightedDice
from medpos.metrics.summary import mean_of_finite, summarize
from medpos.metrics.surface import Surface, boundaries, distances_between, surface_distances
from medpos.metrics.trimap import TrimapScores

__all__ = [
    "METRICS",
    "CaseTruth",
    "ClassScores",
    "InstanceScores",
    "TrimapScores",
    "WeightedDice",
    "case_metrics",
    "mean_of_finite",
    "overlap",
    "summarize",
    "surface_distances",
]

METRICS = ("dice", "iou", "sensitivity", "precision", "hd95_mm", "assd_mm")


def case_metrics(
    prediction: npt.ArrayLike, truth: npt.ArrayLike, labels: Sequence[Label], spacing_mm: Sequence[float]
) -> list[dict[str, Any]]:
    """Measures one case, organ by organ.

    Args:
        prediction: label map [X, Y] or [X, Y, Z].
        truth: the same for the truth, equal shape; pixels of 255 are background in both.
        labels: the classes; index 0 is the background.
        spacing_mm: size of a pixel along each axis, mm.

    Returns:
        A row for each foreground class, in the order of ``labels``: ``organ`` and the ``METRICS``.

    Raises:
        InputError: different shapes, a spacing that doesn't fit, or a value that is none of the labels.
    """
    return CaseTruth(truth, labels, spacing_mm).measure(prediction)


class CaseTruth:
    """The truth of a case, which predictions under many conditions are measured against: its part is done once.

    Args:
        truth: label map [X, Y] or [X, Y, Z]; 255 where it is to be ignored: such pixels are background in truth and
            prediction alike.
        labels: the classes; index 0 is the background.
        spacing_mm: size of a pixel along each axis, mm.

    Raises:
        InputError: a spacing that doesn't fit, or a value that is none of the labels.
    """

    def __init__(self, truth: npt.ArrayLike, labels: Sequence[Label], spacing_mm: Sequence[float]) -> None:
        true = np.asarray(truth)
        self.labels, self.spacing_mm = tuple(labels), tuple(spacing_mm)
        if len(self.spacing_mm) != true.ndim or not all(0 < size < np.inf for size in self.spacing_mm):
            raise InputError(f"spacing_mm is {self.spacing_mm}, needed are {true.ndim} positive numbers, one an axis")
        self._ignored = true == IGNORED
        # A copy, for a truth that is kept.
        self.label_map = _label_map("truth", np.where(self._ignored, 0, true), labels)
        self._surfaces = {n: Surface(pixels, self.spacing_mm) for n, pixels in boundaries(self.label_map).items()}

    def is_of(self, truth: npt.NDArray[Any], spacing_mm: Sequence[float]) -> bool:
        """Whether it was made from this truth."""
        kept = np.where(self._ignored, IGNORED, self.label_map)
        return tuple(spacing_mm) == self.spacing_mm and np.array_equal(truth, kept)

    def measure(self, prediction: npt.ArrayLike) -> list[dict[str, Any]]:
        """Measures a prediction of this case; see :func:`case_metrics`.

        Raises:
            InputError: another shape than the truth's, or a value that is none of the labels.
        """
        predicted, shape = np.asarray(prediction), self.label_map.shape
        if predicted.shape != shape:
            raise InputError(f"the prediction has shape {predicted.shape}, the truth {shape}; both must be equal")
        predicted = _label_map("prediction", predicted, self.labels)
        predicted = np.ascontiguousarray(np.where(self._ignored, 0, predicted))
        overlaps = overlap(predicted, self.label_map, max(label.index for label in self.labels) + 1)
        found = boundaries(predicted)
        rows = []
        for index, name in ((label.index, label.name) for label in self.labels if label.index):
            hd95, assd = distances_between(found.get(index), self._surfaces.get(index))
            values = {metric: float(value[index - 1]) for metric, value in overlaps.items()}
            rows.append({"organ": name, **values, "hd95_mm": hd95, "assd_mm": assd})
        return rows


def _label_map(name: str, values: npt.NDArray[Any], labels: Sequence[Label]) -> npt.NDArray[np.uint8]:
    """Makes sure that every value is a label, and gives the map as small integers."""
    indices = [label.index for label in labels]
    allowed = np.zeros(256, dtype=bool)
    allowed[indices] = True
    with np.errstate(invalid="ignore"):
        small = values.astype(np.uint8, copy=False)
    # Where all numbers up to the highest one are labels, no pixel needs to be looked up.
    known = allowed[: int(small.max(initial=0)) + 1].all() or allowed[small].all()
    if not (known and (small is values or (small == values).all())):
        found = ", ".join(f"{value:g}" for value in np.unique(values)[:20])
        raise InputError(f"the {name} holds the values {found}; the labels are {', '.join(map(str, indices))}")
    return small
