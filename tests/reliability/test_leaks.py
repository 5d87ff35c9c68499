"""No subject and no image may stand in two parts of the data, under whatever name."""

import gzip
import json
import shutil

import nibabel
import numpy as np
import pytest
import running

from data_prep.files import sha256
from data_prep.verify import check
from medpos.core.errors import InputError
from medpos.data import DataFolder
from medpos.data.leaks import find_equal_images


def copied(folder, entry, name, change=lambda path: None):
    """Add the files of a case to the folder under another name; returns its entry."""
    added = {**entry, "case": name, "subject": name}
    for key in ("image", "label"):
        added[key] = f"{key}s/{name}.nii.gz"
        path = shutil.copy(folder / entry[key], folder / added[key])
        change(path)
        added[f"{key}_sha256"] = sha256((folder / added[key]).read_bytes())
    return added


def compressed_anew(path):
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), 1, mtime=7))


def saved_anew(path):
    image = nibabel.load(path)
    values = np.asarray(image.dataobj)
    header = image.header.copy()
    header["descrip"] = b"a copy"
    nibabel.save(nibabel.Nifti1Image(values, image.affine, header), path)


LEAKS = {
    "the subject": lambda folder, entry: {**entry, "case": "x"},
    "the file, as another subject": lambda folder, entry: {**entry, "case": "x", "subject": "x"},
    "a copy of the file": lambda folder, entry: copied(folder, entry, "x"),
    "a copy, compressed anew": lambda folder, entry: copied(folder, entry, "x", compressed_anew),
    "a copy, saved anew": lambda folder, entry: copied(folder, entry, "x", saved_anew),
}


def spoil(folder, leak, source, target):
    path = folder / "dataset.json"
    manifest = json.loads(path.read_text())
    manifest[target].append(LEAKS[leak](folder, manifest[source][0]))
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize("leak", LEAKS)
@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("training", "test"),
        pytest.param("training", "validation", marks=pytest.mark.torture),
        pytest.param("test", "validation", marks=pytest.mark.torture),
    ],
)
def test_training_refuses_a_leak_before_its_first_epoch(data, tiny, capsys, leak, source, target):
    spoil(data, leak, source, target)
    with pytest.raises(RuntimeError) as raised:
        running.run_here("jsrt_small_pe", **{**tiny, "dataset_dir": str(data)})
    cause = raised.value
    while not isinstance(cause, InputError):
        cause = cause.__cause__ or cause.__context__
    assert source in str(cause)
    assert target in str(cause)
    assert not (data.parent / "runs").exists()


@pytest.mark.parametrize("leak", list(LEAKS)[:3])
def test_verify_lists_a_leak(data, leak):
    spoil(data, leak, "training", "validation")
    problems = check(data)[1]
    assert any("training" in problem and "validation" in problem for problem in problems), problems


def test_all_leaks_are_counted(data):
    path = data / "dataset.json"
    manifest = json.loads(path.read_text())
    manifest["test"] += [{**entry, "case": f"{entry['case']}-again"} for entry in manifest["training"][:3]]
    path.write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"subject \S+ is in training and test, and 2 more"):
        DataFolder(data)


def test_equal_and_similar_images():
    image = np.random.default_rng(0).random((1, 300, 300), np.float32)
    similar = image.copy()
    similar[0, 1, 1] += 0.5  # between two of the values that are compared first
    parts = {"training": [("a", image), ("b", image)], "test": [("c", similar), ("d", image.copy())]}
    assert find_equal_images(parts) == [
        "the image of training case a and test case d is the same",
        "the image of training case b and test case d is the same",
    ]
    assert find_equal_images({"training": [("a", image)], "test": [("b", image[:, :150].reshape(1, 150, 300))]}) == []
