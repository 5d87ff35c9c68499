"""Which files of an input count as cases, under which names, and what is said of the others."""

import csv
import mimetypes
import os
import unicodedata

import numpy as np
import pydicom
import pytest
import SimpleITK
from images import dicom, directory, save
from PIL import Image

from medpos.core.errors import InputError
from medpos.io.walk import LeftOut
from medpos.predict import cohort, inputs

GRAY = np.linspace(0, 4095, 64 * 64).reshape(64, 64).astype(np.uint16)
STORAGE = "1.2.840.10008.5.1.4.1.1."


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(GRAY).save(path)
    return path


def find(*given, **options):
    left_out = LeftOut()
    cases = inputs.find_cases([str(path) for path in given], given[0].parent / "out", left_out=left_out, **options)
    return cases, left_out


def other(path, uid, modality="OT"):
    """Write a DICOM object without pixels."""
    content = dicom(GRAY, PixelData=None, Rows=None, Columns=None, SOPClassUID=uid, Modality=modality)
    content.file_meta.MediaStorageSOPClassUID = uid or "1.2.3"
    return save(content, path)


OBJECTS = {
    "basic text SR": ("88.11", "SR"),
    "enhanced SR": ("88.22", "SR"),
    "key objects": ("88.59", "KO"),
    "gray softcopy state": ("11.1", "PR"),
    "blending state": ("11.4", "PR"),
    "structure set": ("481.3", "RTSTRUCT"),
    "plan": ("481.5", "RTPLAN"),
    "dose": ("481.2", "RTDOSE"),
    "ion plan": ("481.8", "RT object"),
    "segmentation": ("66.4", "SEG"),
    "registration": ("66.1", "REG"),
    "PDF": ("104.1", "encapsulated document"),
    "ECG": ("9.1.1", "waveform"),
    "raw data": ("66", "RAW"),
}


@pytest.mark.parametrize("name", OBJECTS)
def test_dicom_objects_that_are_no_images_are_left_out_with_their_kind(tmp_path, name):
    rest, kind = OBJECTS[name]
    save(dicom(GRAY), tmp_path / "in/IM1.dcm")
    path = other(tmp_path / "in/Zimmermann", STORAGE + rest)
    cases, left_out = find(tmp_path / "in")
    assert len(cases) == 1
    assert left_out.describe() == [f"DICOM {kind}, no image: 1"]
    with pytest.raises(InputError, match=rf"got only DICOM objects without an image \({kind}\)"):
        find(path)


@pytest.mark.parametrize(("uid", "modality"), [("", "SR"), ("", "RTSTRUCT"), ("1.2.3.4", "KO")])
def test_the_modality_tells_where_the_class_does_not(tmp_path, monkeypatch, uid, modality):
    monkeypatch.setitem(mimetypes.types_map, ".dcm", "application/dicom")  # a machine's table changes nothing
    save(dicom(GRAY), tmp_path / "in/IM1.dcm")
    other(tmp_path / "in/a.dcm", uid, modality)
    cases, left_out = find(tmp_path / "in")
    assert (len(cases), left_out.describe()) == (1, [f"DICOM {modality}, no image: 1"])


@pytest.mark.parametrize("rest", ["1", "1.1", "2", "4", "7", "12.1", "481.1", "77.1.6"])
def test_images_stay_cases_even_if_they_lack_their_pixels(tmp_path, rest):
    other(tmp_path / "in/a.dcm", STORAGE + rest)
    cases, left_out = find(tmp_path / "in")
    assert (len(cases), left_out.describe()) == (1, [])


@pytest.mark.parametrize("name", ["b.png", "b.nii.gz", "b.dcm", "b"])
def test_a_link_to_nothing_fails_alone(chest, predict, tmp_path, name):
    picture(tmp_path / "in/a.png")
    (tmp_path / "in" / name).symlink_to("gone")
    summary, _ = predict(chest, tmp_path / "in", overlays=False)
    assert summary.done == 1
    assert summary.failed == [
        f"{tmp_path / 'in' / name}: expected a file, got a link to nothing; fetch its content (git annex get, datalad "
        "get), or remove the link"
    ]


def test_a_link_to_nothing_among_dicom_names_no_patient(tmp_path):
    save(dicom(GRAY), tmp_path / "in/a.dcm")
    (tmp_path / "in/Zimmermann").symlink_to("gone")
    cases, _ = find(tmp_path / "in")
    assert sorted(case.title for case in cases) == ["file 1 of the input", "file 2 of the input"]


def test_linked_folders_are_read_once(tmp_path):
    picture(tmp_path / "store/s1/a.png")
    for n in (1, 2):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / f"in/sub-0{n}").symlink_to("../store/s1")
    (tmp_path / "in/loop").symlink_to(".")
    cases, left_out = find(tmp_path / "in")
    assert [case.name for case in cases] == ["a"]
    assert [line.partition(":")[0] for line in left_out.describe()] == [
        "links to a folder that is read already, or that holds the link"
    ]


def test_names_of_any_script_stay_distinct_and_lead_back(chest, predict, tmp_path):
    names = ["张伟 术前", "张伟 术后", "李娜", "Сердце", "réf 12", "???", "!!!", "हिन्दी", "CON", "a" * 240, "a" * 241]
    for name in names:
        picture(tmp_path / f"in/胸片 2020/{name}.png")
    summary, out = predict(chest, tmp_path / "in", probabilities=True)
    assert (summary.done, summary.failed) == (len(names), [])
    rows = list(csv.DictReader((out / "names.csv").open(encoding="utf-8")))
    assert {row["file"] for row in rows} == {str(tmp_path / f"in/胸片 2020/{name}.png") for name in names}
    assert len({row["case"] for row in rows}) == len(names)
    for row in rows:
        assert (out / f"{row['case']}.png").is_file()
    assert (out / "张伟-术前.png").is_file()


def test_names_in_two_spellings_stay_distinct(tmp_path):
    for folder, form in (("a", "NFC"), ("b", "NFD")):
        picture(tmp_path / "in" / folder / unicodedata.normalize(form, "schädel.png"))
    cases, _ = find(tmp_path / "in")
    assert [case.name for case in cases] == ["a-schädel", "b-schädel"]


def test_bytes_that_are_no_text_in_a_name(chest, tmp_path):
    path = picture(tmp_path / "in/a.png")
    os.rename(path, os.fsencode(tmp_path) + b"/in/sch\xe4del.png")  # noqa: PTH104
    cases, _ = find(tmp_path / "in")
    summary = cohort.predict_cases(chest, cases, tmp_path / "out")
    assert (summary.done, summary.failed) == (1, [])
    assert (tmp_path / "out/sch-del.png").is_file()
    assert r"sch\udce4del.png" in (tmp_path / "out/names.csv").read_text()


def test_a_name_that_the_disk_refuses_is_that_case_alone(chest, predict, tmp_path, monkeypatch):
    monkeypatch.setattr("medpos.core.names._LONGEST", 400)  # as on a disk that takes shorter names than most
    for name in ("a", "b" * 245, "c"):
        picture(tmp_path / f"in/{name}.png")
    summary, out = predict(chest, tmp_path / "in", probabilities=True)
    assert (summary.done, len(summary.failed)) == (2, 1)
    assert "can't be written under this name (File name too long)" in summary.failed[0]
    assert {row["case"] for row in csv.DictReader((out / "measurements.csv").open())} == {"a", "c"}


def test_names_of_dicom_are_in_no_table(chest, predict, tmp_path):
    picture(tmp_path / "in/Zimmermann/a.png")
    save(dicom(GRAY), tmp_path / "in/Zimmermann/b.dcm")
    directory(tmp_path / "in/Zimmermann/DICOMDIR")
    _, out = predict(chest, tmp_path / "in")
    assert not (out / "names.csv").exists()
    assert pydicom.dcmread(next(out.glob("case-*.dcm"))).Modality == "SEG"


def test_halves_of_volumes_are_neither_cases_nor_left_out(tmp_path):
    values = SimpleITK.GetImageFromArray(np.arange(60, dtype=np.int16).reshape(3, 4, 5))
    (tmp_path / "in").mkdir()
    for name in ("a.mhd", "b.nhdr", "c.img", "d.mha", "e.nrrd", "f.seg.nrrd"):
        SimpleITK.WriteImage(values, str(tmp_path / "in" / name))
    (tmp_path / "in/notes.txt").touch()
    cases, left_out = find(tmp_path / "in")
    assert [case.name for case in cases] == ["a", "b", "c", "d", "e"]
    assert left_out.describe() == [
        f"segmentations, or headers without data: 1 ({tmp_path / 'in/f.seg.nrrd'})",
        f"files of other formats: 1 ({tmp_path / 'in/notes.txt'})",
    ]


@pytest.mark.parametrize("name", ["a.dic", "IM.MR", "scan.v2", "1.2.840.5-a", "a.dcm30", "a.bak", "a.tar", "a.xml"])
def test_dicom_is_known_by_its_content_whatever_its_suffix(tmp_path, name):
    path = save(dicom(GRAY), tmp_path / "in" / name)
    (tmp_path / "in/notes.v2").write_bytes(bytes(200))
    for given in (tmp_path / "in", path, tmp_path / "in/*"):
        cases, _ = find(given)
        assert [(case.kind, case.files) for case in cases] == [("dicom", (path,))]
    assert inputs.identify_case([path]).kind == "dicom"
    assert find(tmp_path / "in")[1].describe() == ["files of other formats: 1"]


def test_a_series_of_several_suffixes_is_whole(tmp_path):
    uid = pydicom.uid.generate_uid()
    for z, suffix in enumerate((".dcm", ".MR", "", ".7", ".x-1")):
        tags = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "ImagePositionPatient": [0, 0, 8.0 * z]}
        save(dicom(GRAY, Modality="MR", SeriesInstanceUID=uid, **tags), tmp_path / f"in/slice{z}{suffix}")
    (case,) = find(tmp_path / "in")[0]
    assert len(case.files) == 5
    assert inputs.read_case(case).spacing_mm == pytest.approx((2.8, 2.8, 8))
