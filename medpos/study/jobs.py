"""One job of a study: train one model if it isn't yet, and test it under what it hasn't been tested under.

A job is plain data and runs in a process of its own, here or on another machine that sees the same folders. Killed at
any point, it is run again and goes on from the last epoch to the same bits.
"""

import contextlib
import logging
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

from medpos.core.errors import InputError


@dataclass(frozen=True)
class Job:
    """What a worker is told.

    Args:
        name: as people read it.
        bundle: path of the bundle's file.
        overrides: of its keys, the run's name among them.
        folder: the run folder.
        conditions: groups under which the model is to be tested.
        train: train first; otherwise the run is finished and only tested again.
        epochs: of the training, for progress.
        log: file that gets what the run prints.
    """

    name: str
    bundle: str
    overrides: dict[str, Any] = field(hash=False)
    folder: str
    conditions: tuple[str, ...]
    train: bool
    epochs: int
    log: str
    threads: int = field(default=1, compare=False)


@dataclass(frozen=True)
class Outcome:
    """What came of a job.

    Args:
        name: of the job.
        error: one line; empty if it went well.
        seconds: that it took.
    """

    name: str
    error: str = ""
    seconds: float = 0.0


def execute(job: Job) -> Outcome:
    """Do a job in this process; an error is reported, never raised, so that the other jobs go on."""
    started = time.monotonic()
    with _printing_to(Path(job.log)):
        try:
            _run(job)
            error = ""
        except Exception as failure:
            traceback.print_exc()
            error = _one_line(failure)
    return Outcome(job.name, error, time.monotonic() - started)


def _run(job: Job) -> None:
    import monai.bundle
    import torch

    torch.set_num_threads(job.threads)
    overrides = {**job.overrides, "conditions": list(job.conditions)}
    if job.train:
        # A kill before the first epoch leaves a folder, maybe empty; going on with it is the same as beginning.
        overrides["resume"] = Path(job.folder).is_dir()
    try:
        monai.bundle.run(
            run_id="run" if job.train else "evaluate", config_file=job.bundle, logging_file=False, **overrides
        )
    finally:
        _forget()


def _forget() -> None:
    """Put back what a run leaves in its process: log files, MONAI's switches."""
    import monai

    root = logging.getLogger()
    for handler in [h for h in root.handlers if isinstance(h, logging.FileHandler)]:
        root.removeHandler(handler)
        handler.close()
    monai.utils.set_determinism(seed=None)
    monai.data.set_track_meta(True)


def _one_line(failure: BaseException) -> str:
    cause: BaseException | None = failure
    while cause is not None and not isinstance(cause, InputError):
        cause = cause.__cause__ or cause.__context__
    return str(cause) if cause is not None else f"{type(failure).__name__}: {failure}".splitlines()[0]


@contextlib.contextmanager
def _printing_to(path: Path) -> Iterator[None]:
    """Send what this process prints, libraries included, to a file."""
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


def die_with_parent() -> None:
    """End this process when the one that started it is gone: two processes must not write one run folder."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
