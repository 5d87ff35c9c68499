"""Hold an image of any format with its geometry, and check size and values."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from medpos.core.errors import InputError
from medpos.core.labels import Label

Array = npt.NDArray[Any]
Pixels = npt.NDArray[np.uint8]
MAX_PIXELS = 64_000_000  # pixels of a slice, 8000 x 8000; it takes about 2 GB during the computation
MAX_VOXELS = 512_000_000
_MAX_CLASSES = 12  # an image with at most this many values, all integers, is taken for a label map
SHEAR = "the axes are not at right angles (shear): areas, volumes and distances are those of rectangular voxels"
_FEW_PIXELS = 256  # an image of at most this many pixels may have few gray values
SAME_GRID = 0.1  # greatest distance between the corners of equal grids, in sides of the smallest voxel: headers round
SKEW = 2e-3  # sine of an angle up to which rounded direction cosines count as perpendicular
TO_RAS = np.array([-1.0, -1.0, 1.0])  # the axes of DICOM and ITK point to L, P, S


@dataclass(frozen=True, eq=False)
class StoredVolume:
    """Hold a volume as stored, with its geometry in mm.

    Args:
        data: voxels [X, Y, Z(, ...)] in the type of the file, native byte order, axes as in the file; scaled data
            become float32.
        affine: affine [4, 4], voxel indices to RAS+ space in mm.
        spacing: voxel size in mm along X, Y and Z.
        notes: remarks on what the header states oddly, one per line.
        is_oriented: whether the header states the directions of the axes in the patient.
        has_spacing: whether the header states the voxel size.
        header: header as nibabel reads it; None for other formats than NIfTI.
    """

    data: Array
    affine: Array
    spacing: tuple[float, float, float]
    notes: tuple[str, ...] = ()
    is_oriented: bool = True
    has_spacing: bool = True
    header: Any = None


class Target(Protocol):
    """Write label maps with the grid and geometry of an image."""

    @property
    def affine(self) -> Array:
        """Affine [4, 4] from the axes of :attr:`Scan.values` to RAS+ space in mm, as far as it is known."""

    def write(self, stem: Path, values: Pixels, labels: Sequence[Label]) -> Path:
        """Write a label map.

        Args:
            stem: path without suffix; that of the format is appended.
            values: label map [X, Y, Z] in the axes of :attr:`Scan.values`.
            labels: classes, background first.

        Returns:
            Path of the file.
        """

    def write_values(self, stem: Path, values: Array) -> Path:
        """Write a map of values as NIfTI, with the geometry as far as it is known.

        Args:
            stem: path without suffix.
            values: values [X, Y, Z] or [X, Y, Z, C], float32, such as the probabilities of C classes.

        Returns:
            Path of the file.
        """


@dataclass(eq=False)
class Scan:
    """Hold gray values with the known part of their geometry.

    Args:
        values: values [X, Y, Z], or [X, Y, Z, C] for several channels, in the axes of the file, columns before rows,
            float32.
        spacing_mm: spacing along each axis in mm; None: unknown.
        directions: unit vectors in RAS+ space [3, 3], a column for each axis; None: unknown.
        target: writer of label maps for this image.
        gray_range: black and white of the file's format; None: the values are in the units of training.
        has_patient_axes: whether the directions are certainly the patient's.
        notes: remarks for the reader, one per line.
        gray_notes: remarks on ``gray_range``, for networks that use it.
    """

    values: Array
    spacing_mm: tuple[float, float, float] | None
    directions: Array | None
    target: Target
    gray_range: tuple[float, float] | None = None
    has_patient_axes: bool = False
    notes: list[str] = field(default_factory=list)
    gray_notes: list[str] = field(default_factory=list)


def measure_distance(one: Array, other: Array, shape: Sequence[int]) -> float:
    """Return the greatest distance between the corners of two grids in mm.

    Args:
        one: affine [4, 4] of a grid, voxel indices to RAS+ space in mm.
        other: that of the other one.
        shape: shape X, Y, Z of both.
    """
    corners = np.array([*np.ndindex(2, 2, 2)]) * np.subtract(shape, 1)
    step = np.subtract(one, other)
    return float(np.linalg.norm(corners @ step[:3, :3].T + step[:3, 3], axis=1).max())


def are_one_grid(one: Array, other: Array, shape: Sequence[int]) -> bool:
    """Return whether two grids are equal within ``SAME_GRID``; arguments as of :func:`measure_distance`."""
    smallest = float(np.linalg.norm(np.asarray(other)[:3, :3], axis=0).min())
    return measure_distance(one, other, shape) <= SAME_GRID * smallest


def has_shear(affine: Array) -> bool:
    """Return whether axes of an affine [4, 4] are further from a right angle than ``SKEW``."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return bool(np.abs(axes.T @ axes - np.eye(3)).max() > SKEW)


def check_size(path: object, shape: Sequence[int]) -> None:
    """Check the size of an image before it is read, so that it fits into memory.

    Args:
        path: file or its name, for the message.
        shape: shape of the array, two or three axes.

    Raises:
        InputError: the image is empty, a slice exceeds ``MAX_PIXELS``, or all slices exceed ``MAX_VOXELS``.
    """
    sides = [int(side) for side in shape]
    found = " x ".join(map(str, sides))
    if min(sides, default=0) < 1:
        raise InputError(f"{path}: expected at least one pixel along each axis, got shape {found}; export it again")
    # The two longest sides count as the slice, whichever axis is the slice axis.
    plane = int(np.prod(sorted(sides)[-2:]))
    if plane > MAX_PIXELS or int(np.prod(sides)) > MAX_VOXELS:
        raise InputError(
            f"{path}: expected at most {MAX_PIXELS // 10**6} million px in a slice and {MAX_VOXELS // 10**6} million "
            f"in all, got {found} px; reduce or crop it first"
        )


def check_values(path: object, values: Array, force: bool = False) -> None:
    """Check that values are those of a gray image.

    Args:
        path: file or its name, for the message.
        values: array of any shape.
        force: whether to accept what looks like a label map.

    Raises:
        InputError: values are NaN or infinite, all equal, or those of a label map.
    """
    finite = np.isfinite(values)
    if not finite.all():
        bad = values.size - int(np.count_nonzero(finite))
        raise InputError(
            f"{path}: expected finite values, got {bad} of {values.size} NaN or infinite; export it again without them"
        )
    low, high = float(values.min()), float(values.max())
    if low == high:
        raise InputError(f"{path}: expected different gray values, got {low:g} in every pixel; export it again")
    # A sample settles it for most images.
    sampled = np.unique(values.ravel(order="K")[:: 1 + values.size // 10_000])  # in the order of memory: no copy
    if not force and values.size > _FEW_PIXELS and len(sampled) <= _MAX_CLASSES:
        found = np.unique(values)
        if len(found) <= _MAX_CLASSES and (found == found.round()).all():
            raise InputError(
                f"{path}: expected an image, got a label map or mask with the values "
                f"{', '.join(f'{v:g}' for v in found)}; give the image, or --force"
            )


# Unit vectors in RAS+ space, the convention of NIfTI.
UNIT_VECTORS = {"R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}


def directions_of(letters: Sequence[str]) -> Array:
    """Return the unit vectors [3, n] of axes with these directions, such as ``LIP``, in RAS+ space."""
    return np.array([UNIT_VECTORS[letter] for letter in letters], float).T
