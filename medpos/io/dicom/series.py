"""Group DICOM files, or the frames of one, into images."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medpos.core.errors import InputError
from medpos.io.dicom import frames
from medpos.io.dicom.files import read_file
from medpos.io.dicom.kinds import find_other_kind
from medpos.io.dicom.library import import_pydicom, suppress_warnings
from medpos.io.dicom.values import has_value, read_numbers, read_text

XRAY = ("CR", "DX", "RG")
MODALITIES: dict[str, tuple[str, ...]] = {"jsrt": XRAY, "acdc": ("MR",)}
# Attributes that tell the phases of a cine apart; InstanceNumber doesn't: copies are often renumbered.
_TIMES = ("TriggerTime", "TemporalPositionIdentifier", "NominalPercentageOfCardiacPhase")
_FRAME_TIMES = ("TemporalPositionIndex", "NominalCardiacTriggerDelayTime", "NominalPercentageOfCardiacPhase")
_CHUNK = 1 << 20  # bytes hashed at a time
_HEADER = [
    "Modality",
    "SeriesInstanceUID",
    "SOPClassUID",
    "SOPInstanceUID",
    "InstanceNumber",
    "ImagePositionPatient",
    "NumberOfFrames",
    "DirectoryRecordSequence",
    *_TIMES,
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
]


@dataclass(frozen=True)
class Group:
    """Name the files, or the frames of one file, that form an image.

    Args:
        name: name of the file (X-ray, multi-frame image) or of the folder (series), with its phase.
        identity: ``case-`` and a hash of the UID of the instance or of the series, with its phase; it names nobody.
        files: files of the image.
        frames: numbers of its frames, from 1; empty: all.
        notes: remarks for the reader, one per line.
    """

    name: str
    identity: str
    files: tuple[Path, ...]
    frames: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


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
    instance: str
    number: str
    is_alone: bool
    planes: tuple[_Plane, ...]

    @property
    def key(self) -> tuple[object, ...]:
        """Identity of the instance; equal UIDs at two positions are the fault of whoever wrote them, not a copy."""
        first = self.planes[0]
        return (self.instance, first.place or self.number, first.moment)


def group_files(files: Sequence[Path], others: dict[Path, str] | None = None) -> list[Group]:
    """Group files into images: each X-ray, each series, and each phase of a cine series or multi-frame image.

    Files with one SOP Instance UID are copies of one instance (PS3.5, 9.1): the first one is taken.

    Args:
        files: DICOM files of any number of series.
        others: table to which files that are no images are added, with their kind, such as SR or DICOMDIR; they are
            left out.

    Returns:
        The images in the order of ``files``; a file that can't be read forms one of its own, which fails when read.

    Raises:
        InputError: pydicom isn't installed.
    """
    import_pydicom()
    copies: dict[tuple[object, ...], list[_File]] = {}
    for path in files:
        file = _read_header(path)
        if isinstance(file, _File):
            copies.setdefault(file.key, []).append(file)
        elif others is not None:
            others[path] = file
    series: dict[str, list[list[_File]]] = {}
    for same in copies.values():
        series.setdefault(str(same[0].path) if same[0].is_alone else same[0].series, []).append(same)
    return [group for members in series.values() for group in _split_series(members)]


def _split_series(members: list[list[_File]]) -> Iterator[Group]:
    """Yield the images of a series: files without any position are images of their own."""
    if len(members) > 1 and not any(same[0].planes[0].place for same in members):
        for same in members:
            yield from _group([same], is_series=False)
    else:
        yield from _group(members, is_series=len(members) > 1)


def _group(members: list[list[_File]], is_series: bool) -> Iterator[Group]:
    first = members[0][0]
    name = first.path.parent.name if is_series else first.path.stem
    uid = first.series if is_series else first.instance
    identity = f"case-{hashlib.sha256(uid.encode()).hexdigest()[:10]}"
    left_out = sum(len(same) - 1 for same in members)
    notes = () if not left_out else (f"copies of the same SOP instances left out: {left_out} of the files",)
    phases = _phases([plane for same in members for plane in same[0].planes])
    for number, phase in enumerate(phases, 1):
        paths = tuple(dict.fromkeys(plane.path for plane in phase))
        numbers = tuple(plane.frame for plane in phase if plane.frame)
        suffix = f"_phase{number:02d}" if len(phases) > 1 else ""
        yield Group(name + suffix, identity + suffix, paths, numbers, notes)


def _read_header(path: Path) -> _File | str:
    """Read what identifies a file and places its planes; return the kind of a file that is no image."""
    try:
        with suppress_warnings():
            header = read_file(path, "file", _HEADER)
            return find_other_kind(header) or _describe(path, header)
    except Exception:  # pydicom has no common base class for what a bad header raises; reading tells the cause
        return _unknown(path)


def _unknown(path: Path) -> _File:
    return _File(path, "", _hash_content(path), "", True, (_Plane(path, 0, (), ()),))


def _hash_content(path: Path) -> str:
    """Return a hash of a file that has no UID; of its path where it can't be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while part := stream.read(_CHUNK):
                digest.update(part)
        return digest.hexdigest()
    except OSError:
        return str(path)


def _describe(path: Path, header: Any) -> _File:
    planes = tuple(_planes(path, header))
    instance = read_text(header, "SOPInstanceUID") or _hash_content(path)
    series = read_text(header, "SeriesInstanceUID")
    placed = series or has_value(header, "ImagePositionPatient")
    # A multi-frame image contains all of its planes.
    alone = planes[0].frame > 0 or not placed or read_text(header, "Modality") in XRAY
    # Without a UID, the folder stands for the series.
    series = series or f"folder {path.parent.resolve()}"
    return _File(path, series, instance, read_text(header, "InstanceNumber"), alone, planes)


def _planes(path: Path, header: Any) -> Iterator[_Plane]:
    for number in range(1, frames.count_frames(header) + 1):
        flat = frames.flatten_frame(header, number)
        yield _Plane(path, number, _place(flat), _numbers(flat, _FRAME_TIMES))
    if not frames.count_frames(header):
        yield _Plane(path, 0, _place(header), _numbers(header, _TIMES))


def _place(header: Any) -> tuple[float, ...]:
    try:
        found = read_numbers("file", header, "ImagePositionPatient", 3)
    except InputError:  # named when the file is read
        return ()
    return tuple(round(value, 2) for value in found or ())


def _numbers(header: Any, keys: Sequence[str]) -> tuple[float, ...]:
    return tuple(_number(header, key) for key in keys)


def _number(header: Any, key: str) -> float:
    try:
        return (read_numbers("file", header, key, 0) or (0.0,))[0]
    except InputError:  # a time that can't be read tells nothing apart
        return 0.0


def _phases(planes: Sequence[_Plane]) -> list[list[_Plane]]:
    """Split planes into phases: planes at one position, if each position has as many, all of different times."""
    places: dict[tuple[float, ...], list[_Plane]] = {}
    for plane in planes:
        places.setdefault(plane.place, []).append(plane)
    counts = {len(found) for found in places.values()}
    differ = all(len({plane.moment for plane in found}) == len(found) for found in places.values())
    if len(counts) > 1 or counts == {1} or not differ:
        return [list(planes)]  # uneven counts, or nothing that tells phases apart: an error when read
    ordered = [sorted(found, key=lambda plane: plane.moment) for found in places.values()]
    return [[found[n] for found in ordered] for n in range(counts.pop())]
