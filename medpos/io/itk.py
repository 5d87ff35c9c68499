"""Read NRRD and MetaImage by SimpleITK, for ``predict``, ``data_prep`` and ``evaluate`` alike.

SimpleITK is imported by the functions that need it, because it takes half a second.
"""

import locale
import math
import os
import re
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from medpos.core.errors import InputError
from medpos.core.files import read_bytes
from medpos.io.scan import SHEAR, TO_RAS, Array, StoredVolume, has_shear

SEGMENTATION = ".seg.nrrd"
NRRD = (SEGMENTATION, ".nrrd", ".nhdr")
METAIMAGE = (".mha", ".mhd")
_NAMES = {"NrrdImageIO": "NRRD", "MetaImageIO": "MetaImage"}
_MM_PER_UNIT = {
    **dict.fromkeys(("m", "meter", "meters", "metre", "metres"), 1000.0),
    **dict.fromkeys(("cm", "centimeter", "centimeters", "centimetre", "centimetres"), 10.0),
    **dict.fromkeys(("mm", "millimeter", "millimeters", "millimetre", "millimetres"), 1.0),
    **dict.fromkeys(("um", "\u00b5m", "\u03bcm", "micron", "microns"), 1e-3),  # micro sign, Greek mu
    **dict.fromkeys(("micrometer", "micrometers", "micrometre", "micrometres"), 1e-3),
    **dict.fromkeys(("nm", "nanometer", "nanometers", "nanometre", "nanometres"), 1e-6),
}
_PATIENT_SPACE = re.compile(r"(right|left)-(anterior|posterior)-superior(-time)?|(r|l)(a|p)st?", re.IGNORECASE)
_SERIES = re.compile(r"([^%\s]*%0?\d?d[^%\s]*)\s+(-?\d+)\s+(-?\d+)\s+(-?\d+)(\s+\d+)?")
_LONGEST_HEADER = 1 << 20  # bytes
_LONGEST_LINE = 4096  # bytes of a line of a MetaImage header
_LONGEST_FIELD = 800  # bytes of a field of an NRRD header
# Comments, texts of the user's own and the description of the content may be longer.
_FREE_TEXT = re.compile(rb"#|content:|[^:]*:=")
_MOST_AXES = 5  # space, time and channels
# Fields of a MetaImage for its axes -> 1 for a number for each axis, 2 for a matrix.
_POWERS = {
    **dict.fromkeys(
        ("dimsize", "elementspacing", "elementsize", "offset", "position", "origin", "centerofrotation"), 1
    ),
    **dict.fromkeys(("transformmatrix", "rotation", "orientation"), 2),
    "ndims": 0,
}
_CHUNK = 1 << 24  # bytes of unpacked data that are checked at a time
_logger_lock = threading.Lock()  # ITK has one logger for the whole process
Result = TypeVar("Result")


@dataclass(frozen=True)
class _Header:
    """Hold what the text of a header says.

    Args:
        fields: values by key, keys in lower case without blanks.
        offset: number of bytes before data in the same file.
        parts: files of the data; empty: they are in the same file.
        is_cut: whether the last line of a list of files lacks its end.
    """

    fields: dict[str, str]
    offset: int
    parts: tuple[Path, ...]
    is_cut: bool = False

    @property
    def is_packed(self) -> bool:
        """Whether the data are a stream of zlib or gzip."""
        packed = self.fields.get("encoding", "").lower() in ("gz", "gzip")
        return packed or self._is_true("compresseddata", "false")

    @property
    def is_text(self) -> bool:
        """Whether the data of a MetaImage are written as text."""
        return not self._is_true("binarydata", "true")

    def places(self, path: Path) -> list[tuple[Path, int]]:
        """Return the files of the data, each with the number of bytes before them."""
        return [(part, 0) for part in self.parts] or [(path, self.offset)]

    def _is_true(self, name: str, default: str) -> bool:
        return self.fields.get(name, default)[:1].lower() in ("t", "1")


def list_parts(path: Path) -> tuple[Path, ...]:
    """List the files that hold the data of a header file; none where it holds them itself.

    Args:
        path: NRRD or MetaImage file.

    Raises:
        InputError: the file can't be read, or names a file outside its folder or one that doesn't exist.
    """
    return _read_header(path).parts


def read_volume(path: Path, check_shape: Callable[[tuple[int, ...]], object]) -> StoredVolume:
    """Read an NRRD or MetaImage file; several components of a voxel are channels along a last axis.

    Directions, origin and spacing are those that ITK reads, turned from LPS to RAS axes, in mm by the header's units.
    An image of two axes, and one in a space that isn't the patient's, has no orientation.

    Args:
        path: file to read.
        check_shape: function that refuses a shape before the voxels are read.

    Raises:
        InputError: the file is truncated or damaged, its data lie outside its folder or are missing, or its spacing
            or directions are invalid.
    """
    import SimpleITK

    header = _read_header(path)
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO(_io(path))
    reader.SetFileName(str(path))
    with collect_warnings() as warnings:
        _attempt(path, reader.ReadImageInformation)
        shape = (*reader.GetSize(), 1)[: max(3, len(reader.GetSize()))]
        count = reader.GetNumberOfComponents()
        _check_layers(path, header, count)
        check_shape((*shape, count) if count > 1 else shape)
        _check_numbers(path, SimpleITK.GetPixelIDValueAsString(reader.GetPixelID()), reader.GetSpacing())
        if _io(path) == "MetaImageIO":
            _check_count(path, header, reader.GetSize())
        expected = math.prod(shape) * count * _component_bytes(reader)
        _check_complete(path, header, expected)
        with _readable(path, header, expected) as place:
            reader.SetFileName(str(place))
            image = _attempt(path, reader.Execute)
    data = SimpleITK.GetArrayFromImage(image)
    axes = range(image.GetDimension())
    data = data.transpose(*reversed(axes), *range(len(axes), data.ndim))
    if len(axes) == 2:
        data = np.expand_dims(data, 2)
    affine = affine_of(image)
    scale, notes = _find_scale(header)
    if has_shear(affine):
        notes.append(SHEAR)
    affine[:3] *= scale
    x, y, z = (float(f"{size * scale:.7g}") for size in (*image.GetSpacing(), 1.0)[:3])
    if min(reader.GetSpacing()) < 0:
        notes.append("a spacing is negative: its axis runs the other way, as ITK reads it")
    oriented = len(axes) > 2 and _is_oriented(header)
    return StoredVolume(data, affine, (x, y, z), (*warnings, *notes), oriented, _states_spacing(path, header))


def affine_of(image: Any) -> Array:
    """Return the affine [4, 4] of a SimpleITK image, from its axes to RAS+ space in mm."""
    count = image.GetDimension()
    kept = min(count, 3)
    affine = np.eye(4)
    directions = np.reshape(image.GetDirection(), (count, count))[:kept, :kept]
    affine[:kept, :kept] = directions * image.GetSpacing()[:kept]
    affine[:kept, 3] = image.GetOrigin()[:kept]
    affine[:3] *= TO_RAS[:, None]
    return affine


def make_image(values: Array, affine: Array, fields: Mapping[str, str] | None = None) -> Any:
    """Make a SimpleITK image.

    Args:
        values: voxels [X, Y, Z], or [X, Y, Z, C] for C components.
        affine: affine [4, 4], voxel indices to RAS+ space in mm.
        fields: further fields of the header by key.
    """
    import SimpleITK

    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(values.swapaxes(0, 2)), isVector=values.ndim == 4)
    turned = affine[:3] * TO_RAS[:, None]
    spacing = np.linalg.norm(turned[:, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((turned[:, :3] / spacing).ravel().tolist())
    image.SetOrigin(turned[:, 3].tolist())
    for key, value in (fields or {}).items():
        image.SetMetaData(key, value)
    return image


def write_image(image: Any, suffix: str, path: Path) -> None:
    """Write a SimpleITK image, compressed, to a path with any suffix.

    Args:
        image: SimpleITK image.
        suffix: suffix of the format.
        path: file to write.

    Raises:
        RuntimeError: the file can't be written.
    """
    import SimpleITK

    place = path.with_name(path.name + suffix)  # ITK chooses the format by the suffix
    try:
        SimpleITK.WriteImage(image, str(place), useCompression=True)
        place.replace(path)
    finally:
        place.unlink(missing_ok=True)


def _io(path: Path) -> str:
    return "NrrdImageIO" if path.name.lower().endswith(NRRD) else "MetaImageIO"


def _attempt(path: Path, read: Callable[[], Result]) -> Result:
    try:
        return read()
    except RuntimeError as error:  # SimpleITK has no other class of errors
        raise InputError(
            f"{path}: expected a complete {_NAMES[_io(path)]} file, got: {_shorten(str(error))}; download or export it "
            "again"
        ) from error


def _shorten(text: str) -> str:
    """Return what a message of ITK says, without places in its source code and addresses."""
    lines = [re.sub(r"^(ITK ERROR: )?\w+ ?\((0x)?[0-9a-f]+\): ", "", line.strip()) for line in text.splitlines()]
    told = [line for line in lines if line and not line.startswith(("Exception thrown", "WARNING: In", "Reason:"))]
    return (told[-1] if len(told) > 1 and len(told[-1]) > 24 else (told or ["an error of ITK"])[0])[:160]


@contextmanager
def collect_warnings() -> Iterator[list[str]]:
    """Collect ITK's warnings, which it prints to stderr otherwise, and keep the locale, which GDCM may set to C."""
    import SimpleITK

    found: list[str] = []

    class Collector(SimpleITK.LoggerBase):  # type: ignore[misc, unused-ignore]
        def _collect(self, text: str) -> None:
            if _shorten(text) not in found:
                found.append(_shorten(text))

        DisplayText = DisplayErrorText = DisplayWarningText = DisplayGenericOutputText = _collect

        def DisplayDebugText(self, text: str) -> None:  # noqa: N802 (SimpleITK's name)
            pass

    with _logger_lock:
        collector = Collector()
        before, place = collector.SetAsGlobalITKLogger(), locale.setlocale(locale.LC_ALL)
        try:
            yield found
        finally:
            if locale.setlocale(locale.LC_ALL) != place:
                locale.setlocale(locale.LC_ALL, place)
            before.SetAsGlobalITKLogger()


def _check_numbers(path: Path, kind: str, spacing: Sequence[float]) -> None:
    if "complex" in kind:
        raise InputError(f"{path}: expected integers or floating point numbers, got {kind}; convert it")
    if not (np.isfinite(spacing).all() and np.all(spacing)):
        found = " x ".join(f"{size:g}" for size in spacing)
        raise InputError(f"{path}: expected a spacing above 0 mm along each axis, got {found}; correct its header")


def _check_layers(path: Path, header: _Header, layers: int) -> None:
    if layers > 1 and "segment0_id" in header.fields:
        raise InputError(
            f"{path}: expected a segmentation in one layer, got {layers}, as its segments overlap; merge them, in 3D "
            "Slicer by 'Collapse labelmap layers', or export a label map"
        )


def _component_bytes(reader: Any) -> int:
    import SimpleITK

    return int(SimpleITK.Image([1, 1], reader.GetPixelID()).GetSizeOfPixelComponent())


def _check_count(path: Path, header: _Header, sizes: Sequence[int]) -> None:
    """Check the number of data files of a MetaImage, as ITK leaves memory unfilled, or writes beyond it, otherwise."""
    value = header.fields["elementdatafile"]
    series, words = _SERIES.fullmatch(value), value.split()
    if series and (series[5] or int(series[4]) < 1):
        raise InputError(f"{path}: expected a pattern, first, last and a step above 0, got {value!r}; correct it")
    if series or words[0] == "LIST":
        stated = int(words[1]) if words[1:] and not series and words[1].isdecimal() else 0
        expected = math.prod(sizes[stated if 0 < stated <= len(sizes) else -1 :])
        if len(header.parts) != expected:
            raise InputError(
                f"{path}: expected {expected} data files as DimSize says, got {len(header.parts)}; name every file once"
            )


def _check_complete(path: Path, header: _Header, expected: int) -> None:
    """Check that the data are as long as the header says and undamaged, as ITK notices neither everywhere."""
    is_meta, is_packed = _io(path) == "MetaImageIO", header.is_packed and "lineskip" not in header.fields
    places = header.places(path)
    share = expected // len(places)
    for part, offset in places:
        found = part.stat().st_size - offset
        if is_packed:
            found = sum(len(data) for data in _unpack(part, offset, expected))
        if is_meta and found < share and not header.is_text:
            raise InputError(f"{part}: expected {share} bytes of data, got {found}; download or export it again")


def _unpack(path: Path, offset: int, most: int) -> Iterator[bytes]:
    unpack = zlib.decompressobj(32 + zlib.MAX_WBITS)  # zlib or gzip, told by its header
    try:
        with path.open("rb") as stream:
            stream.seek(offset)
            while not unpack.eof and (packed := unpack.unconsumed_tail or stream.read(_CHUNK // 16)):
                data = unpack.decompress(packed, _CHUNK)
                most -= len(data)
                if most < -_CHUNK:
                    raise InputError(
                        f"{path}: expected packed data as long as the header states, got far more; export it again"
                    )
                yield data
    except (OSError, zlib.error) as error:
        raise InputError(f"{path}: expected undamaged packed data, got: {error}; download or copy it again") from error
    if not unpack.eof:
        raise InputError(f"{path}: expected complete packed data, got a truncated file; download or copy it again")


@contextmanager
def _readable(path: Path, header: _Header, expected: int) -> Iterator[Path]:
    """Give the file to read: where ITK would leave voxels of complete data unfilled, a plain copy."""
    if not (_io(path) == "MetaImageIO" and (header.is_cut or _is_misstated(path, header))):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy, places = Path(folder, "a.mhd"), header.places(path)
        with copy.with_suffix(".raw").open("wb") as raw:
            for part, offset in places:
                before = raw.tell()
                raw.writelines(_unpack(part, offset, expected) if header.is_packed else [read_bytes(part)])
                if raw.tell() - before != expected // len(places):
                    raise InputError(
                        f"{part}: expected {expected // len(places)} bytes of data, got {raw.tell() - before}; "
                        "export it again"
                    )
        changed = (b"CompressedData", b"HeaderSize", b"ElementDataFile")
        lines = [line for line in read_bytes(path, header.offset).splitlines() if not line.lstrip().startswith(changed)]
        copy.write_bytes(b"\n".join([*lines, b"ElementDataFile = a.raw\n"]))
        yield copy


def _is_misstated(path: Path, header: _Header) -> bool:
    """Say whether CompressedDataSize isn't that of the data; files of their own need none."""
    stated = header.fields.get("compresseddatasize", "0")
    sizes = {str(part.stat().st_size - offset) for part, offset in header.places(path)}
    return header.is_packed and sizes != {stated} and not (header.parts and stated == "0")


def _find_scale(header: _Header) -> tuple[float, list[str]]:
    """Return mm per unit of the header's lengths, and a remark on units that aren't known."""
    stated = header.fields.get("spaceunits") or header.fields.get("units") or header.fields.get("distanceunits") or "mm"
    units = {unit.lower() for unit in re.findall(r'"([^"]*)"', stated) or [stated]} - {"", "?", "none", "???"}
    scales = {_MM_PER_UNIT.get(unit) for unit in units or {"mm"}}
    if len(scales) > 1 or None in scales:
        return 1.0, [f"units of the header ({', '.join(sorted(units))}) not known: lengths taken for mm"]
    return scales.pop() or 1.0, []


def _states_spacing(path: Path, header: _Header) -> bool:
    """Say whether the header states a spacing; NaN is none."""
    if "nan" in header.fields.get("spacings", "").lower():
        domains = [size for size in header.fields["spacings"].lower().split() if size != "nan"]
        if domains and "kinds" not in header.fields:
            found = header.fields["spacings"]
            raise InputError(f"{path}: expected a spacing of each axis, got {found}; correct its header")
        return bool(domains)
    return any(key in header.fields for key in ("spacings", "spacedirections", "elementspacing", "elementsize"))


def _is_oriented(header: _Header) -> bool:
    """Say whether the axes are the patient's."""
    if "type" in header.fields and "sizes" in header.fields:
        has_directions = "spacedirections" in header.fields
        return has_directions and _PATIENT_SPACE.fullmatch(header.fields.get("space", "").strip()) is not None
    return any(key in header.fields for key in ("transformmatrix", "rotation", "orientation"))


def _read_header(path: Path) -> _Header:
    try:
        with path.open("rb") as stream:
            start = stream.read(_LONGEST_HEADER)
    except OSError:
        start = read_bytes(path)  # says why
    return (_parse_nrrd if _io(path) == "NrrdImageIO" else _parse_metaimage)(path, start)


def _parse_nrrd(path: Path, start: bytes) -> _Header:
    end = re.search(rb"\r?\n\r?\n", start)
    header = start[: end.start()] if end else start
    _check_lengths(path, header)
    lines = header.decode("utf-8", "replace").splitlines()
    if not lines or not lines[0].startswith("NRRD"):
        raise InputError(f"{path}: expected an NRRD file, got another one; download or export it again")
    fields: dict[str, str] = {}
    parts: tuple[Path, ...] = ()
    for number, line in enumerate(lines, 1):
        key, colon, value = line.partition(":")
        key = key.replace(" ", "").lower()
        if colon and not line.startswith("#"):
            fields[key] = value.removeprefix("=").strip()
        if key == "datafile":
            parts = _find_parts(path, fields[key], lines[number:])
            break
    return _Header(fields, end.end() if end else len(start), parts)


def _check_lengths(path: Path, header: bytes) -> None:
    """Check the lengths of the fields, as ITK writes beyond its memory where it complains of one of 1,000 bytes."""
    long = [line for line in header.split(b"\n") if len(line) > _LONGEST_FIELD and not _FREE_TEXT.match(line)]
    if long or len(header) == _LONGEST_HEADER:
        found = f"one of {len(long[0])} that begins with {long[0][:20]!r}" if long else "a header without an end"
        raise InputError(
            f"{path}: expected an NRRD header with fields of up to {_LONGEST_FIELD} bytes, got {found}; download or "
            "export it again"
        )


def _parse_metaimage(path: Path, start: bytes) -> _Header:
    fields: dict[str, str] = {}
    offset = 0
    for raw in start.splitlines(keepends=True):
        offset += len(raw)
        key, _, value = raw.decode("utf-8", "replace").partition("=")
        name = "".join(key.split()).lower()
        if len(raw) > _LONGEST_LINE or (name in fields and name in _POWERS) or ":" in name:
            raise InputError(
                f"{path}: expected each key of a MetaImage once, without ':' and in a short line, got {raw[:60]!r}; "
                "download or export it again"
            )
        fields[name] = value.strip()
        if key.strip() == "ElementDataFile":
            _check_counts(path, fields)
            rest = start[offset:].decode("utf-8", "replace").splitlines() if value.split()[:1] == ["LIST"] else []
            local = value.strip().upper() == "LOCAL"
            parts = () if local else _find_parts(path, value.strip(), rest)
            return _Header(fields, offset, parts, is_cut=bool(rest) and not start.endswith(b"\n"))
    raise InputError(f"{path}: expected a MetaImage file, got one without ElementDataFile; download or export it again")


def _check_counts(path: Path, fields: Mapping[str, str]) -> None:
    """Check the number of axes and of the numbers for them, as ITK writes beyond its memory where they are too many."""
    stated = fields.get("ndims", "")
    if not re.fullmatch(f"[1-{_MOST_AXES}]", stated):
        raise InputError(
            f"{path}: expected NDims from 1 to {_MOST_AXES}, got {stated!r:.20}; download or export it again"
        )
    for name, power in _POWERS.items():
        wanted, found = int(stated) ** power, len(fields.get(name, "").split())
        if name in fields and found != wanted:
            raise InputError(f"{path}: expected {wanted} numbers as {name}, got {found}; download or export it again")


def _find_parts(path: Path, value: str, following: Sequence[str]) -> tuple[Path, ...]:
    """Return the data files that a header names: one, those of the following lines, or those of a numbered pattern."""
    series = _SERIES.fullmatch(value)
    if value.upper().split()[:1] == ["LIST"]:
        names = [line.strip() for line in following if line.strip()]
    elif series:
        first, last, step = (int(part) for part in series.group(2, 3, 4))
        numbers = range(first, last + (1 if step > 0 else -1), step or 1)[:10_000]
        names = [series[1] % number for number in numbers]
    else:
        names = [value]
    folder = Path(os.path.abspath(path.parent))  # noqa: PTH100 (a linked data file stays where it is linked)
    for name in names:
        place = Path(os.path.normpath(folder / name))
        if not place.is_relative_to(folder):
            raise InputError(f"{path}: expected its data in its own folder, got {name!r}; move them there")
        if not place.is_file():
            raise InputError(f"{path}: expected its data in {name}, got no such file; copy it beside the header")
    return tuple(path.parent / name for name in names)
