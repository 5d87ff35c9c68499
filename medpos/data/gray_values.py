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

from medpos.core.errors import InputError


def compute_moments(image: npt.NDArray[Any]) -> dict[str, float]:
    """Compute count, sum, sum of squares, minimum and maximum of the gray values of an image."""
    gray = image.astype(np.float64)
    return {
        "count": gray.size,
        "sum": float(gray.sum()),
        "squares": float(np.square(gray).sum()),
        "min": float(gray.min()),
        "max": float(gray.max()),
    }


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
