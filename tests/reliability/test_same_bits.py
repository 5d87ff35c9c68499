"""A run resumed in another environment says so; its folder keeps the environment of every call."""

import json
import shutil
import subprocess
import sys

import pytest
import running
import torch

from medpos.core.errors import InputError
from medpos.report import build
from medpos.runs import files
from medpos.runs import folder as folders
from medpos.runs.environment import continue_environments, environment
from medpos.runs.folder import RunFolder

WARNING = "the run was begun in another environment: "


@pytest.fixture(autouse=True)
def _logging():
    with running.kept_state():
        yield


@pytest.fixture
def resume(tmp_path, monkeypatch):
    """Return a function that begins a run, and resumes it when called again, in an environment that differs."""

    def record(**changes):
        def changed(*_):
            facts = environment("cpu", 0)
            device = {key: value for key, value in changes.items() if key in facts["device"]}
            packages = {key: value for key, value in changes.items() if key in facts["packages"]}
            facts["device"] |= device
            facts["packages"] |= packages
            return {**facts, **{key: value for key, value in changes.items() if key not in device | packages}}

        monkeypatch.setattr(folders, "environment", changed)
        run = RunFolder(tmp_path, "b", "a", resume=(tmp_path / "b/a").exists()).create()
        run.record({"lr": 1}, "cpu", 0)
        run.close()
        return files.Run(run.folder)

    return record


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("type", "device type"),
        ("name", "device name"),
        ("processor", "processor"),
        ("instruction_set", "instruction_set"),
        ("threads", "threads"),
        ("processes", "processes"),
        ("commit", "commit"),
        ("torch", "torch"),
        ("numpy", "numpy"),
    ],
)
def test_a_run_resumed_in_another_environment_loses_its_promise_aloud(resume, caplog, name, shown):
    resume(**{name: "here"})
    run = resume(**{name: "there"})
    change = f"{shown} was here, is there"
    assert f"{WARNING}{change}; " in caplog.text
    assert WARNING + change in (run.folder / "log.txt").read_text()
    assert "changed" not in run.environments[0]
    assert run.environments[1]["changed"] == [change]
    caplog.clear()
    run = resume(**{name: "here"})  # back again: the epochs between were computed there
    assert change in caplog.text
    assert [entry.get("changed") for entry in run.environments] == [None, [change], [change]]


@pytest.mark.parametrize("name", ["cores", "python", "platform", "started", "command"])
def test_what_the_bits_do_not_depend_on_may_change(resume, caplog, name):
    resume(**{name: "here"})
    resume(**{name: "there"})
    assert len(resume(**{name: "here"}).environments) == 3
    assert WARNING not in caplog.text


@pytest.mark.parametrize("old", [{"seed": 3, "device": {"type": "cpu", "threads": 7}}, {}, {"device": "cpu"}], ids=str)
def test_the_single_object_of_earlier_versions_becomes_the_first_entry(resume, caplog, old):
    path = resume().folder / files.ENVIRONMENT
    path.write_text(json.dumps(old))
    assert files.Run(path.parent).environment == old
    run = resume()
    assert run.environments[0] == old
    assert len(run.environments) == 2
    assert ("threads was 7" in caplog.text) == ("seed" in old)


@pytest.mark.parametrize("content", ["[1]", "3", "{", '["x"]', "null", "[" * 10_000], ids=lambda text: text[:5])
def test_a_damaged_file_is_refused_and_kept(resume, content):
    path = resume().folder / files.ENVIRONMENT
    path.write_text(content)
    with pytest.raises(InputError, match=r"environment\.json: (expected a list|can't be read as JSON)"):
        resume()
    assert path.read_text() == content


def test_a_run_killed_before_its_environment_was_written_goes_on(resume):
    (resume().folder / files.ENVIRONMENT).unlink()
    assert len(resume().environments) == 1


def test_the_number_of_processes_is_recorded(monkeypatch):
    assert environment("cpu", 0)["device"]["processes"] == 1
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 4)
    assert environment("cpu", 0)["device"]["processes"] == 4


@pytest.mark.parametrize(
    "limit",
    [{"ATEN_CPU_CAPABILITY": "default"}, pytest.param({"ONEDNN_MAX_CPU_ISA": "SSE41"}, marks=pytest.mark.torture)],
    ids=str,
)
def test_a_limit_of_the_instructions_is_a_change(limit):
    script = "import json; from medpos.runs.environment import environment; print(json.dumps(environment('cpu', 0)))"
    done = subprocess.run(
        [sys.executable, "-c", script], env={**running.ENVIRONMENT, **limit}, capture_output=True, text=True, check=True
    )
    before, after = environment("cpu", 0), json.loads(done.stdout)
    name = "instruction_set"
    change = f"{name} was {before['device'][name]}, is {after['device'][name]}"
    assert change in continue_environments([before], after)[-1]["changed"]


def test_the_report_says_it(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    entries = files.Run(run).environments
    (run / files.ENVIRONMENT).write_text(json.dumps([*entries, {**entries[-1], "changed": ["threads was 1, is <2>"]}]))
    page = build([run], tmp_path / "report").read_text()
    assert "Resumed in another environment (threads was 1, is &lt;2&gt;)" in page
    assert "Resumed in" not in build([trained], tmp_path / "other").read_text()


def test_a_resumed_training_keeps_both_environments(run_of, tiny):
    (run_of / "summary.json").unlink()
    before = files.Run(run_of).environments
    given = {**tiny, "max_epochs": running.TRAINED_EPOCHS, "run_name": "a", "resume": True}
    running.run_here("jsrt_small_pe", **given)
    after = files.Run(run_of).environments
    assert after[:-1] == before
    assert after[-1]["command"]
    assert WARNING not in (run_of / "log.txt").read_text()
