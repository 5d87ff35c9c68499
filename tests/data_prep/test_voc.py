import json
import zlib

import nibabel as nib
import numpy as np
import pytest
import raw
from PIL import Image
from scipy.io import savemat
from typer.testing import CliRunner

from data_prep.__main__ import app
from data_prep.datasets import voc
from data_prep.verify import check
from medpos.core import labels
from medpos.core.errors import InputError
from medpos.data.folder import DataFolder

ROWS, COLUMNS = 16, 24
TRAIN = tuple(f"2007_{n:06d}" for n in range(12))
VAL = ("2008_000001", "2008_000002")
OURS = ("2009_000001", "2009_000002", "2009_000003")  # SBD's alone


def colors(name):
    return np.random.default_rng(zlib.crc32(name.encode())).integers(0, 256, (ROWS, COLUMNS, 3), np.uint8)


def classes(name, void=True):
    """Make a label map with every value of VOC, at places that depend on the name."""
    values = [*range(21), *([255] if void else [])]
    return np.random.default_rng(zlib.crc32(name.encode())).permutation(np.resize(values, ROWS * COLUMNS)).reshape(
        ROWS, COLUMNS
    ).astype(np.uint8)  # fmt: skip


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array, **options).save(path)


def palette(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(array, "P")
    picture.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    picture.save(path)


def lists(folder, **named):
    folder.mkdir(parents=True, exist_ok=True)
    for name, entries in named.items():
        (folder / f"{name}.txt").write_text("\n".join(entries) + "\n")


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "raw/VOCdevkit/VOC2012"
    lists(root / "ImageSets/Segmentation", train=TRAIN, val=VAL)
    for name in (*TRAIN, *VAL):
        save(root / "JPEGImages" / f"{name}.jpg", colors(name))
        palette(root / "SegmentationClass" / f"{name}.png", classes(name))
    return root


@pytest.fixture
def sbd(tmp_path):
    """Write SBD with three pictures of VOC's train, one of its val and three others."""
    root = tmp_path / "raw/benchmark_RELEASE/dataset"
    lists(root, train=(*TRAIN[:3], *OURS[:2]), val=(VAL[0], OURS[2]))
    for name in (*TRAIN[:3], VAL[0], *OURS):
        save(root / "img" / f"{name}.jpg", colors(name))
        mat(root / "cls" / f"{name}.mat", classes(name, void=False))
    return root


def mat(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"GTcls": {"Segmentation": array, "CategoriesPresent": np.unique(array)}})


def parts(out):
    manifest = json.loads((out / "dataset.json").read_text())
    return {part: {entry["case"] for entry in manifest[part]} for part in ("training", "validation", "test")}


def stored(out, kind, name):
    return np.asarray(nib.load(out / f"{kind}/{name}.nii.gz").dataobj)[:, :, 0].swapaxes(0, 1)


def test_prepared_folder(source, tmp_path):
    out = tmp_path / "out"
    message = voc.prepare(source, out)
    assert "12 train (published: 1464), 2 val (published: 1449), 14 trainval (published: 2913)" in message
    folder = DataFolder(out)
    assert (folder.ignore_index, folder.channels) == (255, ("red", "green", "blue"))
    assert [label.name for label in folder.labels] == [label.name for label in labels.VOC]
    found = parts(out)
    assert found["test"] == set(VAL)
    assert (len(found["training"]), len(found["validation"])) == (11, 1)
    assert found["training"] | found["validation"] == set(TRAIN)
    for name in (*TRAIN, *VAL):
        photograph = np.asarray(Image.open(source / "JPEGImages" / f"{name}.jpg"))
        assert np.array_equal(stored(out, "images", name), photograph)
        assert np.array_equal(stored(out, "labels", name), classes(name))
    assert check(out)[1] == []


def test_labels_are_vocs(source):
    names = [label.name for label in labels.VOC]
    assert (len(names), names[1], names[15], names[20]) == (21, "aeroplane", "person", "tv_monitor")
    assert (labels.VOC[1].color, labels.VOC[15].color) == ("#800000", "#C08080")
    assert labels.labels_of(names[1:]) == labels.VOC


@pytest.mark.parametrize("place", [".", "..", "../.."])
def test_source_may_be_a_folder_above(place, source):
    assert len(voc.find_cases(source / place)) == 14


def test_published_counts_give_no_remark(source, tmp_path, monkeypatch):
    monkeypatch.setattr(voc, "COUNTS", {"train": 12, "val": 2, "trainval": 14})
    assert voc.prepare(source, tmp_path / "out").endswith("(11 training, 1 validation, 2 test)")


def test_counts():
    assert voc.COUNTS == {"train": 1464, "val": 1449, "trainval": 2913}
    assert voc.TRAINAUG == 10582


def test_sbd_joins_training_alone(source, sbd, tmp_path):
    voc.prepare(source, tmp_path / "out")
    plain = parts(tmp_path / "out")
    message = voc.prepare(source, tmp_path / "out", sbd.parent)
    found = parts(tmp_path / "out")
    assert "15 trainaug (published: 10582)" in message
    assert "3 cases written, 14 up to date" in message
    assert found == {**plain, "training": plain["training"] | set(OURS)}
    # Where there are both, VOC's own labels are kept, with their ignored outlines.
    assert np.array_equal(stored(tmp_path / "out", "labels", TRAIN[0]), classes(TRAIN[0]))
    assert np.array_equal(stored(tmp_path / "out", "labels", OURS[0]), classes(OURS[0], void=False))
    assert check(tmp_path / "out")[1] == []


def test_phantoms_among_the_sources(source, sbd, tmp_path):
    (sbd.parent / "PHANTOM.json").write_text("{}")
    for given, phantom in ((None, False), (sbd, True)):
        voc.prepare(source, tmp_path / "out", given)
        assert DataFolder(tmp_path / "out").phantom is phantom


def test_another_list_of_test_images(source, sbd, tmp_path):
    lists(tmp_path, seg11valid=(VAL[1], TRAIN[5]))
    voc.prepare(source, tmp_path / "out", sbd, tmp_path / "seg11valid.txt")
    found = parts(tmp_path / "out")
    assert found["test"] == {VAL[1], TRAIN[5]}
    # SBD's labels of the other images of val are used for training.
    assert found["training"] | found["validation"] == {*TRAIN, *OURS, VAL[0]} - {TRAIN[5]}


def test_trainval_is_drawn_from_both_lists(source, sbd, tmp_path):
    run = CliRunner().invoke(
        app, ["voc", "--source", str(source), "--sbd", str(sbd), "--split", "trainval", "--out", str(tmp_path / "out")]
    )
    assert run.exit_code == 0, run.output
    found = parts(tmp_path / "out")
    assert found["training"] | found["validation"] | found["test"] == {*TRAIN, *VAL, *OURS}
    assert set(OURS) <= found["training"]
    assert found["validation"]
    assert found["test"]
    assert found["training"] & set(VAL)
    lists(tmp_path, seg11valid=(VAL[1], TRAIN[5]))
    voc.prepare(source, tmp_path / "out", sbd, tmp_path / "seg11valid.txt", trainval=True)
    found = parts(tmp_path / "out")
    assert found["test"] == {VAL[1], TRAIN[5]}
    assert found["training"] | found["validation"] == {*TRAIN, *VAL, *OURS} - {VAL[1], TRAIN[5]}


def test_second_run_changes_nothing(source, sbd, tmp_path):
    out = tmp_path / "out"
    voc.prepare(source, out, sbd)
    before = raw.times(out)
    assert voc.prepare(source, out, sbd).startswith("unchanged: 17 cases")
    assert raw.times(out) == before


NAME = TRAIN[3]
IMAGE, LABEL, LISTED = f"JPEGImages/{NAME}.jpg", f"SegmentationClass/{NAME}.png", "ImageSets/Segmentation/train.txt"


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        (LABEL, lambda p: palette(p, classes(NAME)[1:]), "differs in size from its picture .24 x 15 and 24 x 16"),
        (
            LABEL,
            lambda p: palette(p, np.full((ROWS, COLUMNS), 21, np.uint8)),
            r"expected label values 0 to 20, and 255, got \[21\]",
        ),
        (LABEL, lambda p: palette(p, np.full((ROWS, COLUMNS), 255, np.uint8)), "expected pixels of a class"),
        (LABEL, lambda p: save(p, colors(NAME)), "expected a label map, one class per pixel, got colors"),
        (LABEL, lambda p: p.unlink(), "is missing, which the lists in"),
        (IMAGE, lambda p: p.unlink(), "is missing, which the lists in"),
        (IMAGE, lambda p: p.write_bytes(p.read_bytes()[:300]), "expected a complete picture"),
        (LISTED, lambda p: p.write_text("\n"), "expected names of images, one per line, got none"),
        (LISTED, lambda p: p.write_bytes(b"\xff\xfe"), "expected a list of names"),
        (LISTED, lambda p: p.unlink(), "can't be read"),
        (LISTED, lambda p: lists(p.parent, train=(*TRAIN, VAL[0])), f"{VAL[0]} is in train.txt and val.txt"),
    ],
)
def test_bad_input(source, tmp_path, name, damage, message):
    damage(source / name)
    with pytest.raises(InputError, match=message) as caught:
        voc.prepare(source, tmp_path / "out")
    assert str((source / name).parent) in str(caught.value)
    assert not (tmp_path / "out/dataset.json").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(b"no MATLAB"), "expected GTcls.Segmentation"),
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "expected GTcls.Segmentation"),
        (lambda path: savemat(path, {"GTinst": 3}), "expected GTcls.Segmentation .'GTcls'"),
        (
            lambda path: mat(path, np.zeros((2, 3, 4))),
            r"expected a label map as GTcls.Segmentation, got float64 \(2, 3, 4\)",
        ),
        (lambda path: mat(path, classes(OURS[0])[:, 1:]), "differs in size from its picture"),
        (lambda path: path.unlink(), "is missing"),
    ],
)
def test_bad_file_of_sbd(source, sbd, tmp_path, damage, message):
    path = sbd / "cls" / f"{OURS[0]}.mat"
    damage(path)
    with pytest.raises(InputError, match=message) as caught:
        voc.prepare(source, tmp_path / "out", sbd)
    assert str(path) in str(caught.value)


def test_wrong_folders(source, tmp_path):
    with pytest.raises(InputError, match=r"expected ImageSets.Segmentation in it"):
        voc.prepare(tmp_path, tmp_path / "out")
    with pytest.raises(InputError, match="expected cls in it"):
        voc.prepare(source, tmp_path / "out", tmp_path)
