"""Read label maps and images with their grids, and bring a label map onto the grid of another."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from medpos.core.errors import InputError
from medpos.io import labels, readers, volumes
from medpos.io.scan import SAME_GRID, Array, Scan, measure_distance


@dataclass(frozen=True, eq=False)
class Volume:
    """Hold the values of a file on their grid.

    Args:
        path: the file.
        values: values [X, Y, Z] in the axes of the file, columns before rows; an image has one slice.
        spacing_mm: size of a pixel along each axis in mm; None: unknown.
        affine: affine [4, 4] from the axes of ``values`` to RAS+ space in mm; None: unknown.
        notes: remarks on what the header states oddly.
    """

    path: Path
    values: Array
    spacing_mm: tuple[float, ...] | None
    affine: Array | None
    notes: tuple[str, ...] = ()


def read_label_map(path: Path) -> Volume:
    """Read a label map as :func:`medpos.io.labels.read_label_map` does.

    Raises:
        InputError: the file can't be read, is JPEG, has colors, or holds values that are not whole within 0.001.
    """
    values, scan = labels.read_label_map(path)
    if scan is None:
        return Volume(path, values, None, None)
    return Volume(path, values, scan.spacing_mm, _affine(scan), tuple(scan.notes))


def read_image(path: Path) -> Volume:
    """Read an image to show behind label maps; of several channels the first, of colors their brightness.

    Raises:
        InputError: the file can't be read.
    """
    headed = bool(volumes.suffix_of(path))
    scan = readers.read_volume(path, multichannel=True) if headed else readers.read_picture(path, force=True)
    values = scan.values[..., 0] if scan.values.ndim == 4 else scan.values
    return Volume(path, values, scan.spacing_mm, _affine(scan) if headed else None)


def _affine(scan: Scan) -> Array | None:
    """Return the affine of a volume in mm, None where the header has no orientation."""
    return None if scan.directions is None else scan.target.affine


def find_difference(one: Volume, other: Volume) -> str:
    """Compare the grids of two files as far as both are known.

    Returns:
        A description of the first difference, empty where there is none. Corners may lie a tenth of a pixel apart,
        because headers round.
    """
    if one.values.shape != other.values.shape:
        return f"shapes {_by(one.values.shape)} and {_by(other.values.shape)}"
    if one.spacing_mm is None or other.spacing_mm is None:
        return ""
    sizes = [f"{_by(f'{size:.6g}' for size in spacing)} mm" for spacing in (one.spacing_mm, other.spacing_mm)]
    allowed = SAME_GRID * min(other.spacing_mm)
    extents = np.abs(np.subtract(one.spacing_mm, other.spacing_mm)) * np.subtract(one.values.shape, 1)
    if (extents > allowed).any():
        return f"spacings {sizes[0]} and {sizes[1]}"
    if one.affine is None or other.affine is None:
        return ""
    apart = measure_distance(one.affine, other.affine, one.values.shape)
    return f"origins or directions, with corners up to {apart:.4g} mm apart" if apart > allowed else ""


def _by(sizes: Any) -> str:
    return " x ".join(map(str, sizes))


def resample(source: Volume, grid: Volume) -> Volume:
    """Take the nearest value of a file at every pixel of another grid; 0 outside the file.

    Args:
        source: file to resample.
        grid: file with the grid.

    Raises:
        InputError: a file has no orientation in its header, or the files show different places.
    """
    if source.affine is None or grid.affine is None:
        without = source.path if source.affine is None else grid.path
        raise InputError(
            f"{source.path}: can't be resampled onto the grid of {grid.path}, because {without} states no position; "
            "export both as NIfTI with sform or qform"
        )
    step = np.linalg.inv(source.affine) @ grid.affine
    shape = grid.values.shape

    def take(values: Array) -> Array:
        moved: Array = ndimage.affine_transform(values, step[:3, :3], step[:3, 3], shape, None, 0, "grid-constant")
        return moved

    if not take(np.ones(source.values.shape, np.uint8)).any():
        raise InputError(
            f"{source.path}: shows another place than {grid.path}: no pixel lies in both; check that the files belong "
            "together"
        )
    return Volume(source.path, take(source.values), grid.spacing_mm, grid.affine, source.notes)
