"""Read the planes of a DICOM file as grey values with their geometry."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medpos.core.errors import InputError
from medpos.io.dicom import frames
from medpos.io.dicom.library import import_pydicom, suppress_warnings
from medpos.io.scan import Array, check_size


@dataclass(eq=False)
class Plane:
    """Hold one plane of an image.

    Args:
        values: grey values [rows, columns], high = bright, float32.
        low: lowest value that the file's bits allow, after rescaling.
        high: highest value that the file's bits allow, after rescaling.
        header: header of the file, without pixels.
        geometry: data set with position, orientation and spacing: the header, or the attributes of a frame.
        frame: number of the frame in a multi-frame file, from 1; 0 for a classic file.
    """

    values: Array
    low: float
    high: float
    header: Any
    geometry: Any
    frame: int = 0


def read_planes(path: Path, numbers: Sequence[int], modalities: Sequence[str], force: bool) -> list[Plane]:
    """Read the planes of a file.

    Args:
        path: file to read.
        numbers: numbers of its frames, from 1; empty: all.
        modalities: modalities that the network was trained on; empty: any.
        force: whether to accept another modality.

    Raises:
        InputError: the file is unreadable or too large, has no pixel data, another modality, color, or frames without
            geometry.
    """
    pydicom = import_pydicom()
    with suppress_warnings():
        try:
            content = pydicom.dcmread(path)
        except Exception as error:
            raise InputError(
                f"{path}: expected a DICOM file, got {type(error).__name__}; download or export it again"
            ) from error
        _check(path, content, modalities, force)
        wanted = list(numbers) or list(range(1, frames.count_frames(content) + 1))
        _check_size(path, content, len(wanted) or 1)
        try:
            planes = list(_multi_frame(content, wanted) if wanted else _classic(content))
        except Exception as error:
            raise InputError(
                f"{path}: expected pixels that can be decoded, got {type(error).__name__} (transfer syntax "
                f"{content.file_meta.TransferSyntaxUID.name}); if it is truncated, copy it again; if compressed, "
                "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"
            ) from error
    for key in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"):
        if key in content:
            delattr(content, key)
    return planes


def _check(path: Path, content: Any, modalities: Sequence[str], force: bool) -> None:
    if not any(key in content for key in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise InputError(f"{path}: expected pixel data, got none; give the image itself, not a report or a reference")
    modality = str(content.get("Modality", "unknown"))
    if modalities and modality not in modalities and not force:
        raise InputError(
            f"{path}: expected modality {' or '.join(modalities)}, as in training, got {modality}; leave it out, or "
            "give --force"
        )
    count = int(content.get("NumberOfFrames") or 1)
    if count > 1 and frames.count_frames(content) != count:
        raise InputError(
            f"{path}: expected one frame, or an enhanced image with functional groups, got {count} frames without a "
            "position; split it into single frames"
        )
    kind = content.get("PhotometricInterpretation", "missing")
    if kind not in ("MONOCHROME1", "MONOCHROME2"):
        raise InputError(f"{path}: expected PhotometricInterpretation MONOCHROME2 (grey), got {kind}; convert it")


def _check_size(path: Path, content: Any, depth: int) -> None:
    check_size(path, (content.get("Columns", 0), content.get("Rows", 0), depth))


def _classic(content: Any) -> Iterator[Plane]:
    yield _plane(content.pixel_array, content, content, 0)


def _multi_frame(content: Any, numbers: Sequence[int]) -> Iterator[Plane]:
    # Decoded one by one, so that the other phases of a cine series aren't in memory.
    pixels = import_pydicom().pixels.iter_pixels(content, indices=[number - 1 for number in numbers])
    for number, stored in zip(numbers, pixels, strict=True):
        yield _plane(stored, content, frames.flatten_frame(content, number), number)


def _plane(stored: Array, content: Any, geometry: Any, number: int) -> Plane:
    values = np.asarray(import_pydicom().pixels.apply_modality_lut(stored, geometry), np.float32)
    low, high = _grey_range(content, geometry)
    if content.PhotometricInterpretation == "MONOCHROME1":  # high is dark
        values = low + high - values
    return Plane(values, low, high, content, geometry, number)


def _grey_range(content: Any, geometry: Any) -> tuple[float, float]:
    """Return the lowest and the highest value that the stored bits allow, after rescaling."""
    bits = int(content.BitsStored)
    ends = (-(1 << bits - 1), (1 << bits - 1) - 1) if content.PixelRepresentation else (0, (1 << bits) - 1)
    if "ModalityLUTSequence" in geometry:
        return 0.0, float((1 << int(geometry.ModalityLUTSequence[0].LUTDescriptor[2])) - 1)
    scaled = import_pydicom().pixels.apply_modality_lut(np.array(ends), geometry)
    return float(min(scaled)), float(max(scaled))
