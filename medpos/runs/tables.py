"""The table of a run: one CSV row per case, organ and condition, their summary, and the text that people read."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from medpos.core import files
from medpos.core.labels import MEAN_OF_ORGANS
from medpos.core.labels import title as organ_title
from medpos.core.text import as_text
from medpos.metrics import METRICS, summarise

Row = dict[str, Any]
_CONDITION = ("degradation", "severity", "shift")
SCORE_COLUMNS = ("case", "subject", "split", *_CONDITION)  # of scores.csv, before the scores
COLUMNS = (*SCORE_COLUMNS, "organ", *METRICS)
TITLES = {
    "dice": "Dice",
    "iou": "IoU",
    "sensitivity": "sensitivity",
    "precision": "precision",
    "hd95_mm": "HD95 mm",
    "assd_mm": "ASSD mm",
}
SCORE_TITLES = {
    "seg": "SEG",
    "seg_all_objects": "SEG, all objects",
    "adapted_rand_error": "adapted Rand error",
    "objects_true": "true objects",
    "objects_predicted": "predicted objects",
    "mean_iou": "mean IoU",
    "frequency_weighted_iou": "frequency-weighted IoU",
    "boundary_f1": "boundary F1",
    "weighted_dice": "weighted mean Dice",
}
PHANTOM_NOTE = "PHANTOM DATA: computed images, no patients; these numbers say nothing about clinical use"


@dataclass(frozen=True, eq=False)
class Scored:
    """What the scores of an evaluation are.

    Args:
        rows: one a case and condition: the ``SCORE_COLUMNS``, then every score of a case by its name.
        sets: by condition, as :func:`condition_key` gives it, every score of the whole set by its name.
    """

    rows: list[Row]
    sets: dict[tuple[Any, ...], dict[str, float]]

    @property
    def names(self) -> tuple[str, ...]:
        """The scores of a case."""
        return tuple(name for name in (self.rows[0] if self.rows else ()) if name not in SCORE_COLUMNS)

    @property
    def set_names(self) -> tuple[str, ...]:
        """The scores of the set."""
        return tuple(dict.fromkeys(name for found in self.sets.values() for name in found))


def condition_key(row: Row) -> tuple[Any, ...]:
    """The condition of a row: degradation, severity, shift."""
    return tuple(row[k] for k in _CONDITION)


def write_csv(rows: Sequence[Row], path: Path, columns: Sequence[str] = COLUMNS) -> None:
    """Write the rows, whole or not at all; a missing value reads ``nan``, an infinite one ``inf``."""
    files.write_csv(path, columns, rows)


def summary(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Sum up each metric per condition and organ, in the order in which they appear.

    Returns:
        One entry a condition: its ``degradation``, ``severity``, ``shift``; ``organs``, metric by metric as
        :func:`medpos.metrics.summarise` gives it; and ``mean_foreground_dice`` over the cases. The bootstrap draws
        subjects.
    """
    conditions: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        conditions.setdefault(condition_key(row), []).append(row)
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


def with_scores(conditions: Sequence[dict[str, Any]], scored: Scored) -> list[dict[str, Any]]:
    """Add ``scores`` to every condition of :func:`summary`.

    Each score of a case as :func:`medpos.metrics.summarise` gives it, with the subjects as groups; under ``set`` those
    of the whole set, plain numbers, None for what couldn't be measured.
    """
    return [{**entry, "scores": _scores(scored, condition_key(entry))} for entry in conditions]


def _scores(scored: Scored, condition: tuple[Any, ...]) -> dict[str, Any]:
    rows = [row for row in scored.rows if condition_key(row) == condition]
    subjects = [row["subject"] for row in rows]
    of_set = {name: value if np.isfinite(value) else None for name, value in scored.sets.get(condition, {}).items()}
    return {**{name: summarise([row[name] for row in rows], subjects) for name in scored.names}, "set": of_set}


def table(conditions: Sequence[dict[str, Any]], title: str, phantom: bool) -> str:
    """The summary as text: organs by metrics for one condition, conditions by organs for several.

    Args:
        conditions: as :func:`summary` gives them; scores of :func:`with_scores` follow in a table of their own.
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
    counts = "n: cases measured; missing: organ in neither truth nor prediction; inf: organ in only one of the two"
    below: list[Any] = [f"{note}\n{counts}"]
    if any("scores" in entry for entry in conditions):
        about = "scores: mean ± sd over cases; whole set: one value of all cases together"
        below += [*_score_tables(conditions), about]
    return as_text(body, *below, *([PHANTOM_NOTE] if phantom else []), width=150)


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
            *_place(entry),
            mean_cell(entry["mean_foreground_dice"], 3),
            *(mean_cell(d, 3) for d in dice),
            str(entry["mean_foreground_dice"]["n"]),
            str(sum(d["missing"] for d in dice)),
            str(infinite),
        )
    return out


def _place(entry: dict[str, Any]) -> tuple[str, str, str]:
    """Degradation, severity and shift as people read them."""
    degradation = entry["degradation"].replace("_", " ") if entry["severity"] else "none"
    return degradation, str(entry["severity"]), entry["shift"]


def _score_tables(conditions: Sequence[dict[str, Any]]) -> list[Table]:
    """Scores down for one condition, conditions down for several."""
    return [_score_table(conditions[0])] if len(conditions) == 1 else _score_condition_tables(conditions)


def _score_table(condition: dict[str, Any]) -> Table:
    out = Table(title="scores", box=SIMPLE_HEAD, title_justify="left")
    for name in ("score", "over", "value", "95 % interval", "n", "missing"):
        out.add_column(name, justify="left" if name in ("score", "over") else "right", no_wrap=True)
    scores = dict(condition["scores"])
    of_set = scores.pop("set")
    for name, found in scores.items():
        digits = score_digits(name)
        counts = str(found["n"]), str(found["missing"])
        out.add_row(score_title(name), "cases", mean_cell(found, digits), interval_cell(found, digits), *counts)
    for name, value in of_set.items():
        out.add_row(score_title(name), "whole set", _value_cell(value), "", "", "")
    return out


def _score_condition_tables(conditions: Sequence[dict[str, Any]]) -> list[Table]:
    """One of the scores of cases, one of those of the whole set: side by side they were too wide."""
    of_cases = [{k: v for k, v in entry["scores"].items() if k != "set"} for entry in conditions]
    cases = [[mean_cell(v, score_digits(k)) for k, v in scores.items()] for scores in of_cases]
    sets = [[_value_cell(value) for value in entry["scores"]["set"].values()] for entry in conditions]
    tables = []
    for over, names, cells in (("cases", of_cases[0], cases), ("whole set", conditions[0]["scores"]["set"], sets)):
        out = Table(title=f"scores, {over}", box=SIMPLE_HEAD, title_justify="left")
        for head in ("degradation", "severity", "shift px"):
            out.add_column(head)
        for name in names:
            out.add_column(score_title(name), justify="right")
        for entry, part in zip(conditions, cells, strict=True):
            out.add_row(*_place(entry), *part)
        tables += [out] if names else []
    return tables


def score_title(name: str) -> str:
    """A score as people read it."""
    return SCORE_TITLES.get(name, name.replace("_", " ").replace("trimap iou", "trimap IoU"))


def score_digits(name: str) -> int:
    """Decimals to show: most scores lie within 0 to 1, numbers of objects don't."""
    return 1 if name.startswith("objects_") else 3


def _value_cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def mean_cell(values: dict[str, Any], digits: int) -> str:
    """Mean ± sd of a metric of ``summary.json``; a dash where nothing was measured."""
    if values["mean"] is None:
        return "-"
    spread = "" if values["sd"] is None else f" ± {values['sd']:.{digits}f}"
    return f"{values['mean']:.{digits}f}{spread}"


def interval_cell(values: dict[str, Any], digits: int = 3) -> str:
    """Its 95 % interval."""
    return "-" if values["ci95"] is None else " to ".join(f"{end:.{digits}f}" for end in values["ci95"])
