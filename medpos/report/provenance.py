"""Tell where the numbers of a report come from: its runs, their evaluations and the commands that made them."""

import shlex
from collections.abc import Sequence
from typing import Any

import pandas as pd

from medpos.report.sources import Evaluation, Run
from medpos.report.tables import Table, count_cell, text_cell


def tabulate_runs(runs: Sequence[Run]) -> Table:
    """Tabulate the evaluations of all runs."""
    rows, records = [], []
    for run in runs:
        for evaluation in run.evaluations:
            table = evaluation.table
            record = {
                "model": run.model,
                "seed": run.seed,
                "evaluation": evaluation.name,
                "data": evaluation.data,
                "images": "PHANTOMS" if evaluation.phantom else "real",
                "split": evaluation.split,
                "subjects": table["subject"].nunique(),
                "cases": table["case"].nunique(),
                "conditions": len(table[["degradation", "severity", "shift"]].drop_duplicates()),
                "differs in": ", ".join(evaluation.differs) or None,
                "pictures": "yes" if evaluation.has_cases else "no",
                "commit": evaluation.environment.get("commit"),
            }
            shown = {**record, "commit": str(record["commit"] or "-")[:10]}
            rows.append(
                tuple(count_cell(v) if k in ("seed", "subjects", "cases") else text_cell(v) for k, v in shown.items())
            )
            records.append(record)
    note = (
        "pictures: whether the segmented cases were saved, which the case browser and the clinical indices need; "
        "differs in: data or settings other than those of the run's test; such results stand under external evaluations"
    )
    head = tuple(records[0]) if records else ()
    return Table("runs", "Runs and their evaluations", note, head, tuple(rows), pd.DataFrame(records))


def describe_command(run: Run, evaluation: Evaluation) -> dict[str, Any]:
    """Describe the command and the environment of an evaluation for the page."""
    environment = evaluation.environment
    words = [str(word) for word in environment.get("command") or []]
    if words and words[0].endswith("__main__.py"):
        # python -m records the path of __main__.py: that of MONAI, or of a study that made the run.
        words = ["python", "-m", "monai.bundle" if "--config_file" in words else "medpos", *words[1:]]
    packages = environment.get("packages")
    device = environment.get("device")
    return {
        "model": run.model,
        "evaluation": evaluation.name,
        "folder": str(evaluation.folder),
        "command": shlex.join(words),
        "seed": run.seed,
        "commit": environment.get("commit"),
        "started": environment.get("started"),
        "python": environment.get("python"),
        "changed": [str(change) for change in environment.get("changed") or []],
        "device": device.get("type") if isinstance(device, dict) else None,
        "packages": {k: v for k, v in packages.items() if v} if isinstance(packages, dict) else {},
    }
