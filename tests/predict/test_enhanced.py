"""Segment multi-frame (enhanced) MR: geometry of functional groups, phases of a cine, and a SEG with its frames."""

import csv

import highdicom
import nibabel
import numpy as np
import pytest
from images import case_of, enhanced, labels_of, save, sequence


@pytest.mark.parametrize("apart", [False, True])
def test_a_multi_frame_image_is_the_volume_of_its_slices(heart, stack, predict, tmp_path, apart):
    path, image = stack
    content, planes = enhanced(image, apart=apart)
    source = save(content, tmp_path / "in/enhanced.dcm")
    summary, out = predict(heart, source, path, probabilities=True)
    assert not summary.failed, summary.failed
    expected = labels_of(out / path.name)
    assert len(np.unique(expected)) > 1
    found = highdicom.seg.segread(out / f"{case_of(content)}.dcm")
    numbers = [1 + planes.index((z, 0)) for z in range(expected.shape[2])]
    maps = found.get_pixels_by_source_frame(content.SOPInstanceUID, numbers, combine_segments=True)
    assert (maps.transpose(2, 1, 0) == expected).all()
    assert found.FrameOfReferenceUID == content.FrameOfReferenceUID
    rows = list(csv.DictReader((out / "measurements.csv").open()))
    assert len({row["value"] for row in rows if row["structure"] == "lv_cavity"}) == 1
    shares = nibabel.load(out / f"{case_of(content)}_probabilities.nii.gz")
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
        found = highdicom.seg.segread(out / f"{case_of(content)}_phase{phase + 1:02d}.dcm")
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
    assert {row["phase"] for row in rows if row["subject"] == case_of(content) and row["case"]} == {
        "phase01",
        "phase02",
    }


def test_each_frame_has_its_own_rescaling(stack, tmp_path):
    from medpos.io import dicom as reader

    content, _ = enhanced(stack[1], slopes=(1, 2))
    scan = reader.read_dicom((save(content, tmp_path / "a.dcm"),))
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
    assert any(": expected one frame" in line and "split it" in line for line in summary.failed)
    assert any(": expected slices of one orientation" in line for line in summary.failed)
