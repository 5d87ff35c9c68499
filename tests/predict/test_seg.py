"""Check that a DICOM SEG fulfills the standard and refers to its source images."""

import highdicom
import pydicom
import pytest
from highdicom._standard_utils import check_required_attributes, get_iod_module_map, get_sop_class_iod_map
from images import dicom, enhanced, save, series

GROUPS = "segmentation-multi-frame-functional-groups"
MACROS = {"DerivationImageSequence", "FrameContentSequence", "SegmentIdentificationSequence"}
IN_SPACE = {"PixelMeasuresSequence", "PlaneOrientationSequence", "PlanePositionSequence"}


def check_standard(content):
    """Check attributes of types 1 and 2 in all mandatory modules by highdicom's tables of PS3.3, and write it."""
    modules = get_iod_module_map()[get_sop_class_iod_map()[content.SOPClassUID]]
    mandatory = {module["key"] for module in modules if module["usage"] == "M"}
    assert {"patient", "general-study", "segmentation-image", GROUPS} <= mandatory
    for module in mandatory - {GROUPS}:
        check_required_attributes(content, module)
    # A macro may stand with each frame or with all, which the tables don't know.
    [shared] = content.SharedFunctionalGroupsSequence
    assert len(content.PerFrameFunctionalGroupsSequence) == content.NumberOfFrames
    for group in content.PerFrameFunctionalGroupsSequence:
        held = {element.keyword for part in (group, shared) for element in part}
        assert MACROS | (IN_SPACE if "FrameOfReferenceUID" in content else set()) <= held
    pydicom.dcmwrite(pydicom.filebase.DicomBytesIO(), content, enforce_file_format=True)


def sources_of(found):
    """Return the SOP instances that the frames were derived from."""
    return {
        item.ReferencedSOPInstanceUID
        for group in found.PerFrameFunctionalGroupsSequence
        for item in group.DerivationImageSequence[0].SourceImageSequence
    }


@pytest.mark.parametrize("kind", ["xray", "series", "enhanced"])
def test_seg_is_valid_and_refers_to_its_source(chest, heart, xray, stack, predict, tmp_path, kind):
    if kind == "xray":
        given = save(dicom(xray[1].T), tmp_path / "in/a.dcm")
    elif kind == "series":
        given = series(stack[1], tmp_path / "in")
    else:
        given = save(enhanced(stack[1])[0], tmp_path / "in/a.dcm")
    summary, out = predict(chest if kind == "xray" else heart, given)
    assert summary.failed == []
    [path] = out.glob("*.dcm")
    found = highdicom.seg.segread(path)
    check_standard(pydicom.dcmread(path))
    sources = [pydicom.dcmread(file) for file in sorted((tmp_path / "in").iterdir())]
    for key in ("StudyInstanceUID", "PatientID", "PatientName"):
        assert found.get(key) == sources[0].get(key)
    assert found.get("FrameOfReferenceUID") == sources[0].get("FrameOfReferenceUID")
    assert found.SeriesInstanceUID not in {source.SeriesInstanceUID for source in sources}
    uids = {source.SOPInstanceUID for source in sources}
    assert sources_of(found) <= uids
    assert sources_of(found)
    [referenced] = found.ReferencedSeriesSequence
    assert referenced.SeriesInstanceUID == sources[0].SeriesInstanceUID
    assert {item.ReferencedSOPInstanceUID for item in referenced.ReferencedInstanceSequence} == uids
    segments = [found.get_segment_description(number) for number in found.segment_numbers]
    assert [one.algorithm_type.value for one in segments] == ["AUTOMATIC"] * 3
    assert {one.segmented_property_type.scheme_designator for one in segments} == {"SCT"}
