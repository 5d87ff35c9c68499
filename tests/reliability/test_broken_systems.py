"""A full disk, a lost worker and too few open files end a command with one line and a whole earlier state."""

import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import running
from typer.testing import CliRunner

from data_prep import phantoms
from data_prep.cli.main import app as data_app
from medpos.cli.main import app
from medpos.core.ending import explain
from medpos.core.files import write_text
from medpos.runs.folder import close_log

GONE = 2**22 + 1  # above every number of a process on Linux


@contextlib.contextmanager
def full_disk(size):
    """Let no file grow beyond a number of bytes; the system refuses the rest as a full disk does."""
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


def files_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def report(run, out, data):
    return app, ["report", str(run), "--out", str(out)]


def export(run, out, data):
    return app, ["export", str(run), "--out", str(out)]


def evaluate(run, out, data):
    labels = str(data["jsrt"] / "labels")
    return app, ["evaluate", labels, labels, "--labels", str(data["jsrt"]), "--out", str(out)]


def predict(run, out, data):
    return app, ["predict", str(run), str(data["jsrt"] / "images"), "--out", str(out)]


def explain_run(run, out, data):
    return app, ["explain", str(run), "--out", str(out)]


def new_bundle(run, out, data):
    return app, ["new-bundle", "mine", "--data", str(data["jsrt"]), "--out", str(out)]


def study(run, out, data):
    folder, sizes = out.parent, {"image_size": 32, "batch_size": 5, "max_epochs": running.TRAINED_EPOCHS}
    content = {
        "title": "A study of the tests", "paper": "none", "claim": "It segments.", "data": ["jsrt"], "seeds": [0],
        "network": "small", "conditions": ["clean"], "figures": ["bars"], "criteria": [],
        "models": [{"name": "with position", "bundle": "{data}_small_pe"}],
    }  # fmt: skip
    (folder / "mine.json").write_text(json.dumps(content))
    if not (folder / "runs").exists():
        shutil.copytree(run, folder / "runs/jsrt_small_pe/a")
    given = ["--runs-dir", str(folder / "runs"), "--dataset-dir", f"jsrt={data['jsrt']}", "--out", str(out)]
    return app, ["study", str(folder / "mine.json"), *given, *(f"--set={key}={value}" for key, value in sizes.items())]


COMMANDS = [report, export, evaluate, predict, explain_run, new_bundle, study]
every_command = pytest.mark.parametrize(
    "command",
    running.leave_to_torture(COMMANDS, [report, explain_run]),  # slow, and each writes as the others do
    ids=lambda command: command.__name__,
)


@every_command
@pytest.mark.parametrize("size", running.leave_to_torture([60, 3_000, 30_000], [3_000, 60]))
def test_a_full_disk_is_one_line_and_the_next_call_works(trained, prepared, tmp_path, command, size):
    run = shutil.copytree(trained, tmp_path / "run")
    out = tmp_path / "out"
    cli, arguments = command(run, out, prepared)
    with full_disk(size // 10 if command is new_bundle else size):  # its files are small
        done = CliRunner().invoke(cli, arguments)
    assert done.exception is not None
    message = explain(done.exception)
    assert message is not None, repr(done.exception)
    assert "\n" not in message
    assert "can't be written" in message or "make room" in message or "larger files" in message
    assert not list(tmp_path.rglob("*.partial"))
    assert files_of(run) == files_of(trained)
    assert CliRunner().invoke(cli, arguments).exception is None


def close(folder):
    """Return a place in a folder where nothing can be written, and the folder above it."""
    if os.geteuid():
        folder.mkdir()
        folder.chmod(0o500)
        return folder / "out"
    return Path("/sys/kernel/out")  # root may write elsewhere


@every_command
def test_a_folder_that_cannot_be_written_is_one_line(trained, prepared, tmp_path, command):
    run = shutil.copytree(trained, tmp_path / "run")
    cli, arguments = command(run, tmp_path / "out", prepared)
    arguments[arguments.index("--out") + 1] = str(close(tmp_path / "closed"))
    before = files_of(tmp_path)
    done = CliRunner().invoke(cli, arguments)
    message = explain(done.exception)
    assert message is not None, repr(done.exception)
    assert "\n" not in message
    assert "can't be" in message
    assert files_of(tmp_path) == before


def test_a_full_disk_leaves_an_earlier_report_as_it_was(trained, tmp_path):
    arguments = ["report", str(trained), "--out", str(tmp_path / "out")]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    page = (tmp_path / "out/index.html").read_bytes()
    with full_disk(len(page) - 1):
        assert CliRunner().invoke(app, arguments).exception is not None
    assert (tmp_path / "out/index.html").read_bytes() == page


@pytest.mark.parametrize("size", running.leave_to_torture([60, 3_000], [60]))
def test_a_full_disk_stops_a_preparation(tmp_path, size):
    phantoms.write("jsrt", tmp_path / "raw", cases=6)
    arguments = ["jsrt", "--images", str(tmp_path / "raw"), "--masks", str(tmp_path / "raw"), "--size", "64"]
    arguments += ["--out", str(tmp_path / "out")]
    with full_disk(size):
        done = CliRunner().invoke(data_app, arguments)
    assert "can't be written" in (explain(done.exception) or "")
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file() and path.name.endswith(".partial")]
    assert not (tmp_path / "out/dataset.json").exists()
    assert CliRunner().invoke(data_app, arguments).exit_code == 0


def leave(folder, name, process):
    """Leave what a killed process leaves: a folder, or a file in it."""
    path = folder / f".{name}.{process}.partial"
    path.mkdir(parents=True)
    (path / "half").write_text("half")
    return path


def test_what_a_killed_export_leaves_is_removed(trained, tmp_path):
    gone, alive = (leave(tmp_path, "out[1]", process) for process in (GONE, os.getppid()))
    other = leave(tmp_path, "out1", GONE)
    assert CliRunner().invoke(app, ["export", str(trained), "--out", str(tmp_path / "out[1]")]).exit_code == 0
    assert (gone.exists(), alive.exists(), other.exists()) == (False, True, True)


def test_what_a_killed_report_leaves_is_removed(trained, tmp_path):
    out = tmp_path / "out"
    gone = [out / part / f".0123456789abcdef.{GONE}.partial" for part in ("", "csv", "figures")]
    mine = out / f"notes/.0123456789abcdef.{GONE}.partial"  # the folder is the user's
    for path in (*gone, mine):
        write_text(path, "half")
    assert CliRunner().invoke(app, ["report", str(trained), "--out", str(out)]).exit_code == 0
    assert [path.exists() for path in (*gone, mine)] == [False, False, False, True]


BROKEN = """
import os, signal, sys, time
import torch
from torch.utils.data import DataLoader, Dataset
from medpos.core import workers
from medpos.core.ending import run_plainly

class Broken(Dataset):
    def __len__(self):
        return 6

    def __getitem__(self, index):
        if index == 2 and sys.argv[1] == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if index == 2:
            time.sleep(60)
        return torch.zeros(1)

workers.WAIT_S = 1
loader = DataLoader(Broken(), num_workers=1)
workers.limit_waiting(loader)
run_plainly(lambda: list(loader))
"""


@pytest.mark.parametrize("how", ["killed", "silent"])
def test_a_worker_that_does_not_deliver_is_one_line(how):
    done = subprocess.run(
        [sys.executable, "-c", BROKEN, how], capture_output=True, text=True, env=running.ENVIRONMENT, timeout=50
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: a worker process did not deliver (")
    assert done.stderr.count("\n") == 1


LATE = """
import os, signal, sys, time
from medpos.bundle import startup
from medpos.core import ending

def lose(*_):
    raise RuntimeError("DataLoader worker (pid 2) is killed by signal: Killed.")

def command():
    raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Killed.")

def disturbed(error, explain=ending.explain):
    os.kill(os.getpid(), signal.SIGCHLD)  # Python hears of another lost worker
    time.sleep(0.1)
    return explain(error)

signal.signal(signal.SIGCHLD, lose)
ending.explain = startup.explain = disturbed
if sys.argv[1] == "command":
    ending.run_plainly(command)
startup.show_errors_plainly()
command()
"""


@pytest.mark.parametrize("place", ["command", pytest.param("MONAI's own command", marks=pytest.mark.torture)])
def test_another_lost_worker_does_not_disturb_the_explanation(place):
    done = subprocess.run([sys.executable, "-c", LATE, place], capture_output=True, text=True, env=running.ENVIRONMENT)
    assert done.returncode == (2 if place == "command" else 1)
    assert done.stderr.startswith("error: a worker process did not deliver (DataLoader worker (pid 1)")
    assert done.stderr.count("\n") == 1


WITHOUT = """
import importlib, pkgutil, sys, tempfile
from pathlib import Path
import ignite, matplotlib, monai, pandas, psutil, SimpleITK, torch
sys.modules.update(fcntl=None, resource=None)
import data_prep, medpos
for package in (medpos, data_prep):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
from medpos.core.lock import FolderLock
from medpos.core.workers import allow_open_files
allow_open_files(2)
with FolderLock(Path(tempfile.mkdtemp())):
    print("works")
"""


def test_nothing_needs_the_modules_that_windows_lacks():
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, env=running.ENVIRONMENT)
    assert done.stdout == "works\n", done.stderr


FEW_FILES = """
import resource, sys
import psutil
from medpos.core.errors import InputError
from medpos.core.workers import allow_open_files
few, many = psutil.Process().num_fds() + 8, int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (few, many))
allow_open_files(0)
assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == few
try:
    allow_open_files(2)
except InputError as error:
    print(error)
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0] > few)
"""


@pytest.mark.parametrize(("most", "raised"), [(60, False), (4096, True)])
def test_workers_get_the_open_files_that_they_need_or_are_refused(most, raised):
    done = subprocess.run(
        [sys.executable, "-c", FEW_FILES, str(most)], capture_output=True, text=True, env=running.ENVIRONMENT
    )
    assert done.returncode == 0, done.stderr
    *refused, last = done.stdout.splitlines()
    assert last == str(raised)
    assert len(refused) == (not raised)
    assert all(
        line.startswith("--num_workers 2: expected ") and "give a smaller --num_workers" in line for line in refused
    )


def test_a_log_that_cannot_be_written_is_said_once(run_of, tiny, capfd):
    """The results of a run are written; its log is on a full disk."""
    log = run_of / "log.txt"
    log.unlink()
    log.symlink_to("/dev/full")
    try:
        running.run_here("jsrt_small_pe", entry="evaluate", **{**tiny, "run_name": "a"})
    finally:
        close_log()
    assert (run_of / "evaluate/summary.json").is_file()
    shown = capfd.readouterr().err
    assert shown.count("log.txt: can't be written ([Errno 28] No space left on device)") == 1
    assert "Traceback" not in shown
