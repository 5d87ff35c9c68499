"""Group DICOM files, or the frames of one, into images."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medpos.io.dicom import frames
from medpos.io.dicom.library import import_pydicom, suppress_warnings

XRAY = ("CR", "DX", "RG")
MODALITIES: dict[str, tuple[str, ...]] = {"jsrt": XRAY, "acdc": ("MR",)}
_HEADER = [
    "Modality",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "InstanceNumber",
    "ImagePositionPatient",
    "TriggerTime",
    "TemporalPositionIdentifier",
    "PatientName",
    "PatientID",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
]


@dataclass(frozen=True)
class Group:
    """Name the files, or the frames of one file, that form an image.

    Args:
        name: name of the file (X-ray, multi-frame image) or of the folder (series), or a hash where these contain the
            patient's name or number.
        files: files of the image.
        frames: numbers of its frames, from 1; empty: all.
    """

    name: str
    files: tuple[Path, ...]
    frames: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Plane:
    """Hold position and time of a plane; ``moment`` orders the phases of a cine series."""

    path: Path
    frame: int
    place: tuple[float, ...]
    moment: tuple[float, ...]


@dataclass(frozen=True)
class _File:
    """Hold the few attributes that are kept of each header, as there may be many files."""

    path: Path
    series: str
    hashes: dict[bool, str]
    words: frozenset[str]
    planes: tuple[_Plane, ...]

    def name(self, is_series: bool) -> str:
        """Return the folder's name for a series, else the file's name; a hash where that names the patient."""
        name = self.path.parent.name if is_series else self.path.stem
        return self.hashes[is_series] if any(word in name.lower() for word in self.words) else name


def is_dicom(path: Path) -> bool:
    """Return whether a file has DICOM's magic number."""
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def group_files(files: Sequence[Path]) -> list[Group]:
    """Group files into images: each X-ray, each series, and each phase of a cine series or multi-frame image.

    Args:
        files: DICOM files of any number of series.

    Returns:
        The images in the order of ``files``; a file that can't be read forms one of its own, which fails when read.

    Raises:
        InputError: pydicom isn't installed.
    """
    series: dict[str, list[_File]] = {}
    for path in files:
        file = _read_header(path)
        series.setdefault(file.series, []).append(file)
    found: list[Group] = []
    for members in series.values():
        name = members[0].name(is_series=len(members) > 1)
        phases = _phases([plane for file in members for plane in file.planes])
        for number, phase in enumerate(phases, 1):
            paths = tuple(dict.fromkeys(plane.path for plane in phase))
            numbers = tuple(plane.frame for plane in phase if plane.frame)
            found.append(Group(f"{name}_phase{number:02d}" if len(phases) > 1 else name, paths, numbers))
    return found


def _read_header(path: Path) -> _File:
    pydicom = import_pydicom()
    try:
        with suppress_warnings():
            return _describe(path, pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_HEADER))
    except Exception:
        return _File(path, str(path), {}, frozenset(), (_Plane(path, 0, (), ()),))


def _describe(path: Path, header: Any) -> _File:
    planes = tuple(_planes(path, header))
    # A multi-frame image contains all of its planes.
    alone = planes[0].frame > 0 or not planes[0].place or header.get("Modality") in XRAY
    words = re.split(r"[\W_]+", f"{header.get('PatientName', '')} {header.get('PatientID', '')}".lower())
    uids = {True: header.get("SeriesInstanceUID", path), False: header.get("SOPInstanceUID", path)}
    hashes = {kind: f"case-{hashlib.sha256(str(uid).encode()).hexdigest()[:10]}" for kind, uid in uids.items()}
    series = str(path) if alone else str(header.get("SeriesInstanceUID"))
    return _File(path, series, hashes, frozenset(word for word in words if len(word) > 2), planes)


def _planes(path: Path, header: Any) -> Iterator[_Plane]:
    for number in range(1, frames.count_frames(header) + 1):
        flat = frames.flatten_frame(header, number)
        moment = _numbers(flat, ("TemporalPositionIndex", "NominalCardiacTriggerDelayTime"))
        yield _Plane(path, number, _place(flat), (*moment, number))
    if not frames.count_frames(header):
        moment = _numbers(header, ("TriggerTime", "TemporalPositionIdentifier", "InstanceNumber"))
        yield _Plane(path, 0, _place(header), moment)


def _place(header: Any) -> tuple[float, ...]:
    return tuple(round(float(v), 2) for v in header.get("ImagePositionPatient") or ())


def _numbers(header: Any, keys: Sequence[str]) -> tuple[float, ...]:
    return tuple(float(header.get(key) or 0) for key in keys)


def _phases(planes: Sequence[_Plane]) -> list[list[_Plane]]:
    """Split planes into phases: several planes at one position are phases if every position has as many."""
    places: dict[tuple[float, ...], list[_Plane]] = {}
    for plane in planes:
        places.setdefault(plane.place, []).append(plane)
    counts = {len(found) for found in places.values()}
    if len(counts) > 1 or counts == {1}:
        return [list(planes)]  # uneven counts: an error when read
    ordered = [sorted(found, key=lambda plane: plane.moment) for found in places.values()]
    return [[found[n] for found in ordered] for n in range(counts.pop())]
