import json

import nibabel as nib
import numpy as np
import pytest
import raw
from PIL import Image

from data_prep.datasets import jsrt
from medpos.core import labels
from medpos.core.errors import InputError


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    root = tmp_path_factory.mktemp("jsrt")
    images, masks = raw.jsrt(root / "raw", 2, clavicles=True)
    jsrt.prepare(images, masks, root / "out", size=512)
    return root


def load(root, kind, case="JPCLN001"):
    return nib.load(root / "out" / kind / f"{case}.nii.gz")


def entry(root, case="JPCLN001"):
    manifest = json.loads((root / "out" / "dataset.json").read_text())
    return next(e for part in ("training", "validation", "test") for e in manifest[part] if e["case"] == case)


def test_polarity_and_orientation(prepared):
    image = load(prepared, "images")
    assert image.shape == (512, 512, 1)
    assert image.get_data_dtype() == np.int16
    assert nib.aff2axcodes(image.affine) == ("L", "I", "P")
    data = np.asarray(image.dataobj)
    assert data[0, 0, 0] == 4000  # dense is bright
    assert data[-1, -1, 0] == 910
    # The bright block is 8 columns wide and 4 rows high: columns are the first axis.
    assert np.argwhere(data[..., 0] == 4000).max(axis=0).tolist() == [7, 3]
    corner = nib.affines.apply_affine(image.affine, [0, 0, 0])
    assert corner[0] > 0  # the image's left is the patient's right, +x
    assert corner[2] > 0  # the first row is the uppermost, +z
    assert np.linalg.det(image.affine[:3, :3]) > 0
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 1)
    assert np.allclose(image.get_qform(), image.get_sform(), atol=1e-4)
    assert image.header.get_xyzt_units()[0] == "mm"


def test_right_lung_lies_right_of_the_left_one(prepared):
    label = load(prepared, "labels")
    data = np.asarray(label.dataobj)
    x = [nib.affines.apply_affine(label.affine, np.argwhere(data == k).mean(axis=0))[0] for k in (1, 2)]
    assert x[0] > 0 > x[1]


def test_spacing(prepared):
    assert np.allclose(load(prepared, "images").header.get_zooms(), (0.7, 0.7, 1.0))
    assert entry(prepared)["spacing_mm"] == [0.7, 0.7, 1.0]


def test_paint_order_and_overlaps(prepared):
    label = np.asarray(load(prepared, "labels").dataobj)[..., 0]
    assert label.dtype == np.uint8
    assert label[195, 300] == 3  # heart over right lung
    assert label[310, 300] == 3  # heart over left lung
    # By hand, in SCR pixels: rows 500..700 x columns 380..400, and rows 500..640 x columns 600..640; a quarter at 512.
    assert entry(prepared)["overlap_pixels"] == {"right_lung+heart": 200 * 20 // 4, "left_lung+heart": 140 * 40 // 4}
    manifest = json.loads((prepared / "out" / "dataset.json").read_text())
    assert [item["name"] for item in manifest["labels"]] == ["background", "right_lung", "left_lung", "heart"]


def test_clavicles_are_painted_last(prepared, tmp_path):
    jsrt.prepare(
        prepared / "raw" / "All247images", prepared / "raw", tmp_path, size=256, clavicles=True
    )  # finds scratch/
    label = np.asarray(nib.load(tmp_path / "labels/JPCLN001.nii.gz").dataobj)[..., 0]
    assert label[60, 52] == 4
    assert label[190, 52] == 5
    assert "right_clavicle" in (tmp_path / "dataset.json").read_text()


def test_overlap_of_three_masks_counts_once():
    a, b, c = (np.zeros((4, 4), bool) for _ in range(3))
    a[:2], b[1:], c[1, 0] = True, True, True
    assert jsrt.count_overlaps({"a": a, "b": b, "c": c}) == {"a+b": 3, "a+b+c": 1}


def test_statistics_of_the_training_images(prepared):
    manifest = json.loads((prepared / "out" / "dataset.json").read_text())
    data = np.concatenate(
        [np.asarray(load(prepared, "images", e["case"]).dataobj).ravel() for e in manifest["training"]]
    )
    assert manifest["intensity"]["range"] == [0, 4095]
    assert manifest["intensity"]["mean"] == pytest.approx(data.mean(dtype=float), rel=1e-12)
    assert manifest["intensity"]["std"] == pytest.approx(data.std(dtype=float), rel=1e-9)


@pytest.mark.parametrize("size", [2048, 1024, 128])
def test_masks_at_other_sizes(tmp_path, size):
    path = raw.gif(tmp_path / "m.gif", "heart")
    mask = jsrt.read_mask(path, size)
    assert mask.shape == (size, size)
    assert mask.mean() == pytest.approx(200 * 260 / 1024**2, rel=0.05)
    if size == 2048:
        assert np.array_equal(mask, np.repeat(np.repeat(jsrt.read_mask(path, 1024), 2, 0), 2, 1))


def test_blocks_are_averaged(tmp_path):
    pixels = np.zeros((2048, 2048), ">u2")
    pixels[0, :2], pixels[1, 0] = 400, 200  # mean of the first block: 250
    pixels.tofile(tmp_path / "a.IMG")
    assert jsrt.read_image(tmp_path / "a.IMG", 1024)[0, :2].tolist() == [4095 - 250, 4095]


FIRST = "All247images/JPCLN001.IMG"
HEART = "scratch/fold1/masks/heart/JPCLN001.gif"


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def pad(path):
    path.write_bytes(path.read_bytes() + b"\0\0")


def bright(path):
    np.full(2048**2, 5000, ">u2").tofile(path)


def swap(path):
    np.full(2048**2, 1000, "<u2").tofile(path)


def blank(path):
    Image.new("L", (1024, 1024)).save(path)


def small(path):
    raw.gif(path, "heart", 800)


def png(path):
    Image.new("L", (1024, 1024), 255).save(path, format="PNG")


def nothing(path):
    path.write_bytes(b"")


def second(path):
    raw.img(path.parents[1] / "All247images" / "more" / path.name)


def unlink(path):
    path.unlink()


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        (FIRST, cut, "JPCLN001.IMG: expected 8388608 bytes .2048 x 2048 x 2., got 4194304"),
        (FIRST, pad, "JPCLN001.IMG: expected 8388608 bytes .2048 x 2048 x 2., got 8388610"),
        (FIRST, bright, "JPCLN001.IMG: expected gray values up to 4095 .12 bits., got 5000; unpack"),
        (FIRST, swap, "its bytes are swapped"),
        (FIRST, second, "a second JPCLN001"),
        (FIRST, unlink, "expected \\*.IMG files, found none"),
        (HEART, cut, "JPCLN001.gif: expected a complete GIF"),
        (HEART, nothing, "JPCLN001.gif: expected a complete GIF"),
        (HEART, png, "JPCLN001.gif: expected a complete GIF"),
        (HEART, blank, "JPCLN001.gif: expected a mask, got an empty one"),
        (HEART, small, "JPCLN001.gif: expected 1024 x 1024 pixels, got 800 x 800"),
        (HEART, unlink, "JPCLN001.IMG: expected the heart mask .*fold1/masks/heart/JPCLN001.gif"),
    ],
)
def test_bad_input(tmp_path, name, damage, message):
    images, masks = raw.jsrt(tmp_path)
    damage(tmp_path / name)
    with pytest.raises(InputError, match=message):
        jsrt.prepare(images, masks, tmp_path / "out", size=128)
    assert not raw.tree(tmp_path / "out")


def test_mask_without_image(tmp_path):
    images, masks = raw.jsrt(tmp_path)
    raw.gif(masks / "fold2/masks/right lung/JPCLN002.gif", "right lung")
    with pytest.raises(InputError, match=r"right lung/JPCLN002.gif: expected JPCLN002.IMG in"):
        jsrt.prepare(images, masks, tmp_path / "out")


@pytest.mark.parametrize("size", [0, -4, 1000, 4096])
def test_bad_size(tmp_path, size):
    with pytest.raises(InputError, match=f"--size {size}: expected a divisor of 2048"):
        jsrt.prepare(tmp_path, tmp_path, tmp_path / "out", size=size)


def test_missing_folder(tmp_path):
    with pytest.raises(InputError, match="nowhere: no such folder"):
        jsrt.prepare(tmp_path / "nowhere", tmp_path, tmp_path / "out")


def test_sex_and_age_come_from_the_clinical_texts(tmp_path):
    images, masks = raw.jsrt(tmp_path / "raw", 2)
    texts = tmp_path / "raw/Clinical_Information"
    texts.mkdir()
    line = "JPCLN001.IMG\t5\t15\t53\tMale\t1634\t692\tmalignant\tl.upper lobe\tlung cancer\n"
    (texts / "CLNDAT_EN.txt").write_text(line)
    (texts / "CNNDAT_EN.TXT").write_text("JPCLN002.IMG\t?\tFemale\tnon-nodule\n\n")
    cases = {case.case: case.details for case in jsrt.find_cases(images, masks, labels.JSRT, 512)}
    assert cases == {"JPCLN001": {"sex": "male", "age": 53}, "JPCLN002": {"sex": "female"}}
    jsrt.prepare(images, masks, tmp_path / "out", size=512)
    assert entry(tmp_path)["age"] == 53
    (texts / "CLNDAT_EN.txt").unlink()
    assert jsrt.read_patients(images).keys() == {"JPCLN002"}
