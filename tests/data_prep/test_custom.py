"""Prepare users' own data: folders of images, nnU-Net's and the Decathlon's."""

import gzip
import json

import custom_raw
import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from data_prep.__main__ import app
from data_prep.custom import decathlon, folder, nnunet
from data_prep.custom.common import Options
from data_prep.verify import check
from medpos.core.errors import InputError
from medpos.data.folder import DataFolder
from medpos.plotting.overlay import draw_panels

CLASSES = ["255=Cell nucleus"]


def from_folder(root, out, channels=(), classes=CLASSES, **options):
    return folder.prepare(root / "images", root / "labels", classes, list(channels), out, Options(**options))


def manifest(out):
    return json.loads((out / "dataset.json").read_text())


def test_pictures_become_the_uniform_folder(tmp_path):
    root, out = custom_raw.pictures(tmp_path / "raw"), tmp_path / "cells"
    assert "6 cases written" in from_folder(root, out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert from_folder(root, out, workers=2).startswith("unchanged: 6 cases")
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert check(out)[:2] == (f"{out}: cells, 6 cases of 6 subjects", [])
    content = manifest(out)
    assert (content["name"], content["channels"], content["phantom"]) == ("cells", ["image"], False)
    assert [label["name"] for label in content["labels"]] == ["background", "cell_nucleus"]
    # x runs along the columns
    image, label = (nib.load(out / f"{kind}s/c3.nii.gz") for kind in ("image", "label"))
    assert np.array_equal(np.asarray(image.dataobj)[..., 0], custom_raw.noise(3, (20, 24)).T)
    assert np.array_equal(np.asarray(label.dataobj)[..., 0], custom_raw.square(3, (0, 1)).T)
    assert nib.aff2axcodes(image.affine) == ("L", "P", "S")


def test_the_split_keeps_the_images_of_a_person_together(tmp_path):
    root = custom_raw.decathlon(tmp_path / "Task01_X", cases=12)
    decathlon.prepare(root, tmp_path / "out", Options(subject="^(p[0-9]+)_"))
    parts = [
        {case["subject"] for case in manifest(tmp_path / "out")[part]} for part in ("training", "validation", "test")
    ]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 6
    with pytest.raises(InputError, match="matches nothing in the case name 'p0_0'"):
        decathlon.prepare(root, tmp_path / "out", Options(subject="patient"))
    with pytest.raises(InputError, match="expected a regular expression"):
        decathlon.prepare(root, tmp_path / "out", Options(subject="("))


def test_colors_are_channels_where_the_user_names_them(tmp_path):
    root = custom_raw.pictures(tmp_path / "raw", 4)
    custom_raw.picture(root / "images/c0.png", custom_raw.noise(0, (20, 24, 3)))
    with pytest.raises(InputError, match=r"c0.png: expected a gray picture, got a color picture; .*--channel red"):
        from_folder(root, tmp_path / "gray")
    from_folder(root, tmp_path / "rgb", custom_raw.RED_GREEN_BLUE)
    assert check(tmp_path / "rgb")[1] == []
    source = DataFolder(tmp_path / "rgb")
    assert source.channels == ("red", "green", "blue")
    shapes = {nib.load(case["image"]).shape for case in source.cases("training")}
    assert shapes == {(24, 20, 1, 3)}  # a gray picture among them counts as three equal colors
    assert all(case["shape"] == [24, 20, 1] for case in source.cases("training"))


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("channels", [("CT",), ("T1", "T2")])
def test_nnunet(tmp_path, version, channels):
    root = custom_raw.nnunet(tmp_path / "Dataset001_X", 4, channels, version)
    out = tmp_path / "out"
    nnunet.prepare(root, out, Options())
    assert check(out)[:2] == (f"{out}: Dataset001_X, 4 cases of 4 subjects", [])
    content = manifest(out)
    assert content["channels"] == list(channels)
    assert [label["name"] for label in content["labels"]] == ["background", "liver", "kidney_left"]
    image = np.asarray(nib.load(out / "images/s2.nii.gz").dataobj).reshape(20, 24, 2, -1)
    for channel in range(len(channels)):
        assert np.array_equal(image[..., channel], custom_raw.noise(20 + channel, (20, 24, 2), np.int16) - 100)


def test_decathlon_with_channels_on_the_fourth_axis(tmp_path):
    root, out = custom_raw.decathlon(tmp_path / "Task05_Prostate"), tmp_path / "out"
    decathlon.prepare(root, out, Options())
    assert check(out)[1] == []
    content = manifest(out)
    assert content["channels"] == ["T2", "ADC"]
    assert content["training"][0]["shape"] == [20, 24, 2]
    assert content["training"][0]["spacing_mm"] == [1.5, 1.5, 8.0]


def test_the_command_line(tmp_path):
    custom_raw.pictures(tmp_path)
    arguments = f"folder --images {tmp_path}/images --labels {tmp_path}/labels --label 255=cell --out {tmp_path}/out"
    result = CliRunner().invoke(app, arguments.split())
    assert "4 training, 1 validation, 1 test" in result.output
    for reader, source in (
        ("nnunet", custom_raw.nnunet(tmp_path / "N")),
        ("decathlon", custom_raw.decathlon(tmp_path / "D")),
    ):
        result = CliRunner().invoke(app, [reader, "--source", str(source), "--out", str(tmp_path / f"of-{reader}")])
        assert (result.exit_code, "4 cases written" in result.output) == (0, True), result.output


def test_flat_nifti_files_need_no_third_pixel_size(tmp_path):
    for n in range(3):
        for kind, data in (("images", custom_raw.noise(n, (20, 24))), ("labels", custom_raw.square(n))):
            path = custom_raw.volume(tmp_path / f"{kind}/c{n}.nii", data)
            raw = bytearray(path.read_bytes())
            raw[88:92] = bytes(4)  # pixdim[3]
            path.write_bytes(raw)
    from_folder(tmp_path, tmp_path / "out")
    assert check(tmp_path / "out")[1] == []
    assert manifest(tmp_path / "out")["test"][0]["spacing_mm"] == [1.5, 1.5, 1.0]


def test_sixty_classes_have_sixty_colors(tmp_path):
    label = np.arange(61 * 4).reshape(61, 4).astype(np.uint8) // 4
    for n in range(3):
        custom_raw.picture(tmp_path / f"images/c{n}.png", custom_raw.noise(n, (61, 4)))
        custom_raw.picture(tmp_path / f"labels/c{n}.png", label)
    from_folder(tmp_path, tmp_path / "out", classes=[f"{n}=organ {n}" for n in range(1, 61)])
    labels = DataFolder(tmp_path / "out").labels
    assert len({entry.color for entry in labels}) == 61
    assert draw_panels(custom_raw.noise(0, (4, 61)), label.T, label.T, labels).shape == (61, 12, 3)


def test_a_class_may_be_missing_in_a_case_but_not_in_all(tmp_path):
    root = custom_raw.pictures(tmp_path / "raw", 4)
    custom_raw.picture(root / "labels/c0.tif", np.zeros((20, 24), np.uint8))
    from_folder(root, tmp_path / "out", classes=[*CLASSES, "7=rare"])
    _, problems, doubts = check(tmp_path / "out")
    assert problems == [f"{tmp_path / 'out/dataset.json'}: no case has a pixel of rare"]
    untaught = "no training case has a pixel of rare; a network can't learn it"
    assert untaught in doubts
    assert untaught in json.loads((tmp_path / "out/dataset.json").read_text())["warnings"]


def put(name, make):
    """Replace one file of the pictures by a bad one."""
    return lambda root: custom_raw.picture(root / name, make)


def as_jpeg(name):
    def spoil(root):
        with Image.open(root / name) as picture:
            picture.convert("L").save((root / name).with_suffix(".jpg"))
        (root / name).unlink()

    return spoil


def rename(old, new):
    return lambda root: (root / old).rename(root / new)


def truncate(name):
    return lambda root: (root / name).write_bytes((root / name).read_bytes()[:60])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "labels/c1.tif").unlink(), r"images/c1.png: no label map c1\.\* in .*; draw it"),
        (lambda root: (root / "images/c1.png").unlink(), r"labels/c1.tif: no image c1\.\* in"),
        (
            put("labels/c1.tif", custom_raw.square(1, (0, 9))),
            r"c1.tif: expected label values 0, 255, got 9",
        ),
        (
            put("labels/c1.tif", custom_raw.noise(1, (20, 24))),
            r"expected label values .* and \d+ more; .* and not the image",
        ),
        (put("labels/c1.tif", custom_raw.square(1)[:-1]), r"c1.tif: differs in size .*24 x 19 x 1 and 24 x 20 x 1"),
        (
            put("labels/c1.tif", custom_raw.noise(1, (20, 24, 3))),
            "c1.tif: expected a label map, one class per pixel, got colors",
        ),
        (put("images/c1.tif", custom_raw.noise(1, (20, 24))), "c1.tif: a second c1 beside"),
        (as_jpeg("labels/c1.tif"), "c1.jpg: expected PNG, TIFF or NIfTI, got JPEG"),
        (rename("images/c1.png", "images/c1.gif"), "no image"),
        (truncate("images/c1.png"), "c1.png: expected a complete picture"),
    ],
)
def test_bad_pictures(tmp_path, spoil, message):
    root = custom_raw.pictures(tmp_path / "raw", 3)
    spoil(root)
    with pytest.raises(InputError, match=message):
        from_folder(root, tmp_path / "out")


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["liver"], "--label liver: expected VALUE=NAME"),
        (["1=liver", "1=heart"], "value 1 is 'liver' already"),
        (["1=liver", "2=Liver"], "two classes are called 'liver'"),
        (["0=background"], "expected 1 to 255 classes besides background, got 0"),
        (["1=?"], "class 1: expected a name"),
    ],
)
def test_bad_classes(tmp_path, classes, message):
    root = custom_raw.pictures(tmp_path / "raw", 3)
    with pytest.raises(InputError, match=message):
        from_folder(root, tmp_path / "out", classes=classes)


@pytest.mark.parametrize("name", ["jsrt", "ACDC", "?"])
def test_names_of_the_projects_data_sets_are_refused(tmp_path, name):
    with pytest.raises(InputError, match="--name"):
        from_folder(custom_raw.pictures(tmp_path / "raw", 3), tmp_path / "out", name=name)


def test_an_empty_folder(tmp_path):
    (tmp_path / "images").mkdir()
    with pytest.raises(InputError, match="expected files that end in"):
        from_folder(tmp_path, tmp_path / "out")
    with pytest.raises(InputError, match="no such folder"):
        from_folder(tmp_path / "nowhere", tmp_path / "out")


def changed(**entries):
    def spoil(root):
        path = root / "dataset.json"
        content = {**json.loads(path.read_text()), **entries}
        path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))

    return spoil


AFFINE = np.diag([1.5, 1.5, 9.0, 1.0])
NAN = np.full((20, 24, 2), np.nan, np.float32)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (changed(labels=None), "lacks the object 'labels'"),
        (
            changed(labels={"background": 0, "whole": [1, 2]}),
            r"expected one value for class 'whole', got the region \[1, 2\]",
        ),
        (changed(labels={"background": 0, "a": 1, "ignore": 2}), "an 'ignore' class"),
        (changed(labels={"background": 0, "a": "x"}), "expected an integer value of class 'a', got 'x'"),
        (changed(labels={"background": 0, "a": 1}), "expected label values 0, 1, got 2"),
        (changed(channel_names=None), "lacks 'channel_names' or 'modality'"),
        (changed(channel_names={"0": "T1", "1": "T2"}), r"s0_0001.nii.gz: is missing, but .*labelsTr/s0.nii.gz exists"),
        (changed(file_ending=".mgz"), "expected file_ending to be one of .nii.gz, .*, got '.mgz'"),
        (lambda root: (root / "dataset.json").write_text("{"), "dataset.json: expected JSON"),
        (lambda root: (root / "dataset.json").unlink(), "dataset.json: can't be read"),
        (lambda root: (root / "labelsTr/s1.nii.gz").unlink(), "s1_0000.nii.gz: no label map s1.nii.gz"),
        (lambda root: custom_raw.volume(root / "imagesTr/s1_0001.nii.gz", NAN), "channel 0001 isn't in dataset.json"),
        (lambda root: custom_raw.volume(root / "imagesTr/s1_0000.nii.gz", NAN), "got 960 NaN or infinite values"),
        (lambda root: custom_raw.volume(root / "labelsTr/s1.nii.gz", NAN), "expected label values 0, 1, 2, got nan"),
        (
            lambda root: custom_raw.volume(root / "labelsTr/s1.nii.gz", custom_raw.label_volume(1), AFFINE),
            "expected the affine of .*, got another",
        ),
        (
            lambda root: custom_raw.volume(root / "imagesTr/s1_0000.nii.gz", np.zeros((20, 24, 2, 5))),
            "expected 1 channels, got 5",
        ),
        (lambda root: (root / "imagesTr/s1_0000.nii.gz").write_bytes(gzip.compress(b"no")), "expected a NIfTI file"),
    ],
)
def test_bad_nnunet_folders(tmp_path, spoil, message):
    root = custom_raw.nnunet(tmp_path / "Dataset001_X", 3)
    spoil(root)
    with pytest.raises(InputError, match=message):
        nnunet.prepare(root, tmp_path / "out", Options())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (changed(training=None), "lacks 'training'"),
        (changed(training=[{"image": "x"}]), "expected 'image' and 'label' in training"),
        (changed(training=[{"image": "../x.nii.gz", "label": "x"}]), "expected a file in the task's folder"),
        (changed(training=[{"image": "imagesTr/x.nii.gz", "label": "x"}]), "x.nii.gz: is missing"),
        (changed(modality={"0": "T2"}), "expected 1 channels, got 2"),
    ],
)
def test_bad_decathlon_tasks(tmp_path, spoil, message):
    root = custom_raw.decathlon(tmp_path / "Task05_X", 3)
    spoil(root)
    with pytest.raises(InputError, match=message):
        decathlon.prepare(root, tmp_path / "out", Options())


@pytest.mark.parametrize("mode", ["1", "L", "I;16", "I", "F", "P", "LA", "RGBA"])
def test_gray_pictures_of_every_mode(tmp_path, mode):
    gray = np.tile(np.array([0, 255], np.uint8), (4, 3))
    own = {"I;16": np.uint16, "I": np.int32, "F": np.float32}
    page = Image.fromarray(gray.astype(own[mode])) if mode in own else Image.fromarray(gray).convert(mode)
    for n in range(3):
        (tmp_path / "images").mkdir(exist_ok=True)
        page.save(tmp_path / f"images/c{n}.tif")
        custom_raw.picture(tmp_path / f"labels/c{n}.png", gray)
    from_folder(tmp_path, tmp_path / "out")
    found = np.asarray(nib.load(tmp_path / "out/images/c0.nii.gz").dataobj)
    assert np.array_equal(found[..., 0] > 0, gray.T > 0)


def test_a_tiff_of_many_pages_is_a_volume(tmp_path):
    for n in range(3):
        for kind, data in (
            ("images", custom_raw.noise(n, (4, 20, 24))),
            ("labels", np.stack([custom_raw.square(n)] * 4)),
        ):
            (tmp_path / kind).mkdir(exist_ok=True)
            pages = [Image.fromarray(page) for page in data]
            pages[0].save(tmp_path / kind / f"c{n}.tif", save_all=True, append_images=pages[1:])
    from_folder(tmp_path, tmp_path / "out")
    found = np.asarray(nib.load(tmp_path / "out/images/c1.nii.gz").dataobj)
    assert np.array_equal(found, custom_raw.noise(1, (4, 20, 24)).transpose(2, 1, 0))


@pytest.mark.parametrize(("cases", "said"), [(1, "no validation and no test case"), (3, "")])
def test_parts_without_a_case_are_named(tmp_path, cases, said):
    line = from_folder(custom_raw.pictures(tmp_path / "raw", cases), tmp_path / "out")
    assert ("training needs" in line, said in line) == (bool(said), True)
