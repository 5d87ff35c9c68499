"""Read NIfTI-1, NIfTI-2 and Analyze 7.5, for ``predict``, ``data_prep`` and ``evaluate`` alike.

By nibabel and not by SimpleITK, which reads half of an Analyze pair without an error, gives such a pair directions that
its header doesn't state, doesn't check the checksum of gzip, and doesn't pass on the header, of which a label map on
the very same grid is made.
"""

import math
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.volumeutils import apply_read_scaling

from medpos.core.errors import InputError, first_line
from medpos.core.files import read_bytes
from medpos.io.scan import SHEAR, Array, StoredVolume, has_shear

_MM_PER_UNIT = {1: 1000.0, 2: 1.0, 3: 0.001}  # by the code of meters, millimeters and micrometers
_GZIP_MAGIC = b"\x1f\x8b"
_NIFTI2_SIZES = (b"\x1c\x02\0\0", b"\0\0\x02\x1c")
_HEADER_SIZES = (b"\x5c\x01\0\0", b"\0\0\x01\x5c", *_NIFTI2_SIZES)  # how a NIfTI or Analyze header begins
_HEADER_BYTES = 540  # of NIfTI-2, the longer one
_LONGEST_START = 544  # bytes of a NIfTI-2 header with the flag of its extensions
_CHUNK = 1 << 20
_MOST_UNPACKED = 1032  # bytes that deflate makes of one
_SPARE_BYTES = 1 << 20  # after the data, as some programs write; a stream that goes on further is refused
_SPARE_PACKED = 1 << 24  # bytes of a packed file beyond twice its content, which no program writes
_ONE_PERCENT = 1e-2
_ROUNDING = 1e-3  # by which a quaternion may be longer than 1
_FLOAT32 = 1e-7  # relative distance of numbers of 32 bits
HEADERS = (".hdr.gz", ".hdr")  # suffixes of the header of a pair; FSL packs both files
_DATA = (".img.gz", ".img")
_DATA_OFFSET = 352  # bytes before the data in a NIfTI-1 file
_ANALYZE_UNITS = {b"m": 1, b"mm": 2, b"um": 3}  # codes of NIfTI


def read_volume(path: Path, check_shape: Callable[[tuple[int, ...]], object] = lambda shape: None) -> StoredVolume:
    """Read a NIfTI file, gzipped or not, to its last byte; or the ``.hdr`` and ``.img`` of NIfTI or Analyze 7.5.

    The geometry follows one rule: the voxel size is ``pixdim`` (its absolute value, and 1 where it is 0, as ITK reads
    it); directions and origin are those of the sform if its code is above 0, else of the qform, else of ``pixdim``
    alone; ``xyzt_units`` turns meters and micrometers into mm, and unknown units are mm. A remark says where
    ``pixdim``, sform and qform disagree. Analyze states no directions.

    Args:
        path: file to read.
        check_shape: function that refuses a shape before the voxels are read.

    Raises:
        InputError: the file is truncated or not NIfTI, holds no plain numbers, or has an invalid spacing or affine.
    """
    start, is_pair = _unpack_start(path), is_header(path)
    if is_pair:
        packed, tail = _join_pair(path, start, check_shape)
        start = packed[:_HEADER_BYTES]
    kind = nib.Nifti2Image if start[:4] in _NIFTI2_SIZES else nib.Nifti1Image
    stored = _parse(path, lambda: _raw_header(kind.header_class, start))
    stated = _check_header(path, stored, check_shape)
    raw, tail = (memoryview(packed), tail) if is_pair else _unpack_stated(path, stated)
    # Without the voxels, which nibabel would copy.
    head = _round_quaternion(stored).binaryblock
    rest = raw[len(head) : max(int(stored["vox_offset"]), _LONGEST_START)]
    image = _parse(path, lambda: kind.from_bytes(head + bytes(rest)))
    data = _take_voxels(path, image.dataobj, raw)
    affine, spacing, notes = _geometry(path, stored, image)
    if tail:
        notes.insert(0, f"{tail} bytes after the end of the gzip stream are left out")
    header = image.header
    known = find_mm_per_unit(header) is not None or not np.allclose(spacing, 1)
    oriented = bool(header["sform_code"] or header["qform_code"])
    return StoredVolume(data, affine, spacing, tuple(notes), oriented, known, header)


def _take_voxels(path: Path, stored: Any, raw: memoryview) -> Array:
    """Return the voxels in a file's content in native byte order, scaled as nibabel does: a view where nothing changes.

    Args:
        path: file, for the message.
        stored: nibabel's description of the array in the file.
        raw: content of the file.
    """
    expected = stored.offset + math.prod(stored.shape) * stored.dtype.itemsize
    if len(raw) < expected:
        raise InputError(
            f"{path}: expected a complete file of {expected} bytes, got a truncated or damaged one of {len(raw)}; "
            "download it again"
        )
    data: Array = np.ndarray(stored.shape, stored.dtype, raw, stored.offset, order="F")
    if (stored.slope, stored.inter) == (1, 0):
        return data.astype(data.dtype.newbyteorder("="), copy=False)
    flat = data.reshape(-1, order="F")
    slope, inter = np.asanyarray(stored.slope), np.asanyarray(stored.inter)
    scaled: Array | None = None
    for first in range(0, flat.size, _CHUNK):  # because scaling is done in 64 bits
        part = apply_read_scaling(flat[first : first + _CHUNK], slope, inter)
        if scaled is None:
            becomes_float32 = part.dtype == np.float64 and data.dtype != np.float64
            scaled = np.empty(flat.shape, np.float32 if becomes_float32 else part.dtype)
        scaled[first : first + _CHUNK] = part
    return data if scaled is None else scaled.reshape(data.shape, order="F")


def is_header(path: Path) -> bool:
    """Return whether a file is called like the header of a pair."""
    return path.name.lower().endswith(HEADERS)


def find_mm_per_unit(header: Any) -> float | None:
    """Return the mm of a header's unit of length; None for an unknown one, for which nibabel raises KeyError."""
    return _MM_PER_UNIT.get(int(header["xyzt_units"]) % 8)


def find_data(path: Path) -> Path | None:
    """Find the ``.img`` or ``.img.gz`` beside a header; None where there is none."""
    return _find_half(path, HEADERS, _DATA)


def find_header(path: Path) -> Path | None:
    """Find the ``.hdr`` or ``.hdr.gz`` beside data; None where there is none."""
    return _find_half(path, _DATA, HEADERS)


def _find_half(path: Path, own: Sequence[str], others: Sequence[str]) -> Path | None:
    """Find the other half of a pair, one that is packed like this one first."""
    suffix = next((suffix for suffix in own if path.name.lower().endswith(suffix)), "")
    if not suffix:
        return None
    stem = path.name[: -len(suffix)]
    wanted = sorted(others, key=lambda other: other.endswith(".gz") != suffix.endswith(".gz"))
    names = [f"{stem}{spelled}" for other in wanted for spelled in (other, other.upper(), _capitalize(other))]
    places = (path.with_name(name) for name in dict.fromkeys(names))
    return next((place for place in places if place.is_file()), None)


def _capitalize(suffix: str) -> str:
    """Return ``.Img`` for ``.img``, and ``.Img.gz`` for ``.img.gz``."""
    return f".{suffix[1:].capitalize()}"


def _join_pair(path: Path, start: bytes, check_shape: Callable[[tuple[int, ...]], object]) -> tuple[bytes, int]:
    """Return header and data of a pair as a NIfTI-1 file, and the number of bytes after the data's gzip stream."""
    stored = _parse(path, lambda: _raw_header(nib.Nifti1Header, start))
    place = find_data(path)
    if place is None:
        start_of_suffix = path.name.lower().rindex(".hdr")
        wanted = f"{path.name[:start_of_suffix]}.img{path.name[start_of_suffix + 4 :].lower()}"
        raise InputError(f"{path}: expected its data in {wanted}, got no such file; copy it beside the header")
    offset = _find_offset(path, stored)
    stated = _check_header(path, stored, check_shape)
    if place.suffix.lower() == ".gz":
        data, tail = _unpack_stated(place, stated)
    else:  # the first voxels may look like a gzip stream
        data, tail = memoryview(read_bytes(place, stated)), 0
    header = stored.copy() if stored["magic"].item() in (b"ni1", b"n+1") else _convert_analyze(stored, start)
    header["magic"], header["vox_offset"] = b"n+1", _DATA_OFFSET
    return bytes(header.binaryblock) + bytes(_DATA_OFFSET - len(header.binaryblock)) + data[offset:], tail


def _convert_analyze(stored: Any, start: bytes) -> Any:
    """Return the header of an Analyze image as one of NIfTI: the two share their first fields."""
    header = nib.Nifti1Header(endianness=stored.endianness, check=False)
    for key in ("dim", "datatype", "bitpix", "pixdim"):
        header[key] = stored[key]
    slope = float(stored["scl_slope"])  # SPM's scale factor
    header["scl_slope"] = slope if np.isfinite(slope) and slope else 1
    header["xyzt_units"] = _ANALYZE_UNITS.get(start[56:60].strip(b" \0").lower(), 0)
    return header


def _check_header(path: Path, stored: Any, check_shape: Callable[[tuple[int, ...]], object]) -> int:
    """Check type and shape, and return the number of bytes of a file with this header."""
    dtype = _parse(path, stored.get_data_dtype)
    if dtype.kind not in "iuf":
        raise InputError(f"{path}: expected integers or floating point numbers, got {dtype}; convert it")
    rank = min(max(int(stored["dim"][0]), 0), 7)
    shape = tuple(int(side) for side in stored["dim"][1 : 1 + rank])
    check_shape(shape)
    voxels = math.prod(max(side, 0) for side in shape)
    return int(_find_offset(path, stored) + voxels * dtype.itemsize)


def _find_offset(path: Path, stored: Any) -> int:
    """Return the number of bytes before the data; in a single file they begin after the header."""
    offset: int = _parse(path, lambda: max(int(stored["vox_offset"]), 0))
    if not is_header(path) and offset < stored.single_vox_offset:
        raise InputError(
            f"{path}: expected the voxels from byte {stored.single_vox_offset} on, got vox_offset {offset} in its "
            "header; correct it, or export the file again"
        )
    return offset


def _unpack_start(path: Path) -> bytes:
    """Return the beginning of the unpacked content, as long as the longest header; the rest isn't read."""
    return bytes(_unpack(path, read_bytes(path, _CHUNK), _HEADER_BYTES)[0][:_HEADER_BYTES])


def _unpack_stated(path: Path, stated: int) -> tuple[memoryview, int]:
    """Return the unpacked content and the number of bytes after the gzip stream; refuse far more than is stated."""
    packed = read_bytes(path, 2 * stated + _SPARE_PACKED)
    raw, tail = _unpack(path, packed, stated + _SPARE_BYTES)
    if len(raw) == stated + _SPARE_BYTES and packed.startswith(_GZIP_MAGIC):
        raise InputError(f"{path}: expected {stated} bytes as its header states, got far more; export it again")
    return raw, tail


def _unpack(path: Path, packed: bytes, limit: int) -> tuple[memoryview, int]:
    """Return the unpacked content up to a number of bytes, and the number of bytes after the gzip stream."""
    if not packed.startswith(_GZIP_MAGIC):
        if packed and (path.suffix.lower() != ".gz" or packed.startswith(_HEADER_SIZES)):
            return memoryview(packed), 0
        reason = "got another format" if packed else "the file is empty"
        remedy = f", or, if it isn't packed, rename it to {path.name[:-3]}" if packed else ""
        raise InputError(
            f"{path}: expected a complete {_format(path)} file ({reason}); download or copy it again{remedy}"
        )
    # Pages take memory when they are filled.
    unpacked = np.empty(min(limit, _MOST_UNPACKED * (len(packed) + 1)), np.uint8).data
    size = at = 0
    try:
        while packed.startswith(_GZIP_MAGIC, at):
            stream = zlib.decompressobj(16 + zlib.MAX_WBITS)
            while not stream.eof:
                if at >= len(packed):
                    raise EOFError("its end is missing")
                part = stream.decompress(packed[at : at + _CHUNK], limit - size)
                unpacked[size : size + len(part)] = part
                at, size = at + _CHUNK, size + len(part)
                if size == limit:
                    return unpacked, 0
            at = min(at, len(packed)) - len(stream.unused_data)
    except (EOFError, zlib.error) as error:
        raise InputError(f"{path}: expected a complete gzip file ({error}); download or copy it again") from error
    return unpacked[:size], len(packed) - at


def _format(path: Path) -> str:
    return "gzip" if path.suffix.lower() == ".gz" else "NIfTI"


def _parse(path: Path, parse: Callable[[], Any]) -> Any:
    try:
        return parse()
    except Exception as error:  # nibabel raises errors without a common base class on a bad header
        kind = "NIfTI or Analyze" if is_header(path) else "NIfTI"
        raise InputError(
            f"{path}: expected a {kind} file, got: {first_line(error, 120)}; download or export it again"
        ) from error


def _raw_header(kind: Any, start: bytes) -> Any:
    """Return the header without nibabel's silent corrections."""
    header = kind(start[: kind.template_dtype.itemsize], check=False)
    if header["sizeof_hdr"] != kind.sizeof_hdr:
        raise ValueError(f"a header of {int(header['sizeof_hdr'])} bytes")
    return header


def _round_quaternion(stored: Any) -> Any:
    """Return the header with a quaternion of length 1 where it is longer by a rounding error, which nibabel refuses."""
    parts = [f"quatern_{axis}" for axis in "bcd"]
    length = math.hypot(*(float(stored[part]) for part in parts))
    if not 1 < length < 1 + _ROUNDING:
        return stored
    rounded = stored.copy()
    for part in parts:
        rounded[part] = stored[part] / length * (1 - _FLOAT32)  # so that its square is not above 1 again
    return rounded


def _geometry(path: Path, stored: Any, image: Any) -> tuple[Array, tuple[float, float, float], list[str]]:
    """Return affine and spacing in mm and the remarks, by the rule of :func:`read_volume`."""
    # A 2-D file may lack the third axis; its size is then nominal.
    rank = min(int(stored["dim"][0]), 3)
    pixdim = [float(size) if axis < rank else 1.0 for axis, size in enumerate(stored["pixdim"][1:4])]
    if not np.isfinite(pixdim).all():
        raise InputError(f"{path}: expected three voxel spacings, got {pixdim}; correct pixdim in its header")
    x, y, z = (abs(size) or 1.0 for size in pixdim)
    affine = np.array(image.affine, np.float64)
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not (np.isfinite(affine).all() and (lengths > 0).all() and np.linalg.matrix_rank(affine[:3, :3]) == 3):
        raise InputError(f"{path}: expected an invertible affine; correct sform and qform in the header")
    notes = []
    if [x, y, z] != pixdim:
        notes.append(f"voxel size in the header is {_by(pixdim)}: read as {_by((x, y, z))}")
    if not np.allclose(lengths, (x, y, z), rtol=1e-3):
        if [x, y, z] == pixdim and not np.allclose(lengths[:rank], (x, y, z)[:rank], rtol=_ONE_PERCENT):
            notes.append(f"pixdim ({_by((x, y, z))}) and affine ({_by(lengths)}) disagree: the voxel size is pixdim's")
        affine[:3, :3] *= np.array((x, y, z)) / lengths
    if _forms_disagree(image.header):
        notes.append("sform and qform disagree: directions and origin are the sform's")
    if has_shear(affine):
        notes.append(SHEAR)
    scale = find_mm_per_unit(image.header) or 1.0
    if scale != 1:
        affine[:3] *= scale
        # A decimal factor of a 32-bit number is rounded back to its digits: 50 um are 0.05 mm.
        x, y, z = (float(f"{size * scale:.7g}") for size in (x, y, z))
    return affine, (x, y, z), notes


def _forms_disagree(header: Any) -> bool:
    """Say whether sform and qform are both stated, with other directions or origins."""
    if not (int(header["sform_code"]) and int(header["qform_code"])):
        return False
    try:
        sform, qform = header.get_sform(), header.get_qform()
    except ValueError:  # a quaternion longer than 1
        return True
    turned = [form[:3, :3] / np.maximum(np.linalg.norm(form[:3, :3], axis=0), 1e-12) for form in (sform, qform)]
    tolerance = 0.1 * float(np.linalg.norm(qform[:3, :3], axis=0).min())
    return not (
        np.allclose(turned[0], turned[1], atol=_ONE_PERCENT)
        and np.allclose(sform[:3, 3], qform[:3, 3], atol=tolerance, rtol=0)
    )


def _by(sizes: Any) -> str:
    return " x ".join(f"{float(size):g}" for size in sizes)
