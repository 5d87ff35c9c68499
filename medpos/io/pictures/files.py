"""Read PNG, JPEG, TIFF and BMP as images or as label maps, for ``predict``, ``data_prep`` and ``evaluate`` alike."""

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from medpos.core.errors import InputError, first_line
from medpos.core.files import read_bytes
from medpos.io.pictures import jpeg, tiff
from medpos.io.pictures.pages import ALPHA_NOTE, Page, list_values, to_image, to_labels, turn_upright
from medpos.io.scan import Array, check_size

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
UNIT_NOTE = "floating point values from 0 to 1 are taken for black to white"
FIRST_NOTE = "the first of several pictures in the file"
_START = 1 << 20  # bytes that hold the header of a picture
_FORMATS = ("PNG", "JPEG", "BMP")
_ORIENTATION = 0x0112
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_BITS = 24  # offset of the bits of a sample, before that of the color type
_OS2_HEADER = 12  # bytes of the oldest header of a BMP
_RGB, _GRAY_ALPHA, _RGBA = 2, 4, 6  # color types of PNG
_DEPTHS = (8, 10, 12, 14, 16, 24, 32)


def is_picture(path: Path) -> bool:
    """Tell whether a file is called like a picture."""
    return path.name.lower().endswith(SUFFIXES)


@dataclass(frozen=True, eq=False)
class Picture:
    """Hold a picture, oriented as on a screen.

    Args:
        values: values [X, Y, pages], or [X, Y, pages, 3] in color, as stored; high = bright in an image.
        ends: black and white; None: floating point beyond 0 to 1, in the units of who wrote it.
        notes: remarks, one per line.
    """

    values: Array
    ends: tuple[float, float] | None
    notes: tuple[str, ...] = ()


def read_picture(path: Path) -> Picture:
    """Read an image; pages of a TIFF are slices. Color with three equal samples is gray.

    Raises:
        InputError: the file is unreadable, truncated or too large, its pages differ in size, or its samples have no
            meaning that is known.
    """
    pages, notes = _read(path, lossless=False)
    values, remarks = _stack(path, pages, to_image)
    if values.ndim == 4 and (values == values[..., :1]).all():
        values = values[..., 0]
    if values.dtype in (np.float16, np.float64):
        values = values.astype(np.float32)
    ends = _ends(values, pages[0])
    if values.dtype.kind == "f" and ends is not None:
        remarks += (UNIT_NOTE,)
    return Picture(values, ends, (*notes, *remarks))


def read_picture_labels(path: Path) -> Picture:
    """Read a label map by the rule of :func:`~medpos.io.pictures.pages.to_labels`; pages of a TIFF are slices.

    Raises:
        InputError: the file is unreadable, truncated or too large, compressed with loss, in color, or its pages differ.
    """
    pages, notes = _read(path, lossless=True)
    values, remarks = _stack(path, pages, to_labels)
    return Picture(values, None, (*notes, *remarks))


def _stack(
    path: Path, pages: list[Page], convert: Callable[[object, Page], tuple[Array, tuple[str, ...]]]
) -> tuple[Array, tuple[str, ...]]:
    converted = [convert(path, page) for page in pages]
    if len({(page.shape, page.dtype) for page, _ in converted}) > 1:
        raise InputError(
            f"{path}: expected pages of one size and mode, got {len(pages)} that differ; store them one by one"
        )
    # In the order of the rows, which the copy keeps and views turn; a single page isn't copied.
    stacked = (
        np.stack([page for page, _ in converted], axis=2) if len(pages) > 1 else np.expand_dims(converted[0][0], 2)
    )
    return stacked.swapaxes(0, 1), tuple(dict.fromkeys(note for _, notes in converted for note in notes))


def _ends(values: Array, page: Page) -> tuple[float, float] | None:
    """Return black and white for the fewest bits that hold the samples, as 16-bit files often hold 12-bit images."""
    if values.dtype.kind == "f":
        return (0.0, 1.0) if 0 <= values.min() < values.max() <= 1 else None
    low, high = int(values.min()), int(values.max())
    if page.meaning == "white is zero" and page.bits > 8:
        highest = (1 << page.bits) - 1
        return highest - _highest(highest - low), float(highest)
    if low < 0:
        half = (_highest(2 * max(-low - 1, high) + 1) + 1) / 2
        return -half, half - 1
    return 0.0, _highest(high)


def _highest(value: int) -> float:
    return float(2 ** next((depth for depth in _DEPTHS if value < 2**depth), 64) - 1)


def _read(path: Path, lossless: bool) -> tuple[list[Page], tuple[str, ...]]:
    start = read_bytes(path, _START)
    if not start:
        raise InputError(f"{path}: expected a picture, got an empty file of 0 bytes; download or export it again")
    try:
        if start[:4] in tiff.MAGIC:
            return tiff.read_tiff(path, lossless)
        _check_header(path, start)
        content = read_bytes(path)
        if content.startswith(jpeg.MAGIC) and (page := jpeg.read_deep_jpeg(path, content, lossless)):
            return [page], ()
        return _read_other(path, content, lossless)
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{path}: expected a smaller picture, got: {first_line(error, 120)}; reduce or crop it first"
        ) from error
    except UnidentifiedImageError:
        raise InputError(f"{path}: expected PNG, JPEG, TIFF or BMP, got another format; convert it") from None
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
        raise InputError(
            f"{path}: expected a complete picture, got: {first_line(error, 120)}; download or export it again"
        ) from error


def _check_header(path: Path, start: bytes) -> None:
    """Check the size that the header of a PNG, JPEG or BMP states; a header that isn't found is left to the decoder."""
    frame = jpeg.find_frame(start) if start.startswith(jpeg.MAGIC) else None
    if frame:
        check_size(path, (frame[3], frame[2]))
        return
    try:
        with Image.open(path, formats=_FORMATS) as picture:
            size = picture.size
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error):
        return
    check_size(path, size)


def _read_other(path: Path, content: bytes, lossless: bool) -> tuple[list[Page], tuple[str, ...]]:
    """Read PNG, JPEG of 8 bits or BMP."""
    # Pillow checks its own limit of sizes in open(), before it reads pixels.
    with Image.open(BytesIO(content), formats=_FORMATS) as picture:
        check_size(path, picture.size)
        notes = (FIRST_NOTE,) * (getattr(picture, "n_frames", 1) > 1)
        page = _read_indices(content, picture)
        if page is None:
            picture.load()
            samples = _read_16_bits(content, picture)
            page = _page_of(content, picture) if samples is None else _page(samples, 16)
        upright, turned = turn_upright(page.samples, picture.getexif().get(_ORIENTATION, 1))
        transparent = "transparency" in picture.info and not page.has_alpha
        is_lossy = picture.format not in ("PNG", "BMP")
    if lossless and is_lossy:
        found = list_values([str(value) for value in np.unique(page.samples).tolist()])
        raise InputError(
            f"{path}: expected PNG, TIFF or NIfTI, got JPEG, which changes label values ({found}); store it again"
        )
    return [replace(page, samples=upright, notes=(*turned, *[ALPHA_NOTE] * transparent))], notes


def _page_of(content: bytes, picture: Image.Image) -> Page:
    """Return the page of a picture that Pillow reads without loss."""
    samples = np.asarray(picture)
    samples = samples.reshape(*samples.shape[:2], -1)
    if picture.mode == "1":
        return Page(samples.astype(np.uint8), 1, "gray")
    if picture.mode == "P":
        return Page(samples, 8, "palette", _palette_of(picture))
    if picture.mode.startswith("I"):
        return Page(samples.astype(np.uint16), 16, "gray")
    bits = content[_PNG_BITS] if content.startswith(_PNG) else 8
    if picture.mode == "L" and bits < 8:  # Pillow scales 2 and 4 bits to 8
        return Page(samples // (255 // ((1 << bits) - 1)), bits, "gray")
    return Page(samples, 8, "cmyk") if picture.mode == "CMYK" else _page(samples, 8)


def _read_indices(content: bytes, picture: Image.Image) -> Page | None:
    """Return the page of a BMP of 4 or 8 bits whose palette is gray and short; None for another file.

    Pillow leaves such a palette out, and takes the rows for those of 1 or 8 bits.
    """
    if not content.startswith(b"BM"):
        return None
    header = int.from_bytes(content[14:18], "little")
    bits = content[24 if header == _OS2_HEADER else 28]
    if (bits, picture.mode) not in ((8, "1"), (4, "1"), (4, "L")):
        return None
    marked = bytearray(content)
    marked[14 + header] = 1  # a little blue in the first color, which is black
    with Image.open(BytesIO(marked), formats=["BMP"]) as whole:
        samples, colors = np.asarray(whole)[..., None], _palette_of(whole)
    colors[0] = 0
    return Page(samples, 8, "palette", colors)


def _palette_of(picture: Image.Image) -> Array:
    colors: Array = np.reshape(picture.getpalette("RGB") or (), (-1, 3)).astype(np.uint8)
    return colors


def _page(samples: Array, bits: int) -> Page:
    return Page(samples, bits, "rgb" if samples.shape[2] > 2 else "gray")


def _read_16_bits(content: bytes, picture: Image.Image) -> Array | None:
    """Return the 16-bit samples of a PNG with several in a pixel, of which Pillow keeps 8 bits; None for another file.

    Pillow takes the upper halves, or the lower ones where it is told that they come first. Gray and alpha of 16 bits
    are filtered and packed as four samples of 8 bits are.
    """
    color = content[_PNG_BITS + 1] if content.startswith(_PNG) and content[_PNG_BITS] == 16 else 0
    if color == _GRAY_ALPHA:
        halves = _read_raw(content, "RGBA")
        upper, lower = halves[..., ::2], halves[..., 1::2]
    elif color in (_RGB, _RGBA):
        upper, lower = (_read_raw(content, f"{picture.mode};16{order}") for order in "BL")
    else:
        return None
    return upper.astype(np.uint16) << 8 | lower


def _read_raw(content: bytes, raw: str) -> Array:
    """Return the samples of a PNG [rows, columns, n], unpacked as Pillow's decoder of this name does."""
    with Image.open(BytesIO(content), formats=["PNG"]) as picture:
        picture.tile = [tile._replace(args=raw) for tile in picture.tile]
        return np.asarray(picture)
