"""Read JPEG of more than 8 bits and JPEG Lossless, which Pillow can't, by the GDCM of SimpleITK."""

import struct
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from PIL import Image

from medpos.core.errors import InputError
from medpos.io.dicom.library import import_pydicom
from medpos.io.dicom.pixels import decode_by_gdcm
from medpos.io.pictures.pages import Page, turn_upright
from medpos.io.scan import check_size

MAGIC = b"\xff\xd8\xff"
_BASELINE, _EXTENDED, _PROGRESSIVE, _LOSSLESS = 0xC0, 0xC1, 0xC2, 0xC3
_NO_FRAME = (0xC4, 0xC8, 0xCC)  # markers among those of frames that begin none
_SCAN, _TEXTS = 0xDA, 0xE1
_ORIENTATION = 0x0112
_SYNTAXES = {_EXTENDED: "1.2.840.10008.1.2.4.51", _LOSSLESS: "1.2.840.10008.1.2.4.57"}


def read_deep_jpeg(path: Path, content: bytes, lossless: bool = False) -> Page | None:
    """Read a gray JPEG of more than 8 bits, or a lossless one; None for one that Pillow reads.

    Args:
        path: file that the content is from, for messages.
        content: bytes of the file.
        lossless: whether to refuse compression that changes values.

    Raises:
        InputError: the file has colors or a process that GDCM doesn't read, or pydicom isn't installed.
    """
    frame = find_frame(content)
    if frame is None or (frame[0] in (_BASELINE, _EXTENDED, _PROGRESSIVE) and frame[1] == 8):
        return None
    process, bits, rows, columns, samples = frame
    if process not in _SYNTAXES or samples != 1:
        raise InputError(
            f"{path}: expected a JPEG of 8 bits, or a gray one of up to 16, got {bits} bits, {samples} samples and "
            f"process {process - _BASELINE}; convert it to PNG"
        )
    if lossless and process != _LOSSLESS:
        raise InputError(f"{path}: expected PNG, TIFF or NIfTI, got JPEG, which changes label values; store it again")
    check_size(path, (columns, rows))
    pydicom = import_pydicom()
    header = pydicom.Dataset()
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.Rows, header.Columns, header.PixelRepresentation = rows, columns, 0
    header.BitsAllocated, header.BitsStored, header.HighBit = 8 if bits <= 8 else 16, bits, bits - 1
    header.file_meta = pydicom.dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = pydicom.uid.UID(_SYNTAXES[process])
    end = content.rfind(b"\xff\xd9") + 2
    header.PixelData = pydicom.encaps.encapsulate([content[:end] if end > 1 else content])
    try:
        upright, notes = turn_upright(decode_by_gdcm(header, 0)[..., None], _find_orientation(content))
        return Page(upright, bits, "gray", notes=notes)
    except RuntimeError as error:
        raise InputError(f"{path}: expected a complete picture, got a damaged one; export it again") from error


def find_frame(content: bytes) -> tuple[int, int, int, int, int] | None:
    """Return process, bits, rows, columns and samples of the first frame; None where there is none."""
    for marker, at, _ in _segments(content):
        if 0xC0 <= marker <= 0xCF and marker not in _NO_FRAME:
            return (marker, *struct.unpack_from(">BHHB", content, at + 4))
    return None


def _segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, beginning and end of each segment before the data."""
    at = 2
    while at + 10 <= len(content) and content[at] == 0xFF and content[at + 1] != _SCAN:
        marker, end = content[at + 1], at + 1
        if marker != 0xFF:
            end = at + 2 + struct.unpack_from(">H", content, at + 2)[0]
            yield marker, at, end
        at = end


def _find_orientation(content: bytes) -> int:
    """Return the orientation that Pillow finds in a small JPEG with the same EXIF and XMP."""
    small = BytesIO()
    Image.new("L", (1, 1)).save(small, "JPEG")
    texts = b"".join(content[at:end] for marker, at, end in _segments(content) if marker == _TEXTS)
    with Image.open(BytesIO(content[:2] + texts + small.getvalue()[2:]), formats=["JPEG"]) as picture:
        return int(picture.getexif().get(_ORIENTATION, 1))
