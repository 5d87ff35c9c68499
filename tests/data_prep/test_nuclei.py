import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import raw
import raw_microscopy as rawm
from PIL import Image

from data_prep.datasets import nuclei
from data_prep.verify import check
from medpos.core.errors import InputError
from medpos.data.schema import SPLITS as PARTS


@pytest.fixture
def source(tmp_path):
    return rawm.nuclei(tmp_path / "stage1_train")


def entries(out):
    manifest = json.loads((out / "dataset.json").read_text())
    return {entry["case"]: entry for part in PARTS for entry in manifest[part]}


def stored(out, kind, case):
    return np.asarray(nib.load(out / kind / f"{case}.nii.gz").dataobj)


def test_nuclei_are_numbered_and_the_first_mask_has_a_shared_pixel(source, tmp_path):
    out = tmp_path / "out"
    assert "10 cases written" in nuclei.prepare(source, out)
    expected = np.zeros(rawm.SIZE, int)
    expected[0:2, 9:12], expected[4:9, 5:9], expected[1:5, 2:6] = 3, 2, 1  # a is painted last: it has (4, 5)
    for case, entry in entries(out).items():
        instances = stored(out, "instances", case)
        assert instances.dtype == np.uint16
        assert np.array_equal(instances[..., 0].T, expected)
        assert np.array_equal(stored(out, "labels", case) > 0, instances > 0)
        assert (entry["objects"], entry["overlap_pixels"]) == (3, 1)
    assert check(out)[1] == []


def test_a_nucleus_hidden_by_others_gets_no_number(source, tmp_path):
    rawm.save(source / "id00/masks/aa.png", rawm.box((slice(2, 4), slice(3, 5))))
    nuclei.prepare(source, tmp_path / "out")
    entry = entries(tmp_path / "out")["id00"]
    assert (entry["objects"], entry["overlap_pixels"]) == (3, 5)
    assert stored(tmp_path / "out", "instances", "id00").max() == 3


def test_gray_is_kept_and_color_becomes_luminance(source, tmp_path):
    nuclei.prepare(source, tmp_path / "out")
    for case, entry in entries(tmp_path / "out").items():
        rgb = np.asarray(Image.open(source / case / "images" / f"{case}.png"))[..., :3].astype(float)
        found = stored(tmp_path / "out", "images", case)[..., 0].T
        assert np.abs(found - rgb @ (0.299, 0.587, 0.114)).max() <= 0.51  # ITU-R 601
        color = int(case[2:]) % 2 == 1
        assert entry["group"] == f"12x10 {'colour' if color else 'grey'}"
        assert color or np.array_equal(found, rgb[..., 0])


def test_the_split_is_balanced_over_sizes_and_colors(source, tmp_path):
    for number in range(10, 20):
        rawm.nucleus_image(source, f"id{number}", number, size=(16, 16))
    nuclei.prepare(source, tmp_path / "out")
    manifest = json.loads((tmp_path / "out/dataset.json").read_text())
    assert [len(manifest[part]) for part in PARTS] == [16, 2, 2]
    sizes = [entry["group"] for entry in manifest["training"]]
    assert [sizes.count(group) for group in ("12x10 grey", "12x10 colour", "16x16 grey")] == [4, 4, 8]


def test_a_zip_archive_gives_what_its_folder_gives(source, tmp_path):
    (source / "id00/masks/._a.png").write_bytes(b"a Mac's own")
    archive = rawm.zipped(source, tmp_path / "stage1_train.zip")
    nuclei.prepare(source, tmp_path / "one")
    nuclei.prepare(archive, tmp_path / "two", workers=2)
    assert raw.tree(tmp_path / "one") == raw.tree(tmp_path / "two")
    before = raw.times(tmp_path / "one")
    assert nuclei.prepare(archive, tmp_path / "one").startswith("unchanged: 10 cases")
    assert raw.times(tmp_path / "one") == before


def test_an_archive_that_was_replaced_is_read_again(source, tmp_path):
    archive = rawm.zipped(source, tmp_path / "x.zip")
    nuclei.prepare(archive, tmp_path / "out")
    rawm.nucleus_image(source, "id10")
    rawm.zipped(source, archive)
    assert "1 cases written, 10 up to date" in nuclei.prepare(archive, tmp_path / "out")


@pytest.mark.parametrize("change", [Path.unlink, lambda path: rawm.save(path, rawm.box((slice(0, 1), slice(0, 1))))])
def test_a_changed_or_missing_mask_is_noticed(source, tmp_path, change):
    nuclei.prepare(source, tmp_path / "out")
    change(source / "id03/masks/c.png")
    assert "1 cases written, 9 up to date" in nuclei.prepare(source, tmp_path / "out")
    nuclei.prepare(source, tmp_path / "fresh")
    assert raw.tree(tmp_path / "out") == raw.tree(tmp_path / "fresh")


def test_the_number_of_images_is_compared_with_the_known_downloads(source, tmp_path, monkeypatch):
    said = nuclei.prepare(source, tmp_path / "out")
    assert said.endswith("10 images, not the 670 of Kaggle's stage1_train or 598 of stage1_train with corrected masks")
    monkeypatch.setitem(nuclei.KNOWN, 10, "ten")
    assert nuclei.prepare(source, tmp_path / "out").endswith("10 images, as ten")
    (source / "PHANTOM.json").write_text("{}")
    assert "not the" not in nuclei.prepare(source, tmp_path / "out")


def no_masks(root):
    for path in (root / "id02/masks").iterdir():
        path.unlink()


def truncate(path):
    path.write_bytes(path.read_bytes()[:60])


BAD = {
    r"id02/masks/b\.png: expected 12 x 10 pixels as its image, got 9 x 7": lambda r: rawm.save(
        r / "id02/masks/b.png", np.full((7, 9), 255, np.uint8)
    ),
    r"id02/masks/b\.png: expected a mask, got an empty one": lambda r: rawm.save(
        r / "id02/masks/b.png", np.zeros((10, 12), np.uint8)
    ),
    r"id02/masks/b\.png: expected a complete PNG": lambda r: truncate(r / "id02/masks/b.png"),
    r"id02/images/id02\.png: expected a complete PNG": lambda r: truncate(r / "id02/images/id02.png"),
    r"id02/images/id02\.png: expected 8 bits per color, got pixels of mode I;16": lambda r: rawm.save(
        r / "id02/images/id02.png", np.ones((10, 12), np.uint16)
    ),
    r"id02: expected masks/\*\.png": no_masks,
    r"id02: expected one image, images/id02.png, got 2": lambda r: rawm.save(
        r / "id02/images/x.png", np.ones((10, 12), np.uint8)
    ),
    r"id02: expected one image, images/id02.png, got 0": lambda r: (r / "id02/images/id02.png").unlink(),
    r"a second id02 beside": lambda r: rawm.nucleus_image(r / "again", "id02"),
}


@pytest.mark.parametrize("message", BAD)
@pytest.mark.parametrize("packed", [False, True])
def test_a_bad_file_is_named(source, tmp_path, message, packed):
    BAD[message](source)
    where = rawm.zipped(source, tmp_path / "x.zip") if packed else source
    with pytest.raises(InputError, match=message) as error:
        nuclei.prepare(where, tmp_path / "out")
    assert str(where) in str(error.value)
    assert not (tmp_path / "out/dataset.json").exists()


def test_no_nuclei_at_all(tmp_path):
    with pytest.raises(InputError, match=r"expected ID/images/ID\.png, found none; --source is stage1_train\.zip"):
        nuclei.prepare(tmp_path, tmp_path / "out")
    with pytest.raises(InputError, match=r"none\.zip: expected a folder or a complete zip archive"):
        nuclei.prepare(tmp_path / "none.zip", tmp_path / "out")


def test_a_damaged_archive(source, tmp_path):
    archive = rawm.zipped(source, tmp_path / "x.zip")
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"x\.zip: expected a folder or a complete zip archive"):
        nuclei.prepare(archive, tmp_path / "out")
    at = whole.index(b"id02/masks/b.png") + 50
    archive.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
    with pytest.raises(InputError, match=r"x\.zip/stage1_train/id02/masks/b\.png: can't be read \(Bad CRC-32"):
        nuclei.prepare(archive, tmp_path / "out")


@pytest.mark.skipif("MEDPOS_TEST_DATA" not in os.environ, reason="MEDPOS_TEST_DATA names no folder with dsb2018")
def test_real_nuclei(tmp_path):
    real = Path(os.environ["MEDPOS_TEST_DATA"]) / "dsb2018" / "stage1_train.zip"
    cases = nuclei.find_cases(real)
    assert len(cases) in nuclei.KNOWN
    chosen = {case.group: case for case in cases}  # one of each size and color
    assert len(chosen) > 5
    for case in chosen.values():
        volume = nuclei.read_case(case)
        assert volume.details["objects"] == len(np.unique(volume.instances)) - 1 == len(case.sources) - 1
        assert np.array_equal(volume.instances > 0, volume.label > 0)
        assert volume.image.shape == volume.label.shape
