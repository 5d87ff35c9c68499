"""DICOM: which files are one image, reading it, and a DICOM SEG that refers to it.

Nothing of a patient leaves this module but in the SEG, whose patient module DICOM wants equal to its source's.
"""

import hashlib
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medpos import __version__
from medpos.errors import InputError
from medpos.files import write_atomically
from medpos.labels import Label
from medpos.predict.orientation import directions_of
from medpos.predict.outputs import NiftiTarget
from medpos.predict.scan import Array, Pixels, Scan, check_size

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
]
_TO_RAS = np.array([-1.0, -1.0, 1.0])  # DICOM's axes lead to L, P, S
_LETTERS = {"H": "S", "F": "I"}
_UNEVEN = 0.1  # share by which gaps between slices may differ
# SNOMED CT codes of the segments; other classes are called by their own name.
_CODES = {
    "right_lung": ("3341006", "Right lung"),
    "left_lung": ("44029006", "Left lung"),
    "heart": ("80891009", "Heart"),
    "rv_cavity": ("53085002", "Right ventricle"),
    "myocardium": ("74281007", "Myocardium"),
    "lv_cavity": ("87878005", "Left ventricle"),
}
_STRUCTURE = ("91723000", "Anatomical structure")


def pydicom() -> Any:
    """The library, or how to get it.

    Raises:
        InputError: it isn't installed.
    """
    try:
        import pydicom as library
    except ImportError:
        raise InputError("DICOM needs pydicom and highdicom; install them with pip install 'medpos[dicom]'") from None
    return library


def _highdicom() -> Any:
    try:
        import highdicom
    except ImportError:
        raise InputError("DICOM SEG needs highdicom; install it with pip install 'medpos[dicom]'") from None
    return highdicom


@contextmanager
def _silent() -> Iterator[None]:
    """Without pydicom's warnings, which quote what stands in the header."""
    log = logging.getLogger("pydicom")
    before, log.disabled = log.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.disabled = before


def is_dicom(path: Path) -> bool:
    """Whether the file has DICOM's mark."""
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def group(files: Sequence[Path]) -> list[tuple[str, tuple[Path, ...]]]:
    """Which files are one image: an X-ray by itself, a series as a volume, one for each phase of a cine series.

    Args:
        files: DICOM files of any number of series.

    Returns:
        Name and files of each, in the order of ``files``. The name is the file's (X-ray) or the folder's (series), or
        made of a hash where these hold the patient's name or number. What can't be read stands by itself, for the
        reader to say why.
    """
    series: dict[str, list[tuple[Path, Any]]] = {}
    for path in files:
        try:
            with _silent():
                header = pydicom().dcmread(path, stop_before_pixels=True, specific_tags=_HEADER)
        except InputError:
            raise
        except Exception:
            header = None
        alone = header is None or "ImagePositionPatient" not in header or header.get("Modality") in XRAY
        series.setdefault(str(path) if alone else str(header.get("SeriesInstanceUID")), []).append((path, header))
    found: list[tuple[str, tuple[Path, ...]]] = []
    for members in series.values():
        phases = _phases(members)
        name = _name(*members[0], is_series=len(members) > 1)
        for number, phase in enumerate(phases, 1):
            found.append((f"{name}_phase{number:02d}" if len(phases) > 1 else name, tuple(phase)))
    return found


def _name(path: Path, header: Any, is_series: bool) -> str:
    name = path.parent.name if is_series else path.stem
    if header is None:
        return name
    words = re.split(r"[\W_]+", f"{header.get('PatientName', '')} {header.get('PatientID', '')}".lower())
    if any(len(word) > 2 and word in name.lower() for word in words):
        unique = header.get("SeriesInstanceUID" if is_series else "SOPInstanceUID", name)
        return f"case-{hashlib.sha256(str(unique).encode()).hexdigest()[:10]}"
    return name


def _phases(members: Sequence[tuple[Path, Any]]) -> list[list[Path]]:
    """The files of each phase; several files of one position are phases, where every position has as many."""
    if len(members) == 1:
        return [[members[0][0]]]
    places: dict[tuple[float, ...], list[tuple[Path, Any]]] = {}
    for path, header in members:
        place = tuple(round(float(v), 2) for v in header.ImagePositionPatient)
        places.setdefault(place, []).append((path, header))
    counts = {len(files) for files in places.values()}
    if len(counts) > 1 or counts == {1}:
        return [[path for path, _ in members]]  # uneven counts: the reader refuses them
    ordered = [sorted(files, key=lambda member: _moment(member[1])) for files in places.values()]
    return [[files[n][0] for files in ordered] for n in range(counts.pop())]


def _moment(header: Any) -> tuple[float, ...]:
    keys = ("TriggerTime", "TemporalPositionIdentifier", "InstanceNumber")
    return tuple(float(header.get(key) or 0) for key in keys)


def read(files: Sequence[Path], modalities: Sequence[str] = (), force: bool = False) -> Scan:
    """Read one X-ray, or the slices of a series sorted into a volume.

    Args:
        files: what :func:`group` puts together.
        modalities: those that the network was trained on; empty: any.
        force: take another modality.

    Raises:
        InputError: unreadable, without pixel data, of another modality, colour, several frames, or slices that don't
            make up a volume.
    """
    slices = [_read_file(path, modalities, force) for path in files]
    where = files[0] if len(files) == 1 else files[0].parent
    if len(slices) > 1:
        slices = _sorted(where, slices)
    first = slices[0].header
    notes = ["spacing is at the detector: organs are smaller"] if "PixelSpacing" not in first else []
    planes = [part.values for part in slices]
    depth, note = _depth(where, slices)
    spacing = _spacing(where, first)
    return Scan(
        np.stack([plane.T for plane in planes], axis=2),
        None if spacing is None else (spacing[1], spacing[0], depth),
        _directions(first),
        SegTarget([part.header for part in slices], spacing, depth),
        grey_range=(min(part.low for part in slices), max(part.high for part in slices)),
        is_true=True,
        notes=([] if spacing is None else notes) + note,
    )


@dataclass(eq=False)
class _Slice:
    """Grey values [rows, columns], bright = high, the range that the file allows, and the header without pixels."""

    values: Array
    low: float
    high: float
    header: Any


def _read_file(path: Path, modalities: Sequence[str], force: bool) -> _Slice:
    library = pydicom()
    with _silent():
        try:
            content = library.dcmread(path)
        except Exception as error:
            raise InputError(
                f"{path}: can't be read as DICOM ({type(error).__name__}); download or export it again"
            ) from error
        _check(path, content, modalities, force)
        try:
            stored = content.pixel_array
            values = np.asarray(library.pixels.apply_modality_lut(stored, content), np.float32)
            low, high = _grey_range(content, library)
        except Exception as error:
            raise InputError(
                f"{path}: its pixels can't be decoded ({type(error).__name__}, transfer syntax "
                f"{content.file_meta.TransferSyntaxUID.name}); if it is truncated, copy it again; if compressed, "
                "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"
            ) from error
    if content.PhotometricInterpretation == "MONOCHROME1":  # high is dark
        values = low + high - values
    del content.PixelData
    return _Slice(values, low, high, content)


def _check(path: Path, content: Any, modalities: Sequence[str], force: bool) -> None:
    if not any(key in content for key in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise InputError(f"{path}: has no pixel data; give the image itself, not a report or a reference")
    modality = str(content.get("Modality", "unknown"))
    if modalities and modality not in modalities and not force:
        raise InputError(
            f"{path}: modality is {modality}, the network was trained on {' or '.join(modalities)}; leave it out, or "
            "--force"
        )
    if content.get("NumberOfFrames", 1) not in (None, 1, "1"):
        raise InputError(f"{path}: holds {content.NumberOfFrames} frames, needed is one; split it into single frames")
    kind = content.get("PhotometricInterpretation", "missing")
    if kind not in ("MONOCHROME1", "MONOCHROME2"):
        raise InputError(f"{path}: PhotometricInterpretation is {kind}, needed is grey (MONOCHROME2); convert it")
    check_size(path, (content.get("Columns", 0), content.get("Rows", 0)))


def _grey_range(content: Any, library: Any) -> tuple[float, float]:
    """Lowest and highest value that the stored bits allow, after rescaling."""
    bits = int(content.BitsStored)
    ends = (-(1 << bits - 1), (1 << bits - 1) - 1) if content.PixelRepresentation else (0, (1 << bits) - 1)
    if "ModalityLUTSequence" in content:
        return 0.0, float((1 << int(content.ModalityLUTSequence[0].LUTDescriptor[2])) - 1)
    scaled = library.pixels.apply_modality_lut(np.array(ends), content)
    return float(min(scaled)), float(max(scaled))


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
        right, down = np.reshape([float(v) for v in header.ImageOrientationPatient], (2, 3)) * _TO_RAS
    elif len(header.get("PatientOrientation") or ()) == 2:
        # Of letters such as LF the first is the main direction.
        letters = [_LETTERS.get(text[:1], text[:1]) for text in header.PatientOrientation]
        if not set(letters) <= set("RLAPSI"):
            return None
        right, down = directions_of(letters).T
    else:
        return None
    return np.stack([right, down, np.cross(right, down)], axis=1)


def _sorted(where: Path, slices: Sequence[_Slice]) -> list[_Slice]:
    """In the order of their place along the normal."""
    first = slices[0].header
    for part in slices:
        if part.values.shape != slices[0].values.shape:
            raise InputError(f"{where}: slices differ in size; give the files of one series")
        same = np.allclose(_orientation(where, part.header), _orientation(where, first), atol=1e-3)
        if not same:
            raise InputError(f"{where}: slices differ in orientation, so they are no stack; give those of one plane")
    ordered = sorted(slices, key=lambda part: _place(part.header))
    places = [_place(part.header) for part in ordered]
    if min(np.diff(places)) < 1e-3:
        raise InputError(f"{where}: several slices lie at one place; give the files of one series, none missing")
    return ordered


def _orientation(where: Path, header: Any) -> list[float]:
    if "ImageOrientationPatient" not in header:
        raise InputError(f"{where}: a slice has no ImageOrientationPatient, so slices can't be sorted; export it again")
    return [float(v) for v in header.ImageOrientationPatient]


def _place(header: Any) -> float:
    right, down = np.reshape([float(v) for v in header.ImageOrientationPatient], (2, 3))
    return float(np.cross(right, down) @ [float(v) for v in header.ImagePositionPatient])


def _depth(where: Path, slices: Sequence[_Slice]) -> tuple[float, list[str]]:
    """Distance of the slices, mm, and what is to say about it."""
    if len(slices) == 1:
        header = slices[0].header
        return float(header.get("SpacingBetweenSlices") or header.get("SliceThickness") or 1.0), []
    gaps = np.diff([_place(part.header) for part in slices])
    middle = float(np.median(gaps))
    uneven = bool((np.abs(gaps - middle) > _UNEVEN * middle).any())
    return middle, ["slices are unevenly spaced, some may be missing: volumes are wrong"] if uneven else []


@dataclass(frozen=True)
class SegTarget:
    """A DICOM SEG that refers to the images it was made of.

    Args:
        headers: of the source images, in the order of the slices, without pixels.
        spacing: of rows and columns, mm; None: unknown.
        depth: distance of the slices, mm.
    """

    headers: Sequence[Any]
    spacing: tuple[float, float] | None
    depth: float

    def write(self, stem: Path, values: Pixels, labels: Sequence[Label]) -> Path:
        """Write the labels as binary segments to ``stem.dcm``."""
        content = self._segmentation(np.ascontiguousarray(values.transpose(2, 1, 0)), labels)
        path = stem.with_name(stem.name + ".dcm")
        write_atomically(path, _saver(content))
        return path

    @property
    def affine(self) -> Array:
        """Of the source; an X-ray lies as a picture does."""
        header, affine = self.headers[0], np.diag([-1.0, -1.0, 1.0, 1.0])
        if "ImagePositionPatient" in header:
            rows, columns = self.spacing or (1.0, 1.0)
            directions = _directions(header)
            assert directions is not None  # a series was sorted by it
            affine[:3, :3] = directions * [columns, rows, self.depth]
            affine[:3, 3] = np.array([float(v) for v in header.ImagePositionPatient]) * _TO_RAS
        return affine

    def write_probabilities(self, stem: Path, values: Array) -> Path:
        """Write NIfTI with the source's geometry."""
        return NiftiTarget.of(self.affine, values.shape[:3]).write_probabilities(stem, values)

    def _segmentation(self, frames: Pixels, labels: Sequence[Label]) -> Any:
        """The SEG of label maps [slices, rows, columns]."""
        highdicom, first = _highdicom(), self.headers[0]
        # An X-ray has no thickness, but highdicom reads no pixel spacing without one.
        measures = None
        if self.spacing is not None:
            measures = highdicom.PixelMeasuresSequence(self.spacing, float(first.get("SliceThickness") or 1.0))
        with _silent():
            return highdicom.seg.Segmentation(
                source_images=list(self.headers),
                pixel_array=frames,
                segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
                segment_descriptions=_segments(labels),
                series_instance_uid=highdicom.UID(),
                series_number=int(first.get("SeriesNumber") or 0) + 1000,
                sop_instance_uid=highdicom.UID(),
                instance_number=1,
                manufacturer="medpos",
                manufacturer_model_name="medpos predict",
                software_versions=__version__,
                device_serial_number="0",
                series_description="medpos segmentation",
                pixel_measures=measures,
            )


def _saver(content: Any) -> Callable[[Path], None]:
    def save(path: Path) -> None:
        with _silent():
            content.save_as(path)

    return save


def _segments(labels: Sequence[Label]) -> list[Any]:
    """All classes but the background: an empty segment says that the organ was looked for."""
    import highdicom
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code

    algorithm = highdicom.AlgorithmIdentificationSequence("medpos", codes.DCM.ArtificialIntelligence, __version__)
    return [
        highdicom.seg.SegmentDescription(
            segment_number=label.index,
            segment_label=label.title,
            segmented_property_category=Code("123037004", "SCT", "Anatomical Structure"),
            segmented_property_type=Code(*_code(label)),
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
        )
        for label in labels[1:]
    ]


def _code(label: Label) -> tuple[str, str, str]:
    value, meaning = _CODES.get(label.name, _STRUCTURE)
    return value, "SCT", meaning
