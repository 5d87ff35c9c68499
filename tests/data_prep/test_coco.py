import json

import nibabel as nib
import numpy as np
import pytest
import raw
from PIL import Image

from data_prep.datasets import coco
from data_prep.rle import counts_to_text, mask_to_counts
from data_prep.verify import check
from medpos.core import labels
from medpos.core.errors import InputError
from medpos.data.folder import DataFolder

ROWS, COLUMNS = 40, 60
# COCO's names of VOC's classes with its category ids (annotations of 2017), in VOC's order.
CATEGORIES = {
    "airplane": 5, "bicycle": 2, "bird": 16, "boat": 9, "bottle": 44, "bus": 6, "car": 3, "cat": 17, "chair": 62,
    "cow": 21, "dining table": 67, "dog": 18, "horse": 19, "motorcycle": 4, "person": 1, "potted plant": 64,
    "sheep": 20, "couch": 63, "train": 7, "tv": 72,
}  # fmt: skip
UMBRELLA = 28


def box(left, top, right, bottom):
    """Return a rectangle as polygon and as mask."""
    mask = np.zeros((ROWS, COLUMNS), bool)
    mask[top:bottom, left:right] = True
    return [[left, top, right, top, right, bottom, left, bottom]], mask


def entry(number, category, segmentation, area, crowd=0):
    return {
        "image_id": number, "category_id": category, "segmentation": segmentation, "area": area, "iscrowd": crowd
    }  # fmt: skip


def colors(number):
    return np.random.default_rng(number).integers(0, 256, (ROWS, COLUMNS, 3), np.uint8)


def write(root, folder, entries, numbers):
    images = [{"id": n, "file_name": f"{n:012d}.jpg", "height": ROWS, "width": COLUMNS, "license": 1} for n in numbers]
    for number in numbers:
        path = root / folder / f"{number:012d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(colors(number)).save(path)
    path = root / f"annotations/instances_{folder}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"info": {}, "images": images, "annotations": entries, "categories": []}))


@pytest.fixture
def source(tmp_path):
    root, (whole, mask) = tmp_path / "raw", box(5, 5, 45, 35)
    train = [entry(n, 1, whole, 1200) for n in (1, 2, 3)]
    train += [entry(4, 17, box(0, 0, 20, 20)[0], 999), entry(5, UMBRELLA, whole, 1200), entry(6, 1, whole, 1200, 1)]
    write(root, "train2017", train, range(1, 9))
    runs = mask_to_counts(box(0, 20, 60, 40)[1])
    val = [
        entry(20, 17, whole, 1200),
        entry(20, 18, box(40, 0, 60, 10)[0], 200),
        entry(20, UMBRELLA, box(0, 0, 60, 40)[0], 2400),
        entry(20, 1, {"counts": runs, "size": [ROWS, COLUMNS]}, 1200, 1),
        entry(21, 3, {"counts": counts_to_text(mask_to_counts(mask)), "size": [ROWS, COLUMNS]}, 1200),
        entry(21, 3, box(40, 30, 50, 40)[0], 100),
    ]
    write(root, "val2017", val, (20, 21))
    return root


def stored(out, number, kind="labels"):
    return np.asarray(nib.load(out / f"{kind}/{number:012d}.nii.gz").dataobj)[:, :, 0].swapaxes(0, 1)


def test_prepared_folder(source, tmp_path):
    out = tmp_path / "out"
    message = coco.prepare(source, out)
    assert "of 10 images 5 have 1000 pixels or more" in message
    assert "8 train2017 (published: 118287), 2 val2017 (published: 5000)" in message
    assert DataFolder(out).ignore_index == 255
    manifest = json.loads((out / "dataset.json").read_text())
    assert [label["name"] for label in manifest["labels"]] == [label.name for label in labels.VOC]
    parts = {part: {int(e["case"]) for e in manifest[part]} for part in ("training", "validation", "test")}
    assert parts["test"] == {20, 21}
    assert parts["training"] | parts["validation"] == {1, 2, 3}  # not 4: too small, 5: no class, 6: a crowd, 7: empty
    assert len(parts["validation"]) == 1
    photograph = np.asarray(Image.open(source / "val2017/000000000020.jpg"))
    assert np.array_equal(stored(out, 20, "images"), photograph)


def test_painted_objects(source, tmp_path):
    coco.prepare(source, tmp_path / "out")
    cat, dog, crowd = box(5, 5, 45, 35)[1], box(40, 0, 60, 10)[1], box(0, 20, 60, 40)[1]
    expected = np.zeros((ROWS, COLUMNS))
    expected[crowd], expected[cat], expected[dog] = 255, 8, 12
    expected[cat & dog] = 255  # claimed by two classes
    assert np.array_equal(stored(tmp_path / "out", 20), expected)
    # Two objects of one class may overlap.
    car = box(5, 5, 45, 35)[1] | box(40, 30, 50, 40)[1]
    assert np.array_equal(stored(tmp_path / "out", 21), np.where(car, 7, 0))


def test_categories(tmp_path):
    """Write one image for each class, in the order of COCO's names."""
    whole = box(0, 0, 60, 40)[0]
    write(tmp_path, "train2017", [entry(n, c, whole, 2400) for n, c in enumerate(CATEGORIES.values(), 1)], range(1, 21))
    write(tmp_path, "val2017", [entry(30, 1, whole, 2400)], [30])
    coco.prepare(tmp_path, tmp_path / "out")
    assert [set(stored(tmp_path / "out", n).ravel().tolist()) for n in range(1, 21)] == [{n} for n in range(1, 21)]
    assert check(tmp_path / "out")[1] == []


def test_published_counts_give_no_remark(source, tmp_path, monkeypatch):
    assert coco.COUNTS == {"train2017": 118287, "val2017": 5000}
    monkeypatch.setattr(coco, "COUNTS", {"train2017": 8, "val2017": 2})
    assert coco.prepare(source, tmp_path / "out").endswith("1000 pixels or more")


def test_second_run_changes_what_changed(source, tmp_path):
    out = tmp_path / "out"
    coco.prepare(source, out)
    before = raw.times(out)
    assert coco.prepare(source, out, workers=2).startswith("unchanged: 5 cases")
    assert raw.times(out) == before
    change(source, lambda content: content["annotations"][0].update(category_id=16))
    assert "1 cases written, 4 up to date" in coco.prepare(source, out)
    assert set(np.unique(stored(out, 20))) == {0, 3, 12, 255}


def change(source, how):
    path = source / "annotations/instances_val2017.json"
    content = json.loads(path.read_text())
    how(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: c.pop("images"), "expected COCO's annotations .KeyError"),
        (lambda c: c["annotations"][0].pop("iscrowd"), "expected COCO's annotations .KeyError"),
        (lambda c: c.update(annotations=[3]), "expected COCO's annotations .TypeError"),
        (lambda c: c["images"][0].update(file_name="x.jpg"), "x.jpg: is missing, which instances_val2017.json names"),
        (lambda c: c["images"][0].update(width=61), "000000000020.jpg: a segmentation can't be read"),
        (lambda c: c["images"][1].update(height=41), "000000000021.jpg: a segmentation can't be read"),
        (
            lambda c: c["annotations"][0].update(segmentation=[[1, 2, 3]]),
            "a segmentation can't be read .expected polygons or RLE",
        ),
    ],
)
def test_bad_annotations(source, tmp_path, damage, message):
    change(source, damage)
    with pytest.raises(InputError, match=message) as caught:
        coco.prepare(source, tmp_path / "out")
    assert str(source) in str(caught.value)
    assert not (tmp_path / "out/dataset.json").exists()


def test_another_size_than_the_picture(source, tmp_path):
    Image.fromarray(colors(1)[1:]).save(source / "train2017/000000000001.jpg")
    with pytest.raises(
        InputError, match=r"train2017.json, 000000000001.jpg: differs in size from its picture .*60 x 40 and 60 x 39"
    ):
        coco.prepare(source, tmp_path / "out")


def test_damaged_files(source, tmp_path):
    (source / "annotations/instances_train2017.json").write_text("{")
    with pytest.raises(InputError, match=r"instances_train2017.json: expected COCO's annotations .JSONDecodeError"):
        coco.prepare(source, tmp_path / "out")
    with pytest.raises(InputError, match="expected annotations in it"):
        coco.prepare(tmp_path / "out", tmp_path / "out")
