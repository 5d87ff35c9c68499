"""Read a DICOM X-ray, or sort the planes of a series or a multi-frame image into a volume."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medpos.core.errors import InputError
from medpos.io.dicom.library import suppress_warnings
from medpos.io.dicom.planes import Plane, Range, read_planes
from medpos.io.dicom.segmentation import SegTarget
from medpos.io.dicom.values import has_value, is_inverted, read_number, read_numbers
from medpos.io.dicom.window import choose_range
from medpos.io.scan import SKEW, TO_RAS, Array, Scan, directions_of

_LETTERS = {"H": "S", "F": "I"}
_SAME = 1e-3  # mm between slices at one position
_UNEVEN = 0.1  # relative difference allowed between the gaps of slices
_SHIFTED = 0.1  # px that slices may lie beside the normal through the first one
_EVENLY = (
    "a DICOM SEG, NRRD and MetaImage keep the place of each; NIfTI keeps it in its sform, which ITK refuses to read"
)
_ODDLY = "only a DICOM SEG keeps the place of each; in other formats they are stacked straight"


def read_dicom(
    files: Sequence[Path],
    numbers: Sequence[int] = (),
    modalities: Sequence[str] = (),
    force: bool = False,
    names: Sequence[str] = (),
) -> Scan:
    """Read an image.

    Args:
        files: files of the image, as :func:`~medpos.io.dicom.series.group_files` groups them.
        numbers: numbers of the frames of a multi-frame file, from 1; empty: all.
        modalities: modalities that the network was trained on; empty: any.
        force: whether to accept another modality.
        names: name of each file for messages, as paths may name a patient; "file 1", "file 2" ... if empty.

    Raises:
        InputError: a file is unreadable or too large, has no pixel data, another modality or color, or the planes
            don't form a volume.
    """
    names = names or [f"file {number}" for number in range(1, len(files) + 1)]
    with suppress_warnings():
        return _read_image(files, names, numbers, modalities, force)


def _read_image(
    files: Sequence[Path], names: Sequence[str], numbers: Sequence[int], modalities: Sequence[str], force: bool
) -> Scan:
    planes = [
        plane
        for path, name in zip(files, names, strict=True)
        for plane in read_planes(path, name, numbers, modalities, force)
    ]
    notes = list(dict.fromkeys(note for plane in planes for note in plane.notes))
    if len(planes) > 1:
        planes = _sort_planes(planes, notes)
    spacing = _spacing(planes[0], notes)
    depth = _depth(planes, notes)
    directions = _directions(planes[0])
    ends, gray_notes = choose_range(planes)
    values = np.empty((*planes[0].values.T.shape, len(planes)), np.float32)
    for z, plane in enumerate(planes):  # not all at once: a volume is large
        values[..., z] = _brighten(plane, ends).T
    return Scan(
        values,
        None if spacing is None else (spacing[1], spacing[0], depth),
        directions,
        _target(planes, directions, spacing, depth, notes),
        gray_range=ends,
        has_patient_axes=True,
        notes=notes,
        gray_notes=gray_notes,
    )


def _brighten(plane: Plane, ends: Range) -> Array:
    """Return the gray values of a plane, high = bright."""
    if not is_inverted(plane.header):
        return plane.values
    bright: Array = np.float32(ends[0] + ends[1]) - plane.values
    return bright


def _target(
    planes: Sequence[Plane],
    directions: Array | None,
    spacing: tuple[float, float] | None,
    depth: float,
    notes: list[str],
) -> SegTarget:
    rows, columns = spacing or (1.0, 1.0)
    affine = np.diag([-columns, -rows, depth, 1.0])  # an X-ray is oriented as a picture
    origin = read_numbers(planes[0].place, planes[0].geometry, "ImagePositionPatient", 3)
    if directions is not None and origin is not None:
        affine[:3, :3] = directions * [columns, rows, depth]
        affine[:3, 2] = _step(planes, directions[:, 2], min(rows, columns), notes) * depth
        affine[:3, 3] = np.array(origin) * TO_RAS
    numbers = tuple(plane.frame for plane in planes if plane.frame)
    headers = [planes[0].header] if numbers else [plane.header for plane in planes]
    return SegTarget(headers, numbers, spacing, affine, notes)


def _step(planes: Sequence[Plane], normal: Array, pixel: float, notes: list[str]) -> Array:
    """Return the step in RAS+ space from slice to slice per mm of their distance, and append a remark on shifts.

    Args:
        planes: planes in their order along the normal.
        normal: vector along the normal in RAS+ space.
        pixel: length of a pixel's shorter side in mm.
        notes: remarks, to which one is appended where the slices are shifted against each other.
    """
    if len(planes) == 1:
        return normal
    origins = np.array([read_numbers(plane.place, plane.geometry, "ImagePositionPatient", 3) for plane in planes])
    offsets = (origins - origins[0]) * TO_RAS
    along = offsets @ normal / np.linalg.norm(normal)
    mean_step = along @ offsets / (along @ along)
    shift = _farthest(offsets, along, normal / np.linalg.norm(normal))
    allowed = max(_SHIFTED * pixel, SKEW * along[-1])  # direction cosines are often rounded
    if shift <= allowed:
        return normal
    rest = _farthest(offsets, along, mean_step)
    is_even = rest <= max(allowed, _UNEVEN * shift)
    notes.append(f"slices are shifted against each other by up to {shift:.3g} mm: " + (_EVENLY if is_even else _ODDLY))
    return mean_step if is_even else normal


def _farthest(offsets: Array, along: Array, step: Array) -> float:
    """Return the greatest distance in mm between the slices and a line."""
    return float(np.linalg.norm(offsets - np.outer(along, step), axis=1).max())


def _spacing(plane: Plane, notes: list[str]) -> tuple[float, float] | None:
    """Return the spacing of rows and columns in mm, and append remarks: PS3.3, 10.7.1.3."""
    place, header, pair = plane.place, plane.geometry, "PixelSpacing"
    found = read_numbers(place, header, "PixelSpacing", 2)
    detector = read_numbers(place, header, "ImagerPixelSpacing", 2)
    at_detector = detector is not None and (found is None or (found == detector and _is_uncorrected(plane.header)))
    if found is None:
        found, pair = detector, "ImagerPixelSpacing"
    if found is None:
        return None
    rows, columns = found
    if not (rows > 0 and columns > 0):
        raise InputError(
            f"{place}: expected a pixel spacing above 0 mm in {pair}, got {rows:g} x {columns:g} mm; correct the header"
        )
    factor = read_number(place, header, "EstimatedRadiographicMagnificationFactor", 1.0)
    if at_detector and factor > 0 and factor != 1:
        notes.append(f"spacing is that at the detector divided by the estimated magnification factor {factor:g}")
        return rows / factor, columns / factor
    if at_detector:
        notes.append("spacing is that at the detector: organs are smaller")
    return rows, columns


def _is_uncorrected(header: Any) -> bool:
    """Return whether equal spacings mean that nothing was corrected: the header names no calibration."""
    return not has_value(header, "PixelSpacingCalibrationType")


def _directions(plane: Plane) -> Array | None:
    """Return the unit vectors of columns, rows and slices in RAS+ space [3, 3]; None where the header lacks them."""
    header = plane.geometry
    cosines = read_numbers(plane.place, header, "ImageOrientationPatient", 6)
    if cosines is not None:
        right, down = np.reshape(cosines, (2, 3)) * TO_RAS
        if not np.allclose([right @ right, down @ down, right @ down], [1, 1, 0], atol=1e-2):
            raise InputError(
                f"{plane.place}: expected two perpendicular unit vectors in Image Orientation (Patient) "
                "(ImageOrientationPatient), got others; correct the header"
            )
    elif not isinstance(header.get("PatientOrientation", ""), str) and len(header.PatientOrientation or ()) == 2:
        # The first of several letters, such as LF, is the main direction.
        letters = [_LETTERS.get(text[:1], text[:1]) for text in header.PatientOrientation]
        if not set(letters) <= set("RLAPSI"):
            return None
        right, down = directions_of(letters).T
    else:
        return None
    return np.stack([right, down, np.cross(right, down)], axis=1)


def _sort_planes(planes: Sequence[Plane], notes: list[str]) -> list[Plane]:
    """Sort planes by their position along the normal; append a remark where equal planes were left out."""
    first = planes[0]
    for plane in planes:
        if plane.values.shape != first.values.shape:
            raise InputError(f"{plane.place}: expected slices of one size, got several; give the files of one series")
        for key in ("ImageOrientationPatient", "ImagePositionPatient"):
            if not has_value(plane.geometry, key):
                raise InputError(f"{plane.place}: expected {key} in every slice, got a slice without; export it again")
        if not np.allclose(plane.orientation, first.orientation, atol=1e-3):
            raise InputError(f"{plane.place}: expected slices of one orientation, got several; give those of one stack")
    ordered = _leave_out_equal(sorted(planes, key=lambda plane: plane.position), notes)
    if len(ordered) > 1 and min(np.diff([plane.position for plane in ordered])) < _SAME:
        raise InputError(
            f"{ordered[0].place}: expected one slice at each position, or times (TriggerTime, "
            "TemporalPositionIdentifier) that tell as many phases apart at each, got neither; give the files of one "
            "series, none missing"
        )
    return ordered


def _leave_out_equal(ordered: Sequence[Plane], notes: list[str]) -> list[Plane]:
    """Leave out planes that equal another one at the same position: a series that was exported twice with new UIDs."""
    kept: list[Plane] = []
    for plane in ordered:
        if not any(np.array_equal(plane.values, other.values) for other in _last_near(kept, plane.position)):
            kept.append(plane)
    if len(kept) < len(ordered):
        notes.append(f"equal slices at one position left out: {len(ordered) - len(kept)} of {len(ordered)}")
    return kept


def _last_near(kept: Sequence[Plane], position: float) -> Iterator[Plane]:
    """Yield the last planes that lie at a position."""
    for plane in reversed(kept):
        if position - plane.position >= _SAME:
            return
        yield plane


def _depth(planes: Sequence[Plane], notes: list[str]) -> float:
    """Return the distance of the slices in mm, and append a remark where it varies."""
    if len(planes) == 1:
        place, header = planes[0].place, planes[0].geometry
        thickness = read_number(place, header, "SliceThickness", 0)
        return abs(read_number(place, header, "SpacingBetweenSlices", 0)) or abs(thickness) or 1.0
    gaps = np.diff([plane.position for plane in planes])
    middle = float(np.median(gaps))
    if (np.abs(gaps - middle) > _UNEVEN * middle).any():
        notes.append(
            f"slices are unevenly spaced, {gaps.min():.3g} to {gaps.max():.3g} mm apart instead of {middle:.3g} mm: "
            "some may be missing, and volumes are wrong"
        )
    return middle
