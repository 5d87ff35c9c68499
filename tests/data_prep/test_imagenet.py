import json
import shutil

import numpy as np
import pytest
from scipy.io import savemat
from typer.testing import CliRunner

from data_prep.__main__ import app
from data_prep.datasets import imagenet as prepared_imagenet
from data_prep.prepared import find_or_make_phantoms
from medpos.core.errors import InputError
from medpos.data import imagenet

CLASSES = ("n01440764", "n01443537", "n01484850")
TRUTH = "devkit/data/ILSVRC2012_validation_ground_truth.txt"
META = "devkit/data/meta.mat"
# The development kit numbers the classes otherwise, and has groups of classes beside them.
IDS = {3: CLASSES[0], 1: CLASSES[1], 2: CLASSES[2], 4: "n00001740"}


@pytest.fixture
def source(tmp_path):
    """Write two pictures per class in train and one in val, which need no content."""
    for number in CLASSES:
        for name in (f"train/{number}/{number}_7.JPEG", f"train/{number}/{number}_12.JPEG"):
            put(tmp_path / "raw" / name)
        put(tmp_path / f"raw/val/{number}/ILSVRC2012_val_0000000{number[-1]}.JPEG")
    put(tmp_path / "raw/train/n01440764/.DS_Store")
    return tmp_path / "raw"


@pytest.fixture
def flat(source):
    """Write the same with val as it is distributed, without folders, and the development kit."""
    shutil.rmtree(source / "val")
    for number in range(1, 5):
        put(source / f"val/ILSVRC2012_val_0000000{number}.JPEG")
    (source / TRUTH).parent.mkdir(parents=True)
    (source / TRUTH).write_text("2\n3\n3\n1\n")
    kit(source, IDS)
    return source


def put(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")


def kit(source, ids):
    synsets = np.zeros(len(ids), [("ILSVRC2012_ID", object), ("WNID", object)])
    for place, (number, name) in enumerate(ids.items()):
        synsets[place] = (number, name)
    savemat(source / META, {"synsets": synsets})


def listed(images):
    return [(path.name, index) for path, index in images]


def test_folders(source):
    found = imagenet.find_images(source)
    assert found.classes == CLASSES
    assert listed(found.train)[:3] == [("n01440764_12.JPEG", 0), ("n01440764_7.JPEG", 0), ("n01443537_12.JPEG", 1)]
    assert [index for _, index in found.val] == [0, 1, 2]
    message = prepared_imagenet.prepare(source)
    assert "3 classes (published: 1000), 6 train (published: 1281167), 3 val (published: 50000)" in message


def test_flat_val(flat):
    names = [f"ILSVRC2012_val_0000000{number}.JPEG" for number in range(1, 5)]
    assert listed(imagenet.find_images(flat).val) == list(zip(names, [2, 0, 0, 1], strict=True))


def test_folder_of_the_larger_download(source, tmp_path):
    place = tmp_path / "all/ILSVRC/Data/CLS-LOC"
    shutil.copytree(source, place)
    assert imagenet.find_images(tmp_path / "all").train[0][0].is_relative_to(place)


def test_published_counts_give_no_remark(source, monkeypatch):
    assert imagenet.COUNTS == {"classes": 1000, "train": 1281167, "val": 50000}
    monkeypatch.setattr(prepared_imagenet, "COUNTS", {"classes": 3, "train": 6, "val": 3})
    assert prepared_imagenet.prepare(source) == f"{source}: 3 classes, 6 train, 3 val"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: shutil.rmtree(root / "train"), "expected train in it"),
        (lambda root: shutil.rmtree(root / "val"), "val: no such folder"),
        (lambda root: shutil.rmtree(root / "val/n01443537"), "val.n01443537: expected .*JPEG files, found none"),
        (lambda root: (root / "train/n01443537").rename(root / "x"), "val.n01443537: expected a class of train"),
        (
            lambda root: [path.unlink() for path in root.glob("train/n01484850/*")],
            "train.n01484850: expected .*JPEG files, found none",
        ),
    ],
)
def test_bad_folders(source, damage, message):
    damage(source)
    with pytest.raises(InputError, match=message) as caught:
        imagenet.find_images(source)
    assert str(source) in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda root: (root / TRUTH).unlink(),
            "expected one folder per class, or ILSVRC2012_validation_ground_truth.txt in",
        ),
        (lambda root: (root / META).unlink(), "expected one folder per class, or meta.mat in"),
        (lambda root: (root / TRUTH).write_text("1\n2\n"), "expected 4 lines, one per image in .*, got 2"),
        (lambda root: (root / TRUTH).write_text("1\n2\n3\n4\n"), "meta.mat: doesn't match"),  # 4 is no class of train
        (lambda root: (root / TRUTH).write_text("1\n2\n3\nx\n"), "meta.mat: doesn't match"),
        (lambda root: (root / META).write_bytes(b"x"), "meta.mat: doesn't match"),
    ],
)
def test_bad_development_kit(flat, damage, message):
    damage(flat)
    with pytest.raises(InputError, match=message) as caught:
        imagenet.find_images(flat)
    assert str(flat) in str(caught.value)


def test_phantoms_are_made_without_data(tmp_path):
    default, phantoms = str(tmp_path / "imagenet"), str(tmp_path / "phantoms")
    assert find_or_make_phantoms("imagenet", default, default, phantoms, 50) == phantoms
    found = imagenet.find_images(tmp_path / "phantoms")
    assert (len(found.classes), len(found.train), len(found.val)) == (10, 40, 10)
    assert json.loads((tmp_path / "phantoms/PHANTOM.json").read_text())["cases"] == 50
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["phantoms"]
    before = (tmp_path / "phantoms/PHANTOM.json").stat().st_mtime_ns
    assert find_or_make_phantoms("imagenet", default, default, phantoms, 50) == phantoms
    assert (tmp_path / "phantoms/PHANTOM.json").stat().st_mtime_ns == before
    shown = CliRunner().invoke(app, ["imagenet", "--source", phantoms])
    assert "10 classes" in shown.stdout
