"""Resume a training that was killed at any point, and get bit-identical results."""

import contextlib
import itertools
import random
import re
import shutil
import signal
import statistics
import time
from datetime import datetime
from pathlib import Path

import pytest
import torch
from running import TRAINED_EPOCHS, leave_to_torture, refusal, run_here, start

import medpos.core.files

EPOCHS = 6


@pytest.fixture
def options(prepared, tmp_path):
    return {
        "dataset_dir": str(prepared["jsrt"]),
        "runs_dir": str(tmp_path / "runs"),
        "run_name": "a",
        "image_size": 32,
        "batch_size": 2,
        "max_epochs": EPOCHS,
    }


@pytest.fixture(scope="module")
def uninterrupted(prepared, tmp_path_factory):
    """Finish a run without an interruption."""
    runs = tmp_path_factory.mktemp("uninterrupted")
    return run_here(
        "jsrt_small_pe",
        dataset_dir=str(prepared["jsrt"]),
        runs_dir=str(runs),
        run_name="a",
        image_size=32,
        batch_size=2,
        max_epochs=EPOCHS,
    )


def tensors(state, prefix=""):
    """Yield all tensors of a nested state with their paths."""
    for key, value in state.items():
        if isinstance(value, torch.Tensor):
            yield f"{prefix}{key}", value
        elif isinstance(value, dict):
            yield from tensors(value, f"{prefix}{key}/")
        else:
            yield (
                f"{prefix}{key}",
                torch.tensor(0.0) if isinstance(value, list) else torch.tensor(value, dtype=torch.float64),
            )


def assert_equal(run, uninterrupted):
    for name in ("model.pt", "resume.pt"):
        one, other = (dict(tensors(torch.load(folder / name, weights_only=True))) for folder in (run, uninterrupted))
        assert one.keys() == other.keys()
        assert len(one) > 20
        assert [key for key in one if not torch.equal(one[key], other[key])] == []
    assert (run / "metrics.csv").read_text() == (uninterrupted / "metrics.csv").read_text()
    assert (run / "summary.json").read_text() == (uninterrupted / "summary.json").read_text()


def epoch_seconds(run):
    """Measure the seconds of an epoch on this machine: the median over the log of a run."""
    lines = re.findall(r"^(\S+ \S+) INFO medpos.handlers.progress: epoch", (run / "log.txt").read_text(), re.MULTILINE)
    times = [datetime.fromisoformat(time.replace(",", ".")) for time in lines]
    return statistics.median((after - before).total_seconds() for before, after in itertools.pairwise(times))


def wait_for(pattern, log, start_of_log, process):
    """Wait until the run has logged the pattern; return also if the run has ended, which the caller checks."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        if process.poll() is not None or (log.exists() and re.search(pattern, log.read_text()[start_of_log:])):
            return
        time.sleep(0.001)
    raise AssertionError(f"expected {pattern!r} in the log within 600 s, found none")


def kill(run, pattern, delay, cwd, options):
    """Start or resume a run, kill it ``delay`` s after it logged the pattern, and tell whether it was still running."""
    log = run / "log.txt"
    resume = log.exists()
    start_of_log = len(log.read_text()) if resume else 0
    process = start("jsrt_small_pe", cwd=cwd, resume=resume, **options)
    wait_for(pattern, log, start_of_log, process)
    time.sleep(delay)
    process.kill()
    errors = process.communicate()[1]
    assert process.returncode in (0, -signal.SIGKILL), errors
    return process.returncode != 0


def land_a_kill(run, pattern, delay, epochs, cwd, options, kept):
    """Kill a run after one of these epochs was saved; if it got further, restore it and kill it earlier."""
    shutil.rmtree(kept, ignore_errors=True)
    if run.exists():
        shutil.copytree(run, kept)
    for later in (1, 0.5, 0.25, 0.1, 0, 0, 0, 0):
        landed = kill(run, pattern, later * delay, cwd, options) and not (run / "summary.json").exists()
        state = run / "resume.pt"
        if landed and (torch.load(state, weights_only=True)["epoch"] if state.exists() else 0) in epochs:
            return
        shutil.rmtree(run)
        if kept.exists():
            shutil.copytree(kept, run)
    raise AssertionError(f"expected to kill the run soon after {pattern!r}, but every kill was too late")


@pytest.mark.slow
@pytest.mark.parametrize(
    "moments",
    [
        pytest.param(("within an epoch", "in the test"), id="twice"),
        pytest.param(
            ("at the start", "between epochs", "within an epoch", "within a later epoch", "in the test"),
            id="everywhere",
            marks=pytest.mark.torture,
        ),
    ],
)
def test_sigkill(moments, options, uninterrupted, tmp_path):
    """Kill one training at these moments, and resume it after each."""
    random.seed(0)
    run = Path(options["runs_dir"]) / "jsrt_small_pe/a"
    epoch = epoch_seconds(uninterrupted)
    an_epoch, the_last = r"epoch \d/\d; loss", rf"epoch {EPOCHS}/{EPOCHS}; loss|resumed after epoch {EPOCHS}"
    kills = {
        "at the start": ("run folder", 0.3, [0]),
        "between epochs": (an_epoch, 0.0, [1, 2]),
        "within an epoch": (an_epoch, random.uniform(0, 1), [1, 2, 3, 4]),
        "within a later epoch": (an_epoch, random.uniform(0, 1), [3, 4, 5]),
        "in the test": (the_last, random.uniform(0, 0.3), [EPOCHS]),
    }
    for pattern, epochs_to_wait, saved in map(kills.get, moments):
        land_a_kill(run, pattern, epochs_to_wait * epoch, saved, tmp_path, options, tmp_path / "kept")
    run_here("jsrt_small_pe", resume=True, **options)
    assert_equal(run, uninterrupted)
    assert "resumed after epoch" in (run / "log.txt").read_text()


class Killed(BaseException):
    pass


@contextlib.contextmanager
def kill_at(count, monkeypatch, after):
    """End the run at its ``count``-th file, just before or after the file gets its final name, without cleaning up."""
    real, seen = Path.replace, []

    def replace(self, target):
        if not self.name.endswith(".partial"):
            return real(self, target)
        seen.append(target)
        if len(seen) == count and not after:
            raise Killed
        done = real(self, target)
        if len(seen) == count:
            raise Killed
        return done

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        patch.setattr(medpos.core.files.contextlib, "suppress", lambda *_: stop())
        yield seen


class stop(contextlib.AbstractContextManager):  # noqa: N801 - stands for contextlib.suppress
    """Skip the cleaning up, as a killed process does."""

    def __exit__(self, *_):
        return False


@pytest.mark.slow
@pytest.mark.parametrize("after", leave_to_torture([False, True], [True]), ids=["before", "after"])
def test_a_kill_at_any_file(after, options, uninterrupted, monkeypatch, capfd):
    """Interrupt at each file that a run writes, as SIGKILL does; each run resumes the one killed before."""
    run = Path(options["runs_dir"]) / "jsrt_small_pe/a"
    kills, count, resume = 0, 1, False
    while True:
        try:
            with kill_at(count, monkeypatch, after):
                run_here("jsrt_small_pe", resume=resume, **options)
        except Killed:
            kills, resume = kills + 1, True
            # A resumed run first writes its two records again, then advances from the third file; its test, which isn't
            # resumed, writes five files.
            count = 3 + (kills % 3 if kills < 12 else kills - 12)
        else:
            break
        if (run / "summary.json").exists():
            break
        assert kills < 30
    assert kills > 12
    assert_equal(run, uninterrupted)


def test_resume_without_a_name_selects_the_unfinished_run(options, uninterrupted, run_of, tiny):
    (run_of / "summary.json").unlink()
    finished = run_of.with_name("b")
    shutil.copytree(run_of, finished)
    (finished / "summary.json").write_text("{}")
    before = (run_of / "model.pt").stat().st_mtime_ns
    run_here("jsrt_small_pe", resume=True, **{**tiny, "max_epochs": TRAINED_EPOCHS})
    assert (run_of / "summary.json").exists()
    assert (run_of / "model.pt").stat().st_mtime_ns == before  # its epochs were done: only the test was missing


def test_more_epochs_after_a_kill_equal_a_longer_run(options, uninterrupted):
    """Train three epochs, then six in total; ``max_epochs`` may change on resume."""
    with pytest.MonkeyPatch.context() as patch, kill_at(9, patch, True), pytest.raises(Killed):
        run_here("jsrt_small_pe", **{**options, "max_epochs": 3})
    run = Path(options["runs_dir"]) / "jsrt_small_pe/a"
    assert torch.load(run / "resume.pt", weights_only=True)["epoch"] in (2, 3)
    run_here("jsrt_small_pe", resume=True, **options)
    assert_equal(run, uninterrupted)


@pytest.mark.parametrize(("memory_gb", "is_on_device"), [(8.0, True), (1e-9, False)], ids=["device", "file"])
def test_resume_wherever_the_images_are(memory_gb, is_on_device, options, uninterrupted, monkeypatch):
    """Kill a training with images on the device, or decoded at every access; elsewhere they are on the host."""
    monkeypatch.setattr("medpos.data.loader.DeviceMemory.take", lambda self, size: is_on_device)
    monkeypatch.setattr("medpos.data.cached._BATCH", 1)
    options = {**options, "memory_gb": memory_gb}
    with pytest.MonkeyPatch.context() as patch, kill_at(9, patch, True), pytest.raises(Killed):
        run_here("jsrt_small_pe", **options)
    run_here("jsrt_small_pe", resume=True, **options)
    run = Path(options["runs_dir"]) / "jsrt_small_pe/a"
    assert_equal(run, uninterrupted)
    assert "resumed after epoch" in (run / "log.txt").read_text()


def test_a_training_with_files_written_in_a_thread(options, uninterrupted, monkeypatch):
    """Write checkpoints and measure as on a GPU, and get the same files."""
    for module in ("checkpoint", "rows"):
        monkeypatch.setattr(f"medpos.handlers.{module}.is_computing_apart", lambda _: True)
    assert_equal(run_here("jsrt_small_pe", **options), uninterrupted)


def test_resume_with_another_data_set_is_refused(options, prepared, tmp_path):
    with pytest.MonkeyPatch.context() as patch, kill_at(4, patch, True), pytest.raises(Killed):
        run_here("jsrt_small_pe", **options)
    other = {**options, "dataset_dir": str(tmp_path / "other")}
    shutil.copytree(prepared["jsrt"], tmp_path / "other")
    assert "dataset_dir was" in refusal("jsrt_small_pe", resume=True, **other)
