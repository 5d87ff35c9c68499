"""Readers of NIfTI, pictures and JSRT's raw files; DICOM has a module of its own."""

import gzip
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image

from medpos.core.errors import InputError, first_line
from medpos.io import jsrt
from medpos.io.scan import Array, Scan, check_size
from medpos.io.targets import NiftiTarget, PictureTarget

_TO_MM = {"meter": 1000.0, "micron": 0.001}
_PICTURES = ("PNG", "JPEG", "TIFF", "BMP")
_GREY = ("L", "I;16", "I;16B", "I;16L", "I")
_COLOUR = ("RGB", "RGBA", "P", "LA", "CMYK", "YCbCr")
_DEPTHS = (8, 10, 12, 14, 16, 24, 32)


def read_nifti(path: Path, several: bool = False) -> Scan:
    """Read a NIfTI image, 2-D or a volume.

    Args:
        path: the file.
        several: it may hold channels, along the fourth axis.

    Raises:
        InputError: unreadable or truncated, colour or complex, 4-D, too large, or a spacing or affine without meaning.
    """
    zooms = _raw_spacing(path)
    try:
        image: Any = nib.load(path)
    except Exception as error:  # nibabel has no common base class for what a bad header raises
        raise InputError(
            f"{path}: not a readable NIfTI file ({_reason(error)}); download or export it again"
        ) from error
    shape = _axes(path, image.shape, several)
    if image.get_data_dtype().kind not in "iuf":
        raise InputError(f"{path}: holds {image.get_data_dtype()}, needed are plain grey values; convert it")
    if not all(np.isfinite(size) and size > 0 for size in zooms):
        raise InputError(
            f"{path}: spacing is {' x '.join(f'{z:g}' for z in zooms)} mm, needed are numbers above 0; mend pixdim"
        )
    try:
        values = np.asarray(image.dataobj, np.float32).reshape(shape)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(f"{path}: is truncated or damaged ({_reason(error)}); download or copy it again") from error
    return _with_geometry(path, image, values)


def _with_geometry(path: Path, image: Any, values: Array) -> Scan:
    header, affine = image.header, np.asarray(image.affine, float)
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not (np.isfinite(affine).all() and np.linalg.matrix_rank(affine[:3, :3]) == 3):
        raise InputError(f"{path}: its affine has no inverse; mend sform and qform in the header")
    unit = header.get_xyzt_units()[0]
    x, y, z = (float(size) * _TO_MM.get(unit, 1.0) for size in lengths)
    unknown = unit == "unknown" and np.allclose(lengths, 1)
    oriented = bool(header["sform_code"] or header["qform_code"])
    notes = [] if oriented else ["orientation unknown: taken as stored, columns along the first axis"]
    return Scan(
        values,
        None if unknown else (x, y, z),
        affine[:3, :3] / lengths if oriented else None,
        NiftiTarget.like(header, image.shape[:3]),
        notes=notes,
    )


def _raw_spacing(path: Path) -> list[float]:
    """``pixdim`` as it stands in the file: nibabel mends a bad one silently."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            start = stream.read(540)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: can't be read ({_reason(error)}); download or copy it again") from error
    kind = nib.Nifti2Header if start[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c") else nib.Nifti1Header
    try:
        header = kind(start[: kind.template_dtype.itemsize], check=False)
    except Exception as error:
        raise InputError(f"{path}: not a NIfTI file ({_reason(error)}); download or export it again") from error
    axes = min(max(int(header["dim"][0]), 0), 3)
    return [float(size) for size in header["pixdim"][1 : 1 + axes]]


def _axes(path: Path, shape: tuple[int, ...], several: bool) -> tuple[int, ...]:
    """X, Y, Z, or X, Y, Z, C."""
    axes = list(shape)
    if several and len(axes) == 5 and axes[3] == 1:
        del axes[3]  # some tools put channels on the fifth axis
    while len(axes) > 3 and axes[-1] == 1:
        axes.pop()
    if len(axes) > 3 + several or len(axes) < 2:
        raise InputError(
            f"{path}: has {len(axes)} axes ({' x '.join(map(str, axes))}), needed is an image or a volume"
            f"{', or one with its channels last' if several else ''}; save each time point or channel as a file of "
            "its own"
        )
    axes += [1] * (3 - len(axes))
    check_size(path, (*axes[:2], int(np.prod(axes[2:]))))
    return tuple(axes)


def read_picture(path: Path, force: bool = False, several: bool = False) -> Scan:
    """Read a PNG, JPEG, TIFF or BMP; it lies as on a screen.

    Args:
        path: the file.
        force: turn colour into grey.
        several: colours are channels.

    Raises:
        InputError: unreadable or truncated, too large, several pages, or colour where grey is needed.
    """
    try:
        # Pillow's own limit on sizes raises in open(), before a pixel is read.
        with Image.open(path, formats=_PICTURES) as image:
            check_size(path, image.size)
            if getattr(image, "n_frames", 1) > 1:
                raise InputError(f"{path}: holds several pages, needed is one; save each as a file of its own")
            values, mode = _colours(image) if several and image.mode in _COLOUR else _grey(path, image, force)
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: is too large ({_reason(error)}); reduce or crop it first") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise InputError(f"{path}: not a whole picture ({_reason(error)}); download or export it again") from error
    columns = np.expand_dims(values.swapaxes(0, 1), 2).astype(np.float32)
    return Scan(columns, None, None, PictureTarget(), grey_range=_range(values, mode))


def _colours(image: Image.Image) -> tuple[Array, str]:
    """Rows of red, green and blue, or of grey stored as three equal colours."""
    rgb = np.asarray(image.convert("RGB"))
    return (rgb if np.ptp(rgb, axis=2).any() else rgb[..., 0]), "L"


def _grey(path: Path, image: Image.Image, force: bool) -> tuple[Array, str]:
    """Rows of grey values, and the mode that says how many there can be."""
    if image.mode in _COLOUR:
        rgb = np.asarray(image.convert("RGB"))
        if not force and np.ptp(rgb, axis=2).any():
            raise InputError(f"{path}: is in colour, needed is grey; convert it, or --force takes its brightness")
        return np.asarray(image.convert("L")), "L"
    if image.mode not in (*_GREY, "F", "1"):
        raise InputError(f"{path}: has Pillow's mode {image.mode}, needed is grey of 8 or 16 bits; convert it")
    return np.asarray(image), image.mode


def _range(values: Array, mode: str) -> tuple[float, float] | None:
    """Black and white: of the fewest bits that hold the picture, as 12-bit images come in 16-bit files."""
    if mode not in _GREY:
        return None
    highest = max(int(values.max()), 0)
    return 0.0, float(2 ** next(depth for depth in _DEPTHS if highest < 2**depth) - 1)


def read_img(path: Path) -> Scan:
    """Read JSRT's headerless ``.IMG``, at its full 2048 x 2048.

    Raises:
        InputError: not of this size, or more than 12 bits.
    """
    rows = jsrt.read_image(path, jsrt.RAW_SIDE)
    affine = jsrt.coronal_affine(jsrt.RAW_SIDE, jsrt.PIXEL_MM)
    spacing = (jsrt.PIXEL_MM, jsrt.PIXEL_MM, 1.0)
    values = np.ascontiguousarray(rows.T[..., None], np.float32)
    return Scan(
        values, spacing, affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0), NiftiTarget.of(affine, values.shape)
    )


def _reason(error: BaseException) -> str:
    """The first line of an exception, without the file's name, which every message has already."""
    return first_line(error, 120)
