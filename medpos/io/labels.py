"""Read label maps of any format, round values that resampling left nearly whole, and convert values to indices."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medpos.core.errors import InputError
from medpos.core.memory import split_array
from medpos.io import pictures, readers, volumes
from medpos.io.scan import Array, Pixels, Scan

WHOLE = 1e-3  # greatest distance of a label from a whole number
_BEYOND = 2.0**63  # above all integers of 64 bits
_SMALL = 65_536  # values below it are looked up in a table


def round_labels(values: Array) -> Array:
    """Round values that are nearly whole, such as 0.99999994; other values stay as they are."""
    if values.dtype.kind != "f":
        return values
    rounded = np.empty_like(values)
    for part in split_array(values):
        rounded[part] = _round(values[part])
    return rounded


def _round(values: Array) -> Array:
    with np.errstate(invalid="ignore"):
        nearest = np.rint(values) + values.dtype.type(0)  # no negative zero
        return np.where(np.abs(values - nearest) <= WHOLE, nearest, values)


def read_label_map(path: Path) -> tuple[Array, Scan | None]:
    """Read a label map; of a picture by the rule of :mod:`medpos.io.pictures.pages`.

    Returns:
        Values [X, Y, Z], integers of the file's type, of floating point numbers those of the smallest type; and the
        volume with its geometry; None for a picture, which states none.

    Raises:
        InputError: the file can't be read, is JPEG, has colors, or holds values that are not whole within 0.001.
    """
    scan = None
    if pictures.is_picture(path):
        values = pictures.read_picture_labels(path).values
    elif volumes.suffix_of(path):
        scan = readers.read_volume(path, as_stored=True)
        values = scan.values
    else:
        raise InputError(
            f"{path}: expected a label map as {volumes.FORMATS}, PNG, TIFF or BMP, got another format; convert it"
        )
    return (values if values.dtype.kind in "iu" else _to_integers(path, values)), scan


def _to_integers(path: Path, values: Array) -> Array:
    """Convert values that are nearly whole to integers."""
    off = np.empty(0)
    ends = [0, 0]
    for part in split_array(values):
        given = values[part].astype(np.float32)
        rounded = _round(given)
        with np.errstate(invalid="ignore"):
            whole = (rounded == np.rint(rounded)) & (np.abs(rounded) < _BEYOND)
        off = np.unique([*off, *np.unique(given[~whole])[:5]])[:5]
        if not off.size:
            ends = [min(ends[0], int(rounded.min())), max(ends[1], int(rounded.max()))]
    if off.size:
        found = ", ".join(f"{value:g}" for value in off)
        raise InputError(
            f"{path}: expected whole numbers as labels, got {found}; export the label map without interpolation"
        )
    converted = np.empty_like(values, np.result_type(*map(np.min_scalar_type, ends)))
    for part in split_array(values):
        converted[part] = _round(values[part].astype(np.float32))
    return converted


def find_values(values: Array) -> Array:
    """Return the different values of a label map, sorted."""
    found = [np.unique(values[part]) for part in split_array(values)]
    return np.unique(np.concatenate(found))


def to_indices(values: Array, found: Array, indices: Mapping[Any, int]) -> Pixels:
    """Replace the values of a label map by class indices.

    Args:
        values: label map of any shape.
        found: its different values, as :func:`find_values` returns them.
        indices: class index of each of these values, 0 to 255.
    """
    table = np.array([indices[value] for value in found.tolist()], np.uint8)
    is_small = values.dtype.kind in "iu" and found[0] >= 0 and found[-1] < _SMALL
    if is_small:
        direct = np.zeros(int(found[-1]) + 1, np.uint8)  # a quarter of the search's time
        direct[found] = table
    classes = np.empty_like(values, np.uint8)
    for part in split_array(values):
        classes[part] = direct[values[part]] if is_small else table[np.searchsorted(found, values[part])]
    return classes
