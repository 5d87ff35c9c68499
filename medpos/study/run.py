"""Runs a study: plan, do what is left, plan again until nothing is, then write the results."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medpos.study import results
from medpos.study.declaration import Study
from medpos.study.engines import Engine
from medpos.study.jobs import Job, Outcome
from medpos.study.plan import Plan, Planner, Settings

logger = logging.getLogger(__name__)


class Watcher:
    """Is told what happens; the command line shows it. This one keeps silent."""

    def planned(self, plan: Plan) -> None:
        """A plan was made."""

    def started(self, job: Job) -> None:
        """A job began, or was handed to a cluster."""

    def ended(self, job: Job, outcome: Outcome) -> None:
        """A job ended."""


def run(study: Study, settings: Settings, engine: Engine, out: Path, command: str, watcher: Watcher) -> dict[str, Any]:
    """Run a study to its results.

    Args:
        study: as declared.
        settings: where and with what.
        engine: where the jobs run.
        out: folder of the results.
        command: that reproduces it, for the page.
        watcher: is told what happens.

    Returns:
        The content of ``study.json``.
    """
    planner = Planner(study, settings)
    failed: dict[str, tuple[str, str]] = {}
    plan = planner.plan()
    while plan.jobs:
        watcher.planned(plan)
        failed |= _do(plan.jobs, engine, watcher)
        before, plan = plan, planner.plan(given_up=list(failed))
        # A job that reports success and leaves no results would be planned for ever.
        if stuck := set(plan.jobs) & set(before.jobs):
            failed |= {job.folder: (job.name, f"ended without its results; see {job.log}") for job in stuck}
            plan = planner.plan(given_up=list(failed))
    watcher.planned(plan)
    about = {
        "command": command,
        "created": time.strftime("%Y-%m-%d %H:%M"),
        "failed": [{"name": name, "error": error} for name, error in failed.values()],
    }
    return results.write(study, planner, plan.models, out, about)


def _do(jobs: Sequence[Job], engine: Engine, watcher: Watcher) -> dict[str, tuple[str, str]]:
    """Do the jobs; gives the name and the error of those that failed, by run folder."""
    failed = {}
    by_name = {job.name: job for job in jobs}
    for outcome in engine.run(jobs, watcher.started):
        job = by_name[outcome.name]
        watcher.ended(job, outcome)
        if outcome.error:
            logger.error("%s failed: %s", outcome.name, outcome.error)
            failed[job.folder] = (outcome.name, outcome.error)
    return failed
