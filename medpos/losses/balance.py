"""Compute class weights from the numbers of pixels of each class in the training set.

References:
    inverse frequency: U-Net 2015 asks for "w_c to balance the class frequencies" and leaves its form open; this is the
    simplest form, with a background weight of 1.
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
    """Compute class weights inverse to the number of pixels: n_background / n_c.

    Args:
        counts: number of pixels of each class in each case, [cases, classes], background first.

    Returns:
        [classes], float32; 1 for the background, 0 for a class without pixels.

    Raises:
        InputError: ``counts`` isn't a table of counts, or no pixel is background.
    """
    total = _checked(counts).sum(0)
    if total[0] == 0:
        raise InputError("expected pixels of the background (class 0, weight 1), got none; use median_frequency")
    return _ratio(total[0], total)


def median_frequency(counts: Any) -> Tensor:
    """Compute class weights median(freq) / freq(c), with freq(c) taken over the images that contain c.

    freq(c) is the number of pixels of c divided by the number of labeled pixels in the images with at least one pixel
    of c. The median is over the classes that occur.

    Args:
        counts: number of pixels of each class in each case, [cases, classes]; unlabeled pixels aren't counted.

    Returns:
        [classes], float32; 0 for a class without pixels.

    Raises:
        InputError: ``counts`` isn't a table of counts, or all are 0.
    """
    table = _checked(counts)
    seen = table.sum(0) > 0
    if not seen.any():
        raise InputError("expected labeled pixels, got none (all counts are 0); check the label maps")
    pixels_of_images = (table.sum(1, keepdims=True) * (table > 0)).sum(0)
    frequency = np.divide(table.sum(0), pixels_of_images, out=np.zeros(len(seen)), where=seen)
    return _ratio(float(np.median(frequency[seen])), frequency)


def _checked(counts: Any) -> npt.NDArray[np.int64]:
    table = np.asarray(counts)
    if table.ndim != 2 or table.size == 0 or table.dtype.kind not in "iu" or table.min() < 0:
        raise InputError(
            f"counts: expected whole numbers of pixels [cases, classes], got {table.dtype} of shape {table.shape}"
        )
    return table.astype(np.int64)  # sums over a data set exceed 32 bits


def _ratio(numerator: float, denominators: npt.NDArray[Any]) -> Tensor:
    ratios = np.divide(numerator, denominators, out=np.zeros(len(denominators)), where=denominators > 0)
    return torch.from_numpy(ratios).float()
