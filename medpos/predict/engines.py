"""Segment cases in this process or on a Ray cluster; both call :func:`segment_case` for each case."""

import functools
import itertools
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from medpos.core.errors import InputError, first_line
from medpos.core.memory import keep_freed_memory, release_freed_memory
from medpos.predict.case import Pipeline, PreparedCase, describe_failure
from medpos.predict.inputs import CaseFiles

_AHEAD = 2  # cases that are loaded while one is computed; the memory's bound
_WAITING = 2  # tasks that Ray holds for each that can run, so that no machine waits for the next
ATTEMPTS = 3
_RELEASE_EVERY = 20  # cases of a process
_attempted = itertools.count(1)


@dataclass(frozen=True)
class Outcome:
    """How it went with a case.

    Args:
        source: the case.
        failure: why it could not be segmented; empty: it was.
        is_last: the same would happen with every other case, so the call is to end.
    """

    source: CaseFiles
    failure: str = ""
    is_last: bool = False


def segment_case(pipeline: Pipeline, source: CaseFiles, load: Callable[[], PreparedCase]) -> Outcome:
    """Segment a case and write its results; a case that can't be read or segmented is an outcome as well."""
    if next(_attempted) % _RELEASE_EVERY == 0:
        release_freed_memory()
    try:
        loaded = load()
        labels, probabilities = pipeline.segment(loaded)
    except Exception as error:
        return Outcome(source, describe_failure(source, error))
    try:
        pipeline.write(source, loaded, labels, probabilities)
    except InputError as error:  # a full disk is full for all that follow
        return Outcome(source, str(error), is_last=True)
    except Exception as error:
        return Outcome(source, describe_failure(source, error))
    return Outcome(source)


class Engine(AbstractContextManager["Engine"], Protocol):
    """Segments cases; to be entered before it is used."""

    def run(self, pipeline: Pipeline, sources: Iterator[CaseFiles], stopped: Callable[[], bool]) -> Iterator[Outcome]:
        """Gives the outcome of each case as it ends; takes few cases ahead of those that ended.

        Args:
            pipeline: what to do.
            sources: the cases; ends where the call is stopped.
            stopped: whether it was.
        """
        ...


class LocalEngine(AbstractContextManager["LocalEngine"]):
    """This process: one case after another, the next ones loaded in a thread meanwhile."""

    def __exit__(self, *error: object) -> None:
        """Nothing is left behind."""

    def run(self, pipeline: Pipeline, sources: Iterator[CaseFiles], stopped: Callable[[], bool]) -> Iterator[Outcome]:
        """In the order of the cases; none is begun after a stop."""
        for source, future in _ahead(pipeline.load, sources):
            if stopped():
                return
            yield segment_case(pipeline, source, future.result)


def _ahead(
    function: Callable[[CaseFiles], PreparedCase], sources: Iterator[CaseFiles]
) -> Iterator[tuple[CaseFiles, "Future[PreparedCase]"]]:
    """Call the function in a thread of its own, a few cases before they are needed."""
    with ThreadPoolExecutor(1) as pool:
        waiting: deque[tuple[CaseFiles, Future[PreparedCase]]] = deque()
        try:
            for source in sources:
                waiting.append((source, pool.submit(function, source)))
                if len(waiting) > _AHEAD:
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()
        finally:
            for _, future in waiting:
                future.cancel()


class RayEngine(AbstractContextManager["RayEngine"]):
    """Ray tasks, here or on a cluster whose machines see the same folders; Ray repeats what dies with its machine.

    Args:
        address: of a running cluster; empty starts one of this machine's own.
        threads: CPUs of each task.
        gpus: GPUs of each task, a fraction shares one.

    Raises:
        InputError: Ray isn't installed.
    """

    def __init__(self, address: str = "", threads: int = 1, gpus: float = 0.0) -> None:
        try:
            import ray
        except ImportError:
            raise InputError("--engine ray needs Ray: pip install 'medpos[ray]'") from None
        self.ray: Any = ray
        self.address, self.threads, self.gpus = address, threads, gpus

    def __enter__(self) -> "RayEngine":
        """Join the cluster, or start one.

        Raises:
            InputError: there is no cluster at this address.
        """
        self._handler = signal.getsignal(signal.SIGTERM)  # Ray puts its own in its place, and leaves it there
        own = {} if self.address else {"include_dashboard": False, "num_cpus": max(os.cpu_count() or 1, self.threads)}
        try:
            self.ray.init(address=self.address or "local", log_to_driver=False, logging_level="ERROR", **own)
        except (ConnectionError, ValueError) as error:
            raise InputError(
                f"--address {self.address}: no Ray cluster can be joined ({first_line(error)}); start one"
            ) from error
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the cluster."""
        self.ray.shutdown()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._handler)

    def run(self, pipeline: Pipeline, sources: Iterator[CaseFiles], stopped: Callable[[], bool]) -> Iterator[Outcome]:
        """In the order in which they end; after a stop those that Ray has are brought to their end."""
        task = self.ray.remote(num_cpus=self.threads, num_gpus=self.gpus, max_retries=ATTEMPTS - 1)(segment_on_worker)
        sent = pickle.dumps(pipeline)
        pending: dict[Any, CaseFiles] = {}
        most = _WAITING * self._slots()
        while True:
            while len(pending) < most and (source := next(sources, None)) is not None:
                pending[task.remote(sent, str(Path.cwd()), self.threads, source)] = source
            if not pending:
                return
            [done], _ = self.ray.wait(list(pending), num_returns=1)
            source = pending.pop(done)
            try:
                yield self.ray.get(done)
            except self.ray.exceptions.RayError as error:
                yield Outcome(
                    source, f"{source.files[0]}: Ray gave it up ({first_line(error)}); look at it, or leave it out"
                )

    def _slots(self) -> int:
        """Tasks that the cluster can run at a time."""
        has = self.ray.cluster_resources()
        counts = [has.get("CPU", 0) / self.threads] + ([has.get("GPU", 0) / self.gpus] if self.gpus else [])
        if min(counts) < 1:
            raise InputError(
                f"--engine ray: the cluster has {has.get('CPU', 0):g} CPUs and {has.get('GPU', 0):g} GPUs, a task "
                f"needs {self.threads} and {self.gpus:g}; give --threads or --gpus"
            )
        return int(min(counts))


def segment_on_worker(sent: bytes, folder: str, threads: int, source: CaseFiles) -> Outcome:
    """Segment a case in a worker process of Ray.

    Args:
        sent: the pickled :class:`Pipeline`.
        folder: in which relative paths begin.
        threads: of the computation.
        source: the case.
    """
    try:
        pipeline = _received(sent, folder, threads)
    except (InputError, OSError) as error:  # this machine lacks the run, or sees other folders
        return Outcome(source, f"{os.uname().nodename}: {error}", is_last=True)
    return segment_case(pipeline, source, lambda: pipeline.load(source))


@functools.lru_cache(maxsize=1)
def _received(sent: bytes, folder: str, threads: int) -> Pipeline:
    """Build the network once a worker process, not once a case."""
    os.chdir(folder)
    torch.set_num_threads(threads)
    keep_freed_memory()
    pipeline: Pipeline = pickle.loads(sent)
    return pipeline
