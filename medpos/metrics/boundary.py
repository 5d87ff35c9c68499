"""How well the contours of classes are met, within a tolerance."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from medpos.core.errors import InputError
from medpos.core.labels import IGNORED
from medpos.metrics.confusion import same_shape
from medpos.metrics.surface import Pixels, boundaries

TOLERANCE = 0.0075


def boundary_f1(prediction: npt.ArrayLike, truth: npt.ArrayLike, tolerance: float = TOLERANCE) -> dict[int, float]:
    """F1 of the contour pixels of each class (BF), of which those count as met that lie near the other contour.

    A class's contour are its pixels with a neighbour, by a side, of another class or outside the image. Pixels to be
    ignored are as if outside the image. Precision is the share of the predicted contour within the tolerance of the
    true one, recall the share of the true contour within the tolerance of the predicted one.

    Args:
        prediction: label map [X, Y].
        truth: the same for the truth, equal shape; pixels of 255 are ignored.
        tolerance: the greatest distance that counts as met, as a part of the image's diagonal.

    Returns:
        F1, 0 to 1, 1 is best, of every class of the truth; 0 where it was not predicted.

    Raises:
        InputError: not two images of one shape.

    Reference:
        G. Csurka et al., "What is a good evaluation measure for semantic segmentation?", BMVC 2013; V. Badrinarayanan
        et al., "SegNet", IEEE TPAMI 39(12), 2017, section 4.1 (0.75 % of the diagonal; the mean over the classes of an
        image, then over the images).
    """
    predicted, true = same_shape(prediction, truth)
    if true.ndim != 2:
        raise InputError(f"prediction and truth have shape {true.shape}; needed is [X, Y], a volume slice by slice")
    ignored = true == IGNORED
    found, wanted = (boundaries(_from_one(values, ignored)) for values in (predicted, true))
    reach = tolerance * float(np.hypot(*true.shape))
    return {index - 1: _f1(found.get(index), pixels, reach) for index, pixels in wanted.items()}


def _from_one(label_map: npt.NDArray[Any], ignored: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """The classes from 1 on, and 0 where nothing counts."""
    return np.where(ignored, 0, label_map.astype(np.int64) + 1)


def _f1(predicted: Pixels | None, true: Pixels, reach: float) -> float:
    if predicted is None:
        return 0.0
    precision, recall = _share_within(reach, predicted, true), _share_within(reach, true, predicted)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _share_within(reach: float, pixels: Pixels, others: Pixels) -> float:
    """The share of pixels with one of the others at most this far away."""
    # Asked for the near ones alone, a tree is several times as fast as the distances of all pixels.
    distances = cKDTree(others).query(pixels, distance_upper_bound=np.nextafter(reach, np.inf))[0]
    return float(np.mean(distances <= reach))
