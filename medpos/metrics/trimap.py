"""Measure a segmentation near boundaries: within bands around them, called trimaps.

References:
    P. Kohli et al., "Robust Higher Order Potentials for Enforcing Label Consistency", IJCV 2009; P. Kraehenbuehl,
    V. Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials", NIPS 2011, figure 4.
    L.-C. Chen et al., "DeepLab", PAMI 2018, figure 10 (bands of 1 to 40 px around PASCAL VOC's void pixels).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from medpos.core.errors import InputError
from medpos.core.labels import IGNORED, Label
from medpos.metrics.confusion import VOID, Confusion, class_scores, confusion_matrix, same_shape
from medpos.metrics.scores import CaseMaps, Measured

WIDTHS = tuple(range(1, 41))


def boundary_distance(truth: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Compute the distance of each pixel to the nearest pixel of another label in px; 1 for pixels beside a boundary.

    Ignored pixels count as a label, because PASCAL VOC draws them along the contours.

    Args:
        truth: label map [X, Y] of the ground truth.

    Returns:
        Distances [X, Y] between centers of pixels; inf where all pixels have one label.

    Raises:
        InputError: the label map isn't an image.
    """
    label_map = np.asarray(truth)
    if label_map.ndim != 2:
        raise InputError(
            f"truth: expected an image [X, Y], got shape {label_map.shape}; measure a volume slice by slice"
        )
    labels = np.unique(label_map)
    distance = np.full(label_map.shape, np.inf)
    if len(labels) > 1:
        for label in labels:
            inside = label_map == label
            distance[inside] = ndimage.distance_transform_edt(inside)[inside]
    return distance


def trimap_confusions(
    prediction: npt.ArrayLike, truth: npt.ArrayLike, classes: int, widths: Sequence[int] = WIDTHS
) -> npt.NDArray[np.int64]:
    """Compute confusion matrices of bands around the true boundaries; those of several images can be added.

    Args:
        prediction: predicted label map [X, Y], values 0 to classes - 1.
        truth: label map of the ground truth, of the same shape; pixels of 255 are left out, and count as boundaries.
        classes: number of classes C, with the background.
        widths: reach of each band to both sides in px, 1 or more.

    Returns:
        Confusion matrices [widths, C, C], true classes in rows, predicted ones in columns.

    Raises:
        InputError: different shapes or no images, a value that is not one of the classes, or a width below 1.
    """
    predicted, true = same_shape(prediction, truth)
    if not len(widths) or min(widths) < 1:
        raise InputError(f"widths: expected numbers of px from 1 upward, got {list(widths)}; give at least one")
    distance = boundary_distance(true)
    bands = (distance <= width for width in widths)
    return np.stack([confusion_matrix(predicted[band], true[band], classes) for band in bands])


def trimap_scores(confusions: npt.NDArray[np.int64], include_background: bool = True) -> list[dict[str, float]]:
    """Compute mean IoU and accuracy of each band.

    Args:
        confusions: confusion matrices [widths, C, C] of the whole set.
        include_background: False leaves class 0 out, see :func:`medpos.metrics.confusion.class_scores`.

    Returns:
        For each width ``mean_iou`` and ``accuracy``, the share of the band's pixels that is correct; NaN for an empty
        band.
    """
    found = [class_scores(confusion, include_background) for confusion in confusions]
    return [{"mean_iou": scores["mean_iou"], "accuracy": scores["global_accuracy"]} for scores in found]


class TrimapScores:
    """Measure ``trimap_iou_Wpx`` and ``trimap_accuracy_Wpx`` of a set for each width W.

    Args:
        labels: the classes, background first.
        widths: reach of the bands in px, see :func:`trimap_confusions`; the papers use ``WIDTHS``.
        include_background: False leaves class 0 out of the mean IoU.
        void: True leaves out pixels of true class 0, because they belong to no class. None: where class 0 is named
            ``void``.
    """

    def __init__(
        self,
        labels: Sequence[Label],
        widths: Sequence[int] = (1, 5, 10, 20, 40),
        include_background: bool = True,
        void: bool | None = None,
    ) -> None:
        self.classes, self.widths = len(labels), tuple(widths)
        self.void = labels[0].name == VOID if void is None else void
        self.include_background = include_background and not self.void

    def of_case(self, case: CaseMaps) -> Measured:
        """Count the confusions of a case, over all slices of a volume; it has no scores of its own."""
        truth = np.where(case.truth == 0, IGNORED, case.truth) if self.void else case.truth
        pairs = zip(_slices(case.prediction), _slices(truth), strict=True)
        found = [trimap_confusions(prediction, true, self.classes, self.widths) for prediction, true in pairs]
        return Measured({}, np.sum(found, axis=0))

    def of_set(self, cases: Sequence[Measured]) -> dict[str, float]:
        """Compute mean IoU and accuracy of each band."""
        by_width = self.bands(sum((case.kept for case in cases), self.empty()))
        return {f"trimap_iou_{width}px": found["mean_iou"] for width, found in by_width.items()} | {
            f"trimap_accuracy_{width}px": found["accuracy"] for width, found in by_width.items()
        }

    def empty(self) -> Confusion:
        """Return confusion matrices [widths, C, C] of zeros, to which those of :meth:`of_case` can be added."""
        return np.zeros((len(self.widths), self.classes, self.classes), np.int64)

    def bands(self, confusions: Confusion) -> dict[int, dict[str, float]]:
        """Compute :func:`trimap_scores` by width from the confusion matrices [widths, C, C] of a set."""
        return dict(zip(self.widths, trimap_scores(confusions, self.include_background), strict=True))


def _slices(label_map: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.moveaxis(label_map.reshape(*label_map.shape[:2], -1), 2, 0)
