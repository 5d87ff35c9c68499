"""Segment the same image as NIfTI, Analyze, NRRD and MetaImage."""

import gzip

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from images import labels_of

from medpos.io.walk import OTHER, LeftOut
from medpos.predict import inputs


def save(path, source):
    """Store a NIfTI file in another format with its geometry."""
    made = SimpleITK.ReadImage(str(source))
    SimpleITK.WriteImage(made, str(path))
    return path


@pytest.mark.parametrize("name", ["a.nrrd", "a.nhdr", "a.mha", "a.mhd"])
def test_the_labels_and_the_grid_are_those_of_nifti(heart, stack, predict, tmp_path, name):
    (tmp_path / "in").mkdir()
    _, other = predict(heart, stack[0], out=tmp_path / "nifti")
    summary, out = predict(heart, save(tmp_path / "in" / name, stack[0]))
    assert not summary.failed
    expected = SimpleITK.ReadImage(str(other / stack[0].name))
    found = SimpleITK.ReadImage(str(out / ("a.nrrd" if name.endswith(("nrrd", "nhdr")) else "a.mha")))
    assert np.array_equal(SimpleITK.GetArrayFromImage(found), SimpleITK.GetArrayFromImage(expected))
    for part in ("GetOrigin", "GetSpacing", "GetDirection"):
        assert getattr(found, part)() == pytest.approx(getattr(expected, part)(), abs=1e-4)
    said = (other / "warnings.csv").read_text().replace(stack[0].name.removesuffix(".nii.gz"), "a")
    assert (out / "warnings.csv").read_text() == said


def test_an_analyze_pair_is_one_case_beside_an_img_of_jsrt(chest, xray, predict, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    values = xray[1][..., None].astype(np.int16)
    header = nib.AnalyzeHeader()
    header.set_data_dtype(np.int16)
    nib.save(nib.AnalyzeImage(values, None, header), folder / "pair.hdr")
    (folder / "JPCLN001.IMG").write_bytes((np.arange(2048 * 2048) % 4096).astype(">u2").tobytes())
    cases = inputs.find_cases([str(folder)], tmp_path / "out")
    assert [(case.name, case.kind) for case in cases] == [("JPCLN001", "img"), ("pair", "volume")]
    assert inputs.find_cases([str(folder / "pair.img")], tmp_path / "out")[0].files == (folder / "pair.hdr",)
    _, other = predict(chest, xray[0], out=tmp_path / "nifti")
    summary, out = predict(chest, folder / "pair.hdr")
    assert not summary.failed
    assert np.array_equal(labels_of(out / "pair.nii.gz"), labels_of(other / xray[0].name))


@pytest.mark.parametrize("names", [("p.hdr.gz", "p.img.gz"), ("P.HDR.GZ", "P.IMG.GZ"), ("p.hdr", "p.img.gz")])
def test_a_packed_pair_is_one_case_by_each_of_its_files(tmp_path, names):
    nib.save(nib.Nifti1Pair(np.arange(60, dtype=np.int16).reshape(5, 4, 3), np.eye(4)), tmp_path / "x.hdr")
    (tmp_path / "in").mkdir()
    for suffix, name in zip((".hdr", ".img"), names, strict=True):
        content = (tmp_path / f"x{suffix}").read_bytes()
        (tmp_path / "in" / name).write_bytes(gzip.compress(content) if name.lower().endswith("gz") else content)
    (tmp_path / "in/alone.img.gz").write_bytes(b"x")
    left_out = LeftOut()
    for given in ("in", *(f"in/{name}" for name in names)):
        (case,) = inputs.find_cases([str(tmp_path / given)], tmp_path / "out", left_out=left_out)
        assert (case.name.lower(), case.kind, case.files) == ("p", "volume", (tmp_path / "in" / names[0],))
    assert left_out.paths == {OTHER: [tmp_path / "in/alone.img.gz"]}
    assert np.array_equal(inputs.read_case(case).values.ravel(), np.arange(60))


def test_headers_without_data_and_segmentations_are_no_images(tmp_path, stack):
    save(tmp_path / "a.nrrd", stack[0])
    (tmp_path / "a.seg.nrrd").write_bytes((tmp_path / "a.nrrd").read_bytes())
    (tmp_path / "lone.hdr").write_bytes(b"#?RADIANCE\n")
    assert [case.name for case in inputs.find_cases([str(tmp_path)], tmp_path / "out")] == ["a"]


def test_channels_in_files_of_their_own(tmp_path, stack):
    for number in (0, 1):
        save(tmp_path / f"a_000{number}.mha", stack[0])
    (case,) = inputs.find_cases([str(tmp_path)], tmp_path / "out", ("t1", "t2"))
    scan = inputs.read_case(case, channels=("t1", "t2"))
    assert np.array_equal(scan.values[..., 0], scan.values[..., 1])


def test_other_detached_data_are_another_image(heart, stack, predict, tmp_path):
    (tmp_path / "in").mkdir()
    path = save(tmp_path / "in/a.mhd", stack[0])
    _, out = predict(heart, path)
    data = (tmp_path / "in/a.raw").read_bytes()
    (tmp_path / "in/a.raw").write_bytes(data)
    assert predict(heart, path)[0].kept == 1
    (tmp_path / "in/a.raw").write_bytes(data[::-1])
    assert predict(heart, path)[0].done == 1
    assert sorted(file.name for file in out.glob("*.mha")) == ["a.mha", "in-a.mha"]


def test_detached_data_that_are_missing_fail_alone(heart, stack, predict, tmp_path):
    (tmp_path / "in").mkdir()
    save(tmp_path / "in/a.nrrd", stack[0])
    save(tmp_path / "in/b.mhd", stack[0])
    (tmp_path / "in/b.raw").unlink()
    summary, out = predict(heart, tmp_path / "in")
    assert summary.done == 1
    assert [line.partition(": ")[0] for line in summary.failed] == [str(tmp_path / "in/b.mhd")]
    assert (out / "a.nrrd").is_file()
