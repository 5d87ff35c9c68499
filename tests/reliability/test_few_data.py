"""Data that lack a class, contrast or subjects are measured without a false number, or refused in one line."""

import json
import math

import custom_raw
import nibabel
import numpy as np
import pytest
import running
from typer.testing import CliRunner

from data_prep.cli.main import app as data_app
from data_prep.files import sha256
from data_prep.phantoms import write
from data_prep.verify import check
from medpos.cli.main import app
from medpos.core.ending import explain

PARTS = ("training", "validation", "test")
SIZES = {"image_size": 32, "batch_size": 2, "max_epochs": 1, "conditions": ["clean", "shifts"], "shift_pixels": [8]}


def change_cases(folder, parts, kind, change):
    """Change the images or labels of all cases of some parts, as if real ones had been prepared so."""
    path = folder / "dataset.json"
    manifest = {**json.loads(path.read_text()), "phantom": False}
    for case in (case for part in parts for case in manifest[part]):
        place = folder / case[kind]
        image = nibabel.load(place)
        nibabel.save(nibabel.Nifti1Image(change(np.asarray(image.dataobj)), image.affine, image.header), place)
        case[f"{kind}_sha256"] = sha256(place.read_bytes())
    path.write_text(json.dumps(manifest))


def keep_first(folder, counts):
    """Keep the first cases of each part."""
    path = folder / "dataset.json"
    manifest = json.loads(path.read_text())
    for part, count in zip(PARTS, counts, strict=True):
        manifest[part] = manifest[part][:count]
        manifest["split"]["subjects"][part] = count
    path.write_text(json.dumps(manifest))


def without(number):
    return lambda label: np.where(label == number, 0, label).astype(label.dtype)


def only(number):
    return lambda label: np.full_like(label, number)


def flat(image):
    return np.full_like(image, image.mean())  # another value in each, or they are copies


# What is changed: the parts, images or labels, and how; organs without truth in the test; classes never taught.
ORGANS = ["right_lung", "left_lung", "heart"]
CHANGES = {
    "no heart anywhere": (PARTS, "label", without(3), ["heart"], ["heart"]),
    "no heart in training": (PARTS[:1], "label", without(3), [], ["heart"]),
    "no heart in validation": (PARTS[1:2], "label", without(3), [], []),
    "no heart in the test": (PARTS[2:], "label", without(3), ["heart"], []),
    "no organ anywhere": (PARTS, "label", only(0), ORGANS, ORGANS),
    "no organ in training": (PARTS[:1], "label", only(0), [], ORGANS),
    "no organ in validation": (PARTS[1:2], "label", only(0), [], []),
    "no organ in the test": (PARTS[2:], "label", only(0), ORGANS, []),
    "nothing but heart": (PARTS, "label", only(3), ORGANS[:2], ORGANS[:2]),
    "flat images": (PARTS, "image", flat, [], []),
    "flat images in training": (PARTS[:1], "image", flat, [], []),
    "flat images in the test": (PARTS[2:], "image", flat, [], []),
}
CHOSEN = ["no heart in training", "no organ in the test"]


@pytest.mark.parametrize("kind", running.leave_to_torture(list(CHANGES), [k for k in CHANGES if k not in CHOSEN]))
def test_a_training_measures_what_there_is(data, tiny, tmp_path, kind):
    parts, what, change, without_truth, untaught = CHANGES[kind]
    change_cases(data, parts, what, change)
    doubts = [doubt for doubt in check(data)[2] if "no training case has a pixel of" in doubt]
    expected = f"no training case has a pixel of {', '.join(untaught)}; a network can't learn it"
    assert doubts == [expected] * bool(untaught)

    run = running.run_here("jsrt_small_pe", **{**tiny, **SIZES, "dataset_dir": str(data)})
    summary = json.loads((run / "summary.json").read_text())
    for condition in summary["conditions"]:
        for organ, scores in condition["organs"].items():
            for metric in scores.values():
                assert metric["n"] + metric["missing"] <= summary["cases"]
                assert metric["mean"] is None or math.isfinite(metric["mean"])
            # Without truth a prediction is wrong however small it is, and nothing right can be measured.
            assert organ not in without_truth or scores["dice"]["mean"] in (None, 0)
            assert organ in without_truth or scores["dice"]["n"] == summary["cases"]

    page = CliRunner().invoke(app, ["report", str(run), "--out", str(tmp_path / "page")])
    assert page.exit_code == 0, page.exception
    text = (tmp_path / "page/index.html").read_text().lower()
    assert ">nan<" not in text
    assert ">none<" not in text


@pytest.mark.parametrize("counts", [(1, 1, 1), *running.leave_to_torture([(2, 1, 1)], [(2, 1, 1)])])
def test_one_subject_in_each_part_has_no_interval(data, tiny, counts):
    keep_first(data, counts)
    run = running.run_here("jsrt_small_pe", **{**tiny, **SIZES, "batch_size": 1, "dataset_dir": str(data)})
    summary = json.loads((run / "summary.json").read_text())
    assert {scores["dice"]["ci95"] for c in summary["conditions"] for scores in c["organs"].values()} == {None}


@pytest.mark.parametrize("part", PARTS)
def test_a_part_without_subjects_is_refused(data, tiny, part):
    keep_first(data, [0 if name == part else 1 for name in PARTS])
    message = running.refusal("jsrt_small_pe", **{**tiny, **SIZES, "dataset_dir": str(data)})
    assert f"expected at least one subject in the {part} split, got none" in message


RAW = {
    "jsrt": lambda raw, count: ["jsrt", "--images", str(raw), "--masks", str(raw), "--size", "64"],
    "acdc": lambda raw, count: ["acdc", "--source", str(raw)],
    "folder": lambda raw, count: [
        "folder", "--images", str(raw / "images"), "--labels", str(raw / "labels"), "--label", "1=spot",
    ],
}  # fmt: skip


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("kind", RAW)
def test_few_subjects_are_prepared_or_refused_in_one_line(tmp_path, kind, count):
    raw, out = tmp_path / "raw", tmp_path / "out"
    raw.mkdir()
    if kind == "folder":
        for number in range(count):
            custom_raw.picture(raw / f"images/c{number}.png", custom_raw.noise(number, (20, 24)))
            custom_raw.picture(raw / f"labels/c{number}.png", custom_raw.square(number, (0, 1)))
    elif count:
        write(kind, raw, cases=count)
    done = CliRunner().invoke(data_app, [*RAW[kind](raw, count), "--out", str(out)])
    if done.exception is not None:
        message = explain(done.exception)
        assert message is not None, repr(done.exception)
        assert "\n" not in message
        assert "expected" in message or "no such folder" in message
        assert not out.exists() or not list(out.glob("*.json"))
    else:
        assert count
        assert check(out)[1] == []
