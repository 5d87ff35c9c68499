"""How much of the prediction and the truth coincide."""

from typing import Any

import numpy as np
import numpy.typing as npt

from medpos.metrics.confusion import pairs


def overlap(
    prediction: npt.NDArray[Any], truth: npt.NDArray[Any], labels_count: int
) -> dict[str, npt.NDArray[np.float64]]:
    """Compares two label maps, class by class.

    Args:
        prediction: integer label map of any shape, values 0 to labels_count - 1.
        truth: the same for the truth, equal shape.
        labels_count: classes C, the background among them.

    Returns:
        ``dice``, ``iou``, ``sensitivity`` and ``precision``, each [C - 1] for the classes 1 to C - 1, in [0, 1]; where
        a mask is empty the policy of ``medpos.metrics`` holds.
    """
    confusion = pairs(prediction, truth, labels_count)
    hit = confusion.diagonal()[1:].astype(np.float64)
    true, predicted = confusion.sum(axis=1)[1:], confusion.sum(axis=0)[1:]
    either = true + predicted - hit
    return {
        "dice": _ratio(2 * hit, true + predicted, either),
        "iou": _ratio(hit, either, either),
        "sensitivity": _ratio(hit, true, either),
        "precision": _ratio(hit, predicted, either),
    }


def _ratio(part: npt.NDArray[Any], whole: npt.NDArray[Any], either: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Part of the whole; NaN where both masks are empty, 0 where one is."""
    return np.where(either > 0, part / np.maximum(whole, 1), np.nan)
