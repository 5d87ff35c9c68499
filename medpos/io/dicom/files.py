"""Recognize DICOM files and read their data sets, also without preamble or file meta information."""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medpos.core.errors import InputError
from medpos.io.archives import check_unpacked
from medpos.io.dicom.library import import_pydicom, suppress_warnings
from medpos.io.dicom.values import has_value, read_text

_INDEX = "1.2.840.10008.1.3.10"  # Media Storage Directory Storage
_SYNTAXES = {  # (implicit VR, little endian): transfer syntax of a data set that doesn't name its own
    (True, True): "1.2.840.10008.1.2",
    (False, True): "1.2.840.10008.1.2.1",
    (False, False): "1.2.840.10008.1.2.2",
}
_VRS = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV".split()
)
_DEFLATED = b"1.2.840.10008.1.2.1.99"  # transfer syntax
_META_BYTES = 4096  # bytes at the start that hold the file meta information
_META_START = 144  # after the preamble, the magic number and the group length
_CHUNK = 1 << 20
_LONGEST = 1024  # bytes of the first element of a data set that has no preamble


def is_dicom(path: Path) -> bool:
    """Return whether a file has DICOM's magic number, or begins as file meta information or a data set does."""
    return has_magic(path) or begins_data_set(_read_start(path))


def has_magic(path: Path) -> bool:
    """Return whether a file has DICOM's magic number after its preamble."""
    return _read_start(path)[128:] == b"DICM"


def _read_start(path: Path) -> bytes:
    """Return preamble and magic number; nothing of a file that can't be opened."""
    try:
        with path.open("rb") as stream:
            return stream.read(132)
    except OSError:
        return b""


def begins_data_set(start: bytes) -> bool:
    """Return whether bytes are a plausible first element: group 2 or 8, then a VR or a short even length.

    Args:
        start: first bytes of a file, at least 8.
    """
    if len(start) < 8 or start[:2] not in (b"\x02\0", b"\x08\0") or start[3] != 0:
        return False
    length = int.from_bytes(start[4:8], "little")
    return start[4:6] in _VRS or (length % 2 == 0 and length <= _LONGEST)


def is_index(header: Any) -> bool:
    """Return whether a data set is the index of a medium (DICOMDIR) rather than an image."""
    kinds = {read_text(header, "SOPClassUID"), read_text(header.file_meta, "MediaStorageSOPClassUID")}
    return _INDEX in kinds or "DirectoryRecordSequence" in header


def _check_deflated(path: Path, place: object) -> None:
    """Refuse a deflated data set that is far larger than the file, which pydicom would unpack whole."""
    try:
        with path.open("rb") as stream:
            start = stream.read(_META_BYTES)
            if _DEFLATED not in start:
                return
            # The group length, the first element, tells where the file meta information ends.
            stream.seek(_META_START + int.from_bytes(start[_META_START - 4 : _META_START], "little"))
            unpack, unpacked = zlib.decompressobj(-zlib.MAX_WBITS), 0
            while not unpack.eof and (packed := unpack.unconsumed_tail or stream.read(_CHUNK)):
                unpacked += len(unpack.decompress(packed, _CHUNK))
                check_unpacked(path, unpacked)
    except zlib.error:
        return  # another file that holds the text, or a damaged one, which pydicom reports
    except OSError as error:
        raise InputError(f"{place}: can't be read ({error.strerror}); check its permissions") from None


def read_file(path: Path, place: object, keys: Sequence[str] = ()) -> Any:
    """Read the data set of a file.

    Args:
        path: file to read.
        place: name of the file, for the message.
        keys: keywords of the attributes to read; empty: all, pixels included.

    Raises:
        InputError: pydicom isn't installed, the file isn't DICOM, or its deflated data set is too large.
    """
    pydicom = import_pydicom()
    _check_deflated(path, place)
    options = {"stop_before_pixels": True, "specific_tags": list(keys)} if keys else {}
    try:
        with suppress_warnings():
            with path.open("rb") as stream:
                force = begins_data_set(stream.read(132))
            content = pydicom.dcmread(path, force=force, **options)
    except Exception as error:
        raise InputError(
            f"{place}: expected a DICOM file, got {type(error).__name__}; download or export it again"
        ) from None  # what pydicom says may quote the header
    if not has_value(content.file_meta, "TransferSyntaxUID") and content.original_encoding in _SYNTAXES:
        content.file_meta.TransferSyntaxUID = pydicom.uid.UID(_SYNTAXES[content.original_encoding])
    return content
