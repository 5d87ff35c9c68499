"""Choose colors for any number of classes that color-blind people can tell apart too.

References:
    M. Okabe and K. Ito, "Color Universal Design", 2008: the first seven.
    G. Machado et al., "A Physiologically-based Model for Simulation of Color Vision Deficiency", IEEE TVCG 15(6), 2009:
    the matrices, for severity 1.
"""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

RGB = ("red", "green", "blue")  # names of the channels of a color image, in order
OKABE_ITO = ("#CC79A7", "#009E73", "#F0E442", "#E69F00", "#56B4E9", "#0072B2", "#D55E00")
_VISIONS = np.array(
    [
        np.eye(3),
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    ]
)
_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
_LEVELS = ("00", "2B", "55", "80", "AA", "D5", "FF")
_DARKEST = 30.0  # CIE lightness; darker tints vanish on dark images
Array = npt.NDArray[Any]


@cache
def distinct(count: int) -> tuple[str, ...]:
    """Choose ``count`` colors: Okabe and Ito's, then each the farthest from all before it and from black.

    Distance is the smallest of those that normal, protanope, deuteranope and tritanope eyes see (CIE Lab).

    Returns:
        ``#rrggbb`` of each color.
    """
    grid = [f"#{r}{g}{b}" for r in _LEVELS for g in _LEVELS for b in _LEVELS]
    places = _lab(grid)
    bright = places[0, :, 0] >= _DARKEST
    grid, places = [color for color, keep in zip(grid, bright, strict=True) if keep], places[:, bright]
    found = list(OKABE_ITO)
    nearest = _distances(places, _lab(["#000000", *found])).min(axis=1)
    while len(found) < count:
        best = int(nearest.argmax())
        found.append(grid[best])
        nearest = np.minimum(nearest, _distances(places, places[:, [best]])[:, 0])
    return tuple(found[:count])


def _lab(colors: list[str]) -> Array:
    """Return Lab coordinates [visions, colors, 3]."""
    rgb = np.array([[int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)] for color in colors])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.einsum("vij,cj->vci", _VISIONS, linear), 0, 1)
    xyz = np.cbrt(seen @ (_TO_XYZ / _TO_XYZ.sum(axis=1, keepdims=True)).T)
    x, y, z = np.moveaxis(xyz, -1, 0)
    lab: Array = np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)
    return lab


def _distances(some: Array, others: Array) -> Array:
    """Return the smallest distance over all visions, [some, others]."""
    apart: Array = np.linalg.norm(some[:, :, None] - others[:, None], axis=-1).min(axis=0)
    return apart


# Mean and standard deviation of red, green and blue in [0, 1] by which published networks normalize their input.
# Caffe's networks take the channels in the order blue, green, red. Sources: K. Simonyan's VGG-16 and the FCN and
# DeepLab derived from it; https://pytorch.org/vision/stable/models.html.
PUBLISHED = {
    "caffe": ([122.67892 / 255, 116.66877 / 255, 104.00699 / 255], [1 / 255] * 3),
    "torchvision": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
}
