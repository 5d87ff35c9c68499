"""Write a label map as a DICOM SEG that refers to its source images, or as NIfTI where the sources allow no SEG."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ImageColor

from medpos import __version__
from medpos.core.errors import InputError
from medpos.core.files import write_bytes
from medpos.core.labels import Label
from medpos.io.dicom import frames, library
from medpos.io.dicom.values import has_value, read_number
from medpos.io.scan import Array, Pixels
from medpos.io.targets import NiftiTarget
from medpos.io.terminology import CATEGORY, code_of

# Attributes of type 2 that a SEG copies from its source; they may be empty.
_MAY_BE_EMPTY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
)
_UIDS = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")


@dataclass(frozen=True)
class SegTarget:
    """Write a label map as a DICOM SEG, and probabilities as NIfTI.

    Where the headers allow no SEG, the label map comes as NIfTI too, and ``notes`` gets the reason.

    Args:
        headers: headers of the source images in the order of the slices, without pixels; one for a multi-frame image.
        numbers: numbers of a multi-frame image's frames, from 1, in the order of the slices; empty: a file for each
            slice.
        spacing: spacing of rows and columns in mm; None: unknown.
        affine: affine [4, 4] from columns, rows and slices to RAS+ space in mm.
        notes: remarks of the scan, to which the reason why there is no SEG is appended.
    """

    headers: Sequence[Any]
    numbers: tuple[int, ...]
    spacing: tuple[float, float] | None
    affine: Array
    notes: list[str]

    def write(self, stem: Path, values: Pixels, labels: Sequence[Label]) -> Path:
        """Write a label map [X, Y, Z] as binary segments to ``stem.dcm``, or as NIfTI to ``stem.nii.gz``."""
        content, reason = self._try_segmentation(np.ascontiguousarray(values.transpose(2, 1, 0)), labels)
        if reason:
            self.notes.append(f"no DICOM SEG, but NIfTI: {reason}")
            return NiftiTarget.of(self.affine, values.shape).write(stem, values, labels)
        path = stem.with_name(stem.name + ".dcm")
        write_bytes(path, content)
        return path

    def _try_segmentation(self, maps: Pixels, labels: Sequence[Label]) -> tuple[bytes, str]:
        """Return the SEG of label maps [slices, rows, columns] as a file, or the reason why there can be none."""
        missing = [key for key in _UIDS if not all(has_value(header, key) for header in self.headers)]
        # An X-ray has no frame of reference; what lies in space needs one.
        if has_value(self.headers[0], "ImagePositionPatient") or self.numbers:
            missing += [key for key in ("FrameOfReferenceUID",) if not has_value(self.headers[0], key)]
        if missing:
            return b"", f"the source has no {', '.join(missing)}"
        for header in self.headers:
            for key in _MAY_BE_EMPTY:
                if key not in header:
                    setattr(header, key, None)
            if not has_value(header, "Modality"):
                header.Modality = "OT"  # highdicom reads it; the SEG has its own
        library.import_highdicom()
        try:
            with library.suppress_warnings():
                return _encode(self._segmentation(maps, labels)), ""
        except InputError as error:
            return b"", str(error)
        except Exception as error:  # highdicom has no common base class; its messages may quote the header
            name = str(getattr(error, "name", None))
            known = isinstance(error, AttributeError) and library.import_pydicom().datadict.tag_for_keyword(name)
            return b"", f"the source has no {name}" if known else f"{type(error).__name__} of highdicom"

    def write_values(self, stem: Path, values: Array) -> Path:
        """Write values [X, Y, Z] or [X, Y, Z, C] as NIfTI with the geometry of the source."""
        return NiftiTarget.of(self.affine, values.shape[:3]).write_values(stem, values)

    def _segmentation(self, maps: Pixels, labels: Sequence[Label]) -> Any:
        """Build the SEG of label maps [slices, rows, columns]."""
        highdicom, first = library.import_highdicom(), self.headers[0]
        content = highdicom.seg.Segmentation(
            source_images=list(self.headers),
            pixel_array=maps,
            segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=_segments(labels),
            series_instance_uid=highdicom.UID(),
            series_number=int(read_number("file 1", first, "SeriesNumber", 0)) + 1000,
            sop_instance_uid=highdicom.UID(),
            instance_number=1,
            manufacturer="medpos",
            manufacturer_model_name="medpos predict",
            software_versions=__version__,
            device_serial_number="0",
            series_description="medpos segmentation",
            specific_character_set=None,
            **(self._frame_geometry() if self.numbers else self._file_geometry()),
        )
        if has_value(first, "SpecificCharacterSet"):
            content.SpecificCharacterSet = _choose_character_set(first)
        if self.numbers:
            _keep_references(content, self.numbers)
        return content

    def _file_geometry(self) -> dict[str, Any]:
        """Return what highdicom doesn't read from single files itself: the pixel size."""
        if self.spacing is None:
            return {}
        # An X-ray has no thickness, but highdicom needs one for the pixel spacing.
        thickness = abs(read_number("file 1", self.headers[0], "SliceThickness", 0)) or 1.0
        return {"pixel_measures": library.import_highdicom().PixelMeasuresSequence(self.spacing, thickness)}

    def _frame_geometry(self) -> dict[str, Any]:
        """Return the positions of the frames; a volume may be some of the file's frames, in another order."""
        header, highdicom = self.headers[0], library.import_highdicom()
        frames.share_geometry(header, self.numbers)
        places = [frames.flatten_frame(header, number).ImagePositionPatient for number in self.numbers]
        return {"plane_positions": [highdicom.PlanePositionSequence("PATIENT", place) for place in places]}


def _choose_character_set(header: Any) -> Any:
    """Return the source's character set, which highdicom takes only in part; UTF-8 in place of one that is unknown."""
    value = header.get("SpecificCharacterSet")
    parts = [value] if isinstance(value, str) else list(value)
    known = library.import_pydicom().charset.python_encoding
    return value if all(part in known for part in parts) else "ISO_IR 192"


def _keep_references(content: Any, numbers: Sequence[int]) -> None:
    """Keep the references to these frames only; highdicom also finds other phases of a cine at the same position."""
    for group in content.PerFrameFunctionalGroupsSequence:
        for derivation in group.get("DerivationImageSequence") or ():
            derivation.SourceImageSequence = [
                item for item in derivation.SourceImageSequence if _frame_number(item) in numbers
            ]


def _frame_number(item: Any) -> int:
    found = item.ReferencedFrameNumber
    return int(found[0] if isinstance(found, Sequence) else found)


def _encode(content: Any) -> bytes:
    """Return the bytes of a DICOM file."""
    buffer = BytesIO()
    content.save_as(buffer)
    return buffer.getvalue()


def _segments(labels: Sequence[Label]) -> list[Any]:
    """Describe all classes except the background; an empty segment tells that the organ wasn't found."""
    import highdicom
    from pydicom.sr.codedict import codes

    algorithm = highdicom.AlgorithmIdentificationSequence("medpos", codes.DCM.ArtificialIntelligence, __version__)
    return [
        highdicom.seg.SegmentDescription(
            segment_number=label.index,
            segment_label=label.title,
            segmented_property_category=_code(CATEGORY),
            segmented_property_type=_code(code_of(label)),
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
            display_color=highdicom.color.CIELabColor.from_rgb(*ImageColor.getrgb(label.color)),
        )
        for label in labels[1:]
    ]


def _code(entry: tuple[str, str]) -> Any:
    """Return a code of SNOMED CT as pydicom's."""
    from pydicom.sr.coding import Code

    return Code(entry[0], "SCT", entry[1])
