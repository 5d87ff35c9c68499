"""Warn of what is implausible, and of nothing else."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from data_prep.cli.main import app
from data_prep.custom import folder as custom
from data_prep.custom.common import Options
from data_prep.datasets import acdc, jsrt
from data_prep.files import sha256
from data_prep.layout import Case, Dataset, Volume, prepare_dataset
from data_prep.phantoms import write
from data_prep.plausibility import find_doubts, measure
from data_prep.verify import check
from medpos.core.errors import InputError
from medpos.core.labels import ACDC, BACKGROUND, JSRT, Label
from medpos.data.folder import DataFolder

REAL = os.environ.get("MEDPOS_TEST_DATA")


def load(folder, entry):
    image, label = (nibabel.load(folder / entry[key]) for key in ("image", "label"))
    return np.asarray(image.dataobj), np.asarray(label.dataobj), image.affine


def judged(folder, change=lambda image, label, affine: (image, label, affine), chosen=lambda entry: True):
    """Judge a prepared folder, some of its cases changed."""
    manifest = json.loads((folder / "dataset.json").read_text())
    names = {label["index"]: label["name"] for label in manifest["labels"]}
    cases = []
    for part in ("training", "validation", "test"):
        for entry in manifest[part]:
            arrays = load(folder, entry)
            cases.append((entry, measure(*(change(*arrays) if chosen(entry) else arrays), names)))
    return find_doubts(cases)


def swap(one, other):
    def change(image, label, affine):
        return image, np.where(label == one, other, np.where(label == other, one, label)).astype(label.dtype), affine

    return change


def relabeled(edit):
    return lambda image, label, affine: (image, edit(label), affine)


CHANGES = {
    "the lungs swapped": ("jsrt", swap(1, 2), "right and left lung have changed sides"),
    "the mask mirrored": ("jsrt", relabeled(lambda label: label[::-1].copy()), "mirrored left to right"),
    "the mask upside down": ("jsrt", relabeled(lambda label: label[:, ::-1].copy()), "mirrored top to bottom"),
    "the mask transposed": ("jsrt", relabeled(lambda label: label.swapaxes(0, 1).copy()), "transposed"),
    "the mask moved": ("jsrt", relabeled(lambda label: np.roll(label, 8, 0)), "moved by -8, 0 px"),
    "the image is the mask": ("jsrt", lambda i, label, a: (label.astype(np.int16), label, a), "is it the mask?"),
    "the mask inverted": ("jsrt", relabeled(lambda label: (label == 0).astype(np.uint8)), "is it inverted?"),
    "pixels ten times too large": (
        "jsrt",
        lambda i, m, a: (i, m, a @ np.diag([10, 10, 1, 1])),
        "is the pixel size right",
    ),
    "the cavities swapped": ("acdc", swap(1, 3), "are the two classes swapped?"),
    "the stack mirrored": ("acdc", relabeled(lambda label: label[::-1].copy()), "mirrored left to right"),
    "micrometers for mm": ("acdc", lambda i, m, a: (i, m, a @ np.diag([1e3, 1e3, 1e3, 1])), "is the pixel size right?"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_spoiled_case_is_doubted(prepared, what):
    kind, change, doubt = CHANGES[what]
    entries = json.loads((prepared[kind] / "dataset.json").read_text())["training"]
    doubts = judged(prepared[kind], change, lambda entry: entry["case"] == entries[0]["case"])
    assert any(line.startswith(f"{entries[0]['case']}: ") and doubt in line for line in doubts), doubts


@pytest.mark.parametrize("what", [what for what in CHANGES if what != "the mask inverted"])
def test_all_cases_spoiled_in_the_same_way_are_doubted(prepared, what):
    kind, change, doubt = CHANGES[what]
    doubts = [line for line in judged(prepared[kind], change) if doubt in line]
    assert len(doubts) >= 6


def test_phantoms_are_plausible(prepared):
    for folder in prepared.values():
        assert judged(folder) == []
        assert "warnings" not in json.loads((folder / "dataset.json").read_text())


def phases(prepared, edit):
    """Judge the hearts with the files of one subject's phases changed."""
    folder = prepared["acdc"]
    manifest = json.loads((folder / "dataset.json").read_text())
    names = {label["index"]: label["name"] for label in manifest["labels"]}
    one = {
        entry["phase"]: entry
        for entry in manifest["training"]
        if entry["subject"] == manifest["training"][0]["subject"]
    }
    edit(one)
    return one["ED"]["subject"], find_doubts([(entry, measure(*load(folder, entry), names)) for entry in one.values()])


def test_phases_in_the_wrong_order(prepared):
    subject, doubts = phases(prepared, lambda one: (one["ED"].update(phase="ES"), one["ES"].update(phase="ED")))
    assert len(doubts) == 1
    assert doubts[0].startswith(f"{subject}: the LV cavity holds ")


def test_one_mask_for_both_phases(prepared):
    subject, doubts = phases(prepared, lambda one: one["ES"].update(label=one["ED"]["label"]))
    assert f"{subject}: the masks of ED and ES are the same; is one of them a copy?" in doubts


def test_copies_are_doubted_and_stay_in_one_part(tmp_path):
    """Twenty subjects, of which pairs share an image, as patients 074 and 076 of ACDC do."""
    noise = np.random.default_rng(0).integers(0, 200, (10, 20, 20, 1), dtype=np.uint8)
    np.save(tmp_path / "noise.npy", noise)
    dataset = Dataset("pairs", "test", (BACKGROUND, Label(1, "a", "#0072B2")), (3, 1, 1), None, True)
    cases = [
        Case(f"c{n:02}", f"s{n:02}", {"image": tmp_path / "noise.npy"}, read_pair, {"number": n // 2})
        for n in range(20)
    ]
    for seed in range(3):
        done = prepare_dataset(dataset, cases, tmp_path / f"out{seed}", seed)
        assert "warning: c00: the same image as c01; is it a copy?" in done
        manifest = json.loads((tmp_path / f"out{seed}/dataset.json").read_text())
        assert len(manifest["warnings"]) == 10
        part_of = {entry["case"]: part for part in ("training", "validation", "test") for entry in manifest[part]}
        assert all(part_of[f"c{n:02}"] == part_of[f"c{n + 1:02}"] for n in range(0, 20, 2))


def test_strict_lets_warnings_fail_before_the_folder_is_complete(tmp_path):
    np.save(tmp_path / "noise.npy", np.random.default_rng(0).integers(0, 200, (2, 20, 20, 1), dtype=np.uint8))
    dataset = Dataset("pairs", "test", (BACKGROUND, Label(1, "a", "#0072B2")), (3, 1, 1), None, True)
    images = {"image": tmp_path / "noise.npy"}
    cases = [Case(f"c{n}", f"s{n}", images, read_pair, {"number": 0}) for n in range(2)]
    for _ in range(2):  # the second time all cases are up to date
        with pytest.raises(InputError, match="as --strict asks, got 1 warnings; correct the data") as raised:
            prepare_dataset(dataset, cases, tmp_path / "out", strict=True)
        assert "warning: c0: the same image as c1" in str(raised.value)
        assert not (tmp_path / "out/dataset.json").exists()
    cases[1] = replace(cases[1], options={"number": 1})
    done = prepare_dataset(dataset, cases, tmp_path / "out", strict=True)
    assert "1 cases written, 1 up to date" in done
    assert DataFolder(tmp_path / "out").warnings == []


def test_a_folder_of_masks_as_images_fails_when_strict(tmp_path):
    mask = np.zeros((40, 40), np.uint8)
    mask[9:20, 9:30] = 1
    for place in ("images", "labels"):
        (tmp_path / place).mkdir()
        Image.fromarray(mask).save(tmp_path / place / "a.png")
    given = (tmp_path / "images", tmp_path / "labels", ["1=organ"], [], tmp_path / "out")
    with pytest.raises(InputError, match="as --strict asks, got 1 warnings"):
        custom.prepare(*given, Options(strict=True))
    assert "is it the mask?" in custom.prepare(*given, Options())


def test_every_preparing_command_takes_strict(tmp_path):
    for command in typer.main.get_command(app).commands.values():
        options = {option for parameter in command.params for option in parameter.opts}
        if "--seed" in options or "--out" in options:
            assert "--strict" in options or command.name == "phantoms", command.name


def read_pair(case):
    label = np.zeros((20, 20, 1), np.uint8)
    label[5:9, 5 : 6 + int(case.case[1:]) % 2] = 1
    image = np.load(case.sources["image"])[case.options["number"]]
    return Volume(image, label, np.eye(4), (1.0, 1.0, 1.0))


def test_verify_warns_and_fails_only_when_strict(prepared, tmp_path):
    folder = shutil.copytree(prepared["jsrt"], tmp_path / "data")
    path = folder / "dataset.json"
    manifest = json.loads(path.read_text())
    entry = manifest["training"][0]
    image = nibabel.load(folder / entry["label"])
    values = np.asarray(image.dataobj)[::-1].copy()
    nibabel.save(nibabel.Nifti1Image(values, image.affine, image.header), folder / entry["label"])
    entry["label_sha256"] = sha256((folder / entry["label"]).read_bytes())
    path.write_text(json.dumps(manifest))
    assert check(folder)[1] == []
    for options, status in ([], 0), (["--strict"], 1):
        done = CliRunner().invoke(app, ["verify", str(folder), *options])
        assert done.exit_code == status
        assert f"warning: {entry['case']}: the mask fits" in done.output


@pytest.mark.skipif(not REAL, reason="MEDPOS_TEST_DATA is not set")
def test_real_hearts_are_plausible_but_for_a_true_copy(tmp_path):
    source = tmp_path / "training"
    source.mkdir()
    for number in (1, 2, 30, 50, 74, 76, 90):
        found = Path(REAL) / f"acdc/training/patient{number:03}"
        if found.is_dir():
            (source / found.name).symlink_to(found)
    acdc.prepare(tmp_path, tmp_path / "out")
    doubts = json.loads((tmp_path / "out/dataset.json").read_text()).get("warnings", [])
    assert doubts == [
        "patient074_ED: the same image as patient076_ED; is it a copy?",
        "patient074_ES: the same image as patient076_ES; is it a copy?",
    ]


def test_names_of_other_data_sets_raise_no_doubt():
    image = np.random.default_rng(0).integers(0, 200, (40, 40, 1))
    label = np.zeros((40, 40, 1), np.uint8)
    label[4:9, 4:9] = 1
    for labels in (JSRT, ACDC):
        found = measure(image, label, np.eye(4), {0: "background", 1: labels[2].name})
        assert find_doubts([({"case": "a", "subject": "a", "image_sha256": "x"}, {**found, "agreement": {}})]) == []


def as_pictures(prepared, folder, change=lambda label: label):
    """Store the X-rays as PNG, eight times as large, which state no pixel size, and prepare them as custom data."""
    manifest = json.loads((prepared["jsrt"] / "dataset.json").read_text())
    for part in ("training", "validation", "test"):
        for entry in manifest[part]:
            image, label, _ = load(prepared["jsrt"], entry)
            for kind, values in (("images", image // 16), ("labels", change(label))):
                (folder / kind).mkdir(parents=True, exist_ok=True)
                picture = Image.fromarray(values[..., 0].T.astype(np.uint8))
                picture.resize((1024, 1024), Image.Resampling.NEAREST).save(folder / kind / f"{entry['case']}.png")
    names = [f"{label.index}={label.name}" for label in JSRT[1:]]
    custom.prepare(folder / "images", folder / "labels", names, [], folder / "out", Options())
    return json.loads((folder / "out/dataset.json").read_text()).get("warnings", [])


def test_pictures_of_unknown_pixel_size(prepared, tmp_path):
    assert as_pictures(prepared, tmp_path / "a") == []
    swapped = as_pictures(prepared, tmp_path / "b", lambda label: swap(1, 2)(None, label, None)[1])
    assert len(swapped) == 8
    assert all("right and left lung have changed sides" in line for line in swapped)


def test_many_warnings_are_counted(tmp_path):
    np.save(tmp_path / "noise.npy", np.random.default_rng(0).integers(0, 200, (25, 20, 20, 1), dtype=np.uint8))
    dataset = Dataset("pairs", "test", (BACKGROUND, Label(1, "a", "#0072B2")), (3, 1, 1), None, True)
    cases = [
        Case(f"c{n:02}", f"s{n:02}", {"image": tmp_path / "noise.npy"}, read_pair, {"number": n // 2})
        for n in range(50)
    ]
    done = prepare_dataset(dataset, cases, tmp_path / "out")
    assert done.count("warning: ") == 20
    assert done.endswith("\n5 more warnings in dataset.json")


def test_the_phantoms_of_the_demo_are_plausible(tmp_path):
    write("jsrt", tmp_path / "raw", cases=4)
    jsrt.prepare(tmp_path / "raw", tmp_path / "raw/scratch", tmp_path / "out", size=256)
    assert "warnings" not in json.loads((tmp_path / "out/dataset.json").read_text())
