"""Read DICOM with odd values in every attribute that matters: an image, or one line that says what is wrong."""

import numpy as np
import pydicom
import pytest
from images import dicom
from pydicom.dataelem import RawDataElement

from medpos.core.errors import InputError
from medpos.core.labels import JSRT
from medpos.predict import inputs

PIXELS = np.linspace(0, 4095, 48 * 48).reshape(48, 48).astype(np.uint16)
VALUES = [
    *(b"", b"  ", b"0 ", b"-1", b"1,4 ", b"1\\2\\3 ", b"1\\2", b"NaN ", b"inf ", b"1e400 ", b"L\\L ", b"\\"),
    *(b"0\\0\\0\\0\\0\\0 ", b"\xff\xfe", b"A" * 70, b"1.0\\\\1.0", b"99999999"),
]
SPACE = "PixelSpacing ImagerPixelSpacing EstimatedRadiographicMagnificationFactor ImageOrientationPatient"
SPACE += " ImagePositionPatient PatientOrientation SliceThickness SpacingBetweenSlices PositionReferenceIndicator"
GRAY = "RescaleSlope RescaleIntercept WindowCenter WindowWidth VOILUTFunction PixelPaddingValue PixelPaddingRangeLimit"
GRAY += " PhotometricInterpretation PresentationLUTShape NumberOfFrames BitsStored HighBit PixelRepresentation"
GRAY += " SamplesPerPixel Rows Columns BitsAllocated"
IDENTITY = "Modality SOPClassUID SOPInstanceUID SeriesInstanceUID StudyInstanceUID FrameOfReferenceUID"
IDENTITY += " SpecificCharacterSet PatientName PatientID PatientSex PatientBirthDate StudyDate StudyTime StudyID"
IDENTITY += " SeriesNumber InstanceNumber AccessionNumber ReferringPhysicianName TriggerTime TimezoneOffsetFromUTC"
FEW = ("PatientOrientation", "PresentationLUTShape")


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(key, marks=[] if key in FEW else pytest.mark.torture)
        for key in f"{SPACE} {GRAY} {IDENTITY}".split()
    ],
)
def test_an_odd_value_gives_an_image_or_one_line(tmp_path, key):
    tag = pydicom.tag.Tag(pydicom.datadict.tag_for_keyword(key))
    representation = pydicom.datadict.dictionary_VR(tag).split()[0]
    tried, messages = 0, []
    for value in VALUES:
        content = dicom(PIXELS)
        content._dict[tag] = RawDataElement(tag, representation, len(value), value, 0, False, True, True)
        try:
            content.save_as(tmp_path / "a.dcm", enforce_file_format=True)
        except Exception:  # pydicom has no common base class for what it can't write
            continue
        tried += 1
        try:
            (case,) = inputs.find_cases([str(tmp_path / "a.dcm")], tmp_path / "out")
            scan = inputs.read_case(case)
        except InputError as error:
            messages.append(str(error))
            continue
        assert np.isfinite(scan.values).all()
        scan.target.write(tmp_path / "labels", np.zeros(scan.values.shape[:3], np.uint8), JSRT)
    assert tried >= 3
    assert not [text for text in messages if "\n" in text or "Zimmermann" in text]
