"""Read the planes of a DICOM file as gray values with their geometry."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from medpos.core.errors import InputError
from medpos.io.dicom import frames
from medpos.io.dicom.files import read_file
from medpos.io.dicom.library import import_pydicom
from medpos.io.dicom.pixels import decode
from medpos.io.dicom.values import has_value, is_inverted, read_number, read_numbers, read_text
from medpos.io.scan import Array, check_size

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_SIZES = ("Columns", "Rows", "NumberOfFrames")
_LARGE = 1 << 26  # bytes of a file whose header is read alone first
_DEPTHS = (8, 10, 12, 14, 16, 24, 32)  # bits that devices store

Range = tuple[float, float]


@dataclass(eq=False)
class Plane:
    """Hold one plane of an image.

    Args:
        place: name of the file, for messages.
        values: gray values [rows, columns] after rescaling, float32.
        allowed: lowest and highest value that the file's bits allow, after rescaling.
        used: lowest and highest value of the fewest bits that hold the pixels, after rescaling.
        used_signed: the same of bits with a sign, where the stored ones have one; else ``used``.
        header: header of the file, without pixels.
        geometry: data set with position, orientation and spacing: the header, or the attributes of a frame.
        frame: number of the frame in a multi-frame file, from 1; 0 for a classic file.
        notes: remarks for the reader, one per line.
    """

    place: object
    values: Array
    allowed: Range
    used: Range
    used_signed: Range
    header: Any
    geometry: Any
    frame: int = 0
    notes: tuple[str, ...] = ()

    @cached_property
    def orientation(self) -> tuple[float, ...]:
        """Unit vectors along the rows and down the columns, in DICOM's axes; empty: unknown."""
        return read_numbers(self.place, self.geometry, "ImageOrientationPatient", 6) or ()

    @cached_property
    def position(self) -> float:
        """Position along the normal of the plane in mm."""
        right, down = np.reshape(self.orientation, (2, 3))
        origin = read_numbers(self.place, self.geometry, "ImagePositionPatient", 3) or ()
        return float(np.cross(right, down) @ origin)


def read_planes(
    path: Path, place: object, numbers: Sequence[int], modalities: Sequence[str], force: bool
) -> list[Plane]:
    """Read the planes of a file.

    Args:
        path: file to read.
        place: name of the file, for the message.
        numbers: numbers of its frames, from 1; empty: all.
        modalities: modalities that the network was trained on; empty: any.
        force: whether to accept another modality.

    Raises:
        InputError: the file is unreadable or too large, has no pixel data, another modality, color, frames without
            geometry, or a mosaic of slices.
    """
    if path.is_file() and path.stat().st_size > _LARGE:
        _check_size(place, read_file(path, place, _SIZES), len(numbers))
    content = read_file(path, place)
    notes = _check(place, content, modalities, force)
    wanted = list(numbers) or list(range(1, frames.count_frames(content) + 1))
    _check_size(place, content, len(wanted))
    bits = int(read_number(place, content, "BitsStored", read_number(place, content, "BitsAllocated", 16)))
    planes = [
        _plane(place, stored, bits, content, frames.flatten_frame(content, number) if number else content, number)
        for number, stored in decode(place, content, wanted)
    ]
    planes[0].notes += (*notes, *_describe_shape(content))
    for key in _PIXELS:
        if key in content:
            delattr(content, key)
    return planes


def _check_size(place: object, header: Any, count: int) -> None:
    """Check the size of an image; a count of 0 stands for all frames."""
    columns, rows, frame_count = (int(read_number(place, header, key, 0)) for key in _SIZES)
    check_size(place, (columns, rows, count or frame_count or 1))


def _check(place: object, content: Any, modalities: Sequence[str], force: bool) -> tuple[str, ...]:
    """Check that a data set is an image of gray values; return remarks."""
    if not any(key in content for key in _PIXELS):
        raise InputError(f"{place}: expected pixel data, got none; give the image itself, not a report or a reference")
    modality = read_text(content, "Modality")
    if modality and modalities and modality not in modalities and not force:
        raise InputError(
            f"{place}: expected modality {' or '.join(modalities)}, as in training, got {_code(modality)}; leave it "
            "out, or give --force"
        )
    count = int(read_number(place, content, "NumberOfFrames", 1))
    if count > 1 and frames.count_frames(content) != count:
        raise InputError(
            f"{place}: expected one frame, or an enhanced image with functional groups, got {count} frames without a "
            "position; split it into single frames"
        )
    if modality == "MR" and "MOSAIC" in str(content.get("ImageType", "")).upper():
        raise InputError(
            f"{place}: expected one slice in a file, got a mosaic of several (Siemens, Image Type MOSAIC); split it, "
            "such as by dcm2niix, which writes NIfTI"
        )
    kind = read_text(content, "PhotometricInterpretation")
    if kind not in ("MONOCHROME1", "MONOCHROME2"):
        raise InputError(
            f"{place}: expected PhotometricInterpretation MONOCHROME2 (gray), got {_code(kind) or 'none'}; convert it"
        )
    return () if modality or not modalities else ("the header names no modality: taken for that of the training data",)


def _code(text: str) -> str:
    """Return a coded value for a message; a text that can't be one may name a patient."""
    return text if len(text) <= 16 and text == text.upper() and " " not in text else "another text"


def _plane(place: object, stored: Array, bits: int, content: Any, geometry: Any, number: int) -> Plane:
    stored = _fill_padding(place, stored, content)
    limits = _allowed(place, content, stored, bits)
    ends = np.array([limits, _used(stored, limits), _used_signed(stored, limits)], float)
    if has_value(geometry, "ModalityLUTSequence"):
        values, depth = _look_up(place, stored, geometry)
        allowed = (0.0, float((1 << depth) - 1))
        return Plane(place, np.asarray(values, np.float32), allowed, allowed, allowed, content, geometry, number)
    slope = read_number(place, geometry, "RescaleSlope", 1)
    intercept = read_number(place, geometry, "RescaleIntercept", 0)
    # As GDCM does: a slope of 0 would leave no image.
    notes = () if slope else ("RescaleSlope is 0: taken for 1",)
    scaled = stored if (slope or 1, intercept) == (1, 0) else stored * np.float64(slope or 1) + intercept
    values = np.asarray(scaled, np.float32)
    allowed, used, signed = map(tuple, np.sort(ends * (slope or 1) + intercept).tolist())
    return Plane(place, values, allowed, used, signed, content, geometry, number, notes)


def _look_up(place: object, stored: Array, geometry: Any) -> tuple[Array, int]:
    """Return the values of a modality LUT and their bits."""
    try:
        values = import_pydicom().pixels.apply_modality_lut(stored, geometry)
        return values, int(geometry.ModalityLUTSequence[0].LUTDescriptor[2])
    except Exception as error:
        raise InputError(
            f"{place}: expected a table of values in Modality LUT Sequence (ModalityLUTSequence), got "
            f"{type(error).__name__}; correct the header"
        ) from None  # what pydicom says may quote the header


def _allowed(place: object, content: Any, stored: Array, bits: int) -> Range:
    """Return the lowest and the highest value that the stored bits allow."""
    if stored.dtype.kind == "f":
        return float(stored.min()), float(stored.max())
    signed = read_number(place, content, "PixelRepresentation", 0) == 1
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)


def _used(stored: Array, allowed: Range) -> Range:
    """Return black and white of the fewest bits that hold the values, where the header allows more bits."""
    low, high = float(stored.min()), float(stored.max())
    if stored.dtype.kind == "f":
        return allowed
    if low < 0:
        return _used_signed(stored, allowed)
    fewest = float(2 ** next(depth for depth in _DEPTHS if high < 2**depth) - 1)
    return (0.0, fewest) if fewest < allowed[1] else allowed


def _used_signed(stored: Array, allowed: Range) -> Range:
    """Return black and white of the fewest bits with a sign, or without one where the stored bits have none."""
    if stored.dtype.kind == "f":
        return allowed
    if allowed[0] >= 0:
        return _used(stored, allowed)
    farthest = max(-float(stored.min()) - 1, float(stored.max()))
    half = float(2 ** next(depth - 1 for depth in _DEPTHS if farthest < 2 ** (depth - 1)))
    return (-half, half - 1) if half < -allowed[0] else allowed


def _fill_padding(place: object, stored: Array, content: Any) -> Array:
    """Set pixels that the header marks as no image to the darkest value of the others: PS3.3, C.7.5.1.1.2."""
    if stored.dtype.kind == "f" or not has_value(content, "PixelPaddingValue"):
        return stored
    padding = _as_stored(read_number(place, content, "PixelPaddingValue", 0), stored)
    limit = _as_stored(read_number(place, content, "PixelPaddingRangeLimit", padding), stored)
    outside = (stored >= min(padding, limit)) & (stored <= max(padding, limit))
    if outside.all() or not outside.any():
        return stored
    inside = stored[~outside]
    darkest = inside.max() if is_inverted(content) else inside.min()
    filled: Array = np.where(outside, darkest, stored)
    return filled


def _as_stored(value: float, stored: Array) -> float:
    """Return a value in the range of the pixels: writers confuse numbers with and without a sign."""
    limits = np.iinfo(stored.dtype)
    span = float(limits.max) - float(limits.min) + 1
    return value - span if value > limits.max else value + span if value < limits.min else value


def _describe_shape(content: Any) -> tuple[str, ...]:
    """Return a remark where photometric interpretation and Presentation LUT Shape disagree on what is white."""
    shape = read_text(content, "PresentationLUTShape").upper()
    kind = read_text(content, "PhotometricInterpretation")
    if (kind, shape) in (("MONOCHROME2", "INVERSE"), ("MONOCHROME1", "IDENTITY")):
        return (f"{kind} and the Presentation LUT Shape {shape} disagree: the lowest values are taken for white",)
    return ()
