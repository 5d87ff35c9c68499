"""Measure the distances between the boundaries of prediction and ground truth in mm."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

from medpos.core import memory
from medpos.core.labels import TOLERANCE_MM

Mask = npt.NDArray[np.bool_]
Pixels = npt.NDArray[np.int32]
Distances = npt.NDArray[np.float64]

# Building a tree costs 0.3 of a query per pixel; where queries and building cost more than 0.09 of the box's pixels,
# one distance transform of the box is faster.
_BUILDING, _DENSE = 0.3, 0.09
_MARGIN = 16  # px around a boundary where its distances are kept
_KEPT = 1 << 24  # px of the boxes of a case, 128 MB, of which all distances are kept


def surface_distances(
    prediction_mask: npt.NDArray[Any], truth_mask: npt.NDArray[Any], spacing_mm: Sequence[float]
) -> tuple[float, float]:
    """Compute the distances between the boundaries of two masks.

    The boundary is the mask minus its erosion by one pixel along each axis, with nothing outside the image; a distance
    goes from the center of a boundary pixel to the nearest one of the other mask. A volume of one slice is a 2-D image.

    Args:
        prediction_mask: predicted mask, 2-D or 3-D, not 0 inside.
        truth_mask: mask of the ground truth, of the same shape.
        spacing_mm: size of a pixel along each axis in mm.

    Returns:
        The larger of the two directed 95th percentiles (linear interpolation), and the mean over the distances of both
        directions, in mm. NaN if both masks are empty, inf if one is.
    """
    prediction, truth = (boundaries(mask != 0).get(1) for mask in (prediction_mask, truth_mask))
    return distances_between(prediction, None if truth is None else Surface(truth, spacing_mm))[:2]


def surface_dice(
    prediction_mask: npt.NDArray[Any], truth_mask: npt.NDArray[Any], spacing_mm: Sequence[float], tolerance_mm: float
) -> float:
    """Compute the share of both boundaries that lies within a tolerance of the other one (normalized surface Dice).

    Args:
        prediction_mask: predicted mask, 2-D or 3-D, not 0 inside.
        truth_mask: mask of the ground truth, of the same shape.
        spacing_mm: size of a pixel along each axis in mm.
        tolerance_mm: largest distance in mm that counts as right.

    Returns:
        Share of the boundary pixels, 0 to 1, 1 is best. NaN if both masks are empty, 0 if one is.

    Reference:
        S. Nikolov et al., "Clinically applicable segmentation of head and neck anatomy for radiotherapy", Journal of
        Medical Internet Research 23(7), 2021; boundary pixels are counted, as in MONAI, not weighted by their area.
    """
    prediction, truth = (boundaries(mask != 0).get(1) for mask in (prediction_mask, truth_mask))
    return distances_between(prediction, None if truth is None else Surface(truth, spacing_mm), tolerance_mm)[2]


def boundaries(label_map: npt.NDArray[Any]) -> dict[int, Pixels]:
    """Find the boundary of every class of a label map [X, Y] or [X, Y, Z], as pixels [n, 2] or [n, 3]."""
    foreground = label_map != 0
    if not foreground.any():
        return {}
    box = bounding_box(foreground)
    del foreground
    # A volume of one slice counts as an image; otherwise every pixel would be boundary.
    thick = [axis for axis, size in enumerate(label_map.shape) if size > 1] or [0]
    cropped = label_map[box]
    found: dict[int, list[Pixels]] = {}
    step = max(1, memory.PART * len(cropped) // cropped.size)
    for first in range(0, len(cropped), step):
        before = min(first, 1)
        part = cropped[first - before : first + step + 1]  # with a neighbor on either side
        edge = (part != 0) & _edges(part, thick if label_map.ndim == 3 else [0, 1])
        edge, part = (values[before : before + step] for values in (edge, part))
        places, classes = np.argwhere(edge).astype(np.int32), part[edge]
        places += np.array([box[0].start + first, *(side.start for side in box[1:])], np.int32)
        for index in np.flatnonzero(np.bincount(classes)):
            found.setdefault(int(index), []).append(places[classes == index])
    return {index: np.concatenate(parts) for index, parts in sorted(found.items())}


def bounding_box(mask: Mask) -> tuple[slice, ...]:
    """Find the smallest box around a mask, which mustn't be empty, as one slice per axis."""
    box: list[slice] = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        hit = np.flatnonzero(mask.any(axis=others))
        box.append(slice(int(hit[0]), int(hit[-1]) + 1))
        mask = mask[(*(slice(None),) * axis, box[-1])]  # makes the search along the next axis shorter
    return tuple(box)


def _edges(label_map: npt.NDArray[Any], axes: Sequence[int]) -> Mask:
    """Mark pixels with a neighbor along one of these axes of another class or outside the array."""
    edge = np.zeros_like(label_map, dtype=bool)
    for axis in axes:
        part, source = np.moveaxis(edge, axis, 0), np.moveaxis(label_map, axis, 0)
        step = source[1:] != source[:-1]
        part[1:] |= step
        part[:-1] |= step
        part[[0, -1]] = True
    return edge


class Surface:
    """Hold a boundary that many others are compared with; the distances around it are computed once.

    Args:
        pixels: pixels of the boundary [n, 2] or [n, 3], at least one.
        spacing_mm: size of a pixel along each axis in mm.
        most: greatest number of pixels in the box around the boundary whose distances are kept.
    """

    def __init__(self, pixels: Pixels, spacing_mm: Sequence[float], most: int = _KEPT) -> None:
        self.pixels = pixels
        self.spacing = np.asarray(spacing_mm, dtype=np.float64)
        self.low, self.high = pixels.min(axis=0) - _MARGIN, pixels.max(axis=0) + _MARGIN + 1
        size = int(np.prod(self.high - self.low, dtype=np.int64))
        self.kept = size if size <= most else 0

    @cached_property
    def _around(self) -> Distances:
        nearest = _transform(self.pixels, self.low, self.high, self.spacing)
        distances = np.empty(nearest.shape[1:])
        grid: tuple[Pixels, ...] = np.indices(distances.shape, np.int32, sparse=True)
        for part in memory.split_array(distances):
            places = [np.broadcast_to(axis, distances.shape)[part] for axis in grid]
            distances[part] = _lengths(nearest[(slice(None), *part)], places, self.spacing)
        return distances

    def distances_of(self, pixels: Pixels) -> Distances:
        """Compute the distance of each pixel to the boundary in mm."""
        near = np.logical_and.reduce(
            [(p >= a) & (p < b) for p, a, b in zip(pixels.T, self.low, self.high, strict=True)]
        )
        if near.all():
            return self._look_up(pixels)
        distances = np.empty(len(pixels))
        distances[near] = self._look_up(pixels[near])
        distances[~near] = _nearest(pixels[~near], self.pixels, self.spacing)
        return distances

    def _look_up(self, pixels: Pixels) -> Distances:
        """Return the distances of pixels in the box around the boundary."""
        if not self.kept:
            return _nearest_in(self.low, self.high, pixels, self.pixels, self.spacing)
        distances: Distances = self._around[tuple((pixels - self.low).T)]
        return distances


def find_surfaces(label_map: npt.NDArray[Any], spacing_mm: Sequence[float]) -> dict[int, Surface]:
    """Find the boundary of every class of a label map, as far as memory allows with the distances around it."""
    surfaces: dict[int, Surface] = {}
    free = _KEPT
    for index, pixels in boundaries(label_map).items():
        surfaces[index] = Surface(pixels, spacing_mm, free)
        free -= surfaces[index].kept
    return surfaces


def distances_between(
    prediction: Pixels | None, truth: Surface | None, tolerance_mm: float = TOLERANCE_MM
) -> tuple[float, float, float]:
    """Compute both :func:`surface_distances` and the :func:`surface_dice` of two boundaries; None for an empty mask."""
    if prediction is None or truth is None:
        return (np.nan, np.nan, np.nan) if prediction is None and truth is None else (np.inf, np.inf, 0.0)
    forth, back = truth.distances_of(prediction), _nearest(truth.pixels, prediction, truth.spacing)
    hd95 = max(_percentile95(forth), _percentile95(back))
    near = np.count_nonzero(forth <= tolerance_mm) + np.count_nonzero(back <= tolerance_mm)
    count = forth.size + back.size
    return hd95, float((forth.sum() + back.sum()) / count), float(near / count)


def _nearest(of: Pixels, to: Pixels, spacing: npt.NDArray[np.float64]) -> Distances:
    """Compute the distance of each pixel to the nearest of the others."""
    low, high = (np.stack([end(of, axis=0), end(to, axis=0)]) for end in (np.min, np.max))
    low, high = low.min(axis=0), high.max(axis=0) + 1
    if len(of) + _BUILDING * len(to) > _DENSE * np.prod(high - low, dtype=np.int64):
        return _nearest_in(low, high, of, to, spacing)
    tree = cKDTree(to * spacing, leafsize=32, compact_nodes=False, balanced_tree=False)
    return np.asarray(tree.query(of * spacing)[0], dtype=np.float64)


def _nearest_in(low: Pixels, high: Pixels, of: Pixels, to: Pixels, spacing: npt.NDArray[np.float64]) -> Distances:
    """Compute :func:`_nearest` by a transform of the box from low to high, which holds all pixels."""
    places = (of - low).T
    return _lengths(_transform(to, low, high, spacing)[(slice(None), *places)], places, spacing)


def _transform(pixels: Pixels, low: Pixels, high: Pixels, spacing: npt.NDArray[np.float64]) -> Pixels:
    """Find the nearest of some pixels for every pixel of the box from low to high, as its place in the box.

    Distances of all pixels, as SciPy would compute them from these places, take 60 bytes for each pixel; this takes 14.
    """
    elsewhere = np.ones(high - low, dtype=bool)
    elsewhere[tuple((pixels - low).T)] = False
    nearest: Pixels = ndimage.distance_transform_edt(elsewhere, spacing, return_distances=False, return_indices=True)
    return nearest


def _lengths(nearest: Iterable[Pixels], places: Iterable[Pixels], spacing: npt.NDArray[np.float64]) -> Distances:
    """Compute the distances between places, given by their coordinates along each axis, as SciPy does."""
    steps = ((to - of) * size for to, of, size in zip(nearest, places, spacing, strict=True))
    return np.asarray(np.sqrt(sum(np.square(step) for step in steps)), dtype=np.float64)


def _percentile95(values: Distances) -> float:
    """Compute ``np.percentile(values, 95)`` to the same bits, without its checks, which take longer than the rest."""
    place = 0.95 * (values.size - 1)
    below = int(place)
    above, share = min(below + 1, values.size - 1), place - below
    parted = np.partition(values, (below, above))
    step = parted[above] - parted[below]
    return float(parted[above] - step * (1 - share) if share >= 0.5 else parted[below] + step * share)
