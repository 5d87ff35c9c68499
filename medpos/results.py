"""The table of a run: one CSV row per case, organ and condition, their summary, and the text that people read."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from medpos.files import write_text
from medpos.labels import title as organ_title
from medpos.metrics import METRICS, summarise

Row = dict[str, Any]

COLUMNS = ("case", "subject", "split", "degradation", "severity", "shift", "organ", *METRICS)
_CONDITION = ("degradation", "severity", "shift")
MEAN_OF_ORGANS = "mean of organs"
TITLES = {
    "dice": "Dice",
    "iou": "IoU",
    "sensitivity": "sensitivity",
    "precision": "precision",
    "hd95_mm": "HD95 mm",
    "assd_mm": "ASSD mm",
}
PHANTOM_NOTE = "PHANTOM DATA: computed images, no patients; these numbers say nothing about clinical use"


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Write the rows, whole or not at all; a missing value reads ``nan``, an infinite one ``inf``."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def summary(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Sum up each metric per condition and organ, in the order in which they appear.

    Returns:
        One entry a condition: its ``degradation``, ``severity``, ``shift``; ``organs``, metric by metric as
        :func:`medpos.metrics.summarise` gives it; and ``mean_foreground_dice`` over the cases. The bootstrap draws
        subjects.
    """
    conditions: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        conditions.setdefault(tuple(row[k] for k in _CONDITION), []).append(row)
    return [
        {
            **dict(zip(_CONDITION, key, strict=True)),
            "organs": _by_organ(part),
            "mean_foreground_dice": _foreground(part),
        }
        for key, part in conditions.items()
    ]


def _by_organ(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    organs: dict[str, list[Row]] = {}
    for row in rows:
        organs.setdefault(row["organ"], []).append(row)
    return {
        organ: {m: summarise([r[m] for r in part], groups=[r["subject"] for r in part]) for m in METRICS}
        for organ, part in organs.items()
    }


def _foreground(rows: Sequence[Row]) -> dict[str, Any]:
    cases: dict[str, list[float]] = {}
    for row in rows:
        cases.setdefault(row["case"], []).append(row["dice"])
    subjects = {row["case"]: row["subject"] for row in rows}
    means = [float(np.nanmean(v)) if np.isfinite(v).any() else float("nan") for v in cases.values()]
    return summarise(means, groups=[subjects[case] for case in cases])


def table(conditions: Sequence[dict[str, Any]], title: str, phantom: bool) -> str:
    """The summary as text: organs by metrics for one condition, conditions by organs for several.

    Args:
        conditions: as :func:`summary` gives them.
        title: stands above the table.
        phantom: adds the line that says so.
    """
    if len(conditions) == 1:
        body, note = (
            _organ_table(conditions[0], title),
            "mean ± sd over cases; 95 % bootstrap interval of the mean Dice, subjects drawn",
        )
    else:
        body, note = _condition_table(conditions, title), "mean Dice ± sd over cases"
    console = Console(file=io.StringIO(), width=150, color_system=None)
    console.print(body)
    console.print(
        f"{note}\nn: cases measured; missing: organ in neither truth nor prediction; inf: organ in only one of the two"
    )
    if phantom:
        console.print(PHANTOM_NOTE, style="bold")
    return console.file.getvalue().rstrip()  # type: ignore[attr-defined,no-any-return]


def _organ_table(condition: dict[str, Any], title: str) -> Table:
    out = Table(title=title, box=SIMPLE_HEAD, title_justify="left")
    out.add_column("organ", no_wrap=True)
    for metric in METRICS:
        out.add_column(TITLES[metric], justify="right", no_wrap=True)
        if metric == "dice":
            out.add_column("95 % interval", justify="right", no_wrap=True)
    for name in ("n", "missing", "inf"):
        out.add_column(name, justify="right", no_wrap=True)
    for organ, metrics in condition["organs"].items():
        counts = (metrics["dice"]["n"], metrics["dice"]["missing"], metrics["hd95_mm"]["infinite"])
        cells = [mean_cell(metrics[m], 1 if m.endswith("_mm") else 3) for m in METRICS]
        out.add_row(organ_title(organ), cells[0], interval_cell(metrics["dice"]), *cells[1:], *map(str, counts))
    mean = condition["mean_foreground_dice"]
    out.add_section()
    out.add_row(
        MEAN_OF_ORGANS, mean_cell(mean, 3), interval_cell(mean), *[""] * 5, str(mean["n"]), str(mean["missing"]), ""
    )
    return out


def _condition_table(conditions: Sequence[dict[str, Any]], title: str) -> Table:
    out = Table(title=title, box=SIMPLE_HEAD, title_justify="left")
    organs = list(conditions[0]["organs"])
    for name in ("degradation", "severity", "shift px"):
        out.add_column(name)
    for name in (MEAN_OF_ORGANS, *map(organ_title, organs), "n", "missing", "inf"):
        out.add_column(name, justify="right", no_wrap=True)
    for entry in conditions:
        dice = [entry["organs"][organ]["dice"] for organ in organs]
        infinite = sum(entry["organs"][organ]["hd95_mm"]["infinite"] for organ in organs)
        out.add_row(
            entry["degradation"].replace("_", " ") if entry["severity"] else "none",
            str(entry["severity"]),
            entry["shift"],
            mean_cell(entry["mean_foreground_dice"], 3),
            *(mean_cell(d, 3) for d in dice),
            str(entry["mean_foreground_dice"]["n"]),
            str(sum(d["missing"] for d in dice)),
            str(infinite),
        )
    return out


def mean_cell(values: dict[str, Any], digits: int) -> str:
    """Mean ± sd of a metric of ``summary.json``; a dash where nothing was measured."""
    if values["mean"] is None:
        return "-"
    spread = "" if values["sd"] is None else f" ± {values['sd']:.{digits}f}"
    return f"{values['mean']:.{digits}f}{spread}"


def interval_cell(values: dict[str, Any]) -> str:
    """Its 95 % interval."""
    return "-" if values["ci95"] is None else "{:.3f} to {:.3f}".format(*values["ci95"])
