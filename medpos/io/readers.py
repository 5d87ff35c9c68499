"""Read NIfTI, pictures and JSRT's raw files; :mod:`medpos.io.dicom` reads DICOM."""

from pathlib import Path

import numpy as np
from PIL import Image

from medpos.core.errors import InputError, first_line
from medpos.io import jsrt, nifti
from medpos.io.pictures import turn_upright
from medpos.io.scan import Array, Scan, check_size
from medpos.io.targets import NiftiTarget, PictureTarget

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
    found = nifti.read_volume(path, lambda shape: _shape(path, shape, multichannel))
    header = found.header
    unknown = header.get_xyzt_units()[0] == "unknown" and np.allclose(found.spacing, 1)
    oriented = bool(header["sform_code"] or header["qform_code"])
    notes = list(found.notes)
    if not oriented:
        notes.append("orientation unknown: taken as stored, columns along the first axis")
    return Scan(
        found.data.astype(np.float32, copy=False).reshape(_shape(path, found.data.shape, multichannel)),
        None if unknown else found.spacing,
        found.affine[:3, :3] / np.linalg.norm(found.affine[:3, :3], axis=0) if oriented else None,
        NiftiTarget.like(header, found.data.shape[:3]),
        notes=notes,
    )


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
        # A stream, because Pillow maps an uncompressed TIFF from its path and then confuses the sides of a turned one.
        with path.open("rb") as stream, Image.open(stream, formats=_PICTURES) as opened:
            check_size(path, opened.size)
            if getattr(opened, "n_frames", 1) > 1:
                raise InputError(f"{path}: expected one page, got several; save each as a file of its own")
            image, notes = turn_upright(opened)
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
    return Scan(columns, None, None, PictureTarget(), grey_range=_range(values, mode), notes=list(notes))


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
