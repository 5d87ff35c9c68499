"""Read the geometry of multi-frame (enhanced) images from their functional groups: DICOM PS3.3, C.7.6.16."""

from collections.abc import Sequence
from typing import Any

from medpos.io.dicom.library import import_pydicom

# Attributes that the readers need, by macro.
_MACROS = {
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept", "RescaleType"),
    "FrameContentSequence": ("TemporalPositionIndex",),
    "CardiacSynchronizationSequence": ("NominalCardiacTriggerDelayTime", "NominalPercentageOfCardiacPhase"),
}
# highdicom expects these macros to be shared by all frames; some scanners write them with every frame.
_SHARED = ("PlaneOrientationSequence", "PixelMeasuresSequence")


def count_frames(header: Any) -> int:
    """Return the number of frames with functional groups; 0 for a classic image."""
    return len(header.get("PerFrameFunctionalGroupsSequence") or ())


def flatten_frame(header: Any, number: int) -> Any:
    """Collect the attributes of one frame from its functional groups, as in the header of a classic image.

    Args:
        header: header of the multi-frame image.
        number: number of the frame, from 1.

    Returns:
        Data set with the attributes that are given.
    """
    own = header.PerFrameFunctionalGroupsSequence[number - 1]
    shared = (header.get("SharedFunctionalGroupsSequence") or [{}])[0]
    result = import_pydicom().Dataset()
    for macro, keys in _MACROS.items():
        items = own.get(macro) or shared.get(macro)
        for key in keys if items else ():
            if key in items[0]:  # as stored: a malformed value is named where it is read
                result[key] = items[0].get_item(key)
    return result


def share_geometry(header: Any, numbers: Sequence[int]) -> None:
    """Move orientation and pixel size, equal in all frames of a volume, to the shared functional groups.

    Args:
        header: header of the multi-frame image; it is changed.
        numbers: numbers of the volume's frames, from 1.
    """
    pydicom = import_pydicom()
    if not header.get("SharedFunctionalGroupsSequence"):
        header.SharedFunctionalGroupsSequence = [pydicom.Dataset()]
    shared, first = header.SharedFunctionalGroupsSequence[0], header.PerFrameFunctionalGroupsSequence[numbers[0] - 1]
    for macro in _SHARED:
        if macro not in shared and macro in first:
            setattr(shared, macro, first.get(macro))
