import json
import zlib

import nibabel as nib
import numpy as np
import pytest
import raw
from PIL import Image

from data_prep.datasets import camvid
from data_prep.verify import check
from medpos.core import labels
from medpos.core.errors import InputError

ROWS, COLUMNS = 8, 12
FILES = {
    "train": ("0001TP_006690", "0016E5_00390", "0006R0_f00930"),
    "val": ("0016E5_07959",),
    "test": ("0001TP_008550", "Seq05VD_f00000"),
}


def pictures(name):
    """Make an image, and a label map with every value at least once, rows first."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    classes = rng.permutation(np.arange(ROWS * COLUMNS) % 12).reshape(ROWS, COLUMNS).astype(np.uint8)
    return rng.integers(0, 256, (ROWS, COLUMNS, 3), np.uint8), classes


def write(root, folder, name, label_name=None):
    for inside, stem, array in zip((folder, f"{folder}annot"), (name, label_name or name), pictures(name), strict=True):
        path = root / inside / f"{stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)


@pytest.fixture
def source(tmp_path):
    for folder, names in FILES.items():
        for name in names:
            write(tmp_path / "raw/CamVid", folder, name)
    (tmp_path / "raw/CamVid/train.txt").write_text("/SegNet/CamVid/train/0001TP_006690.png\n")
    return tmp_path / "raw"


def test_prepared_folder(source, tmp_path):
    out = tmp_path / "out"
    message = camvid.prepare(source, out)
    assert "3 training (published: 367), 1 validation (published: 101), 2 test (published: 233)" in message
    manifest = json.loads((out / "dataset.json").read_text())
    assert manifest["channels"] == ["red", "green", "blue"]
    names = [label["name"] for label in manifest["labels"]]
    segnet = "sky building pole road pavement tree sign_symbol fence car pedestrian bicyclist"
    assert names == ["void", *segnet.split()]
    parts = {"train": "training", "val": "validation", "test": "test"}
    for folder, part in parts.items():
        assert {entry["case"] for entry in manifest[part]} == set(FILES[folder])
        for entry in manifest[part]:
            colors, classes = pictures(entry["case"])
            image, label = (nib.load(out / entry[kind]) for kind in ("image", "label"))
            assert (image.shape, label.shape) == ((COLUMNS, ROWS, 1, 3), (COLUMNS, ROWS, 1))
            assert np.array_equal(np.asarray(image.dataobj)[:, :, 0].swapaxes(0, 1), colors)
            stored = np.asarray(label.dataobj)[:, :, 0].T
            assert set(stored[classes == 11]) == {0}
            assert np.array_equal(stored[classes < 11], classes[classes < 11] + 1)
            assert entry["sequence"] == entry["case"].split("_")[0]
    assert check(out)[1] == []


def test_labels_are_known_by_name():
    names = [label.name for label in labels.CAMVID[1:]]
    assert labels.labels_of(names) == labels.CAMVID
    assert len({label.color for label in labels.CAMVID}) == 12


def test_names_of_the_older_copy(tmp_path):
    for folder in FILES:
        write(tmp_path, folder, f"{folder}_00001", f"{folder}annot_00001")
    cases = camvid.find_cases(tmp_path)
    assert [(case.case, case.part) for case in cases] == [
        ("train_00001", "training"), ("val_00001", "validation"), ("test_00001", "test")
    ]  # fmt: skip
    assert [case.sources["label"].name for case in cases] == [f"{f}annot_00001.png" for f in FILES]


def test_published_counts_give_no_remark(tmp_path, monkeypatch):
    monkeypatch.setattr(camvid, "WEIGHTS", (1, 1, 1))
    for folder in FILES:
        write(tmp_path, folder, f"{folder}_1")
    assert camvid.prepare(tmp_path, tmp_path / "out").endswith("(1 training, 1 validation, 1 test)")


def test_second_run_changes_nothing(source, tmp_path):
    out = tmp_path / "out"
    camvid.prepare(source, out)
    before = raw.times(out)
    assert camvid.prepare(source, out, workers=2).startswith("unchanged: 6 cases")
    assert raw.times(out) == before


def save(array):
    return lambda path: Image.fromarray(array).save(path)


IMAGE, LABEL = "val/0016E5_07959.png", "valannot/0016E5_07959.png"
GRAY = np.full((ROWS, COLUMNS), 3, np.uint8)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        (LABEL, save(GRAY[1:]), "valannot.0016E5_07959.png: differs in size from its picture .*12 x 7 and 12 x 8"),
        (LABEL, save(GRAY * 4), r"valannot.0016E5_07959.png: expected label values 0 to 11, got \[12\]"),
        (LABEL, save(np.full_like(GRAY, 11)), "valannot.0016E5_07959.png: expected pixels of a class"),
        (
            LABEL,
            save(pictures("x")[0]),
            "valannot.0016E5_07959.png: expected a label map, one class per pixel, got colors",
        ),
        (LABEL, lambda path: path.rename(path.with_name("x.png")), "val.0016E5_07959.png: no label map 0016E5_07959"),
        (LABEL, lambda path: path.unlink(), "valannot: expected files that end in .png"),
        (IMAGE, lambda path: path.unlink(), "val: expected files that end in .png, found none"),
        (
            IMAGE,
            lambda path: path.write_bytes(path.read_bytes()[:99]),
            "val.0016E5_07959.png: expected a complete picture",
        ),
    ],
)
def test_bad_input(source, tmp_path, name, damage, message):
    damage(source / "CamVid" / name)
    with pytest.raises(InputError, match=message) as caught:
        camvid.prepare(source, tmp_path / "out")
    assert str(source) in str(caught.value)
    assert not (tmp_path / "out/dataset.json").exists()


def test_label_map_without_picture(source, tmp_path):
    (source / "CamVid/train/0016E5_00390.png").unlink()
    with pytest.raises(InputError, match=r"trainannot.0016E5_00390.png: no picture 0016E5_00390.png"):
        camvid.prepare(source, tmp_path / "out")


def test_empty_folder(tmp_path):
    with pytest.raises(InputError, match="train: no such folder"):
        camvid.prepare(tmp_path, tmp_path / "out")


def test_verify_finds_damage(source, tmp_path):
    camvid.prepare(source, tmp_path / "out")
    (tmp_path / "out/labels/0016E5_07959.nii.gz").unlink()
    assert any("0016E5_07959.nii.gz: can't be read" in problem for problem in check(tmp_path / "out")[1])
