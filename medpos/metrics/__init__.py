"""Measure segmentations per case and organ, with one policy for empty masks.

| prediction, truth | Dice, IoU, sensitivity, precision, surface Dice | specificity, accuracy, NPV | HD95, ASSD |
|---|---|---|---|
| both empty | NaN: left out of the mean, counted as missing | NaN: the same | NaN: the same |
| one of them empty | 0 | as defined | inf: left out of the mean, counted as infinite |

So an organ that is never found has a Dice of 0 over n cases and n infinite distances, never a perfect distance of 0.

The scores of ``medpos.metrics.scores`` follow the same policy:

| prediction, truth | SEG, box IoU | adapted Rand error | pixel error | boundary F1 of a class | other scores of boxes |
|---|---|---|---|---|---|
| both empty | NaN: left out of the mean, counted as missing | NaN: the same | 0 | NaN: the same | NaN: the same |
| truth empty | NaN: the same | NaN: the same | share of pixels | NaN: the same | 0 |
| prediction empty | 0 | as defined: all true objects merged into one | share of pixels | 0 | 0 |

For a set of cases, a class without true pixels is left out of C and of the weighted means, and a class without true
and predicted pixels is left out of the mean IoU.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medpos.core.errors import InputError
from medpos.core.labels import IGNORED, Label
from medpos.metrics.confusion import Confusion, pairs, same_shape
from medpos.metrics.overlap import overlap, overlap_of
from medpos.metrics.scores import ClassScores, InstanceScores, WeightedDice
from medpos.metrics.summary import INTERVAL, limits_of, mean_of_finite, summarize
from medpos.metrics.surface import boundaries, distances_between, find_surfaces, surface_dice, surface_distances
from medpos.metrics.trimap import TrimapScores

__all__ = [
    "INTERVAL",
    "METRICS",
    "SHOWN",
    "CaseTruth",
    "ClassScores",
    "InstanceScores",
    "TrimapScores",
    "WeightedDice",
    "case_metrics",
    "limits_of",
    "mean_of_finite",
    "overlap",
    "overlap_of",
    "summarize",
    "surface_dice",
    "surface_distances",
]

# The columns of tables for people; the files have all METRICS.
SHOWN = ("dice", "iou", "sensitivity", "precision", "hd95_mm", "assd_mm")
METRICS = (*SHOWN, "surface_dice", "specificity", "accuracy", "npv")


def case_metrics(
    prediction: npt.ArrayLike, truth: npt.ArrayLike, labels: Sequence[Label], spacing_mm: Sequence[float]
) -> list[dict[str, Any]]:
    """Measure one case, organ by organ.

    Args:
        prediction: predicted label map [X, Y] or [X, Y, Z].
        truth: label map of the ground truth, of the same shape; pixels of 255 count as background in both maps.
        labels: the classes; index 0 is the background.
        spacing_mm: size of a pixel along each axis in mm.

    Returns:
        One row per foreground class, in the order of ``labels``: ``organ`` and the ``METRICS``.

    Raises:
        InputError: different shapes, a wrong spacing, or a value that is not one of the labels.
    """
    return CaseTruth(truth, labels, spacing_mm).measure(prediction)


class CaseTruth:
    """Hold the ground truth of a case, to measure predictions under many conditions against it.

    Its boundaries and distances are computed once; ``kept_bytes`` says how much memory they take at most.

    Args:
        truth: label map [X, Y] or [X, Y, Z]; pixels of 255 are ignored: they count as background in ground truth and
            prediction.
        labels: the classes; index 0 is the background.
        spacing_mm: size of a pixel along each axis in mm.

    Raises:
        InputError: a wrong spacing, or a value that is not one of the labels.
    """

    def __init__(self, truth: npt.ArrayLike, labels: Sequence[Label], spacing_mm: Sequence[float]) -> None:
        true = np.asarray(truth)
        self.labels, self.spacing_mm = tuple(labels), tuple(spacing_mm)
        if len(self.spacing_mm) != true.ndim or not all(0 < size < np.inf for size in self.spacing_mm):
            raise InputError(
                f"spacing_mm: expected {true.ndim} positive numbers, one per axis, got {self.spacing_mm}; give "
                "the size of a pixel in mm"
            )
        self._ignored = true == IGNORED
        # A copy, because the caller may change its array.
        self.label_map = _label_map("truth", np.where(self._ignored, np.uint8(0), true), labels)
        self._surfaces = find_surfaces(self.label_map, self.spacing_mm)
        kept = (surface.pixels.nbytes + 8 * surface.kept for surface in self._surfaces.values())
        self.kept_bytes = self.label_map.nbytes + self._ignored.nbytes + sum(kept)

    def is_of(self, truth: npt.NDArray[Any], spacing_mm: Sequence[float]) -> bool:
        """Tell whether this object was made from the given ground truth and spacing."""
        kept = np.where(self._ignored, IGNORED, self.label_map)
        return tuple(spacing_mm) == self.spacing_mm and np.array_equal(truth, kept)

    def measure(self, prediction: npt.ArrayLike) -> list[dict[str, Any]]:
        """Measure a prediction of this case; see :func:`case_metrics`.

        Raises:
            InputError: another shape than the ground truth, or a value that is not one of the labels.
        """
        return self.compare(prediction)[0]

    def compare(self, prediction: npt.ArrayLike) -> tuple[list[dict[str, Any]], Confusion]:
        """Measure a prediction of this case, and count its confusions.

        Returns:
            The rows of :meth:`measure`, and the numbers of pixels [C, C] of every pair of true (rows) and predicted
            class, in the order of the labels, without ignored pixels.

        Raises:
            InputError: another shape than the ground truth, or a value that is not one of the labels.
        """
        predicted, _ = same_shape(prediction, self.label_map)
        predicted = _label_map("prediction", predicted, self.labels)
        predicted = np.ascontiguousarray(np.where(self._ignored, np.uint8(0), predicted))
        counts = pairs(predicted, self.label_map, max(label.index for label in self.labels) + 1)
        counts[0, 0] -= np.count_nonzero(self._ignored)
        overlaps = overlap_of(counts)
        found = boundaries(predicted)
        rows = []
        for label in (label for label in self.labels if label.index):
            n = label.index
            names = ("hd95_mm", "assd_mm", "surface_dice")
            surfaces = distances_between(found.get(n), self._surfaces.get(n), label.tolerance_mm)
            values = {metric: float(value[n - 1]) for metric, value in overlaps.items()}
            values |= dict(zip(names, surfaces, strict=True))
            rows.append({"organ": label.name, **{metric: values[metric] for metric in METRICS}})
        indices = [label.index for label in self.labels]
        return rows, counts[np.ix_(indices, indices)]


def _label_map(name: str, values: npt.NDArray[Any], labels: Sequence[Label]) -> npt.NDArray[np.uint8]:
    """Check that every value is a label, and convert the map to 8-bit integers."""
    indices = [label.index for label in labels]
    allowed = np.zeros(256, dtype=bool)
    allowed[indices] = True
    with np.errstate(invalid="ignore"):
        small = values.astype(np.uint8, copy=False)
    # Where all numbers up to the highest value are labels, the pixels needn't be checked one by one.
    known = allowed[: int(small.max(initial=0)) + 1].all() or allowed[small].all()
    if not (known and (small is values or (small == values).all())):
        found = ", ".join(f"{value:g}" for value in np.unique(values)[:20])
        raise InputError(
            f"{name}: expected the labels {', '.join(map(str, indices))}, got the values {found}; check its labels"
        )
    return small
