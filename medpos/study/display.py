"""Show the progress, the plan and the status of a study on a terminal."""

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
from rich.text import Text

from medpos.runs import files
from medpos.study.jobs import Job, Outcome
from medpos.study.plan import Plan, estimate_seconds, read_epochs
from medpos.study.run import Watcher


class Display(Watcher):
    """Show progress bars on a terminal, and one line per job elsewhere; a context manager.

    Args:
        console: console to print to.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self.progress = Progress(
            TextColumn("{task.description}", markup=False), *columns, console=console, disable=not console.is_terminal
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
        """Add the jobs of a new plan to the total."""
        left = sum(_size(job) for job in plan.jobs)
        with self._lock:
            self.progress.update(self._whole, total=self._finished + left)
        if plan.jobs:
            training = sum(job.train for job in plan.jobs)
            self.console.print(f"{training} models to train, {len(plan.jobs) - training} to test further")

    def started(self, job: Job) -> None:
        """Add a bar for the job."""
        with self._lock:
            self._running[job.name] = job, self.progress.add_task(job.name, total=_size(job))

    def ended(self, job: Job, outcome: Outcome) -> None:
        """Remove the bar and print the outcome."""
        with self._lock:
            self._finished += _size(job)
            _, task = self._running.pop(job.name)
            self.progress.remove_task(task)
            self.progress.update(self._whole, completed=self._finished)
        done = "trained by another process" if outcome.busy else "done"
        word = (f"failed: {outcome.error}", "red") if outcome.error else done
        self.console.print(Text.assemble(f"{job.name}: ", word, f" ({outcome.seconds:.0f} s)"))

    def _follow(self) -> None:
        """Update the bars from the logs of the running jobs, every second."""
        while not self._stop.wait(1.0):
            with self._lock:
                running = list(self._running.values())
            done = 0
            for job, task in running:
                epochs = read_epochs(job.folder)[0] if job.train else 0
                done += epochs
                self.progress.update(task, completed=epochs)
            with self._lock:
                self.progress.update(self._whole, completed=self._finished + done)


def _size(job: Job) -> int:
    """Return the size of a job in epochs; a test counts as one."""
    return job.epochs + 1 if job.train else 1


def show_plan(plan: Plan, console: Console) -> None:
    """Print the jobs of a study, and the time that its trainings take on one worker."""
    left = estimate_seconds(plan)
    jobs = {job.folder: job for job in plan.jobs}
    table = Table("model", "state", "training left", Column("run folder", overflow="fold"))
    for model in plan.models:
        folder = str(model.folder().resolve())
        job = jobs.get(folder)
        state = "finished" if job is None else "to train" if job.train else "to test further"
        if job is not None and job.train and (done := read_epochs(folder)[0]):
            state = f"epoch {done} of {job.epochs}"
        table.add_row(model.name, state, "" if job is None else _duration(left[folder]), str(model.folder()))
    console.print(table)
    known = [seconds for seconds in left.values() if seconds is not None]
    note = "" if len(known) == len(left) else f", and {len(left) - len(known)} jobs without a measured epoch"
    console.print(f"{len(jobs)} jobs left; trainings: {_duration(sum(known))} on one worker{note}")
    for name in plan.undecided:
        console.print(f"{name}: not chosen yet on the validation split; trainings with the other seeds follow")


def show_status(plan: Plan, name: str, console: Console) -> None:
    """Print how many models of a study are trained and complete."""
    models = {str(model.folder()): model for model in plan.models}
    trained = sum(files.Run(model.folder()).is_trained for model in models.values())
    left = len({job.folder for job in plan.jobs})
    console.print(f"{name}: {trained} of {len(models)} models trained, {len(models) - left} complete", highlight=False)
    for job in plan.jobs:
        if job.train and (done := read_epochs(job.folder)[0]):
            console.print(f"  {job.name}: epoch {done} of {job.epochs}", highlight=False)


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "not measured"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{seconds:.0f} s" if seconds < 120 else f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
