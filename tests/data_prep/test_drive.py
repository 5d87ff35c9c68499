import json

import nibabel as nib
import numpy as np
import pytest
import raw
from PIL import Image

from data_prep.datasets import drive
from data_prep.verify import check
from medpos.core import labels
from medpos.core.errors import InputError

ROWS, COLUMNS = 14, 9


def pictures(number):
    """Make image, vessels and field of view of one eye, rows first."""
    rng = np.random.default_rng(number)
    vessels = np.zeros((ROWS, COLUMNS), np.uint8)
    vessels[number % 5 + 2 :, 3] = 255
    view = np.full((ROWS, COLUMNS), 255, np.uint8)
    view[-2:] = 0
    return rng.integers(0, 256, (ROWS, COLUMNS, 3), np.uint8), vessels, view


def eye(root, number):
    part = "test" if number <= 20 else "training"
    colors, vessels, view = pictures(number)
    files = {
        f"images/{number:02d}_{part}.tif": colors,
        f"1st_manual/{number:02d}_manual1.gif": vessels,
        f"mask/{number:02d}_{part}_mask.gif": view,
    }
    if part == "test":
        files[f"2nd_manual/{number:02d}_manual2.gif"] = 255 - vessels  # nobody may read it
    for name, array in files.items():
        path = root / part / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)


@pytest.fixture
def source(tmp_path):
    for number in (1, 2, 21, 22, 23):
        eye(tmp_path / "raw/DRIVE", number)
    return tmp_path / "raw"


def test_prepared_folder(source, tmp_path):
    out = tmp_path / "out"
    message = drive.prepare(source, out)
    assert message.endswith("not the published number: 3 training (published: 20), 2 test (published: 20)")
    manifest = json.loads((out / "dataset.json").read_text())
    assert manifest["channels"] == ["red", "green", "blue"]
    assert manifest["labels"] == [label.to_json() for label in labels.DRIVE]
    assert manifest["intensity"]["range"] == [0, 255]
    for number, name in ((1, "01_test"), (22, "22_training")):
        colors, vessels, _ = pictures(number)
        image, label = (nib.load(out / f"{kind}/{name}.nii.gz") for kind in ("images", "labels"))
        assert (image.shape, label.shape) == ((COLUMNS, ROWS, 1, 3), (COLUMNS, ROWS, 1))
        assert (image.get_data_dtype(), label.get_data_dtype()) == (np.uint8, np.uint8)
        assert np.array_equal(np.asarray(image.dataobj)[:, :, 0].swapaxes(0, 1), colors)
        assert np.array_equal(np.asarray(label.dataobj)[:, :, 0].T, vessels // 255)
    entry = next(entry for entry in manifest["test"] if entry["case"] == "01_test")
    assert entry["field_of_view"] == pytest.approx((ROWS - 2) / ROWS, abs=1e-6)
    assert entry["vessel_pixels_outside_view"] == 2
    assert check(out)[1] == []


def test_the_official_test_images_are_the_test_part(tmp_path):
    for number in range(1, 41):
        eye(tmp_path / "raw", number)
    parts = []
    for seed in (0, 1):
        message = drive.prepare(tmp_path / "raw", tmp_path / "out", seed)
        assert message.endswith("(16 training, 4 validation, 20 test)")
        manifest = json.loads((tmp_path / "out/dataset.json").read_text())
        assert [entry["case"] for entry in manifest["test"]] == [f"{n:02d}_test" for n in range(1, 21)]
        parts.append([entry["case"] for entry in manifest["validation"]])
    assert parts[0] != parts[1]


def test_second_run_changes_nothing_and_the_field_of_view_counts(source, tmp_path):
    out = tmp_path / "out"
    drive.prepare(source, out)
    before = raw.times(out)
    assert drive.prepare(source, out).startswith("unchanged: 5 cases")
    assert raw.times(out) == before
    (source / "DRIVE/training/mask/21_training_mask.gif").unlink()
    assert "1 cases written, 4 up to date" in drive.prepare(source, out)
    manifest = json.loads((out / "dataset.json").read_text())
    cases = {entry["case"]: entry for part in ("training", "validation") for entry in manifest[part]}
    assert "field_of_view" not in cases["21_training"]


def test_the_copy_without_test_labels(source, tmp_path):
    for path in (source / "DRIVE/test/1st_manual").iterdir():
        path.unlink()
    with pytest.raises(
        InputError, match=r"01_test.tif: expected its vessels 01_manual1.gif.*labels of the training images only"
    ):
        drive.prepare(source, tmp_path / "out")
    for path in (source / "DRIVE/test").rglob("*.*"):
        path.unlink()
    assert "0 test)" in drive.prepare(source, tmp_path / "out")


def save(array):
    return lambda path: Image.fromarray(array).save(path)


IMAGE, LABEL, VIEW = "images/21_training.tif", "1st_manual/21_manual1.gif", "mask/21_training_mask.gif"


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        (LABEL, lambda path: path.unlink(), "21_training.tif: expected its vessels 21_manual1.gif in .*; unpack DRIVE"),
        (IMAGE, lambda path: path.unlink(), "21_manual1.gif: expected its image 21_training.tif"),
        (LABEL, save(np.eye(5, dtype=np.uint8) * 255), "21_manual1.gif: differs in size .*5 x 5 and 9 x 14"),
        (VIEW, save(np.eye(5, dtype=np.uint8) * 255), "21_training_mask.gif: differs in size"),
        (
            LABEL,
            save(np.arange(126, dtype=np.uint8).reshape(14, 9)),
            r"21_manual1.gif: expected gray values 0 and 255, got \[0, 1, 2",
        ),
        (LABEL, save(np.zeros((14, 9), np.uint8)), "21_manual1.gif: expected a mask, got an empty one"),
        (LABEL, lambda path: path.write_bytes(b"GIF89a"), "21_manual1.gif: expected a complete picture"),
        (IMAGE, lambda path: path.write_bytes(path.read_bytes()[:40]), "21_training.tif: expected a complete picture"),
    ],
)
def test_bad_input(source, tmp_path, name, damage, message):
    damage(source / "DRIVE/training" / name)
    with pytest.raises(InputError, match=message) as caught:
        drive.prepare(source, tmp_path / "out")
    assert str(source) in str(caught.value)
    assert not (tmp_path / "out/dataset.json").exists()


def test_empty_folder(tmp_path):
    with pytest.raises(InputError, match=r"expected NN_training.tif, found none; --source holds"):
        drive.prepare(tmp_path, tmp_path / "out")


def test_verify_finds_damage(source, tmp_path):
    drive.prepare(source, tmp_path / "out")
    (tmp_path / "out/images/02_test.nii.gz").write_bytes(b"x")
    problems = check(tmp_path / "out")[1]
    assert [problem for problem in problems if "images/02_test.nii.gz: expected a complete gzip" in problem]
