"""Segment a folder that holds everything at once: right results, a list of what was left out, one status."""

import csv
import shutil
import subprocess
import sys

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from images import case_of, dicom, directory, labels_of, save, series
from PIL import Image
from running import ENVIRONMENT

STORAGE = "1.2.840.10008.5.1.4.1.1."


def copy_files(folder):
    """Copy every file of a series beside it, as an export that was run twice does."""
    for path in sorted(folder.iterdir()):
        shutil.copy(path, path.with_name(f"{path.stem} (1).dcm"))


def fill(folder, stack):
    """Write a stack in every format, with copies, links and junk around it."""
    values = np.asarray(stack.dataobj)
    first = series(stack, folder / "PAT/one")
    second = series(stack, folder / "PAT/two")
    copy_files(first)
    copy_files(second)
    directory(folder / "PAT/DICOMDIR")
    for rest, kind in (("88.33", "SR"), ("11.1", "PR")):
        content = dicom(values[..., 0], PixelData=None, SOPClassUID=STORAGE + rest, Modality=kind)
        content.file_meta.MediaStorageSOPClassUID = content.SOPClassUID
        save(content, folder / f"PAT/{kind}.dcm")
    nibabel.save(stack, folder / "plain.NII.GZ")
    image = SimpleITK.ReadImage(str(folder / "plain.NII.GZ"), imageIO="NiftiImageIO")
    for name in ("volume.nrrd", "volume2.mha", "detached.mhd"):
        SimpleITK.WriteImage(image, str(folder / name))
    pages = [Image.fromarray(values[..., z].T.astype(np.uint16)) for z in range(values.shape[2])]
    pages[0].save(folder / "pages.tif", save_all=True, append_images=pages[1:])
    pages[0].save(folder / "slice.png")
    for name in (".DS_Store", "._plain.NII.GZ", "Thumbs.db", "report.pdf", "notes.txt", "LICENSE"):
        (folder / name).write_text("nothing to see")
    (folder / "again").symlink_to(".")
    return first, second


def run(folder, chosen, *options):
    command = [sys.executable, "-m", "medpos", "predict", str(chosen), "in", "--out", "out", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", env=ENVIRONMENT)


def labels_of_series(result, folder):
    """Return the labels [X, Y, Z] of a SEG in the order of the stack's slices."""
    files = [pydicom.dcmread(path) for path in folder.iterdir() if "(1)" not in path.name]
    ordered = sorted(files, key=lambda file: -file.ImagePositionPatient[0])
    found = highdicom.seg.segread(result).get_pixels_by_source_instance(
        [file.SOPInstanceUID for file in ordered], combine_segments=True
    )
    return found.transpose(2, 1, 0)


@pytest.fixture(scope="module")
def mixed(heart_run, stack, tmp_path_factory):
    """Return the folder of a call on everything, its two series, and the call."""
    place = tmp_path_factory.mktemp("mixed")
    both = fill(place / "in", stack[1])
    return place, both, run(place, heart_run)


def test_every_image_is_segmented_and_nothing_fails(mixed):
    place, _, done = mixed
    assert done.returncode == 0, done.stderr
    assert "8 segmented, 0 kept from before, 0 failed" in done.stderr
    assert (place / "out/failed.txt").read_text() == ""


def test_every_format_gives_the_labels_of_nifti(mixed):
    place, both, _ = mixed
    out, expected = place / "out", labels_of(place / "out/plain.nii.gz")
    assert len(np.unique(expected)) > 1
    for name in ("volume.nrrd", "volume2.mha", "detached.mha"):
        found = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(out / name)))
        assert np.array_equal(found.transpose(2, 1, 0), expected)
    for folder in both:
        source = pydicom.dcmread(next(folder.iterdir()))
        found = labels_of_series(out / f"{case_of(source, is_series=True)}.dcm", folder)
        assert np.array_equal(found, expected)
    with Image.open(out / "pages.tif") as pages:
        assert pages.n_frames == expected.shape[2]
        for z in range(pages.n_frames):
            pages.seek(z)
            assert np.array_equal(np.asarray(pages).T, expected[..., z])
    with Image.open(out / "slice.png") as picture:
        assert picture.size == expected.shape[:2]


def test_copies_are_no_phases(mixed):
    place, _, _ = mixed
    rows = list(csv.DictReader((place / "out/measurements.csv").open()))
    assert {row["phase"] for row in rows} == {""}
    assert "ejection_fraction" not in {row["measure"] for row in rows}


def test_what_was_left_out_is_listed_without_the_names_of_patients(mixed):
    _, _, done = mixed
    lines = [line.removeprefix("left out: ") for line in done.stderr.splitlines() if line.startswith("left out: ")]
    assert sorted(lines) == [
        "DICOM PR, no image: 1",
        "DICOM SR, no image: 1",
        "DICOMDIR, the index of a medium: 1",
        "files of other formats: 3 (1 .pdf, 1 .txt)",
        "hidden or system files: 3",
        "links to a folder that is read already, or that holds the link: 1",
    ]
    for word in ("PAT", "ID4711", "zimmermann"):
        assert word not in done.stderr


def test_a_link_to_nothing_is_the_one_failure(mixed, heart_run):
    place, _, _ = mixed
    (place / "in/gone.nii.gz").symlink_to(".git/annex/objects/gone")
    try:
        done = run(place, heart_run)
        assert done.returncode == 3, done.stderr
        assert "0 segmented, 8 kept from before, 1 failed" in done.stderr
        assert "failed: in/gone.nii.gz: expected a file, got a link to nothing" in done.stderr
    finally:
        (place / "in/gone.nii.gz").unlink()
