"""Segment cases in this process or on a Ray cluster; both call :func:`segment_case` for each case."""

import functools
import itertools
import os
import pickle
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from medpos.core.errors import InputError
from medpos.core.files import WriteError
from medpos.core.memory import keep_freed_memory, release_freed_memory
from medpos.core.ray_session import RaySession
from medpos.predict.case import Pipeline, PreparedCase, describe_failure
from medpos.predict.inputs import CaseFiles

_AHEAD = 2  # cases that are loaded while one is computed; this bounds the memory
_WAITING = 2  # tasks that Ray holds for each slot, so that no machine waits for the next one
_RELEASE_EVERY = 20  # cases of a process between two releases of freed memory
_Loading = tuple[CaseFiles, "Future[PreparedCase]"]
_attempted = itertools.count(1)


@dataclass(frozen=True)
class Outcome:
    """Hold the outcome of one case.

    Args:
        source: files of the case.
        failure: reason why the case could not be segmented; empty if it was.
        is_last: whether every other case would fail likewise, so that the call must end.
    """

    source: CaseFiles
    failure: str = ""
    is_last: bool = False


def segment_case(pipeline: Pipeline, source: CaseFiles, load: Callable[[], PreparedCase]) -> Outcome:
    """Segment a case and write its results.

    Args:
        pipeline: steps of a case.
        source: files of the case.
        load: function that returns the prepared case.

    Returns:
        The outcome, also for a case that can't be read or segmented.
    """
    if next(_attempted) % _RELEASE_EVERY == 0:
        release_freed_memory()
    try:
        prepared = load()
        found = pipeline.segment(prepared)
    except Exception as error:
        return Outcome(source, describe_failure(source, error))
    try:
        pipeline.write(source, prepared, found)
    except WriteError as error:  # a full disk is full for all later cases
        return Outcome(source, str(error), is_last=True)
    except Exception as error:
        return Outcome(source, describe_failure(source, error))
    return Outcome(source)


class Engine(AbstractContextManager[object], Protocol):
    """Segment cases; an engine is a context manager and must be entered before use."""

    def run(self, pipeline: Pipeline, sources: Iterator[CaseFiles], stopped: Callable[[], bool]) -> Iterator[Outcome]:
        """Yield the outcome of each case when it is finished, taking few cases from ``sources`` ahead.

        Args:
            pipeline: steps of a case.
            sources: files of the cases; ends early when the call is stopped.
            stopped: function that tells whether the call is stopped.
        """
        ...


class LocalEngine(AbstractContextManager["LocalEngine"]):
    """Segment one case after another in this process, while a thread loads the next ones."""

    def __exit__(self, *error: object) -> None:
        """Do nothing: there is nothing to release."""

    def run(self, pipeline: Pipeline, sources: Iterator[CaseFiles], stopped: Callable[[], bool]) -> Iterator[Outcome]:
        """Yield the outcomes in the order of the cases; no case is started after a stop."""
        for source, future in _load_ahead(pipeline.load, sources):
            if stopped():
                return
            outcome = segment_case(pipeline, source, future.result)
            del future  # and the image with it, before the next one is loaded
            yield outcome


def _load_ahead(load: Callable[[CaseFiles], PreparedCase], sources: Iterator[CaseFiles]) -> Iterator["_Loading"]:
    """Load cases in a thread, a few ahead of the one in use; none while a large one is in use."""
    turn = _Turn(load)
    with ThreadPoolExecutor(1) as pool:
        waiting: deque[_Loading] = deque()
        try:
            for source in sources:
                waiting.append((source, pool.submit(turn.load, source)))
                if len(waiting) > _AHEAD:
                    yield from turn.use(waiting)
            while waiting:
                yield from turn.use(waiting)
        finally:
            for _, future in waiting:
                future.cancel()
            turn.release()


class _Turn:
    """Load a case when no large one is in use.

    Args:
        load: function that loads a case.
    """

    def __init__(self, load: Callable[[CaseFiles], PreparedCase]) -> None:
        self._load = load
        self._large: CaseFiles | None = None
        self._is_free = threading.Event()
        self._is_free.set()

    def load(self, source: CaseFiles) -> PreparedCase:
        """Load a case in the loading thread, after the end of a large one's use."""
        self._is_free.wait()
        prepared = self._load(source)
        if prepared.is_large:
            self._large = source
            self._is_free.clear()
        return prepared

    def use(self, waiting: "deque[_Loading]") -> Iterator["_Loading"]:
        """Yield the first of the waiting cases, and keep no reference to it."""
        source = waiting[0][0]
        yield waiting.popleft()
        if self._large is source:
            self.release()

    def release(self) -> None:
        """Let the next case be loaded."""
        self._large = None
        self._is_free.set()


class RayEngine(RaySession):
    """Segment cases as Ray tasks, on this machine or on a cluster whose machines see the same folders.

    Args:
        address: address of a running cluster; empty: start a cluster on this machine.
        threads: number of CPUs of each task.
        gpus: number of GPUs of each task; a fraction shares one.
        may_be_open: whether to join a cluster that asks for no token.

    Raises:
        InputError: Ray isn't installed, or the cluster asks for no token.
    """

    def __init__(self, address: str = "", threads: int = 1, gpus: float = 0.0, may_be_open: bool = False) -> None:
        super().__init__(address, max(os.cpu_count() or 1, threads), threads, gpus, may_be_open)

    def run(self, pipeline: Pipeline, sources: Iterator[CaseFiles], stopped: Callable[[], bool]) -> Iterator[Outcome]:
        """Yield the outcomes in the order in which they finish; after a stop, submitted cases are completed."""
        sent, folder = pickle.dumps(pipeline), str(Path.cwd())
        calls = ((source, (sent, folder, self.threads, source)) for source in sources)
        for source, outcome, failure in self.run_tasks(segment_on_worker, calls, _WAITING * self.count_slots()):
            lost = f"{source.title}: {failure}; look at the file, or leave it out"
            yield Outcome(source, lost) if failure else outcome


def segment_on_worker(sent: bytes, folder: str, threads: int, source: CaseFiles) -> Outcome:
    """Segment a case in a worker process of Ray.

    Args:
        sent: pickled :class:`Pipeline`.
        folder: folder that relative paths start from.
        threads: number of CPU threads.
        source: files of the case.
    """
    try:
        pipeline = _unpickle_pipeline(sent, folder, threads)
    except (InputError, OSError) as error:  # this machine lacks the run, or sees other folders
        return Outcome(source, f"{os.uname().nodename}: {error}", is_last=True)
    return segment_case(pipeline, source, lambda: pipeline.load(source))


@functools.lru_cache(maxsize=1)
def _unpickle_pipeline(sent: bytes, folder: str, threads: int) -> Pipeline:
    """Build the network once for each worker process, not once for each case."""
    os.chdir(folder)
    torch.set_num_threads(threads)
    keep_freed_memory()
    pipeline: Pipeline = pickle.loads(sent)
    return pipeline
