"""Run one job of a study: train a model unless it is trained, and test it under the missing conditions.

A job is plain data and runs in a process of its own, on this or another machine with the same folders. After a kill at
any point it is run again and continues from the last epoch to the same bits.
"""

import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medpos.core.config_files import read_config
from medpos.core.ending import explain, skip_garbage
from medpos.core.errors import find_input_error
from medpos.core.gpus import images_gb
from medpos.core.lock import BusyError, FolderLock, release_all
from medpos.runs.files import Run


@dataclass(frozen=True)
class Job:
    """Describe a job to a worker.

    Args:
        name: name of the model, with data set and seed.
        bundle: path of the bundle's file.
        overrides: values for keys of the bundle, with the run's name.
        folder: path of the run folder.
        conditions: groups of conditions to test the model under.
        train: True trains first; False tests a finished run again.
        judged: folder of a finished evaluation; the lights judge its test images under the conditions, and nothing is
            trained or tested. Empty: none.
        epochs: number of epochs of the training, for the progress.
        log: path of the file that gets the printed output.
        threads: number of threads of the process.
        gpu_part: part of a GPU that the job takes; below 1 it keeps images in that part of the GPU's memory for them.
        decoded: folder of decoded cases that the jobs of a study share; empty: none.
    """

    name: str
    bundle: str
    overrides: dict[str, Any] = field(hash=False)
    folder: str
    conditions: tuple[str, ...]
    train: bool
    epochs: int
    log: str
    judged: str = ""
    threads: int = field(default=1, compare=False)
    gpu_part: float = field(default=0.0, compare=False)
    decoded: str = field(default="", compare=False)


@dataclass(frozen=True)
class Outcome:
    """Report the end of a job.

    Args:
        name: name of the job.
        error: error in one line; empty after success.
        busy: True if another process trains or tests the model at this moment, so that nothing was done.
        seconds: duration in seconds.
    """

    name: str
    error: str = ""
    busy: bool = False
    seconds: float = 0.0


def execute(job: Job) -> Outcome:
    """Run a job in this process; an error is reported, never raised, so that the other jobs continue."""
    started = time.monotonic()
    error, busy = "", False
    with _printing_to(Path(job.log)):
        try:
            _run(job)
        except Exception as failure:
            busy = _is_done_elsewhere(job, failure)
            if not busy:
                traceback.print_exc()
                error = explain(failure) or f"{type(failure).__name__}: {failure}".splitlines()[0]
    return Outcome(job.name, error, busy, time.monotonic() - started)


def _is_done_elsewhere(job: Job, failure: Exception) -> bool:
    """Tell whether a job failed because another process, maybe of another study, trains or has trained its model."""
    folder = Path(job.folder)
    if isinstance(find_input_error(failure), BusyError):
        return True
    return job.train and (Run(folder).is_trained or FolderLock(folder).holder() is not None)


def _run(job: Job) -> None:
    import monai.bundle
    import torch

    from medpos.data.shared import share_in

    torch.set_num_threads(job.threads)
    if job.judged:
        _judge(job)
        return
    overrides = {**_share_memory(job), **job.overrides, "conditions": list(job.conditions)}
    if job.train:
        # A kill before the first epoch leaves a folder, maybe empty; resuming it is the same as starting.
        overrides["resume"] = Path(job.folder).is_dir()
    try:
        with share_in(Path(job.decoded) if job.decoded else None):
            monai.bundle.run(
                run_id="run" if job.train else "evaluate", config_file=job.bundle, logging_file=False, **overrides
            )
    finally:
        _reset_process()


def _judge(job: Job) -> None:
    """Fit lights to a finished run, and let them judge the test images of an evaluation."""
    from medpos.calibrate import Options, calibrate_run

    data, device = Path(job.overrides["dataset_dir"]), str(job.overrides.get("device", ""))
    calibrate_run(Path(job.judged), data, device, Options(conditions=job.conditions, lights_only=True))


def _share_memory(job: Job) -> dict[str, float]:
    """Return the memory for images of a job that shares a GPU, as an override of its bundle; else nothing."""
    import torch

    shares = 0 < job.gpu_part < 1 and torch.cuda.is_available()
    if not shares or "device_memory_gb" not in read_config(Path(job.bundle)):
        return {}
    return {"device_memory_gb": images_gb(job.gpu_part, torch.cuda.get_device_properties(0).total_memory)}


def _reset_process() -> None:
    """Close the log of a run, and reset MONAI's global switches."""
    import monai

    from medpos.runs.folder import close_log

    close_log()
    release_all()
    monai.utils.set_determinism(seed=None)
    monai.data.set_track_meta(True)


@contextlib.contextmanager
def _printing_to(path: Path) -> Iterator[None]:
    """Append everything that this process prints, also from C libraries, to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with path.open("ab") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, number)
                os.close(copy)


def begin_worker() -> None:
    """Begin a worker process: it is killed when its parent is gone, so that no two processes write to one run folder.

    Ctrl-C, which a terminal sends to all processes, is left to the parent.
    """
    skip_garbage()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
