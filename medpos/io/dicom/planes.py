"""The planes of a DICOM file as grey values, each with what is known of its geometry."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medpos.core.errors import InputError
from medpos.io.dicom import frames
from medpos.io.dicom.library import pydicom, silent
from medpos.io.scan import Array, check_size


@dataclass(eq=False)
class Plane:
    """One plane of an image.

    Args:
        values: float32 [rows, columns], bright = high.
        low: lowest value that the file's bits allow, after rescaling.
        high: highest.
        header: of its file, without pixels.
        geometry: where position, orientation and spacing stand: the header, or a frame's functional groups made flat.
        frame: number from 1 in a multi-frame file; 0: the file is this plane.
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
        path: the file.
        numbers: of its frames, from 1; empty: all.
        modalities: those that the network was trained on; empty: any.
        force: take another modality.

    Raises:
        InputError: unreadable, without pixel data, of another modality, colour, too large, or frames without geometry.
    """
    library = pydicom()
    with silent():
        try:
            content = library.dcmread(path)
        except Exception as error:
            raise InputError(
                f"{path}: can't be read as DICOM ({type(error).__name__}); download or export it again"
            ) from error
        _check(path, content, modalities, force)
        wanted = list(numbers) or list(range(1, frames.count(content) + 1))
        _check_size(path, content, len(wanted) or 1)
        try:
            planes = list(_multi_frame(content, wanted) if wanted else _classic(content))
        except Exception as error:
            raise InputError(
                f"{path}: its pixels can't be decoded ({type(error).__name__}, transfer syntax "
                f"{content.file_meta.TransferSyntaxUID.name}); if it is truncated, copy it again; if compressed, "
                "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"
            ) from error
    for key in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"):
        if key in content:
            delattr(content, key)
    return planes


def _check(path: Path, content: Any, modalities: Sequence[str], force: bool) -> None:
    if not any(key in content for key in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise InputError(f"{path}: has no pixel data; give the image itself, not a report or a reference")
    modality = str(content.get("Modality", "unknown"))
    if modalities and modality not in modalities and not force:
        raise InputError(
            f"{path}: modality is {modality}, the network was trained on {' or '.join(modalities)}; leave it out, or "
            "--force"
        )
    count = int(content.get("NumberOfFrames") or 1)
    if count > 1 and frames.count(content) != count:
        raise InputError(
            f"{path}: holds {count} frames that don't say where they lie, needed is one, or an enhanced image with "
            "functional groups; split it into single frames"
        )
    kind = content.get("PhotometricInterpretation", "missing")
    if kind not in ("MONOCHROME1", "MONOCHROME2"):
        raise InputError(f"{path}: PhotometricInterpretation is {kind}, needed is grey (MONOCHROME2); convert it")


def _check_size(path: Path, content: Any, depth: int) -> None:
    check_size(path, (content.get("Columns", 0), content.get("Rows", 0), depth))


def _classic(content: Any) -> Iterator[Plane]:
    yield _plane(content.pixel_array, content, content, 0)


def _multi_frame(content: Any, numbers: Sequence[int]) -> Iterator[Plane]:
    # Decoded one by one: the other phases of a cine need not be in memory.
    pixels = pydicom().pixels.iter_pixels(content, indices=[number - 1 for number in numbers])
    for number, stored in zip(numbers, pixels, strict=True):
        yield _plane(stored, content, frames.flat(content, number), number)


def _plane(stored: Array, content: Any, geometry: Any, number: int) -> Plane:
    values = np.asarray(pydicom().pixels.apply_modality_lut(stored, geometry), np.float32)
    low, high = _grey_range(content, geometry)
    if content.PhotometricInterpretation == "MONOCHROME1":  # high is dark
        values = low + high - values
    return Plane(values, low, high, content, geometry, number)


def _grey_range(content: Any, geometry: Any) -> tuple[float, float]:
    """Lowest and highest value that the stored bits allow, after rescaling."""
    bits = int(content.BitsStored)
    ends = (-(1 << bits - 1), (1 << bits - 1) - 1) if content.PixelRepresentation else (0, (1 << bits) - 1)
    if "ModalityLUTSequence" in geometry:
        return 0.0, float((1 << int(geometry.ModalityLUTSequence[0].LUTDescriptor[2])) - 1)
    scaled = pydicom().pixels.apply_modality_lut(np.array(ends), geometry)
    return float(min(scaled)), float(max(scaled))
