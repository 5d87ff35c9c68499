"""Read PASCAL-Context and PASCAL-Person-Part in their published formats, and their phantoms."""

import json

import nibabel as nib
import numpy as np
import pytest
import raw
from PIL import Image
from scipy.io import loadmat, savemat
from typer.testing import CliRunner

from data_prep.__main__ import app
from data_prep.datasets import voc2010
from data_prep.phantoms import write
from data_prep.phantoms.voc2010 import NUMBERS
from medpos.core import labels
from medpos.core.errors import InputError

ROWS, COLUMNS = 6, 9
NAMES = {"train": ("2008_000001", "2008_000003"), "val": ("2008_000002",)}
KINDS = {"context": voc2010.prepare_context, "parts": voc2010.prepare_parts}


def array_of_structs(fields, rows):
    """Make MATLAB's 1 x N struct array."""
    made = np.zeros((1, len(rows)), [(field, object) for field in fields])
    for place, row in enumerate(rows):
        made[0, place] = row
    return made


def mask(*cells):
    found = np.zeros((ROWS, COLUMNS), np.uint8)
    for cell in cells:
        found[cell] = 1
    return found


def save_context(path, values):
    savemat(path, {"LabelMap": values})


def save_parts(path, things):
    """Write ``anno`` of objects, each a class and its parts."""
    rows = [
        (kind, 15, mask((0, 0)), array_of_structs(("part_name", "mask"), parts) if parts else np.zeros((0, 0)))
        for kind, parts in things
    ]
    objects = array_of_structs(("class", "class_ind", "mask", "parts"), rows)
    savemat(path, {"anno": {"imname": path.stem, "objects": objects}})


PERSON = ("person", [("head", mask((0, 1))), ("hair", mask((0, 2))), ("neck", mask((1, 1))), ("llarm", mask((2, 0))),
    ("rhand", mask((2, 3))), ("luarm", mask((1, 0))), ("ruleg", mask((3, 1))), ("rfoot", mask((5, 8)))])  # fmt: skip


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "raw/VOCdevkit/VOC2010"
    folders = [tmp_path / "raw" / name for name in ("trainval", "Annotations_Part")]
    for folder in (root / "JPEGImages", root / "ImageSets/Main", *folders):
        folder.mkdir(parents=True)
    for part, names in NAMES.items():
        (root / f"ImageSets/Main/{part}.txt").write_text("".join(f"{name}\n" for name in names))
        marks = zip(names, ("1", "0"), strict=False)
        text = "".join(f"{name} {mark:>2}\n" for name, mark in marks) + "2009_000009 -1\n"
        (root / f"ImageSets/Main/person_{part}.txt").write_text(text)
        for name in names:
            Image.fromarray(np.full((ROWS, COLUMNS, 3), 77, np.uint8)).save(root / f"JPEGImages/{name}.jpg")
            values = np.full((ROWS, COLUMNS), 431, np.uint16)
            values[0, :4] = 2, 397, 19, 458  # aeroplane, table, bedclothes, wood
            save_context(tmp_path / f"raw/trainval/{name}.mat", values)
            things = [("dog", [("head", mask((4, 4)))]), PERSON, ("person", [])]
            save_parts(tmp_path / f"raw/Annotations_Part/{name}.mat", things)
    lines = {**{number: key for key, number in NUMBERS.items()}, 1: "accordion", 3: "air conditioner"}
    names = {number: voc2010.CONTEXT_NAMES.get(key, key.replace("_", "")) for number, key in lines.items()}
    (tmp_path / "raw/labels.txt").write_text("".join(f"{number}: {names[number]}\n" for number in sorted(names)))
    return tmp_path / "raw"


def stored(out, name):
    return np.asarray(nib.load(out / f"labels/{name}.nii.gz").dataobj)[:, :, 0].swapaxes(0, 1)


def test_context(source, tmp_path):
    message = voc2010.prepare_context(source, tmp_path / "out")
    assert "2 train (published: 4998), 1 val (published: 5105)" in message
    wanted = np.zeros((ROWS, COLUMNS), int)
    wanted[0, :4] = [next(label.index for label in labels.CONTEXT if label.name == name) for name in
        ("aeroplane", "dining_table", "bedclothes", "wood")]  # fmt: skip
    assert (wanted[0, 0], wanted[0, 1], wanted[0, 3]) == (1, 11, 59)
    for name in (*NAMES["train"], *NAMES["val"]):
        np.testing.assert_array_equal(stored(tmp_path / "out", name), wanted)
    manifest = json.loads((tmp_path / "out/dataset.json").read_text())
    assert [entry["case"] for entry in manifest["test"]] == ["2008_000002"]


def test_parts_of_persons_are_merged_into_six(source, tmp_path):
    message = voc2010.prepare_parts(source, tmp_path / "out", source)
    assert "2 train (published: 1716), 1 val (published: 1817)" in message  # without the picture marked -1
    wanted = np.zeros((ROWS, COLUMNS), int)
    wanted[0, 1:3], wanted[1, 1], wanted[1, 0], wanted[2, [0, 3]], wanted[3, 1], wanted[5, 8] = 1, 2, 3, 4, 5, 6
    np.testing.assert_array_equal(stored(tmp_path / "out", "2008_000002"), wanted)  # and nothing of the dog
    assert sum(map(len, voc2010.MERGED.values())) == len(voc2010.PART_CLASSES) == 24


def test_classes_and_colors_go_on_as_vocs():
    assert labels.CONTEXT[:21] == labels.VOC
    assert len(labels.CONTEXT) == 60
    assert [labels.palette_color(index) for index in range(21)] == [label.color for label in labels.VOC]
    assert len({label.color for label in labels.CONTEXT}) == 60
    for known in (labels.CONTEXT, labels.PERSON_PARTS, labels.CITYSCAPES):
        assert labels.labels_of([label.name for label in known[1:]]) == known
    assert set(NUMBERS) == {label.name for label in labels.CONTEXT[1:]}


CONTEXT_FILE, PARTS_FILE = "trainval/2008_000001.mat", "Annotations_Part/2008_000001.mat"
PERSONS = "VOCdevkit/VOC2010/ImageSets/Main/person_train.txt"
PART = r"expected a mask \(6, 9\) of a part of a person, got "


def context_map(*shape, kind=np.uint16):
    return lambda path: save_context(path, np.zeros(shape, kind))


def person(part, found):
    return lambda path: save_parts(path, [("person", [(part, found)])])


@pytest.mark.parametrize(
    ("kind", "name", "damage", "message"),
    [
        ("context", CONTEXT_FILE, lambda path: path.unlink(), r"trainval/2008_000001\.mat"),
        ("context", CONTEXT_FILE, lambda path: path.write_text("no"), "expected LabelMap"),
        ("context", CONTEXT_FILE, context_map(ROWS, 2), "differs in size"),
        ("context", CONTEXT_FILE, context_map(ROWS, COLUMNS, kind=float), "expected a label map as LabelMap"),
        ("context", "labels.txt", lambda path: path.write_text("2: aeroplane\n"), "labels.txt: .* for bicycle"),
        ("parts", PARTS_FILE, lambda path: savemat(path, {"anno": {"imname": "a"}}), "expected anno.objects"),
        ("parts", PARTS_FILE, person("wing", mask()), PART + r"wing \(6, 9\)"),
        ("parts", PARTS_FILE, person("head", mask()[:3]), PART + r"head \(3, 9\)"),
        ("parts", PERSONS, lambda path: path.write_text("a b\n"), "expected lines of a name and -1, 0 or 1"),
    ],
)
def test_bad_input(source, tmp_path, kind, name, damage, message):
    damage(source / name)
    voc2010._read_numbers.cache_clear()
    with pytest.raises(InputError, match=message):
        KINDS[kind](source, tmp_path / "out")
    assert not (tmp_path / "out/dataset.json").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_phantoms_have_every_class_and_are_prepared_by_the_command_line(kind, tmp_path):
    write(kind, tmp_path / "raw", cases=9, seed=1)
    write(kind, tmp_path / "few", cases=2, seed=1)
    few, whole = (
        {
            path: data
            for path, data in raw.tree(tmp_path / name).items()
            if path.endswith((".jpg", ".mat", "labels.txt"))
        }
        for name in ("few", "raw")
    )
    assert few.items() < whole.items()
    arguments = [kind, "--source", str(tmp_path / "raw"), "--out", str(tmp_path / "out")]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    manifest = json.loads((tmp_path / "out/dataset.json").read_text())
    assert (manifest["phantom"], len(manifest["test"])) == (True, 3)
    assert CliRunner().invoke(app, ["verify", str(tmp_path / "out")]).stdout.startswith("ok: ")  # every class is there


def test_phantoms_have_the_structs_of_the_download(tmp_path):
    write("parts", tmp_path, cases=1)
    anno = loadmat(tmp_path / "Annotations_Part/2008_000000.mat")["anno"]
    things = anno["objects"][0, 0]
    assert things.dtype.names == ("class", "class_ind", "mask", "parts")
    assert things["class"][0, 0][0] == "dog"
    assert things["parts"][0, 0].size == 0
    assert things["parts"][0, 1].dtype.names == ("part_name", "mask")
    assert {part[0] for part in things["parts"][0, 1]["part_name"][0]} <= set(voc2010.PART_CLASSES)
