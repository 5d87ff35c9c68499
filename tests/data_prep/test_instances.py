"""Check object numbers in the uniform folder, for any data set."""

import json
from dataclasses import replace

import numpy as np
import pytest
import raw
import raw_microscopy as rawm

from data_prep import files, layout
from data_prep.custom import common as own
from data_prep.custom.folder import prepare as prepare_folder
from data_prep.datasets import acdc, nuclei
from data_prep.verify import check
from medpos.core import labels

NAME = "instances/id00.nii.gz"


@pytest.fixture
def source(tmp_path):
    return rawm.nuclei(tmp_path / "raw", 5)


@pytest.fixture
def folder(source, tmp_path):
    nuclei.prepare(source, tmp_path / "out")
    return tmp_path / "out"


def first(folder, change):
    """Change the entry of id00 in whichever part it is."""
    path = folder / "dataset.json"
    manifest = json.loads(path.read_text())
    for part in ("training", "validation", "test"):
        for entry in manifest[part]:
            if entry["case"] == "id00":
                change(entry)
    path.write_text(json.dumps(manifest))


def store(folder, change, affine=None):
    """Store changed object numbers for id00."""
    found = files.read_nifti(folder / NAME)
    data = found.data.copy()
    data = change(data) if callable(change) else data
    (folder / NAME).write_bytes(files.encode_nifti(data, found.affine if affine is None else affine))


def put(place, value):
    def change(data):
        data[place] = value
        return data

    return change


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"{}")])
def test_damaged_numbers_are_rewritten(source, folder, damage):
    before = raw.tree(folder)
    damage(folder / NAME)
    assert "1 cases written, 4 up to date" in nuclei.prepare(source, folder)
    assert raw.tree(folder) == before


def test_numbers_of_removed_cases_are_removed(source, folder, tmp_path):
    (source / "id04").rename(tmp_path / "id04")
    assert "1 removed" in nuclei.prepare(source, folder)
    nuclei.prepare(source, tmp_path / "fresh")
    assert raw.tree(folder) == raw.tree(tmp_path / "fresh")


def read_without(case):
    return replace(nuclei.read_case(case), instances=None)


def test_unlisted_numbers_are_removed(source, folder):
    dataset = layout.Dataset("nuclei", "Nuclei.", labels.NUCLEI, (8, 1, 1), None, phantom=False)
    cases = [replace(case, read=read_without, options={"plain": True}) for case in nuclei.find_cases(source)]
    layout.prepare_dataset(dataset, cases, folder)
    assert not list((folder / "instances").iterdir())
    assert check(folder)[1] == []


def test_half_written_numbers_are_cleared(source, folder):
    (folder / "instances/.id00.nii.gz.7.partial").write_bytes(b"half")
    nuclei.prepare(source, folder)
    assert check(folder)[1] == []


BROKEN = {
    "instances/id00.nii.gz: changed since it was prepared (sha256)": lambda f: store(f, put((3, 2, 0), 9)),
    "instances/id00.nii.gz: 1 voxels belong to an object but not to a class": lambda f: store(f, put((0, 0, 0), 9)),
    "instances/id00.nii.gz: 2 voxels belong": lambda f: store(f, put((3, slice(2, 4), 0), 0)),
    "instances/id00.nii.gz: expected shape [12, 10, 1] as in dataset.json, got [12, 9, 1]": lambda f: store(
        f, lambda data: data[:, :9]
    ),
    "instances/id00.nii.gz: expected unsigned integers, got int16": lambda f: store(
        f, lambda data: data.astype(np.int16)
    ),
    "instances/id00.nii.gz: expected the affine of its label map": lambda f: store(f, None, np.eye(4)),
    "instances/id00.nii.gz: can't be read": lambda f: (f / NAME).unlink(),
    "instances/id00.nii.gz: expected a complete gzip": lambda f: (f / NAME).write_bytes((f / NAME).read_bytes()[:-3]),
    "instances/more.nii.gz: not in dataset.json": lambda f: (f / "instances/more.nii.gz").write_bytes(b"x"),
    "instances/id00.nii.gz: not in dataset.json": lambda f: first(
        f, lambda e: (e.pop("instances"), e.pop("instances_sha256"))
    ),
    "case id00: key 'instances_sha256' is missing": lambda f: first(f, lambda e: e.pop("instances_sha256")),
    "case id00: key 'instances' is missing": lambda f: first(f, lambda e: e.pop("instances")),
    "expected instances inside the folder, got '../x.nii.gz'": lambda f: first(
        f, lambda e: e.update(instances="../x.nii.gz")
    ),
}


@pytest.mark.parametrize("message", BROKEN)
def test_verify_finds_broken_numbers(folder, message):
    assert check(folder)[1] == []
    BROKEN[message](folder)
    problems = check(folder)[1]
    assert any(message in problem for problem in problems), problems


def test_entries_of_data_without_numbers_stay_as_they_were(tmp_path):
    raw.acdc(tmp_path / "raw", 3)
    acdc.prepare(tmp_path / "raw", tmp_path / "out")
    entry = json.loads((tmp_path / "out/dataset.json").read_text())["training"][0]
    keys = ["case", "subject", "image", "label", "image_sha256", "label_sha256", "shape", "spacing_mm"]
    assert list(entry)[:8] == keys
    assert "instances" not in entry
    assert not (tmp_path / "out/instances").exists()


def test_another_subject_is_noticed(tmp_path):
    for name in ("a_1", "a_2", "b_1", "c_1"):
        rawm.save(
            tmp_path / "images" / f"{name}.png", np.random.default_rng(len(name)).integers(0, 9, (4, 4), np.uint8)
        )
        rawm.save(tmp_path / "labels" / f"{name}.png", np.eye(4, dtype=np.uint8))
    for pattern in ("", "^[a-z]"):
        options = own.Options(subject=pattern)
        prepare_folder(tmp_path / "images", tmp_path / "labels", ["1=thing"], [], tmp_path / "out", options)
    manifest = json.loads((tmp_path / "out/dataset.json").read_text())
    subjects = {
        entry["case"]: entry["subject"] for part in ("training", "validation", "test") for entry in manifest[part]
    }
    assert subjects == {"a_1": "a", "a_2": "a", "b_1": "b", "c_1": "c"}
