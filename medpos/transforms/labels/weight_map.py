"""The border weight of U-Net 2015: what lies between two cells that nearly touch counts more.

Reference:
    O. Ronneberger, P. Fischer, T. Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015,
    equation 2; w0 = 10 and sigma = 5 px stand below it.
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
_NEGLIGIBLE = 1e-6  # of a weight; distances that would give less are not looked for


def border_weight(instances: Any, w0: float = W0, sigma: float = SIGMA) -> Tensor:
    """w0 exp(-(d1 + d2)^2 / (2 sigma^2)), which equation 2 adds to the weight of the class.

    d1 and d2 are the distances, px, from a pixel of the background to the nearest pixel of the nearest and of the
    second nearest cell. Weights below 1e-6 may come out as 0.

    Args:
        instances: [X, Y], integers, tensor or array: 0 the background, else the cell's number; gaps are allowed.
        w0: weight where both distances vanish, > 0.
        sigma: width, px, > 0.

    Returns:
        [X, Y], float32; 0 on cells, and everywhere if there are fewer than two.

    Raises:
        InputError: not two-dimensional, not integers, or w0 or sigma not above 0.

    Reference:
        U-Net 2015, equation 2.
    """
    cells = np.asarray(instances)
    if cells.ndim != 2 or cells.dtype.kind not in "iu":
        raise InputError(
            f"instances are {cells.dtype} of shape {cells.shape}, needed are integers [X, Y], one number a cell"
        )
    if not (w0 > 0 and sigma > 0):
        raise InputError(f"w0 is {w0} and sigma {sigma}, needed are numbers above 0, such as {W0:g} and {SIGMA:g}")
    # Further away than this in d1 + d2, hence in either, the weight is negligible: a cell concerns its surroundings.
    reach = math.ceil(sigma * math.sqrt(2 * math.log(max(w0 / _NEGLIGIBLE, 1))))
    nearest = np.full((2, *cells.shape), np.inf, dtype=np.float32)
    boxes: list[Any] = ndimage.find_objects(cells.astype(np.int32))
    for number, box in enumerate(boxes, start=1):
        if box is None:  # a gap in the numbers
            continue
        window = tuple(slice(max(side.start - reach, 0), side.stop + reach) for side in box)
        distance = ndimage.distance_transform_edt(cells[window] != number)
        first, second = nearest[(slice(None), *window)]
        np.minimum(second, np.maximum(first, distance), out=second)
        np.minimum(first, distance, out=first)
    weight = w0 * np.exp(-((nearest[0] + nearest[1]) ** 2) / (2 * sigma**2))
    return torch.from_numpy(np.where(cells == 0, weight, 0).astype(np.float32))
