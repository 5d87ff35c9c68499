"""Read images and label maps as volumes: PNG, TIFF, JPEG or BMP as one slice or a stack of slices.

The axes of a picture are its columns (to the patient's left, if that applies), rows and pages, with pixels of 1 mm,
because no picture states its pixel size reliably.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from data_prep.files import Array, drop_last_axes
from medpos.core.errors import InputError
from medpos.io import pictures, volumes
from medpos.io.labels import round_labels
from medpos.io.scan import StoredVolume, check_size

_COLORS = 3
NOMINAL_AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_image(path: Path, channels: int) -> StoredVolume:
    """Read an image.

    Args:
        path: file with one of ``SUFFIXES``.
        channels: expected number of channels; a color picture has 3, a 4-D volume the length of its last axis.

    Returns:
        Data (X, Y, Z), or (X, Y, Z, C) for C > 1 channels, with affine and spacing in mm.

    Raises:
        InputError: the file can't be read, has another number of channels, or NaN or infinite values.
    """
    if pictures.is_picture(path):
        found = _of_picture(pictures.read_picture(path))
        if channels == _COLORS and found.data.ndim == 3:  # a gray picture among color ones
            found = replace(found, data=np.repeat(found.data[..., None], _COLORS, axis=-1))
    else:
        found = volumes.read_volume(path, partial(check_size, path))
        # Some tools put channels on the fifth axis.
        data = found.data[:, :, :, 0] if found.data.ndim == 5 and found.data.shape[3] == 1 else found.data
        found = replace(found, data=_add_slice_axis(data))
    data = drop_last_axes(found.data)
    if data.ndim not in (3, 4) or 0 in data.shape:
        raise InputError(f"{path}: expected an image or a volume, got shape {found.data.shape}; export it again.")
    _check_channels(path, data, channels)
    if data.dtype.kind == "f" and not np.isfinite(data).all():
        bad = int(data.size - np.isfinite(data).sum())
        raise InputError(f"{path}: expected finite numbers, got {bad} NaN or infinite values; export it again.")
    return replace(found, data=data)


def _check_channels(path: Path, data: Array, channels: int) -> None:
    count = data.shape[3] if data.ndim == 4 else 1
    if count == channels:
        return
    if pictures.is_picture(path) and count == _COLORS:
        raise InputError(
            f"{path}: expected {'a gray picture' if channels == 1 else f'{channels} channels'}, got a color picture; "
            "convert all to gray, or prepare all colors with --channel red --channel green --channel blue."
        )
    raise InputError(f"{path}: expected {channels} channels, got {count}; name each with --channel, or convert it.")


def read_label(path: Path) -> StoredVolume:
    """Read a label map (X, Y, Z), nearly whole values rounded; of palette pictures the indices.

    Raises:
        InputError: the file can't be read, has colors or more than three dimensions, or is JPEG.
    """
    if pictures.is_picture(path):
        found = _of_picture(pictures.read_picture_labels(path))
    else:
        found = volumes.read_volume(path, partial(check_size, path))
        found = replace(found, data=_add_slice_axis(found.data))
    data = drop_last_axes(found.data)
    if data.ndim != 3:
        what = "colors" if pictures.is_picture(path) else f"shape {data.shape}"
        raise InputError(f"{path}: expected a label map, one class per pixel, got {what}; convert it.")
    return replace(found, data=round_labels(data))


def _add_slice_axis(data: Array) -> Array:
    return data[..., None] if data.ndim == 2 else data


def _of_picture(found: pictures.Picture) -> StoredVolume:
    return StoredVolume(found.values, NOMINAL_AFFINE, (1.0, 1.0, 1.0), found.notes)
