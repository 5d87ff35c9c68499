"""Measure how much prediction and ground truth overlap."""

from typing import Any

import numpy as np
import numpy.typing as npt

from medpos.metrics.confusion import Confusion, pairs


def overlap(
    prediction: npt.NDArray[Any], truth: npt.NDArray[Any], labels_count: int
) -> dict[str, npt.NDArray[np.float64]]:
    """Compute the overlap of two label maps, class by class.

    Args:
        prediction: predicted integer label map of any shape, values 0 to labels_count - 1.
        truth: label map of the ground truth, of the same shape.
        labels_count: number of classes C, with the background.

    Returns:
        ``dice``, ``iou``, ``sensitivity``, ``precision``, ``specificity``, ``accuracy`` and ``npv`` (negative
        predictive value TN / (FN + TN)), each [C - 1] for the classes 1 to C - 1, 0 to 1; empty masks follow the policy
        of ``medpos.metrics``. The last three count the background of the whole image, so they depend on its size.
    """
    return overlap_of(pairs(prediction, truth, labels_count))


def overlap_of(confusion: Confusion) -> dict[str, npt.NDArray[np.float64]]:
    """Compute :func:`overlap` from the numbers of pixels [C, C], true classes in rows, predicted ones in columns."""
    hit = confusion.diagonal()[1:].astype(np.float64)
    true, predicted = confusion.sum(axis=1)[1:], confusion.sum(axis=0)[1:]
    either = true + predicted - hit
    whole = confusion.sum()
    rejected = whole - either
    return {
        "dice": _ratio(2 * hit, true + predicted, either),
        "iou": _ratio(hit, either, either),
        "sensitivity": _ratio(hit, true, either),
        "precision": _ratio(hit, predicted, either),
        "specificity": _ratio(rejected, whole - true, either),
        "accuracy": _ratio(hit + rejected, np.full_like(true, whole), either),
        "npv": _ratio(rejected, whole - predicted, either),
    }


def _ratio(part: npt.NDArray[Any], whole: npt.NDArray[Any], either: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Divide the part by the whole; NaN where both masks are empty, 0 where one is."""
    return np.where(either > 0, part / np.maximum(whole, 1), np.nan)
