"""Weights of the classes, from how many pixels of each the training set holds.

References:
    inverse frequency: U-Net 2015 asks for "w_c to balance the class frequencies" and leaves its form open; this is the
    plain one, with the background's weight as the unit.
    median frequency: D. Eigen, R. Fergus, "Predicting Depth, Surface Normals and Semantic Labels with a Common
    Multi-Scale Convolutional Architecture", ICCV 2015, section 6.3.2; V. Badrinarayanan et al., "SegNet", PAMI 2017,
    section 4.1.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from medpos.core.errors import InputError


def inverse_frequency(counts: Any) -> Tensor:
    """Weights inverse to the number of pixels: n_background / n_c.

    Args:
        counts: [cases, classes], pixels of each class in each case, the background first.

    Returns:
        [classes], float32; 1 for the background, 0 for a class that is nowhere.

    Raises:
        InputError: not a table of counts, or no pixel of the background.
    """
    total = _checked(counts).sum(0)
    if total[0] == 0:
        raise InputError("no pixel is background (class 0), whose weight is the unit; take median_frequency")
    return _ratio(total[0], total)


def median_frequency(counts: Any) -> Tensor:
    """Weights median(freq) / freq(c), where freq(c) looks only at the images that contain c.

    freq(c) is the number of pixels of c over the number of labelled pixels in the images with at least one pixel of c.
    The median is over the classes that occur.

    Args:
        counts: [cases, classes], pixels of each class in each case; what nobody labelled counts as 0.

    Returns:
        [classes], float32; 0 for a class that is nowhere.

    Raises:
        InputError: not a table of counts, or all are 0.
    """
    table = _checked(counts)
    seen = table.sum(0) > 0
    if not seen.any():
        raise InputError("all counts are 0: there is no labelled pixel to balance by")
    pixels_of_images = (table.sum(1, keepdims=True) * (table > 0)).sum(0)
    frequency = np.divide(table.sum(0), pixels_of_images, out=np.zeros(len(seen)), where=seen)
    return _ratio(float(np.median(frequency[seen])), frequency)


def _checked(counts: Any) -> npt.NDArray[np.int64]:
    table = np.asarray(counts)
    if table.ndim != 2 or table.size == 0 or table.dtype.kind not in "iu" or table.min() < 0:
        raise InputError(
            f"counts are {table.dtype} of shape {table.shape}, needed are whole numbers of pixels [cases, classes]"
        )
    return table.astype(np.int64)  # sums over a data set leave 32 bits


def _ratio(of: float, to: npt.NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.divide(of, to, out=np.zeros(len(to)), where=to > 0)).float()
