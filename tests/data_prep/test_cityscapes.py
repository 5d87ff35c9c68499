import json
import zlib

import nibabel as nib
import numpy as np
import pytest
import raw
from PIL import Image

from data_prep.datasets import cityscapes
from data_prep.verify import check
from medpos.core import labels
from medpos.core.errors import InputError
from medpos.data.folder import DataFolder

ROWS, COLUMNS = 16, 32
# The table of Cityscapes' own scripts (labels.py): label ids of the 19 classes, in the order of the train ids.
TABLE = {
    "road": 7, "sidewalk": 8, "building": 11, "wall": 12, "fence": 13, "pole": 17, "traffic_light": 19,
    "traffic_sign": 20, "vegetation": 21, "terrain": 22, "sky": 23, "person": 24, "rider": 25, "car": 26, "truck": 27,
    "bus": 28, "train": 31, "motorcycle": 32, "bicycle": 33,
}  # fmt: skip
TRAIN = ("aachen_000000_000019", "aachen_000001_000019", "hamburg_000000_000042", "hamburg_000000_000629")
VAL = ("frankfurt_000000_000294",)


def pictures(name):
    """Make an image, and a label map with every id."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))  # no two names share an image
    ids = rng.permutation(np.arange(ROWS * COLUMNS) % 34).reshape(ROWS, COLUMNS).astype(np.uint8)
    return rng.integers(0, 256, (ROWS, COLUMNS, 3), np.uint8), ids


def files(root, name):
    part = place(name)
    return root / f"leftImg8bit/{part}/{name}_leftImg8bit.png", root / f"gtFine/{part}/{name}_gtFine_labelIds.png"


def place(name):
    return f"{'val' if name in VAL else 'train'}/{name.split('_')[0]}"


@pytest.fixture
def source(tmp_path):
    for name in (*TRAIN, *VAL):
        for path, array in zip(files(tmp_path / "raw", name), pictures(name), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
    other = files(tmp_path / "raw", TRAIN[0])[1]
    Image.fromarray(pictures("x")[0]).save(other.with_name(other.name.replace("labelIds", "color")))
    return tmp_path / "raw"


def stored(out, kind, name):
    return np.asarray(nib.load(out / f"{kind}/{name}.nii.gz").dataobj)[:, :, 0].swapaxes(0, 1)


def train_ids(ids):
    """Map label ids to train ids class by class, as a second implementation."""
    found = np.full(ids.shape, 255)
    for index, number in enumerate(TABLE.values()):
        found[ids == number] = index
    return found


def test_prepared_folder(source, tmp_path):
    out = tmp_path / "out"
    message = cityscapes.prepare(source, out)
    assert "4 train (published: 2975), 1 val (published: 500)" in message
    folder = DataFolder(out)
    assert (folder.ignore_index, folder.channels) == (255, ("red", "green", "blue"))
    assert [label.name for label in folder.labels] == list(TABLE)
    for name in (*TRAIN, *VAL):
        colors, ids = pictures(name)
        assert np.array_equal(stored(out, "images", name), colors)
        assert np.array_equal(stored(out, "labels", name), train_ids(ids))
    manifest = json.loads((out / "dataset.json").read_text())
    assert [entry["case"] for entry in manifest["test"]] == list(VAL)
    subjects = {entry["case"]: entry["subject"] for part in ("training", "validation") for entry in manifest[part]}
    assert subjects == {name: name[:-7] for name in TRAIN}
    assert manifest["test"][0]["city"] == "frankfurt"
    assert check(out)[1] == []


def test_smaller(source, tmp_path):
    out = tmp_path / "out"
    cityscapes.prepare(source, out, size=8)
    colors, ids = pictures(VAL[0])
    blocks = colors.reshape(4, 4, 8, 4, 3).mean((1, 3))
    assert np.abs(stored(out, "images", VAL[0]) - blocks).max() <= 0.5
    assert np.array_equal(stored(out, "labels", VAL[0]), train_ids(ids)[2::4, 2::4])
    assert cityscapes.prepare(source, out, size=16).startswith(f"{out}: 5 cases written")
    assert stored(out, "images", VAL[0]).shape == (8, 16, 3)


def test_a_tenth_of_every_city_is_for_validation(tmp_path):
    names = [f"{city}_{n:06d}_000019" for city in ("aachen", "bremen") for n in range(20)]
    for name in (*names, *VAL):
        for path, array in zip(files(tmp_path / "raw", name), pictures(name), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
    cityscapes.prepare(tmp_path / "raw", tmp_path / "out")
    manifest = json.loads((tmp_path / "out/dataset.json").read_text())
    assert sorted(entry["city"] for entry in manifest["validation"]) == ["aachen"] * 2 + ["bremen"] * 2


def test_labels_are_known_by_name():
    names = [label.name for label in labels.CITYSCAPES]
    assert names == list(TABLE)
    assert labels.CITYSCAPES[0].color == "#804080"
    assert labels.labels_of([label.name for label in labels.CAMVID[1:]]) == labels.CAMVID  # both have cars


def test_published_counts_give_no_remark(source, tmp_path, monkeypatch):
    assert cityscapes.COUNTS == {"train": 2975, "val": 500}
    monkeypatch.setattr(cityscapes, "COUNTS", {"train": 4, "val": 1})
    assert cityscapes.prepare(source, tmp_path / "out").endswith("1 test)")


def test_second_run_changes_nothing(source, tmp_path):
    out = tmp_path / "out"
    cityscapes.prepare(source, out)
    before = raw.times(out)
    assert cityscapes.prepare(source, out).startswith("unchanged: 5 cases")
    assert raw.times(out) == before


def save(array):
    return lambda path: Image.fromarray(array).save(path)


GRAY = np.full((ROWS, COLUMNS), 7, np.uint8)


@pytest.mark.parametrize(
    ("kind", "damage", "message"),
    [
        (1, save(GRAY[1:]), "differs in size from its picture .*32 x 15 and 32 x 16"),
        (1, save(GRAY * 5), r"expected label ids 0 to 33, got \[35\]"),
        (1, save(GRAY - 4), "expected pixels of a class, all are 255"),
        (1, save(pictures("x")[0]), "expected a label map, one class per pixel, got colors"),
        (1, lambda path: path.unlink(), "expected its label map .*aachen_000001_000019_gtFine_labelIds.png"),
        (0, lambda path: path.unlink(), "expected its picture aachen_000001_000019_leftImg8bit.png"),
        (0, lambda path: path.rename(path.with_name("a_leftImg8bit.png")), "expected a name such as aachen_000000"),
        (0, lambda path: path.write_bytes(path.read_bytes()[:99]), "expected a complete picture"),
        (0, save(GRAY.astype(np.uint16)), "expected 8 bits per color, got .*16"),
    ],
)
def test_bad_input(source, tmp_path, kind, damage, message):
    path = files(source, TRAIN[1])[kind]
    damage(path)
    with pytest.raises(InputError, match=message) as caught:
        cityscapes.prepare(source, tmp_path / "out")
    assert str(source) in str(caught.value)
    assert not (tmp_path / "out/dataset.json").exists()


@pytest.mark.parametrize("size", [0, -1, 1000, 4096])
def test_sizes_that_do_not_divide(size, source, tmp_path):
    with pytest.raises(InputError, match=f"--size: expected a divisor of 2048, such as 1024, got {size}"):
        cityscapes.prepare(source, tmp_path / "out", size=size)


def test_no_pictures(source, tmp_path):
    with pytest.raises(InputError, match=r"expected leftImg8bit.train in it"):
        cityscapes.prepare(tmp_path, tmp_path / "out")
    files(source, VAL[0])[0].unlink()
    with pytest.raises(InputError, match=r"leftImg8bit.val: expected CITY.*png, found none"):
        cityscapes.prepare(source, tmp_path / "out")
