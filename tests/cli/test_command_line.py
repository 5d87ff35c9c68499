import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from running import ALL, BUNDLES, ROOT
from typer.testing import CliRunner

import medpos
from medpos.__main__ import app
from medpos.cli import bundles, output, project
from medpos.core import project as core_project
from medpos.core.config_files import find_config, read_config
from medpos.core.errors import InputError

SLOW_TO_IMPORT = ["torch", "monai", "pandas", "matplotlib", "scipy", "numpy"]


def run(*arguments, cwd, module="medpos"):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd, check=False)


def invoke(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["study", "--help"], ["evaluate", "--help"], ["bundles", "list"]], ids=str
)
def test_starts_without_the_libraries_of_a_training(arguments, tmp_path):
    code = f"""
import runpy, sys
sys.argv = ["medpos", *{arguments}]
try:
    runpy.run_module("medpos", run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code, end.code
print([name for name in {SLOW_TO_IMPORT} if name in sys.modules], file=sys.stderr)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=True)
    assert done.stderr == "[]\n"
    assert done.stdout


def test_version():
    assert invoke("--version").stdout == f"medpos {medpos.__version__}\n"


def test_completion_of_bundle_names():
    words = {"COMP_WORDS": "medpos bundles show jsrt_small", "COMP_CWORD": "3", "_MEDPOS_COMPLETE": "complete_bash"}
    done = CliRunner().invoke(app, [], env=words, prog_name="medpos")
    assert done.stdout.split() == ["jsrt_small", "jsrt_small_pe"]


def test_list_names_every_bundle_and_overlay():
    rows = [re.split("  +", line, maxsplit=3) for line in invoke("bundles", "list").stdout.splitlines()]
    stages = sorted(path.stem for path in BUNDLES.glob("stage_*.yaml"))
    assert [row[0] for row in rows] == [*sorted([*ALL, "chest_example"]), "crf", "multi_gpu", *stages]
    found = {row[0]: row[1:3] for row in rows}
    assert found["jsrt_pe"] == ["UNet + position", "jsrt"]
    assert found["brain_segnet"] == ["SegNet", "ibsr"]
    assert found["crf"] == ["any", "any"]
    assert all(row[3] == bundles.card(read_config(find_config(BUNDLES, row[0])))[0] for row in rows)


@pytest.mark.parametrize("name", ALL)
def test_settings_are_what_a_user_may_change(name):
    config = json.loads((BUNDLES / f"{name}.json").read_text())
    found = bundles.settings(config)
    assert {"dataset_dir", "runs_dir", "run_name", "seed", "device", "max_epochs", "batch_size"} <= set(found)
    assert not {"_desc_", "imports", "network", "network_def", "handlers", "run", "bundle_name"} & set(found)
    assert all(config[key] == value for key, value in found.items())
    crf = {"crf"} if "crf_search" in config else set()
    prune = {"prune"} if "supervision_mode" in config else set()
    patch = {"heatmap", "stitch"} if name == "jsrt_patch" else set()
    assert set(bundles.entry_points(config)) == {"run", "evaluate", "robustness", "shift"} | crf | prune | patch


def test_show_gives_card_entry_points_and_defaults():
    shown = invoke("bundles", "show", "nuclei_unetpp_ds.json").stdout
    config = json.loads((BUNDLES / "nuclei_unetpp_ds.json").read_text())
    assert shown.splitlines()[0] == bundles.card(config)[0]
    assert "prune" in next(line for line in shown.splitlines() if line.startswith("entry points:"))
    rows = [line.split(maxsplit=1) for line in shown.splitlines()]
    assert ["--seed", "0"] in rows
    assert ["--shift_pixels", json.dumps(config["shift_pixels"])] in rows


@pytest.mark.parametrize(
    ("description", "lines"), [("one line", ["one line"]), (["two", "lines"], ["two", "lines"]), ([], [""])]
)
def test_card(description, lines):
    assert bundles.card({"_desc_": description}) == lines


def test_copy_includes_the_files_that_monai_reads_beside_a_bundle(tmp_path):
    done = invoke("bundles", "copy", "jsrt_pe", "jsrt", "--out", tmp_path / "new")
    assert done.exit_code == 0
    copies = sorted((tmp_path / "new").iterdir())
    assert [path.stem for path in copies] == ["jsrt", "jsrt_pe", "logging", "metadata", "metadata_pe"]
    assert all(path.read_bytes() == (BUNDLES / path.name).read_bytes() for path in copies)
    assert "python -m monai.bundle run --config_file" in done.stdout


def test_copy_keeps_other_content_without_replace(tmp_path):
    (tmp_path / "jsrt.json").write_text("{}")
    (tmp_path / "metadata.json").write_text("my own")
    refused = invoke("bundles", "copy", "acdc", "jsrt", "--out", tmp_path)
    assert isinstance(refused.exception, InputError)
    assert str(refused.exception).startswith(f"{tmp_path}/jsrt.json: ")
    assert not (tmp_path / "acdc.json").exists()
    assert invoke("bundles", "copy", "acdc", "jsrt", "--out", tmp_path, "--replace").exit_code == 0
    assert (tmp_path / "jsrt.json").read_bytes() == (BUNDLES / "jsrt.json").read_bytes()
    assert (tmp_path / "metadata.json").read_text() == "my own"
    before = (tmp_path / "jsrt.json").stat().st_mtime_ns
    assert invoke("bundles", "copy", "jsrt", "--out", tmp_path).exit_code == 0
    assert (tmp_path / "jsrt.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("name", "hint"), [("jsrt_p", "did you mean jsrt_pe?"), ("../pyproject", "expected one of acdc, ")]
)
def test_unknown_bundle(name, hint, tmp_path):
    done = invoke("bundles", "copy", name, "--out", tmp_path / "new")
    assert hint in str(done.exception)
    assert not (tmp_path / "new").exists()


def test_folder_that_cant_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    assert "can't be written" in str(invoke("notebooks", "copy", "--out", tmp_path / "file").exception)


def test_notebooks(tmp_path):
    assert "03_position.ipynb  Does my model use position?" in invoke("notebooks", "list").stdout
    assert invoke("notebooks", "copy", "--out", tmp_path).exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        path.name for path in (ROOT / "notebooks").iterdir()
    )


def test_study_copy(tmp_path):
    assert invoke("study", "copy", "figure3", "--out", tmp_path).exit_code == 0
    assert (tmp_path / "figure3.json").read_bytes() == (BUNDLES / "studies/figure3.json").read_bytes()
    assert "did you mean figure3?" in str(invoke("study", "copy", "figur3", "--out", tmp_path).exception)
    assert "expected one of encodings, " in str(invoke("study", "copy", "profiles", "--out", tmp_path).exception)


def test_files_are_inside_an_installed_package(tmp_path, monkeypatch):
    assert project.project_folder() == ROOT
    monkeypatch.setattr(core_project.resources, "files", lambda name: tmp_path / name)
    assert project.project_folder() == tmp_path
    (tmp_path / "medpos/_project").mkdir(parents=True)
    assert project.project_folder() == tmp_path / "medpos/_project"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["jsrt", "--help"], ["verify", "nowhere"], ["jsrt", "--imag", "x"], []]
)
def test_data_is_data_prep(arguments, tmp_path):
    mine, theirs = run("data", *arguments, cwd=tmp_path), run(*arguments, cwd=tmp_path, module="data_prep")
    assert (mine.returncode, mine.stdout, mine.stderr) == (theirs.returncode, theirs.stdout, theirs.stderr)
    assert mine.stdout + mine.stderr


def test_quiet_shows_no_progress(tmp_path):
    loud = run("data", "phantoms", "--kind", "jsrt", "--cases", 1, "--out", "loud", cwd=tmp_path)
    quiet = run(
        "--quiet", "data", "phantoms", "--kind", "jsrt", "--cases", 1, "--out", "quiet", "--workers", 2, cwd=tmp_path
    )
    assert "1/1" in loud.stderr
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "quiet: 1 jsrt phantoms\n", "")
    copied = run("--quiet", "bundles", "copy", "jsrt", cwd=tmp_path)
    assert copied.stdout == f"{Path('bundles/jsrt.json')}\n"
    assert not output.notes.quiet
