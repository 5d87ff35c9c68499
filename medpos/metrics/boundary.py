"""Measure how well predicted contours match the true ones within a tolerance."""

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
    """Compute the boundary F1 (BF) of each class, the F1 of contour pixels that lie near the other contour.

    A class's contour is its pixels with a side to another class or to the outside of the image. Ignored pixels count as
    outside the image. Precision is the share of the predicted contour within the tolerance of the true one, recall the
    share of the true contour within the tolerance of the predicted one.

    Args:
        prediction: predicted label map [X, Y].
        truth: label map of the ground truth, of the same shape; pixels of 255 are ignored.
        tolerance: greatest distance between matching contours, as a fraction of the image's diagonal.

    Returns:
        F1, 0 to 1, 1 is best, of every class in the ground truth; 0 where it was not predicted.

    Raises:
        InputError: different shapes, or no images.

    Reference:
        G. Csurka et al., "What is a good evaluation measure for semantic segmentation?", BMVC 2013; V. Badrinarayanan
        et al., "SegNet", IEEE TPAMI 39(12), 2017, section 4.1 (0.75 % of the diagonal; the mean over the classes of an
        image, then over the images).
    """
    predicted, true = same_shape(prediction, truth)
    if true.ndim != 2:
        raise InputError(f"expected images [X, Y], got shape {true.shape}; measure a volume slice by slice")
    ignored = true == IGNORED
    found, wanted = (boundaries(_from_one(values, ignored)) for values in (predicted, true))
    reach = tolerance * float(np.hypot(*true.shape))
    return {index - 1: _f1(found.get(index), pixels, reach) for index, pixels in wanted.items()}


def _from_one(label_map: npt.NDArray[Any], ignored: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Number the classes from 1, with 0 for ignored pixels."""
    return np.where(ignored, 0, label_map.astype(np.int64) + 1)


def _f1(predicted: Pixels | None, true: Pixels, reach: float) -> float:
    if predicted is None:
        return 0.0
    precision, recall = _share_within(reach, predicted, true), _share_within(reach, true, predicted)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _share_within(reach: float, pixels: Pixels, others: Pixels) -> float:
    """Compute the share of pixels with at least one of the others within ``reach``."""
    # With an upper bound, a tree is several times as fast as computing all distances.
    distances = cKDTree(others).query(pixels, distance_upper_bound=np.nextafter(reach, np.inf))[0]
    return float(np.mean(distances <= reach))
