"""Scores of all classes at once, from one confusion matrix that is summed over a whole set."""

from typing import Any

import numpy as np
import numpy.typing as npt

from medpos.core.errors import InputError
from medpos.core.labels import IGNORED
from medpos.metrics.summary import mean_of_finite

Confusion = npt.NDArray[np.int64]


def confusion_matrix(prediction: npt.ArrayLike, truth: npt.ArrayLike, classes: int) -> Confusion:
    """Counts the pixels of every true class that were given to every class; matrices of several images add up.

    Args:
        prediction: label map of any shape, values 0 to classes - 1.
        truth: the same for the truth, equal shape; pixels of 255 are left out.
        classes: C, the background among them.

    Returns:
        Pixels [C, C], true classes down, predicted ones across.

    Raises:
        InputError: different shapes, or a value that is none of the classes.
    """
    predicted, true = same_shape(prediction, truth)
    counted = true != IGNORED
    predicted, true = predicted[counted], true[counted]
    for name, values in (("prediction", predicted), ("truth", true)):
        if values.size and not 0 <= values.min() <= values.max() < classes:
            found = f"{values.min()} to {values.max()}"
            raise InputError(f"the {name} holds the values {found}; the classes are 0 to {classes - 1}")
    return pairs(predicted, true, classes)


def same_shape(prediction: npt.ArrayLike, truth: npt.ArrayLike) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Both as arrays.

    Raises:
        InputError: different shapes.
    """
    predicted, true = np.asarray(prediction), np.asarray(truth)
    if predicted.shape != true.shape:
        raise InputError(f"the prediction has shape {predicted.shape}, the truth {true.shape}; both must be equal")
    return predicted, true


def pairs(prediction: npt.NDArray[Any], truth: npt.NDArray[Any], classes: int) -> Confusion:
    """As :func:`confusion_matrix`, of label maps that are known to be sound."""
    small = np.dtype(np.uint8 if classes <= 16 else np.intp)
    code = truth.ravel().astype(small)
    code *= small.type(classes)
    code += prediction.ravel().astype(small)
    return np.bincount(code, minlength=classes**2).reshape(classes, classes)


def class_scores(confusion: Confusion, include_background: bool = True) -> dict[str, float]:
    """Sums a confusion matrix up, as networks for scenes are compared.

    Args:
        confusion: [C, C], true classes down, predicted ones across, of the whole set.
        include_background: False leaves class 0 out of the means over the classes. Its pixels still count: they are in
            G, and among what other classes were given wrongly.

    Returns:
        ``global_accuracy`` G, the share of all pixels that is right; ``class_accuracy`` C, mean over the classes of the
        share of their true pixels that is right; ``mean_iou``, mean of the classes' IoU;
        ``frequency_weighted_iou``, the same weighted by the classes' true pixels. All 0 to 1, 1 is best. C leaves out
        the classes without true pixels, ``mean_iou`` those that were not predicted either; NaN without any.

    Reference:
        J. Long et al., "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, section 5 (metrics);
        V. Badrinarayanan et al., "SegNet", IEEE TPAMI 39(12), 2017, section 4.1 (G, C, mIoU).
    """
    total, right = confusion.sum(), confusion.diagonal()
    true, either = confusion.sum(axis=1), confusion.sum(axis=1) + confusion.sum(axis=0) - right
    kept = slice(0 if include_background else 1, None)
    accuracy, iou = _ratio(right, true)[kept], _ratio(right, either)[kept]
    return {
        "global_accuracy": float(right.sum() / total) if total else float("nan"),
        "class_accuracy": mean_of_finite(accuracy),
        "mean_iou": mean_of_finite(iou),
        "frequency_weighted_iou": mean_of_finite(iou, true[kept]),
    }


def weighted_dice(confusions: npt.ArrayLike) -> float:
    """Mean Dice of the foreground classes, weighted by their true pixels: the "Wt. DC" of the U-SegNet paper.

    The paper doesn't say more. Here a class's Dice is the mean over the cases, as the table of organs has it, and its
    weight the number of its true pixels in all cases.

    Args:
        confusions: [N, C, C], one a case, as :func:`confusion_matrix` gives it.

    Returns:
        0 to 1, 1 is best; NaN without true foreground.

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
    """Part of the whole; NaN where there is no whole."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)
