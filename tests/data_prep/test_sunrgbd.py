import json
import zlib

import nibabel as nib
import numpy as np
import pytest
import raw
from PIL import Image
from typer.testing import CliRunner

from data_prep.__main__ import app
from data_prep.datasets import sunrgbd
from data_prep.phantoms import write as write_phantoms
from data_prep.phantoms.room import ON_THE_FLOOR, ON_THE_WALL, ON_TOP, ROOMS
from data_prep.verify import check
from medpos.core import labels
from medpos.core.errors import InputError

ROWS, COLUMNS = 8, 12
# Pictures and the numbers of their label maps: those of the 5,050 test pictures come first.
FILES = {"train_000001": "005051", "train_000007": "005057", "train_005285": "010335", "test_000001": "000001"}


def pictures(name):
    """Make an image, and a label map with all values, rows first."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    classes = rng.permutation(np.arange(ROWS * COLUMNS) % 38).reshape(ROWS, COLUMNS).astype(np.uint8)
    return np.full((ROWS, COLUMNS, 3), rng.integers(0, 256, 3), np.uint8), classes


@pytest.fixture
def source(tmp_path):
    for name, number in FILES.items():
        part, _, picture = name.partition("_")
        image, classes = pictures(name)
        for path, array in (
            (f"SUNRGBD-{part}_images/img-{picture}.jpg", image),
            (f"sunrgbd_train_test_labels/img-{number}.png", classes),
        ):
            (tmp_path / "raw" / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(tmp_path / "raw" / path)
    return tmp_path / "raw"


def test_prepared_folder(source, tmp_path):
    out = tmp_path / "out"
    assert "3 train (published: 5285), 1 test (published: 5050)" in sunrgbd.prepare(source, out)
    manifest = json.loads((out / "dataset.json").read_text())
    names = [label["name"] for label in manifest["labels"]]
    assert (len(names), names[:3], names[37]) == (38, ["void", "wall", "floor"], "bag")
    assert [entry["case"] for entry in manifest["test"]] == ["test_000001"]
    entries = [entry for part in ("training", "validation", "test") for entry in manifest[part]]
    assert {entry["case"] for entry in entries} == set(FILES)
    for entry in entries:
        colors, classes = pictures(entry["case"])
        image, label = (np.asarray(nib.load(out / entry[kind]).dataobj)[:, :, 0] for kind in ("image", "label"))
        assert np.array_equal(label.T, classes)
        assert np.abs(image.swapaxes(0, 1) - colors.astype(int)).max() <= 3  # JPEG
    assert check(out)[1] == []
    before = raw.times(out)
    assert sunrgbd.prepare(source, out, workers=2).startswith("unchanged: 4 cases")
    assert raw.times(out) == before


def test_labels_are_known_by_name():
    assert labels.labels_of([label.name for label in labels.SUNRGBD[1:]]) == labels.SUNRGBD
    assert len({label.color for label in labels.SUNRGBD}) == 38


LABEL, IMAGE = "sunrgbd_train_test_labels/img-005051.png", "SUNRGBD-train_images/img-000001.jpg"


def save(value, rows=ROWS):
    return lambda path: Image.fromarray(np.full((rows, COLUMNS), value, np.uint8)).save(path)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        (LABEL, save(1, ROWS - 1), "img-005051.png: differs in size from its picture"),
        (LABEL, save(38), r"img-005051.png: expected label values 0 to 37, and 255, got \[38\]"),
        (LABEL, save(0), "img-005051.png: expected pixels of a class, all are 0"),
        (LABEL, lambda path: path.unlink(), "img-000001.jpg: no label map img-005051.png"),
        (IMAGE, lambda path: path.write_bytes(path.read_bytes()[:99]), "img-000001.jpg: expected a complete picture"),
    ],
)
def test_bad_input(source, tmp_path, name, damage, message):
    damage(source / name)
    with pytest.raises(InputError, match=message):
        sunrgbd.prepare(source, tmp_path / "out")
    assert not (tmp_path / "out/dataset.json").exists()


def test_a_folder_without_pictures(source, tmp_path):
    (source / "SUNRGBD-test_images/img-000001.jpg").unlink()
    with pytest.raises(InputError, match=r"SUNRGBD-test_images: expected img-000001\.jpg and so on, found none"):
        sunrgbd.prepare(source, tmp_path / "out")


def test_phantoms_have_every_class_and_are_prepared_by_the_command_line(tmp_path):
    things = {name for room in ROOMS for pair in room.split() for name in pair.split("+")}
    assert things == {*ON_THE_WALL, *ON_THE_FLOOR, *ON_TOP}
    assert things | {"void", "wall", "floor", "ceiling"} == {label.name for label in labels.SUNRGBD}
    write_phantoms("sunrgbd", tmp_path / "raw", cases=5, seed=1)
    write_phantoms("sunrgbd", tmp_path / "few", cases=2, seed=1)
    few, whole = (raw.tree(tmp_path / name) for name in ("few", "raw"))
    assert {name: data for name, data in few.items() if "PHANTOM" not in name}.items() < whole.items()
    arguments = ["sunrgbd", "--source", str(tmp_path / "raw"), "--out", str(tmp_path / "out")]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    manifest = json.loads((tmp_path / "out/dataset.json").read_text())
    assert (manifest["phantom"], manifest["spacing"]) == (True, "assumed")
    assert CliRunner().invoke(app, ["verify", str(tmp_path / "out")]).stdout.startswith("ok: ")
