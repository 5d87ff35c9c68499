"""One image as it was read, whatever its format, and the checks that all formats share."""

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
MOST_PIXELS = 64_000_000  # of one slice, 8000 x 8000: some 2 GB while it is computed
MOST_VOXELS = 512_000_000
_MOST_CLASSES = 12  # whole numbers of a label map
_FEW_PIXELS = 256  # an image of so few may hold few grey values


class Target(Protocol):
    """Writes a label map on the grid and with the geometry of the image that it belongs to."""

    @property
    def affine(self) -> Array:
        """From the axes of :attr:`Scan.values` to RAS+ space, mm, [4, 4]; as far as it is known."""

    def write(self, stem: Path, values: Pixels, labels: Sequence[Label]) -> Path:
        """Write ``values`` [X, Y, Z], in the axes of :attr:`Scan.values`, to ``stem`` with the format's suffix."""

    def write_probabilities(self, stem: Path, values: Array) -> Path:
        """Write ``values`` float32 [X, Y, Z, classes], 0 to 1, as NIfTI with the geometry as far as it is known."""


@dataclass(eq=False)
class Scan:
    """Grey values with what is known of their geometry.

    Args:
        values: float32 [X, Y, Z], or [X, Y, Z, C] of several channels, in the axes of the file, columns before rows.
        spacing_mm: along each axis; None: unknown.
        directions: unit vectors in RAS+ space, a column for each axis; None: unknown.
        target: writes a label map that fits.
        grey_range: what the file's format has for black and white; None: the values are in the units of training.
        is_true: the directions are surely the patient's.
        notes: what a reader should know, a line each.
    """

    values: Array
    spacing_mm: tuple[float, float, float] | None
    directions: Array | None
    target: Target
    grey_range: tuple[float, float] | None = None
    is_true: bool = False
    notes: list[str] = field(default_factory=list)


def check_size(path: Path, shape: Sequence[int]) -> None:
    """Refuse an image that would not fit into memory, before it is read.

    Args:
        path: for the message.
        shape: of the array, two or three axes.

    Raises:
        InputError: empty, or larger than ``MOST_PIXELS`` a slice or ``MOST_VOXELS`` in all.
    """
    sides = [int(side) for side in shape]
    found = " x ".join(map(str, sides))
    if min(sides, default=0) < 1:
        raise InputError(f"{path}: has shape {found}, needed at least one pixel along each axis; export it again")
    # The two longest sides are taken for the slice, whichever axis counts the slices.
    plane = int(np.prod(sorted(sides)[-2:]))
    if plane > MOST_PIXELS or int(np.prod(sides)) > MOST_VOXELS:
        raise InputError(
            f"{path}: has {found} px, the most is {MOST_PIXELS // 10**6} million a slice and {MOST_VOXELS // 10**6} "
            "million in all; reduce or crop it first"
        )


def check_values(path: Path, values: Array, force: bool = False) -> None:
    """Refuse what is no grey image.

    Args:
        path: for the message.
        values: the array.
        force: take what looks like a label map.

    Raises:
        InputError: NaN or infinite values, one value everywhere, or a label map.
    """
    finite = np.isfinite(values)
    if not finite.all():
        bad = values.size - int(np.count_nonzero(finite))
        raise InputError(f"{path}: {bad} of {values.size} values are NaN or infinite; export it again without them")
    low, high = float(values.min()), float(values.max())
    if low == high:
        raise InputError(f"{path}: every pixel is {low:g}, so there is nothing to see; export it again")
    # Few images need more than the sample.
    sampled = np.unique(values.reshape(-1)[:: 1 + values.size // 10_000])
    if not force and values.size > _FEW_PIXELS and len(sampled) <= _MOST_CLASSES:
        found = np.unique(values)
        if len(found) <= _MOST_CLASSES and (found == found.round()).all():
            raise InputError(
                f"{path}: has only the values {', '.join(f'{v:g}' for v in found)}, so it is a label map or mask; "
                "give the image, or --force"
            )


# Unit vectors of RAS+ space, as NIfTI has it.
_AXES = {"R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}


def directions_of(letters: Sequence[str]) -> Array:
    """Unit vectors [3, n] of axes that lead where the letters say, such as ``LIP``."""
    return np.array([_AXES[letter] for letter in letters], float).T
