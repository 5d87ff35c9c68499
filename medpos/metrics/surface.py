"""How far the boundaries of prediction and truth are apart, in mm."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

Mask = npt.NDArray[np.bool_]
Distances = npt.NDArray[np.float64]

# Where more than this part of the box's pixels asks for its distance, one transform of the box is faster than a tree.
_DENSE = 0.12


def surface_distances(
    prediction_mask: npt.NDArray[Any], truth_mask: npt.NDArray[Any], spacing_mm: Sequence[float]
) -> tuple[float, float]:
    """Measures the distances between the boundaries of two masks.

    The boundary is the mask less its erosion by one pixel along each axis, with nothing outside the image; a distance
    runs from the centre of a boundary pixel to the nearest one of the other mask. A volume of one slice is a 2-D image.

    Args:
        prediction_mask: 2-D or 3-D, non-zero is inside.
        truth_mask: the same for the truth, equal shape.
        spacing_mm: size of a pixel along each axis, mm.

    Returns:
        The larger one of the two directed 95th percentiles (linear interpolation), and the mean over the distances of
        both directions, in mm. NaN if both masks are empty, inf if one is.
    """
    prediction, truth, spacing = _drop_unit_axes(prediction_mask != 0, truth_mask != 0, spacing_mm)
    found, needed = bool(prediction.any()), bool(truth.any())
    if not (found and needed):
        nothing = np.inf if found or needed else np.nan
        return nothing, nothing
    box = bounding_box(prediction | truth)
    forth, back = _directed(_boundary(prediction[box]), _boundary(truth[box]), spacing)
    hd95 = max(float(np.percentile(forth, 95)), float(np.percentile(back, 95)))
    return hd95, float((forth.sum() + back.sum()) / (forth.size + back.size))


def _drop_unit_axes(
    prediction: Mask, truth: Mask, spacing_mm: Sequence[float]
) -> tuple[Mask, Mask, npt.NDArray[np.float64]]:
    """Makes a one-slice volume an image, or all of it would be boundary."""
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    if prediction.ndim < 3:
        return prediction, truth, spacing
    axes = [axis for axis, size in enumerate(prediction.shape) if size > 1] or [0]
    shape = [prediction.shape[axis] for axis in axes]
    return prediction.reshape(shape), truth.reshape(shape), spacing[axes]


def bounding_box(mask: Mask) -> tuple[slice, ...]:
    """Gives the smallest box that holds a mask, which mustn't be empty, as one slice for each axis."""
    box: list[slice] = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        hit = np.flatnonzero(mask.any(axis=others))
        box.append(slice(int(hit[0]), int(hit[-1]) + 1))
        mask = mask[(*(slice(None),) * axis, box[-1])]  # the next axis has less to look through
    return tuple(box)


def _boundary(mask: Mask) -> Mask:
    """The mask less its erosion; what lies outside the array counts as background."""
    inside = mask.copy()
    for axis in range(mask.ndim):
        eroded, source = np.moveaxis(inside, axis, 0), np.moveaxis(mask, axis, 0)
        eroded[1:] &= source[:-1]
        eroded[:-1] &= source[1:]
        eroded[[0, -1]] = False
    return mask & ~inside


def _directed(one: Mask, other: Mask, spacing: npt.NDArray[np.float64]) -> tuple[Distances, Distances]:
    """The distances of each boundary's pixels to the other boundary; those of common pixels are 0 and not computed."""
    forth: npt.ArrayLike
    back: npt.ArrayLike
    alone, other_alone = one & ~other, other & ~one
    if (one ^ other).sum() > one.size * _DENSE:
        forth = ndimage.distance_transform_edt(~other, sampling=spacing)[alone]
        back = ndimage.distance_transform_edt(~one, sampling=spacing)[other_alone]
    else:
        forth = _tree(other, spacing).query(np.argwhere(alone) * spacing)[0]
        back = _tree(one, spacing).query(np.argwhere(other_alone) * spacing)[0]
    return _with_zeros(forth, int(one.sum())), _with_zeros(back, int(other.sum()))


def _tree(boundary: Mask, spacing: npt.NDArray[np.float64]) -> cKDTree:
    return cKDTree(np.argwhere(boundary) * spacing, leafsize=32, compact_nodes=False, balanced_tree=False)


def _with_zeros(distances: npt.ArrayLike, size: int) -> Distances:
    padded = np.zeros(size)
    padded[: np.size(distances)] = distances
    return padded
