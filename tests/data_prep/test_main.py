import os
import subprocess
import sys
from pathlib import Path

import pytest
import raw
from typer.testing import CliRunner

from data_prep.__main__ import app

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments):
    command = [sys.executable, "-m", "data_prep", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.parametrize("command", ["jsrt", "acdc", "nuclei", "cells", "phantoms", "verify"])
def test_help(command):
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert "--workers" in result.output
    assert command == "verify" or f"python -m data_prep {command} --" in result.output


def test_prepare_twice_and_verify(tmp_path):
    source, out = raw.acdc(tmp_path / "raw", 3), tmp_path / "out"
    first = run("acdc", "--source", source, "--out", out, "--workers", 2)
    assert (first.returncode, "6 cases written" in first.stdout, "6/6" in first.stderr) == (0, True, True)
    second = run("acdc", "--source", source, "--out", out)
    assert (second.returncode, second.stdout.startswith("unchanged: ")) == (0, True)
    sound = CliRunner().invoke(app, ["verify", str(out)])
    assert (sound.exit_code, sound.stdout.splitlines()[-1][:4]) == (0, "ok: ")  # after warnings of copies
    (out / "images/patient001_ED.nii.gz").unlink()
    (out / "labels/patient001_ES.nii.gz").unlink()
    broken = CliRunner().invoke(app, ["verify", str(out)])
    assert broken.exit_code == 1
    assert broken.stdout.count("can't be read") == 2
    assert "\n2 problems: " in broken.stdout


def test_options_of_jsrt_take_effect(tmp_path):
    images, masks = raw.jsrt(tmp_path / "raw", clavicles=True)
    arguments = ["jsrt", "--images", images, "--masks", masks, "--out", tmp_path / "out", "--size", 128, "--clavicles"]
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0
    text = (tmp_path / "out/dataset.json").read_text()
    assert "left_clavicle" in text
    assert "128" in text


def test_bad_input_is_one_line_without_traceback(tmp_path):
    result = run("acdc", "--source", tmp_path, "--out", tmp_path / "out")
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
