"""Multi-frame (enhanced) MR: geometry from functional groups, phases of a cine, and a SEG that names its frames."""

import csv

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
from images import dicom, labels_of, save
from pydicom.dataset import Dataset

ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
ORIENTATION = [0.6, 0.8, 0, 0, 0, -1]


def sequence(**tags):
    item = Dataset()
    for key, value in tags.items():
        setattr(item, key, value)
    return pydicom.Sequence([item])


def enhanced(image, phases=1, apart=False, slopes=(1,)):
    """The slices of a NIfTI stack as one multi-frame image, shuffled; ``apart``: nothing is shared by the frames."""
    values, sizes = np.asarray(image.dataobj), [float(v) for v in image.header.get_zooms()]
    planes = [(z, phase) for phase in range(phases) for z in range(values.shape[2])]
    planes = [planes[n] for n in np.random.default_rng(0).permutation(len(planes))]
    measures = sequence(PixelSpacing=[sizes[1], sizes[0]], SliceThickness=8.0, SpacingBetweenSlices=sizes[2])
    common = {
        "PixelMeasuresSequence": measures,
        "PlaneOrientationSequence": sequence(ImageOrientationPatient=ORIENTATION),
    }
    groups, frames = [], []
    for n, (z, phase) in enumerate(planes):
        group = Dataset()
        place = [-0.8 * z * sizes[2], 0.6 * z * sizes[2], 0]
        group.PlanePositionSequence = sequence(ImagePositionPatient=place)
        group.FrameContentSequence = sequence(TemporalPositionIndex=phase + 1, DimensionIndexValues=[z + 1, phase + 1])
        slope = slopes[n % len(slopes)]
        group.PixelValueTransformationSequence = sequence(RescaleSlope=slope, RescaleIntercept=0, RescaleType="US")
        for key, value in common.items() if apart else ():
            setattr(group, key, value)
        groups.append(group)
        frames.append((values[..., z].T // slope) * (1 if phase == 0 else 0.5))
    pixels = np.stack(frames).astype(np.uint16)
    content = dicom(pixels[0], Modality="MR", SOPClassUID=ENHANCED_MR, PixelSpacing=None, BitsStored=16, HighBit=15)
    content.file_meta.MediaStorageSOPClassUID = ENHANCED_MR
    content.FrameOfReferenceUID, content.PositionReferenceIndicator = pydicom.uid.generate_uid(), ""
    content.NumberOfFrames, content.PixelData = len(frames), pixels.tobytes()
    content.PerFrameFunctionalGroupsSequence = pydicom.Sequence(groups)
    shared = Dataset()
    for key, value in {} if apart else common.items():
        setattr(shared, key, value)
    content.SharedFunctionalGroupsSequence = pydicom.Sequence([shared])
    return content, planes


@pytest.mark.parametrize("apart", [False, True])
def test_a_multi_frame_image_is_the_volume_of_its_slices(heart, stack, predict, tmp_path, apart):
    path, image = stack
    content, planes = enhanced(image, apart=apart)
    source = save(content, tmp_path / "in/enhanced.dcm")
    summary, out = predict(heart, source, path, probabilities=True)
    assert not summary.failed, summary.failed
    expected = labels_of(out / path.name)
    assert len(np.unique(expected)) > 1
    found = highdicom.seg.segread(out / "enhanced.dcm")
    numbers = [1 + planes.index((z, 0)) for z in range(expected.shape[2])]
    maps = found.get_pixels_by_source_frame(content.SOPInstanceUID, numbers, combine_segments=True)
    assert (maps.transpose(2, 1, 0) == expected).all()
    assert found.FrameOfReferenceUID == content.FrameOfReferenceUID
    rows = list(csv.DictReader((out / "measurements.csv").open()))
    assert len({row["value"] for row in rows if row["structure"] == "lv_cavity"}) == 1
    shares = nibabel.load(out / "enhanced_probabilities.nii.gz")
    assert np.allclose(shares.header.get_zooms()[:3], image.header.get_zooms(), atol=1e-3)
    assert np.allclose(
        shares.affine[:3, :3] / np.linalg.norm(shares.affine[:3, :3], axis=0),
        [[-0.6, 0, 0.8], [-0.8, 0, -0.6], [0, -1, 0]],
    )


def test_phases_are_cases_and_the_seg_refers_to_their_frames_alone(heart, stack, predict, tmp_path):
    content, planes = enhanced(stack[1], phases=2)
    summary, out = predict(heart, save(content, tmp_path / "in/cine.dcm"), stack[0])
    assert (summary.done, summary.failed) == (3, [])
    expected = labels_of(out / stack[0].name)
    for phase in (0, 1):
        found = highdicom.seg.segread(out / f"cine_phase{phase + 1:02d}.dcm")
        mine = {1 + n for n, plane in enumerate(planes) if plane[1] == phase}
        named = {
            int(item.ReferencedFrameNumber)
            for group in found.PerFrameFunctionalGroupsSequence
            for item in group.DerivationImageSequence[0].SourceImageSequence
        }
        assert named
        assert named <= mine
        if phase == 0:
            numbers = [1 + planes.index((z, phase)) for z in range(expected.shape[2])]
            maps = found.get_pixels_by_source_frame(
                content.SOPInstanceUID, numbers, combine_segments=True, assert_missing_frames_are_empty=True
            )
            assert (maps.transpose(2, 1, 0) == expected).all()
    rows = list(csv.DictReader((out / "measurements.csv").open()))
    assert {row["phase"] for row in rows if row["subject"] == "cine" and row["case"]} == {"phase01", "phase02"}


def test_each_frame_has_its_own_rescaling(stack, tmp_path):
    from medpos.predict import dicom as reader

    content, _ = enhanced(stack[1], slopes=(1, 2))
    scan = reader.read((save(content, tmp_path / "a.dcm"),))
    assert np.abs(scan.values - np.asarray(stack[1].dataobj)).max() <= 1


def test_frames_without_a_place_and_planes_of_several_directions_are_refused(heart, stack, predict, tmp_path):
    content, _ = enhanced(stack[1])
    del content.PerFrameFunctionalGroupsSequence
    save(content, tmp_path / "in/placeless.dcm")
    content, _ = enhanced(stack[1], apart=True)
    first = content.PerFrameFunctionalGroupsSequence[0]
    first.PlaneOrientationSequence = sequence(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    save(content, tmp_path / "in/scout.dcm")
    summary, _ = predict(heart, tmp_path / "in")
    assert summary.done == 0
    assert any("placeless.dcm: holds" in line and "split it" in line for line in summary.failed)
    assert any("scout.dcm: slices differ in orientation" in line for line in summary.failed)
