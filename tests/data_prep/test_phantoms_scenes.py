import json
from collections import Counter
from itertools import groupby

import numpy as np
import pytest
import raw
from PIL import Image
from running import leave_to_torture
from scipy.ndimage import distance_transform_edt
from typer.testing import CliRunner

from data_prep.__main__ import app
from data_prep.datasets.cityscapes import IDS
from data_prep.datasets.coco import CATEGORIES
from data_prep.datasets.voc import read_sbd_label
from data_prep.phantom_counts import MIN_CASES
from data_prep.phantoms import write
from data_prep.phantoms.imagenet import CLASSES
from data_prep.phantoms.objects import KINDS, Canvas, Pen
from data_prep.phantoms.scene import CASTS, SETTINGS, draw, render
from data_prep.phantoms.shapes import case_generator
from data_prep.rle import decode
from medpos.core.labels import VOC

CASES = {"voc": 9, "sbd": 4, "cityscapes": 6, "coco": 9, "imagenet": 60}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Write the raw folder of each kind."""
    root = tmp_path_factory.mktemp("scenes")
    for kind, cases in CASES.items():
        write(kind, root / kind, cases=cases, seed=1)
    return {kind: root / kind for kind in CASES}


@pytest.fixture(scope="module")
def scenes():
    return [draw(case_generator(5, 7, index), (300, 225), CASTS[index % len(CASTS)]) for index in range(18)]


@pytest.mark.parametrize("kind", leave_to_torture(list(CASES), [*CASES][1:]))
def test_a_case_is_the_same_in_any_number_of_cases(kind, folders, tmp_path):
    write(kind, tmp_path, cases=MIN_CASES.get(kind, 2), seed=1, workers=1)
    listed = ("PHANTOM.json", ".txt", "instances_")
    few, whole = (
        {name: data for name, data in raw.tree(place).items() if not any(part in name for part in listed)}
        for place in (tmp_path, folders[kind])
    )
    assert few.items() < whole.items()
    pictures = [data for name, data in whole.items() if name.lower().endswith((".jpg", ".jpeg", "leftimg8bit.png"))]
    assert len(set(pictures)) == CASES[kind]


@pytest.mark.parametrize("kind", ["voc", "cityscapes", "coco"])
def test_phantoms_are_prepared_by_the_command_line(kind, folders, tmp_path):
    for _ in range(2):
        made = CliRunner().invoke(app, [kind, "--source", str(folders[kind]), "--out", str(tmp_path)])
        assert (made.exit_code, made.exception) == (0, None)
    assert "unchanged: " in made.stdout
    sound = CliRunner().invoke(app, ["verify", str(tmp_path)])
    assert (sound.exit_code, sound.stdout.startswith("ok: ")) == (0, True)  # so every class is there
    manifest = json.loads((tmp_path / "dataset.json").read_text())
    assert (manifest["phantom"], manifest["ignore_index"]) == (True, 255)
    assert sum(len(manifest[part]) for part in ("training", "validation", "test")) == CASES[kind]
    assert all(manifest[part] for part in ("training", "validation", "test"))


def test_sbd_beside_voc(folders, tmp_path):
    arguments = ["--source", str(folders["voc"]), "--sbd", str(folders["sbd"]), "--out", str(tmp_path)]
    made = CliRunner().invoke(app, ["voc", *arguments])
    assert made.exit_code == 0
    assert "not the published number: 6 train" in made.stdout  # SBD's four are VOC's 0, 2, 4 and 6
    write("sbd", folders["sbd"], cases=6, seed=1)
    assert "1 cases written, 9 up to date" in CliRunner().invoke(app, ["voc", *arguments]).stdout  # 8 and 10
    written = read_sbd_label(folders["sbd"] / "dataset/cls/2007_000000.mat")[:, :, 0].T
    with Image.open(folders["voc"] / "SegmentationClass/2007_000000.png") as stored:
        of_voc = np.asarray(stored)
    assert np.array_equal(written[of_voc != 255], of_voc[of_voc != 255])
    assert 255 not in written


def test_voc_files_are_as_in_the_download(folders):
    root = folders["voc"]
    listed = {name: (root / f"ImageSets/Segmentation/{name}.txt").read_text().split() for name in ("train", "val")}
    assert {name: len(names) for name, names in listed.items()} == {"train": 6, "val": 3}
    both = (root / "ImageSets/Segmentation/trainval.txt").read_text().split()
    assert both == sorted([*listed["train"], *listed["val"]])
    for name in both:
        with (
            Image.open(root / f"JPEGImages/{name}.jpg") as photograph,
            Image.open(root / f"SegmentationClass/{name}.png") as label,
        ):
            assert (photograph.format, photograph.mode, label.mode) == ("JPEG", "RGB", "P")
            assert photograph.size == label.size
            assert label.getpalette()[3:6] == [128, 0, 0]
            assert label.getpalette()[765:] == [224, 224, 192]


def test_rims_are_five_pixels_wide(scenes):
    canvas = Canvas((60, 40))
    pen = Pen(canvas, case_generator(0, 7, 0), (30, 30), 1.0, number=1)
    pen.box(0, 0, 29.5, 20, (0.5, 0.5, 0.5))
    label = render(canvas, case_generator(0, 7, 1), np.array([0, 6], np.uint8)).label
    for line in (label[20], label[:, 30]):
        runs = [(value, len(list(group))) for value, group in groupby(line.tolist())]
        assert [value for value, _ in runs] == [0, 255, 6, 255, 0]
        assert (runs[1], runs[3]) == ((255, 5), (255, 5))


def test_rims_separate_the_objects(scenes):
    for scene in scenes:
        assert set(np.unique(scene.label)) <= {*range(21), 255}
        assert np.array_equal(scene.label == 255, scene.rim)
        for number in np.unique(scene.numbers):
            inside = scene.numbers == number
            assert scene.rim[inside & (distance_transform_edt(inside) <= 2)].all()


def test_objects_hide_each_other(scenes):
    """Check that objects touch in most pictures, and that classes of one color differ in more than color."""
    touching = 0
    for scene in scenes:
        pairs = [(scene.numbers[:, :-1], scene.numbers[:, 1:]), (scene.numbers[:-1], scene.numbers[1:])]
        touching += any(((a != b) & (a > 0) & (b > 0)).any() for a, b in pairs)
        assert 0.02 < np.mean(scene.numbers > 0) < 0.8
    assert touching > len(scenes) / 3


def test_color_does_not_tell_the_class(scenes):
    """Check that the object nearest in mean color is seldom of the same class."""
    found = [
        (scene.classes[number], scene.picture[scene.numbers == number].mean(0))
        for scene in scenes
        for number in np.unique(scene.numbers[scene.numbers > 0])
    ]
    kinds, colors = np.array([kind for kind, _ in found]), np.array([color for _, color in found])
    apart = np.linalg.norm(colors[:, None] - colors, axis=2)
    np.fill_diagonal(apart, np.inf)
    assert len(found) > 40
    assert np.mean(kinds[apart.argmin(1)] == kinds) < 0.35


def test_scenes_have_every_class():
    assert [kind.name for kind in KINDS] == [label.name for label in VOC[1:]]
    assert {name for _, *names in CASTS for name in names} == {kind.name for kind in KINDS}
    assert all(set(names) <= set(SETTINGS[setting]) for setting, *names in CASTS)


def test_cityscapes_files_are_as_in_the_download(folders):
    root = folders["cityscapes"]
    images = sorted(path.relative_to(root / "leftImg8bit") for path in root.glob("leftImg8bit/*/*/*"))
    labels = sorted(path.relative_to(root / "gtFine") for path in root.glob("gtFine/*/*/*"))
    assert [str(path).replace("leftImg8bit", "gtFine_labelIds") for path in images] == [str(path) for path in labels]
    assert str(images[0]) == "train/aachen/aachen_000000_000019_leftImg8bit.png"
    ids = set()
    for image, label in zip(images, labels, strict=True):
        with Image.open(root / "leftImg8bit" / image) as picture, Image.open(root / "gtFine" / label) as stored:
            assert (picture.mode, stored.mode, picture.size, stored.size) == ("RGB", "L", (512, 256), (512, 256))
            ids |= set(np.unique(np.asarray(stored)).tolist())
    assert ids == {0, *IDS}


def test_coco_annotations(folders):
    root, crowds, kinds = folders["coco"], 0, set()
    for folder in ("train2017", "val2017"):
        content = json.loads((root / f"annotations/instances_{folder}.json").read_text())
        assert len(content["categories"]) == 21
        shapes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
        assert {path.name for path in (root / folder).iterdir()} == {image["file_name"] for image in content["images"]}
        for entry in content["annotations"]:
            mask = decode(entry["segmentation"], shapes[entry["image_id"]])
            crowds += entry["iscrowd"]
            kinds.add(entry["category_id"])
            assert isinstance(entry["segmentation"], dict) == bool(entry["iscrowd"])
            assert mask.sum() >= entry["area"]  # holes are filled
            x, y, wide, high = entry["bbox"]
            assert not np.delete(mask, np.s_[x : x + wide], 1).any()
            assert not np.delete(mask, np.s_[y : y + high], 0).any()
    assert crowds
    assert kinds == set(CATEGORIES)


def test_imagenet_folders(folders):
    names = [path.relative_to(folders["imagenet"]).parts for path in folders["imagenet"].rglob("*.JPEG")]
    for part, each in (("train", 5), ("val", 1)):
        inside = [number for of, number, _ in names if of == part]
        assert Counter(inside) == dict.fromkeys(CLASSES, each)
    assert ("train", "n02123045", "n02123045_3.JPEG") in names
    assert ("val", "n02690373", "ILSVRC2012_val_00000040.JPEG") in names
