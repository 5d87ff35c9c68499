"""Decode TIFF 6.0 and BigTIFF: strips and tiles, chunky and planar, samples of any bits, as the numbers stored."""

import io
import json
import math
import mmap
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path

import numpy as np
from PIL import Image

from medpos.core.errors import InputError
from medpos.core.files import read_bytes
from medpos.io.pictures.pages import TURNS, UPRIGHT_NOTE, Meaning, Page, turn_upright
from medpos.io.scan import Array, check_size

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
# Tags by number, with the value of a file that lacks them.
_TAGS: dict[str, tuple[int, int | None]] = {
    "subfile": (254, 0), "columns": (256, None), "rows": (257, None), "bits": (258, 1), "compression": (259, 1),
    "photometric": (262, None), "fill_order": (266, 1), "offsets": (273, None), "orientation": (274, 1),
    "samples": (277, 1), "strip_rows": (278, 2**32 - 1), "counts": (279, None), "planar": (284, 1),
    "t4_options": (292, 0), "t6_options": (293, 0), "predictor": (317, 1), "color_map": (320, None),
    "tile_columns": (322, None), "tile_rows": (323, None), "tile_offsets": (324, None), "tile_counts": (325, None),
    "extra": (338, None), "format": (339, 1), "description": (270, None), "depth": (32997, 1),
}  # fmt: skip
_TYPES = {1: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
_MEANINGS: dict[int, Meaning] = {0: "white is zero", 1: "gray", 2: "rgb", 3: "palette", 5: "cmyk"}
_COLORS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4}  # samples of a pixel without further ones, by photometric interpretation
_UNREADABLE = {8: "CIELab", 9: "ICCLab", 10: "ITULab", 32803: "a color filter array", 32844: "LogL", 32845: "LogLuv"}
_YCBCR = 6
_NONE, _LZW, _DEFLATE, _FAX, _BYTES = 1, 5, (8, 32946), (2, 3, 4), (5, 32773, 34925, 50000)
_PREDICTED = (*_DEFLATE, _LZW, 34925, 50000)  # compressions that may come with a predictor; others ignore the tag
Buffer = bytes | memoryview
_MOST_OVERLAP = 16  # strips in bytes of the file; equal strips may share their bytes
_MOST_SLICES = 100_000  # behind a single page
_LOSSY = (6, 7, 50001)  # JPEG, WebP
_FORMATS = {1: "u", 2: "i", 3: "f", 4: "u"}
_WHOLE = (8, 16, 32, 64)  # bits of numbers that fill their bytes


@dataclass(frozen=True)
class _Directory:
    """Hold the tags of a page; an attribute of :data:`_TAGS` is its first value."""

    place: Path
    order: str
    tags: dict[int, list[int]]

    def all(self, name: str) -> list[int]:
        """Return all values of a tag; empty if the file lacks it."""
        number, default = _TAGS[name]
        return self.tags.get(number, [] if default is None else [default])

    def __getattr__(self, name: str) -> int:
        found = self.all(name)
        if not found:
            raise InputError(f"{self.place}: expected the TIFF tag {_TAGS[name][0]}, got none; export it again")
        if name in ("bits", "format") and len(set(found)) > 1:
            raise InputError(f"{self.place}: expected samples of one type, got several ({found}); export it again")
        return found[0]


@dataclass(eq=False)
class _File:
    """Hold the bytes of a file, and the picture as Pillow opens it."""

    content: bytes

    @cached_property
    def picture(self) -> Image.Image:
        return Image.open(io.BytesIO(self.content), formats=["TIFF"])


def read_tiff(path: Path, lossless: bool = False) -> tuple[list[Page], tuple[str, ...]]:
    """Read all pages of a TIFF file, without thumbnails and transparency masks.

    Args:
        path: file to read.
        lossless: whether to refuse compression that changes values.

    Returns:
        The pages, and remarks on those left out.

    Raises:
        InputError: the file is truncated, damaged or too large, or its samples can't be read.
    """
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        directories = list(_read_directories(path, mapped))  # they may stand anywhere in the file
    if len(directories) == 1:
        directories = _split_stack(directories[0], path.stat().st_size)
    found = list(enumerate(directories))
    pages = [(number, one) for number, one in found if not one.subfile & (_REDUCED | _MASK)] or found[:1]
    if not pages:
        raise InputError(f"{path}: expected a complete picture, got a TIFF without a page; export it again")
    check_size(path, (max(one.columns for _, one in pages), max(one.rows for _, one in pages), len(pages)))
    left_out = len(found) - len(pages)
    notes = (f"{left_out} thumbnails or masks among the pages are left out",) if left_out else ()
    file = _File(read_bytes(path))
    return [_read_page(one, file, number, lossless) for number, one in pages], notes


def _read_directories(path: Path, content: mmap.mmap) -> Iterator[_Directory]:
    order, big = "<" if content[:2] == b"II" else ">", content[2:4] in (b"+\0", b"\0+")
    count, entry, word = ("Q", "HHQ8s", "Q") if big else ("H", "HHI4s", "I")
    (at,) = struct.unpack_from(order + word, content, 8 if big else 4)
    seen, left = set[int](), len(content)  # entries that don't overlap have no more values than the file has bytes
    try:
        while at and at not in seen:
            seen.add(at)
            (entries,) = struct.unpack_from(order + count, content, at)
            first, size = at + struct.calcsize(order + count), struct.calcsize(order + entry)
            values: dict[int, list[int]] = {}
            for n in range(entries):
                tag, *rest = struct.unpack_from(order + entry, content, first + n * size)
                if tag == _TAGS["description"][0] and len(seen) == 1:
                    rest[0] = 1  # text, whose bytes are read as numbers
                values[tag] = _values(content, order, word, *rest)
                left -= len(values[tag])
                if left < 0:
                    raise InputError(f"{path}: expected entries of a TIFF that don't overlap; export it again")
            yield _Directory(path, order, values)
            (at,) = struct.unpack_from(order + word, content, first + entries * size)
    except struct.error as error:
        raise InputError(f"{path}: expected a complete picture, got a truncated TIFF; export it again") from error


def _split_stack(one: _Directory, length: int) -> list[_Directory]:
    """Return a directory for each slice where those after the first follow its plain data without one of their own.

    ImageJ writes stacks of more than 4 GB so. A description may be older than the picture: it counts only where at
    least two slices fit into the file.
    """
    count = _count_slices(one)
    offsets, counts = one.all("offsets"), one.all("counts")
    size, fits = sum(counts), 0
    if one.compression == _NONE and offsets and size and [*accumulate([offsets[0], *counts[:-1]])] == offsets:
        fits = min((length - offsets[0]) // size, _MOST_SLICES)
    if count < 2 or fits < 2:
        return [one]
    if fits < count:
        raise InputError(f"{one.place}: expected {count} slices as its description says, got {fits}; export it again")
    number = _TAGS["offsets"][0]
    return [replace(one, tags={**one.tags, number: [at + n * size for at in offsets]}) for n in range(count)]


def _count_slices(one: _Directory) -> int:
    """Return the number of slices that the description of ImageJ or tifffile states; 1 without one."""
    text = bytes(one.all("description")).rstrip(b"\0").decode("utf-8", "replace")
    if text.startswith("ImageJ="):
        stated = re.search(r"^images=(\d{1,9})\s*$", text, re.MULTILINE)
        return int(stated[1]) if stated else 1
    shape = re.search(r'"shape": (\[[\d, ]+\])', text) if '"truncated": true' in text else None
    return math.prod(json.loads(shape[1])) // max(one.rows * one.columns * one.samples, 1) if shape else 1


def _values(content: mmap.mmap, order: str, word: str, kind: int, count: int, inline: bytes) -> list[int]:
    """Return the whole numbers of an entry; none of another type."""
    if kind not in _TYPES:
        return []
    size = struct.calcsize(order + _TYPES[kind]) * count
    if size > len(inline):
        (at,) = struct.unpack(order + word, inline)
        inline = content[at : at + size]
    if len(inline) < size:
        raise struct.error
    return list(struct.unpack_from(f"{order}{count}{_TYPES[kind]}", inline))


def _read_page(tags: _Directory, file: _File, number: int, lossless: bool) -> Page:
    if tags.depth > 1:
        raise InputError(
            f"{tags.place}: expected a page for each slice, got one page of {tags.depth} slices (ImageDepth); save "
            "each slice as a page"
        )
    if tags.compression in _LOSSY and lossless:
        raise InputError(
            f"{tags.place}: expected a label map without loss, got a TIFF compressed with loss (method "
            f"{tags.compression}), which changes label values; store it again"
        )
    if tags.photometric in _UNREADABLE:
        what = _UNREADABLE[tags.photometric]
        raise InputError(f"{tags.place}: expected gray, RGB, a palette, CMYK or YCbCr, got {what}; convert it")
    check_size(tags.place, (tags.columns, tags.rows))
    if tags.compression in _LOSSY or tags.photometric == _YCBCR:
        return _by_pillow(tags, file, number)
    if tags.photometric not in _MEANINGS or tags.samples - _COLORS[tags.photometric] not in (0, 1):
        raise InputError(
            f"{tags.place}: expected 1 to 4 samples of gray or color, alpha included, got {tags.samples} of "
            f"photometric interpretation {tags.photometric}; export it again, a channel to a file"
        )
    meaning = _MEANINGS[tags.photometric]
    samples, turned = turn_upright(_decode(tags, file, number), tags.orientation)
    is_float = _FORMATS.get(tags.format) == "f"
    colors = _palette(tags) if meaning == "palette" else None
    return Page(samples, 0 if is_float else tags.bits, meaning, colors, turned)


def _by_pillow(tags: _Directory, file: _File, number: int) -> Page:
    """Let Pillow read a page of JPEG or YCbCr, 8 bits a sample; it turns the page upright itself."""
    file.picture.seek(number)
    image = file.picture
    meaning: Meaning = "gray" if image.mode == "L" else "rgb"
    named = {_YCBCR: "YCbCr", 5: "CMYK"}.get(tags.photometric)
    notes = (f"{named} is converted to RGB",) if named else ()
    samples = np.asarray(image if image.mode == "L" else image.convert("RGB"))
    turned = (UPRIGHT_NOTE,) * (tags.orientation in TURNS)
    return Page(samples.reshape(*samples.shape[:2], -1), 8, meaning, None, (*turned, *notes))


def _palette(tags: _Directory) -> Array:
    colors = np.array(tags.all("color_map"), np.uint16).reshape(3, -1).T
    # Some writers give 8 bits instead of 16, as libtiff knows.
    return (colors >> 8 if colors.max(initial=0) > 255 else colors).astype(np.uint8)


@dataclass(frozen=True)
class _Block:
    """Hold the place of a tile, or of all strips of a plane, in the page, and its compressed strips."""

    plane: int
    y: int
    x: int
    rows: int
    columns: int
    strip_rows: int
    strips: list[memoryview]


def _decode(tags: _Directory, file: _File, number: int) -> Array:
    """Return all samples [rows, columns, samples] as stored."""
    dtype = _sample_type(tags)
    together = tags.samples if tags.planar == 1 else 1
    predictor = _find_predictor(tags, dtype)
    blocks = list(_blocks(tags, file.content, tags.samples // together))
    if _is_plain(tags, dtype, predictor):
        file.picture.seek(number)
        return np.asarray(file.picture)[..., None]
    shape, result = (tags.rows, tags.columns, tags.samples), np.empty(0, dtype)
    for block in blocks:
        raw = _decompress(tags, block, -(-block.columns * together * tags.bits // 8))
        samples = _unpack(tags, raw, (block.rows, block.columns, together), dtype, predictor)
        if samples.shape == shape:
            return samples
        if not result.size:
            result = np.empty(shape, dtype)
        target = result[block.y :, block.x :, block.plane : block.plane + together][: block.rows, : block.columns]
        target[:] = samples[: target.shape[0], : target.shape[1]]
    return result


def _is_plain(tags: _Directory, dtype: np.dtype[np.generic], predictor: int) -> bool:
    """Return whether Pillow reads these samples as they are stored, and faster than :func:`_decompress`.

    Its libtiff undoes differences several times as fast as numpy; zlib alone is faster without it.
    """
    is_gray = tags.samples == 1 and tags.photometric in (1, 3) and dtype.kind == "u"
    is_packed = tags.compression == _LZW or (tags.compression in _DEFLATE and predictor == 2)
    is_native = tags.bits == 8 or (tags.bits == 16 and tags.order == "<" and tags.photometric == 1)
    return is_gray and is_packed and is_native and (tags.orientation, tags.fill_order) == (1, 1)


def _sample_type(tags: _Directory) -> np.dtype[np.generic]:
    kind, bits = _FORMATS.get(tags.format, ""), tags.bits
    allowed = {"f": (16, 32, 64), "i": _WHOLE, "u": (*range(1, 17), 32, 64)}
    if bits not in allowed.get(kind, ()):
        what = {"f": "floats", "i": "signed integers", "u": "integers"}.get(kind, "samples of another type")
        raise InputError(
            f"{tags.place}: expected integers of 1 to 16, 32 or 64 bits, signed ones of 8, 16, 32 or 64, or floats of "
            f"16, 32 or 64, got {what} of {bits} bits; export it again"
        )
    return np.dtype(f"{kind}{1 if bits <= 8 else 2 if bits <= 16 else 4 if bits <= 32 else 8}")


def _blocks(tags: _Directory, content: bytes, planes: int) -> Iterator[_Block]:
    if not tags.all("tile_offsets"):
        high = min(tags.strip_rows or tags.rows, tags.rows)
        down = -(-tags.rows // high)
        strips = _slices(tags, content, "offsets", "counts", planes * down)
        for plane in range(planes):
            own = strips[plane * down : (plane + 1) * down]
            yield _Block(plane, 0, 0, tags.rows, tags.columns, high, own)
        return
    high, wide = tags.tile_rows, tags.tile_columns
    check_size(tags.place, (wide, high))
    across, down = -(-tags.columns // wide), -(-tags.rows // high)
    check_size(tags.place, (wide * across, high * down))
    tiles = _slices(tags, content, "tile_offsets", "tile_counts", planes * across * down)
    for n, tile in enumerate(tiles):
        plane, place = divmod(n, across * down)
        yield _Block(plane, place // across * high, place % across * wide, high, wide, high, [tile])


def _slices(tags: _Directory, content: bytes, offsets: str, counts: str, needed: int) -> list[memoryview]:
    starts = tags.all(offsets)[:needed]
    ends = [*starts[1:], len(content)]
    lengths = tags.all(counts)[:needed] or [
        (end if end > start else len(content)) - start for start, end in zip(starts, ends, strict=True)
    ]
    if min(len(starts), len(lengths)) < needed:
        raise InputError(f"{tags.place}: expected a complete picture, got too few strips or tiles; export it again")
    if sum(lengths) > _MOST_OVERLAP * len(content):
        raise InputError(f"{tags.place}: expected strips or tiles that don't overlap; export it again")
    view = memoryview(content)  # whose parts are no copies
    return [view[start : start + length] for start, length in zip(starts, lengths, strict=True)]


def _decompress(tags: _Directory, block: _Block, width: int) -> bytes:
    """Return the bytes of a block: ``width`` bytes of each row."""
    method = tags.compression
    strips: Sequence[Buffer] = block.strips
    if tags.fill_order == 2 and method not in _FAX:
        strips = [np.packbits(np.unpackbits(np.frombuffer(s, np.uint8)), bitorder="little").tobytes() for s in strips]
    if method == _NONE:
        raw = b"".join(strip[: block.strip_rows * width] for strip in strips)
    elif method in _DEFLATE:
        raw = b"".join(zlib.decompressobj().decompress(strip, block.strip_rows * width) for strip in strips)
    elif method in _FAX:
        same = {266: tags.fill_order, 292: tags.t4_options, 293: tags.t6_options}
        raw = _by_codec(block, strips, {256: block.columns, 258: 1, 259: method, **same})
    elif method in _BYTES:
        raw = _by_codec(block, strips, {256: width, 258: 8, 259: method})
    else:
        raise InputError(f"{tags.place}: expected a compression that is known, got method {method}; export it again")
    if len(raw) < block.rows * width:
        raise InputError(f"{tags.place}: expected a complete picture, got a truncated or damaged one; export it again")
    return raw[: block.rows * width]


def _by_codec(block: _Block, strips: Sequence[Buffer], tags: dict[int, int]) -> bytes:
    """Let Pillow decompress strips as those of a gray TIFF, as its codecs don't look at samples."""
    lengths = np.array([len(strip) for strip in strips], np.uint32)
    offsets = np.cumsum([8, *lengths[:-1]], dtype=np.uint32)
    tags = {**tags, 257: block.rows, 262: 1, 277: 1, 278: block.strip_rows}
    end = 8 + int(lengths.sum())
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items()]
    for tag, values in ((273, offsets), (279, lengths)):
        place = end if len(values) > 1 else int(values[0])
        entries.append(struct.pack("<HHII", tag, 4, len(values), place))
        end += values.nbytes
    entries.sort(key=lambda entry: entry[1::-1])
    head, count = struct.pack("<2sHI", b"II", 42, end), struct.pack("<H", len(entries))
    file = b"".join((head, *strips, offsets.tobytes(), lengths.tobytes(), count, *entries, bytes(4)))
    with Image.open(io.BytesIO(file), formats=["TIFF"]) as image:
        return image.tobytes()


def _unpack(
    tags: _Directory, raw: bytes, shape: tuple[int, int, int], dtype: np.dtype[np.generic], predictor: int
) -> Array:
    """Return the samples of a strip or tile [rows, columns, samples], with the predictor undone."""
    rows, columns, samples = shape
    if predictor == 3:
        planes = np.frombuffer(raw, np.uint8).reshape(rows, -1, samples).cumsum(axis=1, dtype=np.uint8)
        pairs = planes.reshape(rows, dtype.itemsize, columns * samples).swapaxes(1, 2)
        return np.ascontiguousarray(pairs).view(dtype.newbyteorder(">")).reshape(shape).astype(dtype)
    if tags.bits not in _WHOLE:
        packed = np.frombuffer(raw, np.uint8).reshape(rows, -1)
        unpacked = [_unpack_bits(row, tags.bits, columns * samples).astype(dtype) for row in packed]
        return np.stack(unpacked).reshape(shape)
    values = np.frombuffer(raw, np.dtype(tags.order + dtype.str[1:])).astype(dtype, copy=False).reshape(shape)
    if predictor == 1:
        return values
    numbers = values.view(f"u{dtype.itemsize}")  # those of floats are differences of their bits
    return numbers.cumsum(axis=1, dtype=numbers.dtype).view(dtype)


def _find_predictor(tags: _Directory, dtype: np.dtype[np.generic]) -> int:
    """Return the predictor: 1 for none, 2 for differences of numbers, 3 for differences of the bytes of floats."""
    predictor = tags.predictor if tags.compression in _PREDICTED else 1
    fits = {1: True, 2: tags.bits in _WHOLE, 3: dtype.kind == "f"}
    if not fits.get(predictor):
        raise InputError(
            f"{tags.place}: expected a predictor that fits samples of {tags.bits} bits, got predictor {predictor}; "
            "export it again"
        )
    return predictor


def _unpack_bits(packed: Array, bits: int, count: int) -> Array:
    """Unpack a row of numbers of any number of bits, the highest bit first.

    Args:
        packed: bytes [n].
        bits: bits of a number, at most 16.
        count: numbers in the row.

    Returns:
        Numbers [count].
    """
    first = np.arange(count) * bits
    padded = np.pad(packed, (0, 2)).astype(np.uint32)
    window = np.zeros(count, np.uint32)
    for byte in range(3):  # a number of up to 16 bits lies in up to 3 bytes
        window = window << np.uint32(8) | padded[first // 8 + byte]
    numbers: Array = window >> (24 - bits - first % 8).astype(np.uint32) & np.uint32((1 << bits) - 1)
    return numbers
