"""Read label maps of any format, and round values that resampling and rescaling left nearly whole."""

from pathlib import Path

import numpy as np

from medpos.core.errors import InputError
from medpos.io import pictures, readers, volumes
from medpos.io.scan import Array, Scan

WHOLE = 1e-3  # greatest distance of a label from a whole number


def round_labels(values: Array) -> Array:
    """Round values that are nearly whole, such as 0.99999994; other values stay as they are."""
    if values.dtype.kind != "f":
        return values
    with np.errstate(invalid="ignore"):
        nearest = np.rint(values) + 0.0  # no negative zero
        return np.where(np.abs(values - nearest) <= WHOLE, nearest, values)


def read_label_map(path: Path) -> tuple[Array, Scan | None]:
    """Read a label map; of a picture by the rule of :mod:`medpos.io.pictures.pages`.

    Returns:
        Values [X, Y, Z], int64, and the volume with its geometry; None for a picture, which states none.

    Raises:
        InputError: the file can't be read, is JPEG, has colors, or holds values that are not whole within 0.001.
    """
    scan = None
    if pictures.is_picture(path):
        values = pictures.read_picture_labels(path).values
    elif volumes.suffix_of(path):
        scan = readers.read_volume(path)
        values = scan.values
    else:
        raise InputError(
            f"{path}: expected a label map as {volumes.FORMATS}, PNG, TIFF or BMP, got another format; convert it"
        )
    if values.dtype.kind != "f":
        return values.astype(np.int64), scan
    rounded = round_labels(values)
    off = ~(rounded == np.rint(rounded)) | ~np.isfinite(rounded)
    if off.any():
        found = ", ".join(f"{value:g}" for value in np.unique(values[off])[:5])
        raise InputError(
            f"{path}: expected whole numbers as labels, got {found}; export the label map without interpolation"
        )
    return rounded.astype(np.int64), scan
