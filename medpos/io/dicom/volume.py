"""Read a DICOM X-ray, or sort the planes of a series or a multi-frame image into a volume."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medpos.core.errors import InputError
from medpos.io.dicom.planes import Plane, read_planes
from medpos.io.dicom.segmentation import TO_RAS, SegTarget
from medpos.io.scan import Array, Scan, directions_of

_LETTERS = {"H": "S", "F": "I"}
_UNEVEN = 0.1  # relative difference allowed between the gaps of slices


def read_dicom(
    files: Sequence[Path], numbers: Sequence[int] = (), modalities: Sequence[str] = (), force: bool = False
) -> Scan:
    """Read an image.

    Args:
        files: files of the image, as :func:`~medpos.io.dicom.series.group_files` groups them.
        numbers: numbers of the frames of a multi-frame file, from 1; empty: all.
        modalities: modalities that the network was trained on; empty: any.
        force: whether to accept another modality.

    Raises:
        InputError: a file is unreadable or too large, has no pixel data, another modality or color, or the planes
            don't form a volume.
    """
    planes = [plane for path in files for plane in read_planes(path, numbers, modalities, force)]
    place = files[0] if len(files) == 1 else files[0].parent
    if len(planes) > 1:
        planes = _sort_planes(place, planes)
    first = planes[0].geometry
    depth, note = _depth(planes)
    spacing = _spacing(place, first)
    if spacing is not None and "PixelSpacing" not in first:
        note.append("spacing is that at the detector: organs are smaller")
    directions = _directions(first)
    return Scan(
        np.stack([plane.values.T for plane in planes], axis=2),
        None if spacing is None else (spacing[1], spacing[0], depth),
        directions,
        _target(planes, directions, spacing, depth),
        grey_range=(min(plane.low for plane in planes), max(plane.high for plane in planes)),
        has_patient_axes=True,
        notes=note,
    )


def _target(
    planes: Sequence[Plane], directions: Array | None, spacing: tuple[float, float] | None, depth: float
) -> SegTarget:
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])  # an X-ray is oriented as a picture
    first = planes[0].geometry
    if "ImagePositionPatient" in first and directions is not None:
        rows, columns = spacing or (1.0, 1.0)
        affine[:3, :3] = directions * [columns, rows, depth]
        affine[:3, 3] = np.array([float(v) for v in first.ImagePositionPatient]) * TO_RAS
    numbers = tuple(plane.frame for plane in planes if plane.frame)
    headers = [planes[0].header] if numbers else [plane.header for plane in planes]
    return SegTarget(headers, numbers, spacing, affine)


def _spacing(place: Path, header: Any) -> tuple[float, float] | None:
    """Return the spacing of rows and columns in mm."""
    sizes = header.get("PixelSpacing") or header.get("ImagerPixelSpacing")
    if not sizes:
        return None
    rows, columns = (float(size) for size in sizes)
    if not (0 < rows < np.inf and 0 < columns < np.inf):
        raise InputError(
            f"{place}: expected a pixel spacing above 0 mm, got {rows:g} x {columns:g} mm; correct the header"
        )
    return rows, columns


def _directions(header: Any) -> Array | None:
    """Return the unit vectors of columns, rows and slices in RAS+ space [3, 3]; None where the header lacks them."""
    if "ImageOrientationPatient" in header:
        right, down = np.reshape([float(v) for v in header.ImageOrientationPatient], (2, 3)) * TO_RAS
    elif len(header.get("PatientOrientation") or ()) == 2:
        # The first of several letters, such as LF, is the main direction.
        letters = [_LETTERS.get(text[:1], text[:1]) for text in header.PatientOrientation]
        if not set(letters) <= set("RLAPSI"):
            return None
        right, down = directions_of(letters).T
    else:
        return None
    return np.stack([right, down, np.cross(right, down)], axis=1)


def _sort_planes(place: Path, planes: Sequence[Plane]) -> list[Plane]:
    """Sort planes by their position along the normal."""
    first = planes[0]
    for plane in planes:
        if plane.values.shape != first.values.shape:
            raise InputError(f"{place}: expected slices of one size, got several; give the files of one series")
        for key in ("ImageOrientationPatient", "ImagePositionPatient"):
            if key not in plane.geometry:
                raise InputError(f"{place}: expected {key} in every slice, got a slice without; export it again")
        if not np.allclose(_orientation(plane), _orientation(first), atol=1e-3):
            raise InputError(f"{place}: expected slices of one orientation, got several; give those of one stack")
    ordered = sorted(planes, key=_position)
    if min(np.diff([_position(plane) for plane in ordered])) < 1e-3:
        raise InputError(
            f"{place}: expected one slice at each position, got several; give the files of one series, none missing"
        )
    return ordered


def _orientation(plane: Plane) -> list[float]:
    return [float(v) for v in plane.geometry.ImageOrientationPatient]


def _position(plane: Plane) -> float:
    right, down = np.reshape(_orientation(plane), (2, 3))
    return float(np.cross(right, down) @ [float(v) for v in plane.geometry.ImagePositionPatient])


def _depth(planes: Sequence[Plane]) -> tuple[float, list[str]]:
    """Return the distance of the slices in mm, and notes about it."""
    if len(planes) == 1:
        header = planes[0].geometry
        return float(header.get("SpacingBetweenSlices") or header.get("SliceThickness") or 1.0), []
    gaps = np.diff([_position(plane) for plane in planes])
    middle = float(np.median(gaps))
    uneven = bool((np.abs(gaps - middle) > _UNEVEN * middle).any())
    return middle, ["slices are unevenly spaced and some may be missing: volumes are wrong"] if uneven else []
