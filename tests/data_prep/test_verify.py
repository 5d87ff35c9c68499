import json

import numpy as np
import pytest
import raw

from data_prep import files
from data_prep.datasets import acdc, jsrt
from data_prep.verify import check


@pytest.fixture
def folder(tmp_path):
    acdc.prepare(raw.acdc(tmp_path / "raw", 5), tmp_path / "out")
    return tmp_path / "out"


def test_sound_folders(folder, tmp_path):
    summary, problems, _ = check(folder, workers=2)
    assert problems == []
    assert "acdc, 10 cases of 5 subjects" in summary
    images, masks = raw.jsrt(tmp_path / "x")
    jsrt.prepare(images, masks, tmp_path / "jsrt", size=128)
    assert check(tmp_path / "jsrt")[1] == []


def rewrite(folder, change):
    path = folder / "dataset.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def store(folder, name, data, spacing=(1.5, 1.5, 10.0)):
    (folder / name).write_bytes(files.encode_nifti(data, np.diag([*spacing, 1.0])))


def image(folder, value, dtype=np.float32):
    data = np.ones(raw.SHAPE, dtype)
    data[0, 0, 0] = value
    store(folder, "images/patient001_ED.nii.gz", data)


def label(folder, old, new):
    store(folder, "labels/patient001_ED.nii.gz", np.where(raw.label() == old, new, raw.label()).astype(np.uint8))


FILES = {
    "patient001_ED.nii.gz: changed since": lambda f: image(f, 5),
    "patient001_ED.nii.gz: 1 voxels are NaN": lambda f: image(f, np.nan),
    "patient001_ED.nii.gz: 1 voxels are NaN or infinite": lambda f: image(f, np.inf),
    "patient001_ED.nii.gz: label values [7] are not in": lambda f: label(f, 1, 7),
    "patient001_ED.nii.gz: no voxel of rv_cavity": lambda f: label(f, 1, 0),
    "patient001_ED.nii.gz: expected shape [12, 10, 4] as in dataset.json, got [3, 3, 3]": lambda f: store(
        f, "images/patient001_ED.nii.gz", np.ones((3, 3, 3))
    ),
    "patient001_ED.nii.gz: expected spacing [1.5, 1.5, 10.0] mm as in dataset.json, got (2.0, 1.5, 10.0)": lambda f: (
        store(f, "images/patient001_ED.nii.gz", np.ones(raw.SHAPE), (2.0, 1.5, 10.0))
    ),
    "labels/patient001_ED.nii.gz: expected the affine of its image": lambda f: store(
        f, "images/patient001_ED.nii.gz", np.ones(raw.SHAPE), (2.0, 1.5, 10.0)
    ),
    "images/patient001_ED.nii.gz: can't be read": lambda f: (f / "images/patient001_ED.nii.gz").unlink(),
    "images/patient001_ED.nii.gz: expected a complete gzip": lambda f: (f / "images/patient001_ED.nii.gz").write_bytes(
        b"x"
    ),
    "images/more.nii.gz: not in dataset.json": lambda f: (f / "images/more.nii.gz").write_bytes(b"x"),
    "dataset.json: can't be read": lambda f: (f / "dataset.json").unlink(),
    "dataset.json: not JSON": lambda f: (f / "dataset.json").write_text("{"),
    "dataset.json: expected an object": lambda f: (f / "dataset.json").write_text("[]"),
}
MANIFEST = {
    "key 'labels' is missing": lambda m: m.pop("labels"),
    "expected a text as name, got 3": lambda m: m.update(name=3),
    "expected a list as training, got 'all'": lambda m: m.update(training="all"),
    "expected schema_version 1, got 9": lambda m: m.update(schema_version=9),
    "no training case": lambda m: m.update(training=[]),
    "expected labels of": lambda m: m["labels"][1].update(index=5),
    "expected labels of index": lambda m: m["labels"][1].update(colour="red"),
    "expected three positive numbers as spacing_mm, got [1, 1, 1": lambda m: m["training"][0].update(
        spacing_mm=[1, 1, 10**400]
    ),
    "case : expected a text as case, got ''": lambda m: m["training"][0].update(case=""),
    "key 'shape' is missing": lambda m: m["training"][0].pop("shape"),
    "case None: key 'case' is missing": lambda m: m["training"][0].pop("case"),
    "case 7: expected an object": lambda m: m["test"].append(7),
    "expected three positive numbers as shape, got [1, 2]": lambda m: m["training"][0].update(shape=[1, 2]),
    "expected three positive numbers as spacing_mm, got [1, 1, -1]": lambda m: m["training"][0].update(
        spacing_mm=[1, 1, -1]
    ),
    "expected image inside the folder, got '../x.nii.gz'": lambda m: m["training"][0].update(image="../x.nii.gz"),
    "expected image inside the folder, got '/etc/passwd'": lambda m: m["training"][0].update(image="/etc/passwd"),
    "is listed 2 times": lambda m: m["training"].append(m["training"][0]),
    "is in training and test": lambda m: m["test"].append({**m["training"][0], "case": "x"}),
    "mean and std above 0, got {}": lambda m: m.update(intensity={}),
    "as in the images, got 1.0,": lambda m: m["intensity"].update(mean=1.0),
}


@pytest.mark.parametrize("message", FILES)
def test_damaged_file(folder, message):
    FILES[message](folder)
    problems = check(folder)[1]
    assert any(message in problem for problem in problems), problems
    assert all(str(folder) in problem for problem in problems)


@pytest.mark.parametrize("message", MANIFEST)
def test_damaged_manifest(folder, message):
    rewrite(folder, MANIFEST[message])
    problems = check(folder)[1]
    assert any(message in problem for problem in problems), problems
    assert all(str(folder) in problem for problem in problems)


def test_pixels_to_ignore(folder):
    label(folder, 0, 255)
    rewrite(folder, lambda m: m.update(ignore_index=255))
    assert [problem.split(": ")[1] for problem in check(folder)[1]] == ["changed since it was prepared (sha256)"]
    rewrite(folder, lambda m: m.update(ignore_index=254))
    problems = "\n".join(check(folder)[1])
    assert "dataset.json: expected ignore_index 255, or no such key, got 254" in problems
    assert "patient001_ED.nii.gz: label values [255] are not in" in problems


def test_a_link_out_of_the_folder(folder, tmp_path):
    path = folder / "images/patient001_ED.nii.gz"
    path.rename(tmp_path / "elsewhere.nii.gz")
    path.symlink_to(tmp_path / "elsewhere.nii.gz")
    assert any("inside the folder, got" in problem for problem in check(folder)[1])


def test_all_problems_at_once(folder):
    label(folder, 1, 0)
    (folder / "images/patient003_ES.nii.gz").unlink()
    (folder / "labels/more.nii.gz").write_bytes(b"x")
    rewrite(folder, lambda m: m.update(schema_version=9))
    text = "\n".join(check(folder)[1])
    for part in (
        "rv_cavity",
        "patient003_ES.nii.gz: can't",
        "more.nii.gz: not in",
        "expected schema_version 1, got 9",
        "sha256",
    ):
        assert part in text


def test_same_findings_with_two_workers(folder):
    label(folder, 1, 7)
    assert check(folder, workers=2) == check(folder, workers=1)
