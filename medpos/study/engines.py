"""Where the jobs of a study run: in worker processes of this machine, or on a Ray cluster.

Both run the same function on the same jobs with the same number of threads, so the results are the same bits on a CPU.
"""

import multiprocessing
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import Any, Protocol

from medpos.core.errors import InputError, first_line
from medpos.study.jobs import Job, Outcome, die_with_parent, execute

ATTEMPTS = 3
Started = Callable[[Job], None]


class Engine(Protocol):
    """Runs jobs."""

    def run(self, jobs: Sequence[Job], started: Started) -> Iterator[Outcome]:
        """Gives the outcome of each job as it ends; ``started`` is told when one begins."""
        ...


class LocalEngine:
    """Worker processes of this machine; a worker that is killed is replaced, and its job run again.

    Args:
        workers: jobs at a time.
        threads: of each.
    """

    def __init__(self, workers: int = 1, threads: int = 1) -> None:
        self.workers, self.threads = workers, threads

    def run(self, jobs: Sequence[Job], started: Started) -> Iterator[Outcome]:
        """Runs the jobs in their order."""
        waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
        outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        for job in jobs:
            waiting.put(replace(job, threads=self.threads))
        stop = threading.Event()
        for _ in range(min(self.workers, len(jobs))):
            threading.Thread(target=self._serve, args=(waiting, outcomes, started, stop), daemon=True).start()
        try:
            for _ in jobs:
                yield outcomes.get()
        finally:
            stop.set()

    def _serve(
        self,
        waiting: "queue.SimpleQueue[Job]",
        outcomes: "queue.SimpleQueue[Outcome]",
        started: Started,
        stop: threading.Event,
    ) -> None:
        """One worker process at a time, from the first job to the last; its end is only its own job's."""
        pool = _process()
        try:
            while not stop.is_set():
                job = waiting.get_nowait()
                started(job)
                for attempt in range(1, ATTEMPTS + 1):
                    try:
                        outcome = pool.submit(execute, job).result()
                        break
                    except BrokenProcessPool:
                        pool.shutdown(wait=False)
                        pool = _process()
                        outcome = Outcome(job.name, f"its worker process was killed {attempt} times; see {job.log}")
                outcomes.put(outcome)
        except queue.Empty:
            pass
        finally:
            pool.shutdown()


def _process() -> ProcessPoolExecutor:
    # Spawned, not forked: PyTorch's threads don't survive a fork.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, mp_context=context, initializer=die_with_parent)


class RayEngine:
    """Ray tasks, here or on a cluster whose machines see the same folders; Ray retries what dies.

    Args:
        address: of a running cluster; empty starts one of this machine's own.
        workers: jobs at a time on a cluster of our own.
        threads: CPUs of each job.
        gpus: GPUs of each job, a fraction shares one.

    Raises:
        InputError: Ray isn't installed.
    """

    def __init__(self, address: str = "", workers: int = 1, threads: int = 1, gpus: float = 0.0) -> None:
        try:
            import ray
        except ImportError:
            raise InputError("--engine ray needs Ray: pip install 'medpos[ray]'") from None
        self.ray: Any = ray
        self.address, self.workers, self.threads, self.gpus = address, workers, threads, gpus

    def run(self, jobs: Sequence[Job], started: Started) -> Iterator[Outcome]:
        """Hands all jobs to Ray, which starts them as their resources come free."""
        own = {"num_cpus": self.workers * self.threads, "include_dashboard": False} if not self.address else {}
        self.ray.init(address=self.address or "local", log_to_driver=False, logging_level="ERROR", **own)
        try:
            task = self.ray.remote(num_cpus=self.threads, num_gpus=self.gpus, max_retries=ATTEMPTS - 1)(execute)
            pending = {task.remote(replace(job, threads=self.threads)): job for job in jobs}
            for job in jobs:
                started(job)
            while pending:
                [done], _ = self.ray.wait(list(pending), num_returns=1)
                job = pending.pop(done)
                try:
                    yield self.ray.get(done)
                except self.ray.exceptions.RayError as error:
                    yield Outcome(job.name, f"Ray gave it up after {ATTEMPTS} attempts: {first_line(error)}")
        finally:
            self.ray.shutdown()
