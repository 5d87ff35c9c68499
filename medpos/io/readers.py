"""Read NIfTI, pictures and JSRT's raw files; :mod:`medpos.io.dicom` reads DICOM."""

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
_COLOR = ("RGB", "RGBA", "P", "LA", "CMYK", "YCbCr")
_DEPTHS = (8, 10, 12, 14, 16, 24, 32)


def read_nifti(path: Path, multichannel: bool = False) -> Scan:
    """Read a NIfTI image or volume.

    Args:
        path: file to read.
        multichannel: whether the fourth axis may hold channels.

    Raises:
        InputError: the file is unreadable, truncated or too large, has colors, complex values or four axes, or has an
            invalid spacing or affine.
    """
    zooms = _raw_spacing(path)
    try:
        image: Any = nib.load(path)
    except Exception as error:  # nibabel has no common base class for what a bad header raises
        raise InputError(
            f"{path}: expected a NIfTI file, got: {_reason(error)}; download or export it again"
        ) from error
    shape = _shape(path, image.shape, multichannel)
    if image.get_data_dtype().kind not in "iuf":
        raise InputError(f"{path}: expected grey values, got type {image.get_data_dtype()}; convert it")
    if not all(np.isfinite(size) and size > 0 for size in zooms):
        raise InputError(
            f"{path}: expected a spacing above 0 mm, got {' x '.join(f'{z:g}' for z in zooms)}; correct pixdim in the "
            "header"
        )
    try:
        values = np.asarray(image.dataobj, np.float32).reshape(shape)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(
            f"{path}: expected a complete file, got a truncated or damaged one ({_reason(error)}); download it again"
        ) from error
    return _with_geometry(path, image, values)


def _with_geometry(path: Path, image: Any, values: Array) -> Scan:
    header, affine = image.header, np.asarray(image.affine, float)
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not (np.isfinite(affine).all() and np.linalg.matrix_rank(affine[:3, :3]) == 3):
        raise InputError(
            f"{path}: expected an invertible affine, got another one; correct sform and qform in the header"
        )
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
    """Read ``pixdim`` from the header itself, as nibabel silently corrects invalid values."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            start = stream.read(540)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: can't be read ({_reason(error)}); download or copy it again") from error
    kind = nib.Nifti2Header if start[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c") else nib.Nifti1Header
    try:
        header = kind(start[: kind.template_dtype.itemsize], check=False)
    except Exception as error:
        raise InputError(
            f"{path}: expected a NIfTI header, got: {_reason(error)}; download or export it again"
        ) from error
    axes = min(max(int(header["dim"][0]), 0), 3)
    return [float(size) for size in header["pixdim"][1 : 1 + axes]]


def _shape(path: Path, shape: tuple[int, ...], multichannel: bool) -> tuple[int, ...]:
    """Return the shape as X, Y, Z or X, Y, Z, C."""
    axes = list(shape)
    if multichannel and len(axes) == 5 and axes[3] == 1:
        del axes[3]  # some tools put channels on the fifth axis
    while len(axes) > 3 and axes[-1] == 1:
        axes.pop()
    if len(axes) > 3 + multichannel or len(axes) < 2:
        raise InputError(
            f"{path}: expected an image or a volume{', with its channels last if any' if multichannel else ''}, got "
            f"{len(axes)} axes ({' x '.join(map(str, axes))}); save each time point or channel as a file of its own"
        )
    axes += [1] * (3 - len(axes))
    check_size(path, (*axes[:2], int(np.prod(axes[2:]))))
    return tuple(axes)


def read_picture(path: Path, force: bool = False, multichannel: bool = False) -> Scan:
    """Read a PNG, JPEG, TIFF or BMP, oriented as on a screen.

    Args:
        path: file to read.
        force: whether to convert color to grey.
        multichannel: whether colors are channels.

    Raises:
        InputError: the file is unreadable, truncated or too large, has several pages, or color where grey is expected.
    """
    try:
        # Pillow checks its own limit of sizes in open(), before it reads pixels.
        with Image.open(path, formats=_PICTURES) as image:
            check_size(path, image.size)
            if getattr(image, "n_frames", 1) > 1:
                raise InputError(f"{path}: expected one page, got several; save each as a file of its own")
            values, mode = _colors(image) if multichannel and image.mode in _COLOR else _grey(path, image, force)
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{path}: expected a smaller picture, got: {_reason(error)}; reduce or crop it first"
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise InputError(
            f"{path}: expected a complete picture, got: {_reason(error)}; download or export it again"
        ) from error
    columns = np.expand_dims(values.swapaxes(0, 1), 2).astype(np.float32)
    return Scan(columns, None, None, PictureTarget(), grey_range=_range(values, mode))


def _colors(image: Image.Image) -> tuple[Array, str]:
    """Return red, green and blue [Y, X, 3], or grey [Y, X] where all three are equal, and the mode of one channel."""
    rgb = np.asarray(image.convert("RGB"))
    return (rgb if np.ptp(rgb, axis=2).any() else rgb[..., 0]), "L"


def _grey(path: Path, image: Image.Image, force: bool) -> tuple[Array, str]:
    """Return grey values [Y, X] and the mode, which bounds them."""
    if image.mode in _COLOR:
        rgb = np.asarray(image.convert("RGB"))
        if not force and np.ptp(rgb, axis=2).any():
            raise InputError(
                f"{path}: expected a grey picture, got color; convert it, or use its brightness by --force"
            )
        return np.asarray(image.convert("L")), "L"
    if image.mode not in (*_GREY, "F", "1"):
        raise InputError(f"{path}: expected grey of 8 or 16 bits, got Pillow's mode {image.mode}; convert it")
    return np.asarray(image), image.mode


def _range(values: Array, mode: str) -> tuple[float, float] | None:
    """Return black and white for the fewest bits that hold the picture, as 16-bit files often hold 12-bit images."""
    if mode not in _GREY:
        return None
    highest = max(int(values.max()), 0)
    return 0.0, float(2 ** next(depth for depth in _DEPTHS if highest < 2**depth) - 1)


def read_jsrt(path: Path) -> Scan:
    """Read a headerless ``.IMG`` file of JSRT at its full 2048 x 2048 px.

    Args:
        path: file to read.

    Raises:
        InputError: the file has another size, or values of more than 12 bits.
    """
    rows = jsrt.read_image(path, jsrt.RAW_SIDE)
    affine = jsrt.coronal_affine(jsrt.RAW_SIDE, jsrt.PIXEL_MM)
    spacing = (jsrt.PIXEL_MM, jsrt.PIXEL_MM, 1.0)
    values = np.ascontiguousarray(rows.T[..., None], np.float32)
    return Scan(
        values, spacing, affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0), NiftiTarget.of(affine, values.shape)
    )


def _reason(error: BaseException) -> str:
    """Return the first line of an exception, shortened."""
    return first_line(error, 120)
