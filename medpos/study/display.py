"""What a person sees while a study runs: what is done, what runs, and the time left."""

import threading
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table

from medpos.runs import files
from medpos.study.jobs import Job, Outcome
from medpos.study.plan import Plan, epochs_done, seconds_left
from medpos.study.run import Watcher


class Display(Watcher):
    """Bars on a terminal, one line a job elsewhere; use it as a context.

    Args:
        console: where it goes.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self.progress = Progress(
            TextColumn("{task.description}"), *columns, console=console, disable=not console.is_terminal
        )
        self._whole = self.progress.add_task("epochs of all jobs", total=0)
        self._running: dict[str, tuple[Job, TaskID]] = {}
        self._finished = 0
        self._stop = threading.Event()
        self._lock = threading.Lock()

    def __enter__(self) -> "Display":
        self.progress.start()
        threading.Thread(target=self._follow, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self.progress.stop()

    def planned(self, plan: Plan) -> None:
        """Grow the whole by what is new."""
        left = sum(_size(job) for job in plan.jobs)
        with self._lock:
            self.progress.update(self._whole, total=self._finished + left)
        if plan.jobs:
            training = sum(job.train for job in plan.jobs)
            self.console.print(f"{training} models to train, {len(plan.jobs) - training} to test further")

    def started(self, job: Job) -> None:
        """Give the job a bar of its own."""
        with self._lock:
            self._running[job.name] = job, self.progress.add_task(job.name, total=_size(job))

    def ended(self, job: Job, outcome: Outcome) -> None:
        """Take the bar away and say what came of it."""
        with self._lock:
            self._finished += _size(job)
            _, task = self._running.pop(job.name)
            self.progress.remove_task(task)
            self.progress.update(self._whole, completed=self._finished)
        word = f"[red]failed: {outcome.error}[/]" if outcome.error else "done"
        self.console.print(f"{job.name}: {word} ({outcome.seconds:.0f} s)", highlight=False)

    def _follow(self) -> None:
        """Read the epochs of what runs from its log."""
        while not self._stop.wait(1.0):
            with self._lock:
                running = list(self._running.values())
            done = 0
            for job, task in running:
                epochs = epochs_done(job.folder)[0] if job.train else 0
                done += epochs
                self.progress.update(task, completed=epochs)
            with self._lock:
                self.progress.update(self._whole, completed=self._finished + done)


def _size(job: Job) -> int:
    """In epochs; a test counts as one."""
    return job.epochs + 1 if job.train else 1


def show_plan(plan: Plan, console: Console) -> None:
    """Print what a study would train and test, with the time that the trainings would take on one worker."""
    left = seconds_left(plan)
    jobs = {job.folder: job for job in plan.jobs}
    table = Table("model", "state", "training left", Column("run folder", overflow="fold"))
    for model in plan.models:
        folder = str(model.folder().resolve())
        job = jobs.get(folder)
        state = "finished" if job is None else "to train" if job.train else "to test further"
        if job is not None and job.train and (done := epochs_done(folder)[0]):
            state = f"epoch {done} of {job.epochs}"
        table.add_row(model.name, state, "" if job is None else _duration(left[folder]), str(model.folder()))
    console.print(table)
    known = [seconds for seconds in left.values() if seconds is not None]
    note = "" if len(known) == len(left) else f", and {len(left) - len(known)} jobs whose first epoch was not measured"
    console.print(f"{len(jobs)} jobs left; trainings: {_duration(sum(known))} on one worker{note}")
    for name in plan.undecided:
        console.print(f"{name}: the validation split has still to choose; more trainings follow for the other seeds")


def show_status(plan: Plan, name: str, console: Console) -> None:
    """Print how far a study is, from what lies on the disk."""
    models = {str(model.folder()): model for model in plan.models}
    trained = sum(files.Run(model.folder()).is_trained for model in models.values())
    left = len({job.folder for job in plan.jobs})
    console.print(f"{name}: {trained} of {len(models)} models trained, {len(models) - left} complete", highlight=False)
    for job in plan.jobs:
        if job.train and (done := epochs_done(job.folder)[0]):
            console.print(f"  {job.name}: epoch {done} of {job.epochs}", highlight=False)


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "not measured"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{seconds:.0f} s" if seconds < 120 else f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
