import gzip
import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import raw

from data_prep.datasets import acdc
from data_prep.verify import check
from medpos.core import labels
from medpos.core.errors import InputError


def test_prepared_folder(tmp_path):
    acdc.prepare(raw.acdc(tmp_path / "raw"), tmp_path / "out")
    manifest = json.loads((tmp_path / "out/dataset.json").read_text())
    assert (manifest["name"], manifest["phantom"], manifest["schema_version"]) == ("acdc", False, 1)
    assert manifest["labels"] == [label.to_json() for label in labels.ACDC]
    entries = [entry for part in ("training", "validation", "test") for entry in manifest[part]]
    first = next(entry for entry in entries if entry["case"] == "patient002_ES")
    expected = {"subject": "patient002", "group": "MINF", "phase": "ES", "frame": 7, "shape": [12, 10, 4]}
    assert {key: first[key] for key in expected} == expected
    assert first["spacing_mm"] == [1.5, 1.5, 10.0]
    source = nib.load(tmp_path / "raw/patient002/patient002_frame07.nii.gz")
    image = nib.load(tmp_path / "out" / first["image"])
    assert image.get_data_dtype() == source.get_data_dtype()
    assert np.array_equal(image.dataobj, source.dataobj)
    assert np.array_equal(image.affine, source.affine)
    assert nib.load(tmp_path / "out" / first["label"]).get_data_dtype() == np.uint8
    training = np.concatenate([np.ravel(nib.load(tmp_path / "out" / e["image"]).dataobj) for e in manifest["training"]])
    assert manifest["intensity"]["range"] == [training.min(), training.max()]
    assert manifest["intensity"]["std"] == pytest.approx(training.std(dtype=float), rel=1e-9)


def test_training_and_testing_are_read_together(tmp_path):
    raw.subject(tmp_path / "raw/training/patient001")
    raw.subject(tmp_path / "raw/testing/patient101")
    (tmp_path / "PHANTOM.json").write_text("{}")
    assert [case.subject for case in acdc.find_cases(tmp_path / "raw")] == ["patient001"] * 2 + ["patient101"] * 2
    acdc.prepare(tmp_path / "raw", tmp_path / "out")
    assert json.loads((tmp_path / "out/dataset.json").read_text())["phantom"] is True


def test_axes_other_than_identity_are_kept(tmp_path):
    source = raw.acdc(tmp_path / "raw", 1)
    affine = np.array([[0, -1.5, 0, 3], [1.2, 0, 0, -8], [0, 0, 9.0, 1], [0, 0, 0, 1]])
    for path in source.rglob("*.nii.gz"):
        nib.save(nib.Nifti1Image(np.asarray(nib.load(path).dataobj), affine), path)
    acdc.prepare(source, tmp_path / "out")
    image = nib.load(tmp_path / "out/images/patient001_ED.nii.gz")
    assert np.allclose(image.affine, affine)
    assert np.allclose(image.header.get_zooms(), (1.2, 1.5, 9.0))


def edit(path, change):
    image = nib.load(path)
    raw.nifti(path, change(np.asarray(image.dataobj).copy()))


def put(value, dtype):
    def change(data):
        data = data.astype(dtype)
        data[0, 0, 0] = value
        return data

    return lambda path: edit(path, change)


def pixdim(index, value):
    def change(path):
        data = bytearray(gzip.decompress(path.read_bytes()))
        data[76 + 4 * index : 80 + 4 * index] = np.float32(value).tobytes()
        path.write_bytes(gzip.compress(data))

    return change


def cut(share):
    return lambda path: path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def cut_check_sum(path):
    path.write_bytes(path.read_bytes()[:-4])


def shift(path):
    image = nib.load(path)
    affine = image.affine.copy()
    affine[0, 3] += 5
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), path)


def write(text):
    return lambda path: path.write_bytes(text)


INFO, IMAGE, LABEL = "Info.cfg", "patient001_frame07.nii.gz", "patient001_frame07_gt.nii.gz"


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        (INFO, Path.unlink, "Info.cfg: expected a text file with ED, ES and Group, found none"),
        (INFO, write(b"\xff\xfe\x00\x01garbage"), "Info.cfg: expected a line 'ED: NUMBER', got None"),
        (INFO, write(b"ED: one\nES: 7\nGroup: NOR"), "Info.cfg: expected a line 'ED: NUMBER', got 'one'"),
        (INFO, write(b"ED: 1\nES: 7\nGroup: ABC"), "expected Group to be one of NOR, .*, got 'ABC'"),
        (INFO, write(b"ED: 1\nES: 7\n"), "expected Group to be one of .*, got None"),
        (INFO, write(b"ED: 7\nES: 7\nGroup: NOR"), "expected different frames as ED and ES, got 7 twice"),
        (INFO, write(b"ED: 1\nES: 9\nGroup: NOR"), "patient001_frame09.nii.gz: is missing, but .* says ES: 9"),
        (LABEL, Path.unlink, "frame07_gt.nii.gz: is missing"),
        (IMAGE, cut(0.5), "frame07.nii.gz: expected a complete gzip"),
        (IMAGE, cut_check_sum, "frame07.nii.gz: expected a complete gzip"),
        (IMAGE, write(b"no gzip"), "frame07.nii.gz: expected a complete gzip"),
        (IMAGE, write(gzip.compress(b"no NIfTI" * 99)), "frame07.nii.gz: expected a NIfTI file"),
        (IMAGE, put(np.nan, np.float32), "frame07.nii.gz: expected finite numbers, got 1 NaN or infinite"),
        (IMAGE, put(np.inf, np.float32), "frame07.nii.gz: expected finite numbers, got 1 NaN or infinite"),
        (IMAGE, pixdim(1, 0), "frame07_gt.nii.gz: expected the affine of patient001_frame07.nii.gz, got another"),
        (IMAGE, pixdim(3, -20), "frame07_gt.nii.gz: expected the affine of patient001_frame07.nii.gz, got another"),
        (IMAGE, pixdim(2, np.nan), "frame07.nii.gz: expected three voxel spacings"),
        (IMAGE, lambda path: edit(path, lambda data: data[..., None].repeat(2, 3)), "expected a 3-D volume, got shape"),
        (
            LABEL,
            lambda path: edit(path, lambda data: data[:-1]),
            r"expected the shape of its image, \(12, 10, 4\), got \(11, 10, 4\)",
        ),
        (LABEL, shift, "expected the affine of .*, got another"),
        (LABEL, put(7, np.uint8), r"expected label values \[0, 1, 2, 3\], got \[0, 1, 2, 3, 7\]"),
        (LABEL, put(0.5, np.float32), "label values"),
        (LABEL, put(np.nan, np.float32), "label values"),
        (LABEL, lambda path: edit(path, np.zeros_like), "got an empty mask"),
    ],
)
def test_bad_input(tmp_path, name, damage, message):
    source = raw.acdc(tmp_path / "raw", 1)
    damage(source / "patient001" / name)
    with pytest.raises(InputError, match=message) as caught:
        acdc.prepare(source, tmp_path / "out")
    assert str(source) in str(caught.value)
    assert not [name for name in raw.tree(tmp_path / "out") if "ES" in name or name == "dataset.json"]


def test_two_subjects_of_one_name(tmp_path):
    for part in ("training", "testing"):
        raw.subject(tmp_path / part / "patient001")
    with pytest.raises(InputError, match=r"a second patient001 beside .*training"):
        acdc.prepare(tmp_path, tmp_path / "out")


def test_empty_source(tmp_path):
    with pytest.raises(InputError, match="expected folders patientNNN, found none; --source holds"):
        acdc.prepare(tmp_path, tmp_path / "out")


@pytest.mark.skipif("MEDPOS_TEST_DATA" not in os.environ, reason="MEDPOS_TEST_DATA names no folder with acdc/training")
def test_real_subjects(tmp_path):
    real = Path(os.environ["MEDPOS_TEST_DATA"]) / "acdc" / "training"
    (tmp_path / "raw").mkdir()
    for folder in sorted(real.glob("patient*"))[:3]:
        (tmp_path / "raw" / folder.name).symlink_to(folder)
    acdc.prepare(tmp_path / "raw", tmp_path / "out")
    assert check(tmp_path / "out")[1] == []
    assert len(list((tmp_path / "out/images").iterdir())) == 6
