"""Two processes never write into one folder: runs, evaluations, studies, reports and bundles at the same time."""

import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import running
from typer.testing import CliRunner

from medpos.cli.main import app
from medpos.core.errors import InputError
from medpos.core.files import write_folder
from medpos.core.lock import STALE_S, BusyError, FolderLock
from medpos.runs import files
from medpos.runs.folder import RunFolder
from medpos.study import declaration
from medpos.study.engines import LocalEngine
from medpos.study.plan import Settings
from medpos.study.run import Watcher, run

HOLD = """
import sys, time
from pathlib import Path
from medpos.core.lock import FolderLock
FolderLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
time.sleep(100)
"""


@pytest.fixture
def holder(tmp_path):
    """Start a process that holds the lock of a folder."""
    processes = []

    def start(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True, env=running.ENVIRONMENT
        )
        processes.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_folder_has_one_writer(tmp_path, holder):
    process = holder(tmp_path / "a")
    with pytest.raises(BusyError, match=f"being written by process {process.pid} on "):
        FolderLock(tmp_path / "a").acquire()
    FolderLock(tmp_path / "b").acquire().release()
    process.kill()
    process.wait()
    lock = FolderLock(tmp_path / "a").acquire()  # taken over at once
    assert json.loads(lock.path.read_text())["process"] == os.getpid()
    lock.release()
    assert not lock.path.exists()


def test_a_zombie_holds_nothing(tmp_path, holder):
    process = holder(tmp_path / "a")
    process.kill()
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert FolderLock(tmp_path / "a").holder() is None


@pytest.mark.parametrize(
    ("content", "age", "held"),
    [
        ({"process": 1, "host": "elsewhere", "started": 1.0}, 0, True),
        ({"process": 1, "host": "elsewhere", "started": 1.0}, STALE_S + 5, False),
        ({"process": os.getppid(), "host": os.uname().nodename, "started": 1.0}, 0, False),  # a number used again
        ({"process": "x", "host": os.uname().nodename, "started": None}, 0, False),
        (None, 0, True),  # just being written
        (None, STALE_S + 5, False),
    ],
)
def test_locks_of_other_processes(tmp_path, content, age, held):
    lock = FolderLock(tmp_path / "a")
    lock.path.write_text("" if content is None else json.dumps(content))
    os.utime(lock.path, (time.time() - age,) * 2)
    assert (lock.holder() is not None) == held
    if not held:
        lock.acquire().release()


def test_of_many_that_find_a_stale_lock_one_gets_it(tmp_path):
    lock = FolderLock(tmp_path / "a")
    lock.path.write_text(json.dumps({"process": os.getppid(), "host": os.uname().nodename, "started": 1.0}))
    script = HOLD.replace("FolderLock(Path", "sys.stdin.readline(); FolderLock(Path")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    racers = [
        subprocess.Popen([sys.executable, "-c", script, str(lock.folder)], env=running.ENVIRONMENT, **pipes)
        for _ in range(6)
    ]
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    winners = [racer.pid for racer in racers if racer.stdout.readline() == "held\n"]
    assert [json.loads(lock.path.read_text())["process"]] == winners
    for racer in racers:
        racer.kill()
        racer.communicate()


def test_a_block_within_another_of_the_same_process_leaves_the_lock_to_it(tmp_path):
    with FolderLock(tmp_path / "new", inside=True) as outer:
        with FolderLock(tmp_path / "new", inside=True):
            pass
        assert outer.path == tmp_path / "new/.lock"
        assert outer.path.is_file()
    assert not outer.path.exists()


def test_a_lock_that_another_process_took_over_stays_with_it(tmp_path):
    lock = FolderLock(tmp_path / "a").acquire()
    lock.path.write_text(json.dumps({"process": 1, "host": "elsewhere", "started": 1.0}))
    lock.release()
    assert json.loads(lock.path.read_text())["host"] == "elsewhere"


def test_the_heartbeat_keeps_a_lock_fresh(tmp_path, monkeypatch):
    monkeypatch.setattr("medpos.core.lock.BEAT_S", 0.02)
    lock = FolderLock(tmp_path / "a").acquire()
    os.utime(lock.path, (0, 0))
    end = time.monotonic() + 10
    while lock.path.stat().st_mtime < 1 and time.monotonic() < end:
        time.sleep(0.01)
    assert lock.path.stat().st_mtime > 1
    lock.release()


def test_a_run_that_is_being_trained_is_not_resumed(run_of, tiny, holder):
    (run_of / files.SUMMARY).unlink()
    holder(run_of)
    message = running.run_bundle("jsrt_small_pe", cwd=run_of, **{**tiny, "run_name": "a", "resume": True}).stderr
    assert "is being written by process" in message
    assert message.count("\n") == 1


def test_runs_started_in_the_same_second_get_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr("medpos.runs.folder.time.strftime", lambda *_: "2026-01-01_00-00-00")
    runs = [RunFolder(tmp_path, "b").create() for _ in range(3)]
    for one in runs:
        one.record({}, "cpu", 0)
    assert [one.folder.name for one in runs] == [f"2026-01-01_00-00-00{end}" for end in ("", "-2", "-3")]
    for one in runs:
        one.close()


def test_an_evaluation_under_way_keeps_its_folder(run_of, tiny, holder):
    holder(run_of / "evaluate")
    running.run_here("jsrt_small_pe", entry="evaluate", **{**tiny, "run_name": "a"})
    assert not (run_of / "evaluate").exists()
    assert (run_of / "evaluate-2" / files.SUMMARY).is_file()


WRITERS = {
    "evaluate": ["evaluate", "DATA/labels", "DATA/labels", "--labels", "DATA"],
    "new-bundle": ["new-bundle", "mine", "--data", "DATA"],
    "predict": ["predict", "RUN", "DATA/images"],
    "report": ["report", "RUN"],
    "study": ["study", "table1", "--dataset-dir", "jsrt=DATA", "--data", "jsrt"],
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_of_results_has_one_writer(trained, prepared, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    lock = FolderLock(tmp_path / "out", inside=True)
    lock.folder.mkdir()
    lock.path.write_text(json.dumps({"process": 1, "host": "elsewhere", "started": 1.0}))
    places = {"DATA": str(prepared["jsrt"]), "RUN": str(trained)}
    words = [re.sub("DATA|RUN", lambda found: places[found[0]], word) for word in WRITERS[name]]
    done = CliRunner().invoke(app, [*words, "--out", "out"])
    assert isinstance(done.exception, BusyError), repr(done.exception)
    assert "is being written by process 1 on elsewhere; wait until it has ended, or choose another --out" in str(
        done.exception
    )
    assert [path.name for path in lock.folder.iterdir()] == [".lock"]


@pytest.mark.parametrize("others", [[], ["out-2"]])
def test_of_two_that_write_a_new_folder_each_is_whole(tmp_path, others):
    """As two exports into one folder, and two explanations, which take another name."""

    def lose(folder):
        (folder / "of the second").write_text("x")
        (tmp_path / "out").mkdir()
        (tmp_path / "out/of the first").write_text("x")

    names = [tmp_path / name for name in ("out", *others)]
    if others:
        assert write_folder(names, lose) == tmp_path / "out-2"
    else:
        with pytest.raises(InputError, match="expected a folder that doesn't exist, got an existing one"):
            write_folder(names, lose)
    found = {path.name: [file.name for file in path.iterdir()] for path in tmp_path.iterdir()}
    assert found == {"out": ["of the first"], **{name: ["of the second"] for name in others}}


def study(folder, data, conditions):
    """Run a study of two small models with these conditions, all runs in ``folder / "runs"``."""
    path = folder / f"{conditions}.json"
    content = {
        "title": "A study of the tests", "paper": "none", "claim": "Position helps.", "data": ["jsrt"],
        "network": "small", "seeds": [0], "conditions": [conditions], "figures": [],
        "models": [
            {"name": "small CNN", "bundle": "{data}_small"},
            {"name": "with position", "bundle": "{data}_small_pe"},
        ],
        "criteria": [{"text": "position helps", "model": "with position", "minus": "small CNN", "at_least": 0.0}],
    }  # fmt: skip
    path.write_text(json.dumps(content))
    settings = Settings(
        running.BUNDLES,
        {"image_size": 32, "batch_size": 5, "max_epochs": 2},
        {"jsrt": str(data)},
        str(folder / "runs"),
        folder / f"logs-{conditions}",
    )
    declared = declaration.load(running.BUNDLES / "studies", str(path))
    return run(declared, settings, LocalEngine(1, 1), folder / conditions, "the command", Watcher())


@pytest.mark.torture
def test_two_studies_that_need_the_same_models_train_them_once(prepared, tmp_path):
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(study, tmp_path, prepared["jsrt"], group) for group in ("clean", "shifts")]
        contents = [future.result(timeout=500) for future in waiting]
    assert [content["failed"] for content in contents] == [[], []]
    logs = list((tmp_path / "runs").glob("*/*/log.txt"))
    assert len(logs) == 2
    for log in logs:
        assert log.read_text().count("epoch 1/2;") == 1


def test_a_training_goes_on_under_other_conditions(run_of, tiny):
    """As after a kill, by a study with other conditions."""
    (run_of / files.SUMMARY).unlink()
    more = {"max_epochs": running.TRAINED_EPOCHS, "run_name": "a", "resume": True, "conditions": ["shifts"]}
    running.run_here("jsrt_small_pe", **{**tiny, **more})
    conditions = json.loads((run_of / files.SUMMARY).read_text())["conditions"]
    assert len(conditions) > 1
