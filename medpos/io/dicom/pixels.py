"""Decode the pixels of a DICOM file: by pydicom where it has a decoder, else by GDCM, which SimpleITK contains.

GDCM decodes JPEG Lossless and JPEG Extended of 12 bits, for which pydicom needs a package under the GPL.
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from medpos.core.errors import InputError
from medpos.io.dicom.library import import_pydicom
from medpos.io.dicom.values import has_value, read_number
from medpos.io.itk import collect_warnings
from medpos.io.scan import Array

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
_JPEG_LOSSLESS = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
_BY_GDCM = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70, 80, 81, 90, 91))
_END_OF_JPEG = b"\xff\xd9"
# What a decoder needs to know; nothing of the patient reaches the temporary file.
_DESCRIPTION = (
    "SamplesPerPixel",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
)


def decode(place: object, content: Any, numbers: Sequence[int]) -> Iterator[tuple[int, Array]]:
    """Decode the frames of a file one by one, so that the other phases of a cine series aren't in memory.

    Args:
        place: name of the file, for the message.
        content: data set with pixels.
        numbers: numbers of the frames, from 1; empty: the only one of a classic image.

    Yields:
        Number, 0 for a classic image, and stored values [rows, columns] of each frame.

    Raises:
        InputError: the pixels can't be decoded.
    """
    for key in ("NumberOfFrames", "PixelRepresentation"):
        if key in content and not has_value(content, key):
            del content[key]  # pydicom expects a value where the attribute is present
    try:
        shift = _shift(place, content)
        for number, stored in zip(numbers or [0], _frames(content, numbers), strict=True):
            yield number, stored >> shift if shift else stored
    except InputError:
        raise
    except Exception as error:
        uid = content.file_meta.get("TransferSyntaxUID")
        is_known = isinstance(uid, import_pydicom().uid.UID) and uid.is_transfer_syntax
        syntax = uid.name if is_known else "unknown"
        raise InputError(
            f"{place}: expected pixels that can be decoded, got {type(error).__name__} (transfer syntax {syntax}); if "
            "it is truncated, copy it again; else convert it to an uncompressed one"
        ) from None  # what pydicom says may quote the header


def _frames(content: Any, numbers: Sequence[int]) -> Iterator[Array]:
    if _needs_gdcm(content):
        return (decode_by_gdcm(content, max(number - 1, 0)) for number in numbers or [0])
    if not numbers:
        return iter([content.pixel_array])
    pixels: Iterator[Array] = import_pydicom().pixels.iter_pixels(content, indices=[number - 1 for number in numbers])
    return pixels


def _needs_gdcm(content: Any) -> bool:
    """Return whether pydicom has no decoder where GDCM has one; Pillow's for JPEG Extended has 8 bits alone."""
    uid = content.file_meta.TransferSyntaxUID
    if uid not in _BY_GDCM:
        return False
    plugins = import_pydicom().pixels.get_decoder(uid).available_plugins
    return not plugins or (uid == _JPEG_EXTENDED and content.BitsStored > 8 and plugins == ("pillow",))


def decode_by_gdcm(content: Any, index: int) -> Array:
    """Decode a compressed frame by GDCM.

    Args:
        content: data set with encapsulated pixels.
        index: index of the frame, from 0.

    Returns:
        Stored values [rows, columns], before rescaling.

    Raises:
        EOFError: the end of the frame is missing.
        RuntimeError: GDCM can't decode it.
    """
    import SimpleITK

    pydicom = import_pydicom()
    count = int(content.get("NumberOfFrames") or 1)
    frame = pydicom.encaps.get_frame(content.PixelData, index, number_of_frames=count)
    is_jpeg = content.file_meta.TransferSyntaxUID in (*_JPEG_LOSSLESS, _JPEG_EXTENDED)
    if is_jpeg and _END_OF_JPEG not in frame[-4:]:  # GDCM would fill the rest with zeros
        raise EOFError("the end of the JPEG stream is missing")
    single = pydicom.Dataset()
    for key in _DESCRIPTION:
        if has_value(content, key):
            single[key] = content[key]
    single.PhotometricInterpretation = "MONOCHROME2"  # ITK inverts MONOCHROME1, as medpos does later
    single.SOPClassUID, single.SOPInstanceUID = _SECONDARY_CAPTURE, pydicom.uid.generate_uid()
    single.file_meta = pydicom.dataset.FileMetaDataset()
    single.file_meta.TransferSyntaxUID = content.file_meta.TransferSyntaxUID
    single.PixelData = pydicom.encaps.encapsulate([frame])
    with tempfile.TemporaryDirectory() as folder, collect_warnings():
        path = Path(folder) / "frame.dcm"
        single.save_as(path, enforce_file_format=True)
        reader = SimpleITK.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(str(path))
        stored: Array = SimpleITK.GetArrayFromImage(reader.Execute())
    return stored.reshape(stored.shape[-2:])


def _shift(place: object, content: Any) -> int:
    """Return the number of unused bits below the stored ones, and let pydicom decode them too: PS3.5, 8.1.1."""
    stored = int(read_number(place, content, "BitsStored", 0))
    shift = int(read_number(place, content, "HighBit", stored - 1)) + 1 - stored
    fits = shift > 0 and stored + shift <= read_number(place, content, "BitsAllocated", 0)
    if not fits or content.file_meta.TransferSyntaxUID.is_compressed:
        return 0
    content.BitsStored = stored + shift
    return shift
