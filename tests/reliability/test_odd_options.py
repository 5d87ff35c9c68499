"""Odd values for every option of every command: each is used, or refused in one line; none ends with a traceback."""

import dataclasses
import shutil
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
import running
from PIL import Image
from typer.testing import CliRunner

from data_prep.__main__ import app as data_prep
from data_prep.cli import custom, medical, microscopy, phantoms, scenes, verify
from medpos.__main__ import app
from medpos.cli import bundles, evaluate, explain, export, networks, new_bundle, predict, report, study
from medpos.core.ending import explain as explain_error

TEXTS = [
    "", " ", "$1", "@seed", "[/x]", "a#b", "../../x", "x" * 300, "nan", "-1", "[", "(?P<", "1=a,1=b", "=", "é\u202e",
    "\n", "{0}", "[" * 2000, "1e999,0", "cuda:99", "None",
]  # fmt: skip
PATHS = ["", "[/x]", "$1", "../../x", "/dev/null/x", "x" * 300, "\n", "-"]
# Paths that are there, in the current folder: of another kind than expected, empty, damaged, named oddly.
THERE = {
    "a text": "text\n", "empty.json": "", "list#[x].json": "[1]", "null.yaml": "null", "broken.yaml": "a: [1\nb: 2",
    "é\u202e.csv": "a,b\n1", "image.nii.gz": "\x1f\x8b", "image.png": "\x89PNG",
}  # fmt: skip
FOLDERS = ["a folder#[x]", "an empty folder"]
NUMBERS = ["-1", "0", "1.5", "x", "", "nan", "inf", "1e5", "100000", "9" * 20, "0x10", "٣", "True", "1,2"]
# Command line, class of its options, and arguments with which it does its work; {x} are folders of the fixture.
COMMANDS = {
    "predict": (app, predict.Predict, ["{run}", "{image}", "--out", "{out}", "--no-overlays"]),
    "evaluate": (app, evaluate.Evaluate, ["{masks}", "{masks}", "--out", "{out}", "--labels", "1=a", "--no-report"]),
    "explain": (app, explain.Explain, ["{run}", "--out", "{out}", "--steps", "2"]),
    "export": (app, export.Export, ["{run}", "--out", "{out}"]),
    "report": (app, report.Report, ["{run}", "--out", "{out}"]),
    "new-bundle": (app, new_bundle.NewBundle, ["mine", "--data", "{data}", "--out", "{out}"]),
    "study": (app, study.Study, ["table2", "--data", "jsrt", "--network", "small", "--dry-run"]),
    "bundles show": (app, bundles.Show, ["jsrt"]),
    "bundles copy": (app, bundles.Copy, ["jsrt", "--out", "{out}"]),
    "bundles check": (app, bundles.Check, ["{bundle}"]),
    "folder": (
        data_prep,
        custom.Folder,
        ["--images", "{images}", "--labels", "{masks}", "--label", "1=a", "--out", "{out}"],
    ),
    "nnunet": (data_prep, custom.Nnunet, ["--source", "{images}", "--out", "{out}"]),
    "decathlon": (data_prep, custom.Decathlon, ["--source", "{images}", "--out", "{out}"]),
    "jsrt": (data_prep, medical.Jsrt, ["--images", "{images}", "--masks", "{masks}", "--out", "{out}"]),
    "acdc": (data_prep, medical.Acdc, ["--source", "{images}", "--out", "{out}"]),
    "ibsr": (data_prep, medical.Ibsr, ["--source", "{images}", "--out", "{out}"]),
    "drive": (data_prep, medical.Drive, ["--source", "{images}", "--out", "{out}"]),
    "nuclei": (data_prep, microscopy.Nuclei, ["--source", "{images}", "--out", "{out}"]),
    "cells": (data_prep, microscopy.Cells, ["--source", "{images}", "--out", "{out}"]),
    "polyp": (data_prep, medical.Polyp, ["--source", "{images}", "--out", "{out}"]),
    "lits": (data_prep, medical.Lits, ["--source", "{images}", "--out", "{out}"]),
    "lidc": (data_prep, medical.Lidc, ["--source", "{images}", "--out", "{out}"]),
    "camvid": (data_prep, scenes.Camvid, ["--source", "{images}", "--out", "{out}"]),
    "voc": (data_prep, scenes.Voc, ["--source", "{images}", "--out", "{out}"]),
    "cityscapes": (data_prep, scenes.Cityscapes, ["--source", "{images}", "--out", "{out}"]),
    "coco": (data_prep, scenes.Coco, ["--source", "{images}", "--out", "{out}"]),
    "sunrgbd": (data_prep, scenes.Sunrgbd, ["--source", "{images}", "--out", "{out}"]),
    "context": (data_prep, scenes.Context, ["--source", "{images}", "--out", "{out}"]),
    "parts": (data_prep, scenes.Parts, ["--source", "{images}", "--out", "{out}"]),
    "imagenet": (data_prep, scenes.Imagenet, ["--source", "{images}"]),
    "phantoms": (data_prep, phantoms.Phantoms, ["--kind", "acdc", "--out", "{out}", "--cases", "1"]),
    "verify": (data_prep, verify.Verify, ["{data}"]),
    "networks compare": (app, networks.Compare, ["jsrt_small", "--size", "32", "--trials", "1"]),
    "networks padding": (app, networks.Padding, ["--width", "0.02", "--out", "{out}"]),
}
SHARED = {"--out", "--seed", "--workers", "--name", "--subject"}  # the commands of data_prep have them from one place
SLOW = {"predict", "export", "explain", "report", "study", "evaluate"}


def attacks():
    """List command, position of an argument or name of an option, and its odd value."""
    found = []
    for command, (_, options, _) in COMMANDS.items():
        hints = get_type_hints(options, include_extras=True)
        position = 0
        for field in dataclasses.fields(options):
            kind = get_args(hints[field.name])[0]
            if kind is bool:
                continue
            is_argument = "Argument" in type(hints[field.name].__metadata__[0]).__name__
            kinds = {kind, *get_args(kind)}
            values = NUMBERS if kinds & {int, float} else [*PATHS, *THERE, *FOLDERS] if Path in kinds else TEXTS
            place = position if is_argument else f"--{field.name.strip('_').replace('_', '-')}"
            position += is_argument
            if place not in SHARED or command in ("folder", "phantoms", "verify") or command in SLOW:
                found += [(command, place, value) for value in values]
    return found


ATTACKS = attacks()


@pytest.fixture(scope="module")
def places(trained, prepared, tmp_path_factory):
    """Make small folders that every command can work with."""
    root = tmp_path_factory.mktemp("odd options")
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (root / name).mkdir()
        for n in range(10):
            values = rng.integers(0, 256, (40, 40)) if name == "images" else rng.integers(0, 2, (40, 40))
            Image.fromarray(values.astype(np.uint8)).save(root / name / f"{n}.png")
    image = next((prepared["jsrt"] / "images").glob("*.nii.gz"))
    shutil.copy(running.BUNDLES / "jsrt_small.json", root / "jsrt_small.json")
    found = {"run": trained, "image": image, "data": prepared["jsrt"], "bundle": root / "jsrt_small.json"}
    return {**found, "images": root / "images", "masks": root / "masks"}


def attack(command, place, value, places, out):
    application, _, usual = COMMANDS[command]
    arguments = [part.format(**places, out=out) for part in usual]
    if isinstance(place, int):
        arguments[place] = value
    elif place in arguments:
        arguments[arguments.index(place) + 1] = value
    else:
        arguments += [place, value]
    with running.kept_state():
        return CliRunner().invoke(application, [*command.split(), *arguments])


def lay_out():
    """Make the files and folders that are there; returns the content by file."""
    for folder in FOLDERS:
        Path(folder).mkdir()
    files = {**THERE, f"{FOLDERS[0]}/note.txt": "a note"}
    for name, content in files.items():
        Path(name).write_text(content, encoding="utf-8")
    return {Path(name): content for name, content in files.items()}


@pytest.mark.parametrize(
    ("command", "place", "value"),
    [
        pytest.param(*case, marks=pytest.mark.torture if number % (400 if case[0] in SLOW else 40) else ())
        for number, case in enumerate(ATTACKS)
    ],
    ids=lambda value: repr(value)[:40],
)
def test_an_odd_value_is_used_or_refused_in_one_line(command, place, value, places, tmp_path, monkeypatch):
    (tmp_path / "a/b/here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a/b/here")
    before = lay_out()
    done = attack(command, place, value, places, tmp_path / "out")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        message = explain_error(done.exception)
        assert message is not None, repr(done.exception)
        assert message.isprintable()
    assert done.exit_code in (0, 1, 2, 3)
    assert "Traceback" not in done.output
    assert {path: path.read_text(encoding="utf-8") for path in before} == before
    if place != "--out":
        assert {path.name for path in tmp_path.iterdir()} <= {"a", "out"}
    assert not list(Path(tmp_path).rglob(".*.partial"))
