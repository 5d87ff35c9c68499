"""Multi-frame (enhanced) images, whose geometry stands in functional groups: DICOM PS3.3, C.7.6.16."""

from collections.abc import Sequence
from typing import Any

from medpos.io.dicom.library import pydicom

# Of each macro, what the readers ask a plane for.
_MACROS = {
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept", "RescaleType"),
    "FrameContentSequence": ("TemporalPositionIndex",),
    "CardiacSynchronizationSequence": ("NominalCardiacTriggerDelayTime",),
}
# highdicom looks for these among what all frames share; some scanners write them with every frame.
_SHARED = ("PlaneOrientationSequence", "PixelMeasuresSequence")


def count(header: Any) -> int:
    """Number of frames with a geometry of their own; 0: an image of the classic kind."""
    return len(header.get("PerFrameFunctionalGroupsSequence") or ())


def flat(header: Any, number: int) -> Any:
    """What the functional groups say of one frame, as a classic image's header would.

    Args:
        header: of the multi-frame image.
        number: of the frame, from 1.

    Returns:
        A data set; what is nowhere said is not in it.
    """
    own = header.PerFrameFunctionalGroupsSequence[number - 1]
    shared = (header.get("SharedFunctionalGroupsSequence") or [{}])[0]
    result = pydicom().Dataset()
    for macro, keys in _MACROS.items():
        items = own.get(macro) or shared.get(macro)
        for key in keys if items else ():
            if items[0].get(key) is not None:
                setattr(result, key, items[0].get(key))
    return result


def share(header: Any, numbers: Sequence[int]) -> None:
    """Let all frames share, in this header, the orientation and pixel size that the frames of a volume have alike."""
    library = pydicom()
    if not header.get("SharedFunctionalGroupsSequence"):
        header.SharedFunctionalGroupsSequence = [library.Dataset()]
    shared, first = header.SharedFunctionalGroupsSequence[0], header.PerFrameFunctionalGroupsSequence[numbers[0] - 1]
    for macro in _SHARED:
        if macro not in shared and macro in first:
            setattr(shared, macro, first.get(macro))
