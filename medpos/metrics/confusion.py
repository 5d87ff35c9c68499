"""Compute scores of all classes from a confusion matrix, summed over a whole set of images."""

from typing import Any

import numpy as np
import numpy.typing as npt

from medpos.core.errors import InputError
from medpos.core.labels import IGNORED
from medpos.core.memory import split_array
from medpos.metrics.summary import mean_of_finite

Confusion = npt.NDArray[np.int64]
VOID = "void"  # name of class 0 where it stands for unlabeled pixels


def confusion_matrix(prediction: npt.ArrayLike, truth: npt.ArrayLike, classes: int) -> Confusion:
    """Count the pixels of every pair of true and predicted class; the matrices of several images can be added.

    Args:
        prediction: predicted label map of any shape, values 0 to classes - 1.
        truth: label map of the ground truth, of the same shape; pixels of 255 are left out.
        classes: number of classes C, with the background.

    Returns:
        Numbers of pixels [C, C], true classes in rows, predicted ones in columns.

    Raises:
        InputError: different shapes, or a value that is not one of the classes.
    """
    predicted, true = same_shape(prediction, truth)
    counted = true != IGNORED
    predicted, true = predicted[counted], true[counted]
    for name, values in (("prediction", predicted), ("truth", true)):
        if values.size and not 0 <= values.min() <= values.max() < classes:
            found = f"{values.min()} to {values.max()}"
            raise InputError(f"{name}: expected classes 0 to {classes - 1}, got values {found}; check its labels")
    return pairs(predicted, true, classes)


def same_shape(prediction: npt.ArrayLike, truth: npt.ArrayLike) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return both maps as arrays, after checking that their shapes are equal.

    Raises:
        InputError: different shapes.
    """
    predicted, true = np.asarray(prediction), np.asarray(truth)
    if predicted.shape != true.shape:
        raise InputError(
            f"prediction: expected the shape of the truth, {true.shape}, got {predicted.shape}; resample the prediction"
        )
    return predicted, true


def pairs(prediction: npt.NDArray[Any], truth: npt.NDArray[Any], classes: int) -> Confusion:
    """Compute :func:`confusion_matrix` without checks, for label maps that are known to be valid."""
    small = np.dtype(np.uint8 if classes <= 16 else np.intp)
    counts = np.zeros(classes**2, np.int64)
    for part in split_array(np.atleast_1d(truth)):  # because NumPy counts in 64 bits
        code = np.atleast_1d(truth)[part].ravel().astype(small)
        code *= small.type(classes)
        code += np.atleast_1d(prediction)[part].ravel().astype(small)
        counts += np.bincount(code, minlength=classes**2)
    return counts.reshape(classes, classes)


def class_scores(confusion: Confusion, include_background: bool = True) -> dict[str, float]:
    """Compute the scores that networks for scenes are compared by.

    Args:
        confusion: confusion matrix [C, C] of the whole set, true classes in rows, predicted ones in columns.
        include_background: False leaves class 0 out of the means over the classes. Its pixels still count in G, and as
            false positives of the other classes.

    Returns:
        ``global_accuracy`` G, the share of all pixels that is correct; ``class_accuracy`` C, the mean over the classes
        of the share of their true pixels that is correct; ``mean_iou``, the mean IoU of the classes;
        ``frequency_weighted_iou``, the same weighted by the classes' true pixels. All 0 to 1, 1 is best. C leaves out
        classes without true pixels, ``mean_iou`` those without predicted pixels too; NaN without any class.

    Reference:
        J. Long et al., "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, section 5 (metrics);
        V. Badrinarayanan et al., "SegNet", IEEE TPAMI 39(12), 2017, section 4.1 (G, C, mIoU).
    """
    total, right, true = confusion.sum(), confusion.diagonal(), confusion.sum(axis=1)
    kept = slice(0 if include_background else 1, None)
    iou, accuracy = (values[kept] for values in scores_by_class(confusion).values())
    return {
        "global_accuracy": float(right.sum() / total) if total else float("nan"),
        "class_accuracy": mean_of_finite(accuracy),
        "mean_iou": mean_of_finite(iou),
        "frequency_weighted_iou": mean_of_finite(iou, true[kept]),
    }


def scores_by_class(confusion: Confusion) -> dict[str, npt.NDArray[np.float64]]:
    """Compute the scores of every class that :func:`class_scores` averages.

    Args:
        confusion: confusion matrix [C, C], true classes in rows, predicted ones in columns.

    Returns:
        ``iou``, and ``class_accuracy``, the share of the class's true pixels that is correct (its sensitivity), each
        [C], 0 to 1. ``iou`` is NaN without true and predicted pixels, ``class_accuracy`` without true ones.
    """
    right, true, predicted = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    return {"iou": _ratio(right, true + predicted - right), "class_accuracy": _ratio(right, true)}


def weighted_dice(confusions: npt.ArrayLike) -> float:
    """Compute the mean Dice of the foreground classes weighted by their true pixels, "Wt. DC" of the U-SegNet paper.

    The paper gives no formula. Here a class's Dice is the mean over the cases, as in the table of organs, and its
    weight is the number of its true pixels in all cases.

    Args:
        confusions: confusion matrices [N, C, C], one per case, as :func:`confusion_matrix` gives them.

    Returns:
        Weighted Dice, 0 to 1, 1 is best; NaN without true foreground.

    Reference:
        P. Kumar et al., "U-SegNet: fully convolutional neural network based automated brain tissue segmentation tool",
        ICIP 2018, table 1.
    """
    cases = np.asarray(confusions, dtype=np.int64)
    true, right = cases.sum(axis=2), cases.diagonal(axis1=1, axis2=2)
    dice = _ratio(2 * right, true + cases.sum(axis=1))
    by_class = [mean_of_finite(part) for part in dice.T]
    return mean_of_finite(by_class[1:], true.sum(axis=0)[1:])


def _ratio(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Divide the part by the whole; NaN where the whole is 0."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)
