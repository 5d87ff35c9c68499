"""Run a study: plan, run the jobs that are left, plan again until there are none, then write the results."""

import logging
import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medpos.core.files import remove_partials
from medpos.core.lock import FolderLock
from medpos.study import results
from medpos.study.declaration import Study
from medpos.study.engines import Engine
from medpos.study.jobs import Job, Outcome
from medpos.study.plan import Plan, Planner, Settings

logger = logging.getLogger(__name__)
DECODED = ".decoded"  # folder of decoded cases in that of the results, while the study runs
_POLL_S = 2.0  # between two looks at models that other processes train


class Watcher:
    """Receive the events of a study; this base class ignores them, the command line shows them."""

    def planned(self, plan: Plan) -> None:
        """Receive a new plan."""

    def started(self, job: Job) -> None:
        """Receive a job that began, or was submitted to a cluster."""

    def ended(self, job: Job, outcome: Outcome) -> None:
        """Receive a job that ended."""


def run(
    study: Study,
    settings: Settings,
    engine: Engine,
    out: Path,
    command: str,
    watcher: Watcher,
    until: float = math.inf,
) -> dict[str, Any]:
    """Run a study and write its results.

    Args:
        study: declaration of the study.
        settings: folders and overrides.
        engine: engine that runs the jobs.
        out: folder for the results.
        command: command that reproduces the study, for the page.
        watcher: object that receives the events.
        until: time of ``time.monotonic``, in seconds, at which trainings and tests stop; another call continues them.

    Returns:
        Content of ``study.json``.

    Raises:
        BusyError: another process runs a study with this folder.
        InputError: the folder can't be written to.
    """
    with FolderLock(out, inside=True, other="choose another --out"):
        remove_partials(out, is_shared=True)
        shutil.rmtree(out / DECODED, ignore_errors=True)  # of a study that was killed
        try:
            return _run(Planner(study, settings), engine, out, command, watcher, until)
        finally:
            shutil.rmtree(out / DECODED, ignore_errors=True)


def _run(planner: Planner, engine: Engine, out: Path, command: str, watcher: Watcher, until: float) -> dict[str, Any]:
    failed: dict[str, tuple[str, str]] = {}
    plan = planner.plan()
    while plan.jobs and time.monotonic() < until:
        watcher.planned(plan)
        errors, busy = _run_jobs(_sharing(plan.jobs, out / DECODED), engine, watcher, until)
        failed |= errors
        if len(busy) == len(plan.jobs):
            time.sleep(_POLL_S)
        before, plan = plan, planner.plan(given_up=list(failed))
        # A job that reports success without results would be planned again and again.
        if time.monotonic() < until and (
            stuck := {job for job in set(plan.jobs) & set(before.jobs) if job.folder not in busy}
        ):
            failed |= {job.folder: (job.name, f"ended without its results; see {job.log}") for job in stuck}
            plan = planner.plan(given_up=list(failed))
    watcher.planned(plan)
    about = {
        "command": command,
        "created": time.strftime("%Y-%m-%d %H:%M"),
        "left": len(plan.jobs),
        "failed": [{"name": name, "error": error} for name, error in failed.values()],
    }
    return results.write(planner.study, planner, plan.decided, out, about)


def _sharing(jobs: Sequence[Job], folder: Path) -> Sequence[Job]:
    """Let several jobs share their decoded cases in a folder."""
    return [replace(job, decoded=str(folder.resolve())) for job in jobs] if len(jobs) > 1 else jobs


def _run_jobs(
    jobs: Sequence[Job], engine: Engine, watcher: Watcher, until: float
) -> tuple[dict[str, tuple[str, str]], set[str]]:
    """Run the jobs; return name and error of those that failed, by run folder, and the folders that others write."""
    failed = {}
    busy = set()
    by_name = {job.name: job for job in jobs}
    for outcome in engine.run(jobs, watcher.started, until):
        job = by_name[outcome.name]
        watcher.ended(job, outcome)
        if outcome.busy:
            busy.add(job.folder)
        if outcome.error:
            logger.error("%s failed: %s", outcome.name, outcome.error)
            failed[job.folder] = (outcome.name, outcome.error)
    return failed, busy
