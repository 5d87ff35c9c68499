"""Bringing an image's axes to how they ran in training, and a label map back.

A network with position channels knows where it is: an image that is mirrored or lies on its side is another image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt

from medpos.data.training_data import TrainingData
from medpos.io.scan import _AXES, directions_of

Array = npt.NDArray[Any]
_THICK = 1.5  # an axis whose spacing is so many times that of the others counts the slices
_ALIGNED = 0.96  # cosine; an axis within 15 degrees of the patient's
# How pictures are hung: the patient's left on the right, front and head on top.
_SCREEN_X = np.array(_AXES["L"], float)
_SCREEN_Y = np.array([0, -1, -1]) / np.sqrt(2)


@dataclass(frozen=True)
class Orientation:
    """Which axes of a file are x, y and z of training, and which of x and y run the other way.

    Args:
        order: the file's axis for x, y and z.
        flips: whether x and y run backwards.
    """

    order: tuple[int, int, int] = (0, 1, 2)
    flips: tuple[bool, bool] = (False, False)

    def apply(self, values: Array) -> Array:
        """A file's array as in training, [X, Y, Z(, C)]; a view, no copy."""
        return self._flip(values.transpose(*self.order, *range(3, values.ndim)))

    def undo(self, values: Array) -> Array:
        """An array [X, Y, Z(, C)] of training's order in the file's; a view, no copy."""
        back = tuple(int(axis) for axis in np.argsort(self.order))
        return self._flip(values).transpose(*back, *range(3, values.ndim))

    def reorder(self, per_axis: Sequence[float]) -> tuple[float, float, float]:
        """What the file says of each of its axes, in the order of training."""
        x, y, z = (float(per_axis[axis]) for axis in self.order)
        return x, y, z

    def _flip(self, values: Array) -> Array:
        axes = tuple(axis for axis in (0, 1) if self.flips[axis])
        return np.flip(values, axes) if axes else values


def find_orientation(
    directions: Array | None, shape: Sequence[int], spacing_mm: Sequence[float], data: TrainingData, is_true: bool
) -> Orientation:
    """How the axes of a file have to be ordered.

    The slice axis is the one of size 1, or of by far the greatest spacing, or the one nearest to training's. The other
    two become x and y, whichever fits better, and run as in training. Slices keep their order: networks see one at a
    time. Where training had no orientation of its own (``data.nominal``), an image that has a true one, because it
    comes from DICOM or stands oblique, is hung as on a screen, which is how scanners store what training saw.

    Args:
        directions: unit vectors in RAS+ space, a column for each axis of the file; None: unknown, kept as stored.
        shape: of the file's array, three axes.
        spacing_mm: along each axis.
        data: what the network was trained on.
        is_true: the directions are surely the patient's, as in DICOM.
    """
    if directions is None:
        return Orientation()
    oblique = bool((np.abs(directions).max(axis=0) < _ALIGNED).any())
    hung = data.nominal and (is_true or oblique)
    wanted = directions_of(data.orientation)
    depth = _slice_axis(directions, shape, spacing_mm, None if hung else wanted[:, 2])
    right, down = wanted[:, 0], wanted[:, 1]
    if hung or abs(directions[:, depth] @ wanted[:, 2]) < np.sqrt(0.5):
        right, down = (_SCREEN_X if hung else right), _SCREEN_Y
    plane = [axis for axis in range(3) if axis != depth]
    x, y = max(
        permutations(plane),
        key=lambda pair: round(float(abs(directions[:, pair[0]] @ right) + abs(directions[:, pair[1]] @ down)), 6),
    )
    flips = bool(directions[:, x] @ right < -1e-6), bool(directions[:, y] @ down < -1e-6)
    return Orientation((x, y, depth), flips)


def is_other_plane(directions: Array | None, orientation: Orientation, data: TrainingData) -> bool:
    """Whether the slices lie across those of training by more than 45 degrees, as far as both are known."""
    if directions is None or data.nominal:
        return False
    normal = directions_of(data.orientation)[:, 2]
    return bool(abs(directions[:, orientation.order[2]] @ normal) < np.sqrt(0.5))


def _slice_axis(directions: Array, shape: Sequence[int], spacing_mm: Sequence[float], normal: Array | None) -> int:
    flat = [axis for axis in range(3) if shape[axis] == 1]
    if not flat:
        sizes = np.argsort(spacing_mm)
        if spacing_mm[sizes[2]] >= _THICK * spacing_mm[sizes[1]]:
            return int(sizes[2])
    candidates = flat or [0, 1, 2]
    if normal is None:
        return candidates[-1]
    return max(candidates, key=lambda axis: (round(float(abs(directions[:, axis] @ normal)), 6), axis))
