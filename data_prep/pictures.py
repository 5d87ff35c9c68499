"""Images and label maps of any usual kind as volumes: NIfTI; PNG, TIFF, JPEG or BMP as one slice or a stack of them.

A picture's grid is its columns (to the patient's left, as far as that means something), its rows and its pages, 1 mm a
pixel, because no picture says its pixel size reliably.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence

from data_prep.files import Array, Nifti, read_nifti
from medpos.core.errors import InputError

NIFTI = (".nii.gz", ".nii")
PICTURES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")
SUFFIXES = (*NIFTI, *PICTURES)
_LOSSY = (".jpg", ".jpeg")
_COLOURS = 3
_GREY_MODES = ("1", "L", "I", "F")
NOMINAL = np.diag([-1.0, -1.0, 1.0, 1.0])


def suffix_of(path: Path) -> str:
    """The ending that says the kind of file, in lower case, ``.nii.gz`` as one; empty for a kind that isn't read."""
    return next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), "")


def read_image(path: Path, channels: int) -> Nifti:
    """Read an image.

    Args:
        path: of a kind of ``SUFFIXES``.
        channels: that the file must have; a colour picture has 3, a 4-D NIfTI as many as its last axis.

    Returns:
        data (X, Y, Z), or (X, Y, Z, C) for C > 1 channels, with affine and spacing in mm.

    Raises:
        InputError: can't be read, another number of channels, NaN or infinite values.
    """
    if suffix_of(path) in PICTURES:
        found = _picture(path, colour_map=False)
        if channels == _COLOURS and found.data.ndim == 3:  # a grey picture among coloured ones
            found = Nifti(np.repeat(found.data[..., None], _COLOURS, axis=-1), found.affine, found.spacing)
    else:
        found = read_nifti(path)
        # Some tools put channels on the fifth axis.
        data = found.data[:, :, :, 0] if found.data.ndim == 5 and found.data.shape[3] == 1 else found.data
        found = Nifti(_with_slices(data), found.affine, found.spacing)
    data = found.data[..., 0] if found.data.ndim == 4 and found.data.shape[3] == 1 else found.data
    if data.ndim not in (3, 4) or 0 in data.shape:
        raise InputError(f"{path}: shape {found.data.shape}, needed is an image or a volume; export it again.")
    _check_channels(path, data, channels)
    if not np.isfinite(data).all():
        bad = int(data.size - np.isfinite(data).sum())
        raise InputError(f"{path}: {bad} values are NaN or infinite, needed are finite numbers; export it again.")
    return Nifti(data, found.affine, found.spacing)


def _check_channels(path: Path, data: Array, channels: int) -> None:
    count = data.shape[3] if data.ndim == 4 else 1
    if count == channels:
        return
    if suffix_of(path) in PICTURES and count == _COLOURS:
        raise InputError(
            f"{path}: a colour picture where {'grey' if channels == 1 else f'{channels} channels'} is needed; convert "
            "all to grey, or prepare all colours with --channel red --channel green --channel blue."
        )
    raise InputError(f"{path}: {count} channels, needed {channels}; name each channel with --channel, or convert it.")


def read_label(path: Path) -> Nifti:
    """Read a label map: data (X, Y, Z) as stored, palette pictures by index.

    Raises:
        InputError: can't be read, colour, JPEG, or more than three dimensions.
    """
    if suffix_of(path) in _LOSSY:
        raise InputError(f"{path}: JPEG changes label values; store label maps as PNG, TIFF or NIfTI.")
    if suffix_of(path) in PICTURES:
        found = _picture(path, colour_map=True)
    else:
        found = read_nifti(path)
        found = Nifti(_with_slices(found.data), found.affine, found.spacing)
    data = found.data[..., 0] if found.data.ndim == 4 and found.data.shape[3] == 1 else found.data
    if data.ndim != 3:
        what = "colours" if suffix_of(path) in PICTURES else f"shape {data.shape}"
        raise InputError(f"{path}: {what}, needed is a label map: one whole number a pixel, its class; convert it.")
    return Nifti(data, found.affine, found.spacing)


def _with_slices(data: Array) -> Array:
    return data[..., None] if data.ndim == 2 else data


def _picture(path: Path, colour_map: bool) -> Nifti:
    """All pages of a picture as (X, Y, pages) or (X, Y, pages, 3).

    Args:
        path: the picture.
        colour_map: take a palette's indices, not its colours.
    """
    try:
        with Image.open(path) as picture:
            pages = [_page(page, colour_map) for page in ImageSequence.Iterator(picture)]
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: too large to be read safely ({error}); cut it into tiles.") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise InputError(f"{path}: not a whole picture ({error}); copy or export it again.") from error
    if len({page.shape for page in pages}) > 1:
        raise InputError(f"{path}: its {len(pages)} pages differ in size or colour; store them one by one.")
    data = np.stack(pages, axis=2)
    if data.ndim == 4 and (data == data[..., :1]).all():
        data = data[..., 0]  # grey, stored as three equal colours
    return Nifti(data.swapaxes(0, 1), NOMINAL, (1.0, 1.0, 1.0))


def _page(page: Image.Image, colour_map: bool) -> Array:
    """One page (rows, columns) or (rows, columns, 3); transparency is left out."""
    if page.mode in _GREY_MODES or page.mode.startswith("I;16") or (page.mode == "P" and colour_map):
        array = np.asarray(page)
    else:
        array = np.asarray(page.convert("L" if page.mode == "LA" else "RGB"))
    if array.dtype == np.bool_:
        return array.astype(np.uint8)
    return array.astype(array.dtype.newbyteorder("="))
