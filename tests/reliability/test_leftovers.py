"""What a killed process leaves half-written is removed by the next start; two writers of one folder are refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import running
from typer.testing import CliRunner

from data_prep import phantoms
from data_prep import prepared as prepared_data
from data_prep.cli.main import app
from data_prep.datasets import nuclei, voc
from data_prep.files import lock_folder
from medpos.core.errors import InputError
from medpos.core.files import remove_partials
from medpos.core.lock import FolderLock
from medpos.data.classification import ImageClasses

GONE = 2**22 + 1  # above every number of a process on Linux


def leave(folder, process=GONE):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".0123456789abcdef.{process}.partial"
    path.write_bytes(b"half")
    return path


def test_temporary_files_of_processes_that_are_gone_are_removed_at_every_depth(tmp_path):
    gone = [leave(tmp_path), leave(tmp_path / "a/b"), leave(tmp_path / "c", os.getpid())]
    alive = leave(tmp_path / "d", os.getppid())
    (tmp_path / "a.partial").write_bytes(b"of the user")
    remove_partials(tmp_path, is_shared=True)
    assert not any(path.exists() for path in gone)
    assert alive.exists()
    remove_partials(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["a.partial"]
    assert not alive.exists()


def prepare(raw, out):
    return ["jsrt", "--images", str(raw), "--masks", str(raw), "--out", str(out), "--size", "64"]


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw") / "jsrt"
    phantoms.write("jsrt", folder, cases=6)
    return folder


def commands(raw, out):
    return {"jsrt": prepare(raw, out), "phantoms": ["phantoms", "--kind", "jsrt", "--out", str(out), "--cases", "2"]}


@pytest.mark.parametrize("name", ["jsrt", "phantoms"])
def test_a_preparation_cleans_up_and_a_second_one_is_refused(raw, tmp_path, name):
    out = tmp_path / "out"
    command = commands(raw, out)[name]
    out.mkdir()
    lock = FolderLock(out, inside=True)
    lock.path.write_text(json.dumps({"process": 1, "host": "elsewhere", "started": 1.0}))
    refused = CliRunner().invoke(app, command)
    assert "is being written by process 1 on elsewhere; wait until it has ended, or choose another --out" in str(
        refused.exception or refused.output
    )
    assert [path.name for path in out.iterdir()] == [".lock"]
    os.utime(lock.path, (0, 0))  # its process is gone
    leftovers = [leave(out), leave(out / "images")] if name == "jsrt" else [leave(out)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert not any(path.exists() for path in [*leftovers, lock.path])


def test_a_killed_preparation_goes_on_at_once(raw, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "data_prep", *prepare(raw, out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=running.ENVIRONMENT)
    while process.poll() is None and not list(out.glob(".cases/*.json")):
        time.sleep(0.005)
    process.send_signal(signal.SIGSTOP)
    second = subprocess.run(command, capture_output=True, text=True, env=running.ENVIRONMENT)
    process.kill()
    process.wait()
    assert second.returncode != 0
    assert f"{out} is being written by process {process.pid} on " in second.stderr
    assert "Traceback" not in second.stderr
    third = subprocess.run(command, capture_output=True, text=True, env=running.ENVIRONMENT)
    assert third.returncode == 0, third.stderr
    assert " up to date" in third.stdout
    assert " 0 up to date" not in third.stdout
    assert not (out / ".lock").exists()


def test_raw_phantoms_of_a_killed_process_are_removed(tmp_path):
    place = tmp_path / "phantoms"
    for name in ("jsrt-raw-abc123", "jsrt-9-raw-abc123"):
        (place / name / "raw").mkdir(parents=True)
    made = prepared_data.find_or_make_phantoms(
        "jsrt", str(tmp_path / "no"), str(tmp_path / "no"), str(place / "jsrt"), 6
    )
    assert json.loads((place / "jsrt/dataset.json").read_text())["phantom"] is True
    assert made == str(place / "jsrt")
    # That of another number of phantoms may be in use.
    assert sorted(path.name for path in place.iterdir() if path.is_dir()) == ["jsrt", "jsrt-9-raw-abc123"]


def test_a_resumed_run_cleans_up(trained, tmp_path, prepared):
    run = tmp_path / "runs/jsrt_small_pe/a"
    shutil.copytree(trained, run)
    (run / "summary.json").unlink()
    gone, alive = leave(run), leave(run / "evaluate", os.getppid())
    given = {"image_size": 32, "batch_size": 5, "max_epochs": running.TRAINED_EPOCHS, "run_name": "a", "resume": True}
    running.run_here("jsrt_small_pe", dataset_dir=str(prepared["jsrt"]), runs_dir=str(tmp_path / "runs"), **given)
    assert not gone.exists()
    assert alive.exists()


def test_a_lock_of_data_is_given_back_after_an_error(tmp_path):
    def fail():
        with lock_folder(tmp_path / "out"):
            assert (tmp_path / "out/.lock").is_file()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not (tmp_path / "out").exists()


READERS = {
    "imagenet": lambda raw, out: ImageClasses(raw),
    "nuclei": lambda raw, out: nuclei.prepare(raw, out),
    "voc": lambda raw, out: voc.prepare(raw, out),
}
COUNTS = {"imagenet": 50, "nuclei": 6, "voc": 6}


@pytest.mark.parametrize(
    ("kind", "stopped_at"), [*((kind, number) for kind in READERS for number in (0, 5)), ("voc", "lists")]
)
def test_half_made_phantoms_are_no_data(tmp_path, monkeypatch, kind, stopped_at):
    raw, write_case = tmp_path / "raw", phantoms.KINDS[kind]

    def stop(*arguments):
        if arguments[2] == stopped_at:
            raise KeyboardInterrupt
        return write_case(*arguments)

    def stop_at_lists(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if stopped_at == "lists":
            patch.setitem(phantoms.LISTS, kind, stop_at_lists)
        else:
            patch.setitem(phantoms.KINDS, kind, stop)
        with pytest.raises(KeyboardInterrupt):
            phantoms.write(kind, raw, COUNTS[kind])
    with pytest.raises(InputError, match=r"raw: expected (complete phantoms, got half-made ones; run|ImageSets)"):
        READERS[kind](raw, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    phantoms.write(kind, raw, COUNTS[kind])
    READERS[kind](raw, tmp_path / "out")
    assert "complete" not in json.loads((raw / "PHANTOM.json").read_text())
