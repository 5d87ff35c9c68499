"""Run the jobs of a study in worker processes of this machine or on a Ray cluster.

Both run the same function on the same jobs with the same number of threads, so on a CPU the results are equal bit for
bit.
"""

import math
import multiprocessing
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import Protocol

from medpos.core.gpus import share_out, visible
from medpos.core.ray_session import ATTEMPTS, RaySession
from medpos.study.jobs import Job, Outcome, begin_worker, execute

Started = Callable[[Job], None]


class Engine(Protocol):
    """Run jobs."""

    def run(self, jobs: Sequence[Job], started: Started, until: float = math.inf) -> Iterator[Outcome]:
        """Yield the outcome of each job when it is finished.

        Args:
            jobs: jobs to run.
            started: function that is called with each job when it starts.
            until: time of ``time.monotonic``, in seconds, at which it kills what is running and stops.
        """
        ...


class LocalEngine:
    """Run jobs in worker processes of this machine; a killed worker is replaced, and its job is run again.

    Args:
        workers: number of jobs at a time.
        threads: number of CPU threads of each job.
        gpus: names of the GPUs to share out, such as ``0``; none: each job takes the GPU that its bundle names.
        part: part of a GPU that each job takes.

    Raises:
        InputError: the part is out of range.
    """

    def __init__(self, workers: int = 1, threads: int = 1, gpus: Sequence[str] = (), part: float = 1.0) -> None:
        self.threads, self.part = threads, part if gpus else 0.0
        self.gpus = share_out(gpus, part, workers) if gpus else [""] * workers

    def run(self, jobs: Sequence[Job], started: Started, until: float = math.inf) -> Iterator[Outcome]:
        """Start the jobs in their order, and yield their outcomes as they finish."""
        waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
        outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        for job in jobs:
            waiting.put(replace(job, threads=self.threads, gpu_part=self.part))
        stop = threading.Event()
        arguments = (waiting, outcomes, started, stop)
        servers = [
            threading.Thread(target=self._serve, args=(*arguments, gpu), daemon=True) for gpu in self.gpus[: len(jobs)]
        ]
        for server in servers:
            server.start()
        left = len(jobs)
        try:
            for _ in jobs:
                yield outcomes.get(timeout=None if until == math.inf else max(0.0, until - time.monotonic()))
                left -= 1
        except queue.Empty:
            pass
        finally:
            stop.set()
            while left and any(server.is_alive() for server in servers):  # stopped; a worker may be about to start
                for worker in multiprocessing.active_children():
                    worker.kill()
                time.sleep(0.1)

    def _serve(
        self,
        waiting: "queue.SimpleQueue[Job]",
        outcomes: "queue.SimpleQueue[Outcome]",
        started: Started,
        stop: threading.Event,
        gpu: str,
    ) -> None:
        """Run waiting jobs in one worker process after another; a dying process takes only its own job with it."""
        pool = start_process(gpu)
        try:
            while not stop.is_set():
                job = waiting.get_nowait()
                started(job)
                for attempt in range(1, ATTEMPTS + 1):
                    try:
                        outcome = pool.submit(execute, job).result()
                        break
                    except BrokenProcessPool:
                        if stop.is_set():
                            return
                        pool.shutdown(wait=False)
                        pool = start_process(gpu)
                        outcome = Outcome(job.name, f"its worker process was killed {attempt} times; see {job.log}")
                outcomes.put(outcome)
        except queue.Empty:
            pass
        finally:
            pool.shutdown()


def start_process(gpu: str = "") -> ProcessPoolExecutor:
    """Start a worker process.

    Args:
        gpu: name of the GPU that it sees; empty: all that this process sees.
    """
    # Spawned, not forked: PyTorch's threads don't survive a fork.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(1, mp_context=context, initializer=begin_worker)
    with visible(gpu):
        pool.submit(os.getpid)  # the pool starts its process with the first task
    return pool


class RayEngine(RaySession):
    """Run jobs as Ray tasks, on this machine or on a cluster with the same folders.

    Args:
        address: address of a running cluster; empty: start a cluster on this machine.
        workers: number of jobs at a time on a cluster that is started.
        threads: number of CPUs of each job.
        gpus: number of GPUs of each job; a fraction shares one.
        may_be_open: whether to join a cluster that asks for no token.

    Raises:
        InputError: Ray isn't installed, or the cluster asks for no token.
    """

    def __init__(
        self, address: str = "", workers: int = 1, threads: int = 1, gpus: float = 0.0, may_be_open: bool = False
    ) -> None:
        super().__init__(address, workers * threads, threads, gpus, may_be_open)

    def run(self, jobs: Sequence[Job], started: Started, until: float = math.inf) -> Iterator[Outcome]:
        """Submit all jobs, which Ray starts when resources are free, and yield their outcomes as they finish."""

        def calls() -> Iterator[tuple[Job, tuple[Job]]]:
            for job in jobs:
                yield job, (replace(job, threads=self.threads, gpu_part=self.gpus),)
                started(job)

        with self:
            for job, outcome, failure in self.run_tasks(execute, calls(), until=until):
                yield Outcome(job.name, failure) if failure else outcome
