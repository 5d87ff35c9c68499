"""Compute the border weight of U-Net 2015, which is high between cells that nearly touch.

Reference:
    O. Ronneberger, P. Fischer, T. Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015,
    equation 2, with w0 = 10 and sigma = 5 px.
"""

import math
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from medpos.core.errors import InputError

W0 = 10.0
SIGMA = 5.0
_NEGLIGIBLE = 1e-6  # smallest weight that is computed


def border_weight(instances: Any, w0: float = W0, sigma: float = SIGMA) -> Tensor:
    """Compute w0 exp(-(d1 + d2)^2 / (2 sigma^2)), which equation 2 adds to the weight of the class.

    d1 and d2 are the distances in px from a pixel of the background to the nearest pixel of the nearest and of the
    second nearest cell. Weights below 1e-6 may be returned as 0.

    Args:
        instances: instance map [X, Y], integers, tensor or array: 0 background, else the number of the cell; numbers
            may be missing.
        w0: weight where both distances are 0, above 0.
        sigma: width of the borders in px, above 0.

    Returns:
        Weights [X, Y], float32; 0 on cells, and everywhere if there are fewer than two cells.

    Raises:
        InputError: ``instances`` isn't two-dimensional or not of integers, or w0 or sigma isn't above 0.

    Reference:
        U-Net 2015, equation 2.
    """
    cells = np.asarray(instances)
    if cells.ndim != 2 or cells.dtype.kind not in "iu":
        raise InputError(
            f"instances: expected integers [X, Y], one number per cell, got {cells.dtype} of shape {cells.shape}"
        )
    if not (w0 > 0 and sigma > 0):
        raise InputError(f"w0 and sigma: expected numbers above 0, such as {W0:g} and {SIGMA:g}, got {w0} and {sigma}")
    # At a larger d1 + d2, and so at a larger d1 or d2, the weight is negligible: only a cell's surroundings matter.
    reach = math.ceil(sigma * math.sqrt(2 * math.log(max(w0 / _NEGLIGIBLE, 1))))
    nearest = np.full((2, *cells.shape), np.inf, dtype=np.float32)
    boxes: list[Any] = ndimage.find_objects(cells.astype(np.int32))
    for number, box in enumerate(boxes, start=1):
        if box is None:  # an unused number
            continue
        window = tuple(slice(max(side.start - reach, 0), side.stop + reach) for side in box)
        distance = ndimage.distance_transform_edt(cells[window] != number)
        first, second = nearest[(slice(None), *window)]
        np.minimum(second, np.maximum(first, distance), out=second)
        np.minimum(first, distance, out=first)
    weight = w0 * np.exp(-((nearest[0] + nearest[1]) ** 2) / (2 * sigma**2))
    return torch.from_numpy(np.where(cells == 0, weight, 0).astype(np.float32))
