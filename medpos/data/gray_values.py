"""Compute the statistics of the gray values of a training set, by which images are standardized."""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
from nibabel.filebasedimages import ImageFileError

from medpos.core import memory
from medpos.core.errors import InputError


def compute_moments(image: npt.NDArray[Any]) -> dict[str, float]:
    """Compute count, sum, sum of squares, minimum and maximum of the gray values of an image."""
    flat = image.ravel(order="K")  # a view, in the order of memory
    total, squares = _add(flat)
    return {"count": flat.size, "sum": total, "squares": squares, "min": float(flat.min()), "max": float(flat.max())}


def _add(flat: npt.NDArray[Any]) -> tuple[float, float]:
    """Add up values and their squares in 64 bits, a part at a time, to the bits of NumPy's sum of all.

    NumPy halves an array at a multiple of 8 and adds up the sums of the halves.
    """
    if flat.size <= memory.PART:
        gray = flat.astype(np.float64)
        return float(gray.sum()), float(np.square(gray).sum())
    middle = flat.size // 2 // 8 * 8
    (total, squares), (more, more_squares) = _add(flat[:middle]), _add(flat[middle:])
    return total + more, squares + more_squares


def intensity_statistics(
    parts: Sequence[Mapping[str, float]], gray_range: tuple[float, float] | None
) -> dict[str, Any]:
    """Compute range, mean and population standard deviation over all voxels of several images.

    Args:
        parts: :func:`compute_moments` of each image; their order doesn't matter.
        gray_range: range of the gray values if known beforehand.
    """
    count = sum(part["count"] for part in parts)
    mean = math.fsum(part["sum"] for part in parts) / count
    variance = math.fsum(part["squares"] for part in parts) / count - mean**2
    seen = (min(part["min"] for part in parts), max(part["max"] for part in parts))
    return {"range": list(gray_range or seen), "mean": mean, "std": math.sqrt(max(variance, 0.0))}


@cache
def read_moments(path: Path) -> dict[str, float]:
    """Return :func:`compute_moments` of the image in a NIfTI file, which is read once in a process.

    Raises:
        InputError: the file can't be read.
    """
    try:
        return compute_moments(np.asanyarray(nibabel.load(path).dataobj))
    except (OSError, EOFError, ValueError, ImageFileError) as error:
        raise InputError(f"{path}: can't be read ({error}); prepare the data again") from error
