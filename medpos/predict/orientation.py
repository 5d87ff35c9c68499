"""Bring an image's axes into training orientation, and a label map back.

A network with position channels sees a mirrored or rotated image as a different image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from medpos.data.training_data import TrainingData
from medpos.io.scan import UNIT_VECTORS, Array, directions_of

_THICK = 1.5  # an axis with this many times the spacing of the others is the slice axis
_ALIGNED = 0.96  # cosine of an angle within 15 degrees of the patient's axis
# Pictures are displayed with the patient's left on the right, and front and head on top.
_SCREEN_X = np.array(UNIT_VECTORS["L"], float)
_SCREEN_Y = np.array([0, -1, -1]) / np.sqrt(2)


@dataclass(frozen=True)
class Orientation:
    """Map the axes of a file to x, y and z of training.

    Args:
        order: number of the file's axis for each of x, y and z.
        flips: whether x and y are reversed.
    """

    order: tuple[int, int, int] = (0, 1, 2)
    flips: tuple[bool, bool] = (False, False)

    def apply(self, values: Array) -> Array:
        """Return a file's array [X, Y, Z(, C)] in training orientation, as a view."""
        return self._flip(values.transpose(*self.order, *range(3, values.ndim)))

    def undo(self, values: Array) -> Array:
        """Return an array [X, Y, Z(, C)] of training orientation in that of the file, as a view."""
        back = tuple(int(axis) for axis in np.argsort(self.order))
        return self._flip(values).transpose(*back, *range(3, values.ndim))

    def reorder(self, per_axis: Sequence[float]) -> tuple[float, float, float]:
        """Return numbers given for each axis of the file in the order x, y, z of training."""
        x, y, z = (float(per_axis[axis]) for axis in self.order)
        return x, y, z

    def _flip(self, values: Array) -> Array:
        axes = tuple(axis for axis in (0, 1) if self.flips[axis])
        return np.flip(values, axes) if axes else values


def find_orientation(
    directions: Array | None, shape: Sequence[int], spacing_mm: Sequence[float], data: TrainingData, are_certain: bool
) -> Orientation:
    """Find the order and direction of a file's axes that match training.

    The slice axis is the one of size 1, or with by far the largest spacing, or nearest to that of training. The other
    two become x and y, whichever order fits better, with the directions of training. Slices keep their order, as
    networks see one at a time. Where the training data have no true orientation (``data.nominal``), an image that has
    one, because it comes from DICOM or is oblique, is oriented as on a screen, which is how scanners store images.

    Args:
        directions: unit vectors in RAS+ space [3, 3], a column for each axis of the file; None: unknown, so the axes
            stay as stored.
        shape: shape of the file's array, three axes.
        spacing_mm: spacing along each axis in mm.
        data: description of the training data.
        are_certain: whether the directions are certainly the patient's, as in DICOM.
    """
    if directions is None:
        return Orientation()
    oblique = bool((np.abs(directions).max(axis=0) < _ALIGNED).any())
    as_on_screen = data.nominal and (are_certain or oblique)
    trained = directions_of(data.orientation)
    depth = _slice_axis(directions, shape, spacing_mm, None if as_on_screen else trained[:, 2])
    right, down = trained[:, 0], trained[:, 1]
    if as_on_screen or abs(directions[:, depth] @ trained[:, 2]) < np.sqrt(0.5):
        right, down = (_SCREEN_X if as_on_screen else right), _SCREEN_Y
    plane = [axis for axis in range(3) if axis != depth]
    x, y = max(
        permutations(plane),
        key=lambda pair: round(float(abs(directions[:, pair[0]] @ right) + abs(directions[:, pair[1]] @ down)), 6),
    )
    flips = bool(directions[:, x] @ right < -1e-6), bool(directions[:, y] @ down < -1e-6)
    return Orientation((x, y, depth), flips)


def is_other_plane(directions: Array | None, orientation: Orientation, data: TrainingData) -> bool:
    """Return whether the slices differ from those of training by more than 45 degrees; False where unknown.

    Args:
        directions: unit vectors in RAS+ space [3, 3], a column for each axis of the file; None: unknown.
        orientation: order and direction of the file's axes.
        data: description of the training data.
    """
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
