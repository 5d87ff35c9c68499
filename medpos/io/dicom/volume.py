"""One DICOM X-ray, or the planes of a series or of a multi-frame image sorted into a volume."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medpos.core.errors import InputError
from medpos.io.dicom.planes import Plane, read_planes
from medpos.io.dicom.segmentation import TO_RAS, SegTarget
from medpos.io.scan import Array, Scan, directions_of

_LETTERS = {"H": "S", "F": "I"}
_UNEVEN = 0.1  # share by which gaps between slices may differ


def read(
    files: Sequence[Path], numbers: Sequence[int] = (), modalities: Sequence[str] = (), force: bool = False
) -> Scan:
    """Read an image.

    Args:
        files: what :func:`~medpos.io.dicom.series.group` puts together.
        numbers: of the frames of a multi-frame file, from 1; empty: all.
        modalities: those that the network was trained on; empty: any.
        force: take another modality.

    Raises:
        InputError: unreadable, without pixel data, of another modality, colour, too large, or planes that don't make
            up a volume.
    """
    planes = [plane for path in files for plane in read_planes(path, numbers, modalities, force)]
    where = files[0] if len(files) == 1 else files[0].parent
    if len(planes) > 1:
        planes = _sorted(where, planes)
    first = planes[0].geometry
    depth, note = _depth(planes)
    spacing = _spacing(where, first)
    if spacing is not None and "PixelSpacing" not in first:
        note.append("spacing is at the detector: organs are smaller")
    directions = _directions(first)
    return Scan(
        np.stack([plane.values.T for plane in planes], axis=2),
        None if spacing is None else (spacing[1], spacing[0], depth),
        directions,
        _target(planes, directions, spacing, depth),
        grey_range=(min(plane.low for plane in planes), max(plane.high for plane in planes)),
        is_true=True,
        notes=note,
    )


def _target(
    planes: Sequence[Plane], directions: Array | None, spacing: tuple[float, float] | None, depth: float
) -> SegTarget:
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])  # an X-ray lies as a picture does
    first = planes[0].geometry
    if "ImagePositionPatient" in first and directions is not None:
        rows, columns = spacing or (1.0, 1.0)
        affine[:3, :3] = directions * [columns, rows, depth]
        affine[:3, 3] = np.array([float(v) for v in first.ImagePositionPatient]) * TO_RAS
    numbers = tuple(plane.frame for plane in planes if plane.frame)
    headers = [planes[0].header] if numbers else [plane.header for plane in planes]
    return SegTarget(headers, numbers, spacing, affine)


def _spacing(where: Path, header: Any) -> tuple[float, float] | None:
    """Distance of the rows and of the columns, mm."""
    sizes = header.get("PixelSpacing") or header.get("ImagerPixelSpacing")
    if not sizes:
        return None
    rows, columns = (float(size) for size in sizes)
    if not (0 < rows < np.inf and 0 < columns < np.inf):
        raise InputError(f"{where}: pixel spacing is {rows:g} x {columns:g} mm, needed are numbers above 0; mend it")
    return rows, columns


def _directions(header: Any) -> Array | None:
    """Unit vectors of columns, rows and slices in RAS+ space, as far as the header says."""
    if "ImageOrientationPatient" in header:
        right, down = np.reshape([float(v) for v in header.ImageOrientationPatient], (2, 3)) * TO_RAS
    elif len(header.get("PatientOrientation") or ()) == 2:
        # Of letters such as LF the first is the main direction.
        letters = [_LETTERS.get(text[:1], text[:1]) for text in header.PatientOrientation]
        if not set(letters) <= set("RLAPSI"):
            return None
        right, down = directions_of(letters).T
    else:
        return None
    return np.stack([right, down, np.cross(right, down)], axis=1)


def _sorted(where: Path, planes: Sequence[Plane]) -> list[Plane]:
    """In the order of their place along the normal."""
    first = planes[0]
    for plane in planes:
        if plane.values.shape != first.values.shape:
            raise InputError(f"{where}: slices differ in size; give the files of one series")
        for key in ("ImageOrientationPatient", "ImagePositionPatient"):
            if key not in plane.geometry:
                raise InputError(f"{where}: a slice has no {key}, so slices can't be sorted; export it again")
        if not np.allclose(_orientation(plane), _orientation(first), atol=1e-3):
            raise InputError(f"{where}: slices differ in orientation, so they are no stack; give those of one plane")
    ordered = sorted(planes, key=_place)
    if min(np.diff([_place(plane) for plane in ordered])) < 1e-3:
        raise InputError(f"{where}: several slices lie at one place; give the files of one series, none missing")
    return ordered


def _orientation(plane: Plane) -> list[float]:
    return [float(v) for v in plane.geometry.ImageOrientationPatient]


def _place(plane: Plane) -> float:
    right, down = np.reshape(_orientation(plane), (2, 3))
    return float(np.cross(right, down) @ [float(v) for v in plane.geometry.ImagePositionPatient])


def _depth(planes: Sequence[Plane]) -> tuple[float, list[str]]:
    """Distance of the slices, mm, and what is to say about it."""
    if len(planes) == 1:
        header = planes[0].geometry
        return float(header.get("SpacingBetweenSlices") or header.get("SliceThickness") or 1.0), []
    gaps = np.diff([_place(plane) for plane in planes])
    middle = float(np.median(gaps))
    uneven = bool((np.abs(gaps - middle) > _UNEVEN * middle).any())
    return middle, ["slices are unevenly spaced, some may be missing: volumes are wrong"] if uneven else []
