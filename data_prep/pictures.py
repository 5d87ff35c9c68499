"""Read images and label maps as volumes: NIfTI; PNG, TIFF, JPEG or BMP as one slice or a stack of slices.

The axes of a picture are its columns (to the patient's left, if that applies), rows and pages, with pixels of 1 mm,
because no picture states its pixel size reliably.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence

from data_prep.files import Array, Nifti, read_nifti, round_labels
from medpos.core.errors import InputError
from medpos.io.pictures import turn_upright

NIFTI = (".nii.gz", ".nii")
PICTURES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")
SUFFIXES = (*NIFTI, *PICTURES)
_LOSSY = (".jpg", ".jpeg")
_COLORS = 3
_GRAY_MODES = ("1", "L", "I", "F")
NOMINAL_AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])


def suffix_of(path: Path) -> str:
    """Return the suffix of a readable file in lower case, ``.nii.gz`` as one; empty for any other file."""
    return next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), "")


def read_image(path: Path, channels: int) -> Nifti:
    """Read an image.

    Args:
        path: file with one of ``SUFFIXES``.
        channels: expected number of channels; a color picture has 3, a 4-D NIfTI the length of its last axis.

    Returns:
        Data (X, Y, Z), or (X, Y, Z, C) for C > 1 channels, with affine and spacing in mm.

    Raises:
        InputError: the file can't be read, has another number of channels, or NaN or infinite values.
    """
    if suffix_of(path) in PICTURES:
        found = _read_picture(path, palette_indices=False)
        if channels == _COLORS and found.data.ndim == 3:  # a gray picture among color ones
            found = Nifti(np.repeat(found.data[..., None], _COLORS, axis=-1), found.affine, found.spacing, found.notes)
    else:
        found = read_nifti(path)
        # Some tools put channels on the fifth axis.
        data = found.data[:, :, :, 0] if found.data.ndim == 5 and found.data.shape[3] == 1 else found.data
        found = Nifti(_add_slice_axis(data), found.affine, found.spacing, found.notes)
    data = found.data[..., 0] if found.data.ndim == 4 and found.data.shape[3] == 1 else found.data
    if data.ndim not in (3, 4) or 0 in data.shape:
        raise InputError(f"{path}: expected an image or a volume, got shape {found.data.shape}; export it again.")
    _check_channels(path, data, channels)
    if not np.isfinite(data).all():
        bad = int(data.size - np.isfinite(data).sum())
        raise InputError(f"{path}: expected finite numbers, got {bad} NaN or infinite values; export it again.")
    return Nifti(data, found.affine, found.spacing, found.notes)


def _check_channels(path: Path, data: Array, channels: int) -> None:
    count = data.shape[3] if data.ndim == 4 else 1
    if count == channels:
        return
    if suffix_of(path) in PICTURES and count == _COLORS:
        raise InputError(
            f"{path}: expected {'a gray picture' if channels == 1 else f'{channels} channels'}, got a color picture; "
            "convert all to gray, or prepare all colors with --channel red --channel green --channel blue."
        )
    raise InputError(f"{path}: expected {channels} channels, got {count}; name each with --channel, or convert it.")


def read_label(path: Path) -> Nifti:
    """Read a label map (X, Y, Z), nearly whole values rounded; of palette pictures the indices.

    Raises:
        InputError: the file can't be read, has colors or more than three dimensions, or is JPEG.
    """
    if suffix_of(path) in _LOSSY:
        raise InputError(f"{path}: expected PNG, TIFF or NIfTI, got JPEG, which changes label values; store it again.")
    if suffix_of(path) in PICTURES:
        found = _read_picture(path, palette_indices=True)
    else:
        found = read_nifti(path)
        found = Nifti(_add_slice_axis(found.data), found.affine, found.spacing, found.notes)
    data = found.data[..., 0] if found.data.ndim == 4 and found.data.shape[3] == 1 else found.data
    if data.ndim != 3:
        what = "colors" if suffix_of(path) in PICTURES else f"shape {data.shape}"
        raise InputError(f"{path}: expected a label map, one class per pixel, got {what}; convert it.")
    return Nifti(round_labels(data), found.affine, found.spacing, found.notes)


def _add_slice_axis(data: Array) -> Array:
    return data[..., None] if data.ndim == 2 else data


def _read_picture(path: Path, palette_indices: bool) -> Nifti:
    """Read all pages of a picture as (X, Y, pages) or (X, Y, pages, 3).

    Args:
        path: picture file.
        palette_indices: return the indices of a palette picture, not its colors.
    """
    try:
        # A stream, because Pillow maps an uncompressed TIFF from its path and then confuses the sides of a turned one.
        with path.open("rb") as stream, Image.open(stream) as picture:
            pages, notes = [], set[str]()
            for page in ImageSequence.Iterator(picture):
                upright, remarks = turn_upright(page)
                pages.append(_read_page(upright, palette_indices))
                notes.update(remarks)
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: too large to read safely ({error}); cut it into tiles.") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise InputError(f"{path}: expected a complete picture ({error}); copy or export it again.") from error
    if len({page.shape for page in pages}) > 1:
        raise InputError(
            f"{path}: expected pages of one size and mode, got {len(pages)} that differ; store them one by one."
        )
    data = np.stack(pages, axis=2)
    if data.ndim == 4 and (data == data[..., :1]).all():
        data = data[..., 0]  # gray, stored as three equal colors
    return Nifti(data.swapaxes(0, 1), NOMINAL_AFFINE, (1.0, 1.0, 1.0), tuple(sorted(notes)))


def _read_page(page: Image.Image, palette_indices: bool) -> Array:
    """Return a page as (rows, columns) or (rows, columns, 3) without transparency."""
    if page.mode in _GRAY_MODES or page.mode.startswith("I;16") or (page.mode == "P" and palette_indices):
        array = np.asarray(page)
    else:
        array = np.asarray(page.convert("L" if page.mode == "LA" else "RGB"))
    if array.dtype == np.bool_:
        return array.astype(np.uint8)
    return array.astype(array.dtype.newbyteorder("="))
