"""Measure which degradations and shifts the detectors of a run notice, and how much Dice is lost by then."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.box import SIMPLE_HEAD
from rich.table import Table

from medpos.calibrate.outputs import Changes, LabeledImage, load_split
from medpos.core.labels import kind_title
from medpos.core.text import as_text
from medpos.data.conditions import CLEAN, Condition
from medpos.data.folder import DataFolder
from medpos.metrics import mean_of_finite, overlap
from medpos.predict.model import Model
from medpos.runs.tables import SCORE_COLUMNS
from medpos.statistics.grid import CONDITION
from medpos.trust.failure import auroc
from medpos.trust.light import Light, TrafficLight

COLUMNS = (*CONDITION, "detector", "cases", "auroc", "fpr95", "alarms", "dice", "dice_lost")  # of noticed.csv
CASE_COLUMNS = (*SCORE_COLUMNS, "score", "alarm", "detector", "dice")  # of noticed_cases.csv
ALL = "all"  # detectors together
_MOST_CASES = 64
_NOTICED = 0.5  # share of cases with an alarm


@dataclass(frozen=True, eq=False)
class Judged:
    """Hold a case under a condition.

    Args:
        case: entry of the case in ``dataset.json``.
        condition: the condition.
        light: its light.
        dice: mean Dice of its organs, 0 to 1; NaN where truth and prediction have none.
    """

    case: dict[str, Any]
    condition: Condition
    light: Light
    dice: float

    @property
    def row(self) -> dict[str, Any]:
        """Row of ``noticed_cases.csv``: the greatest score, whose detector it is, and whether it is an alarm."""
        about = {"case": self.case["case"], "subject": self.case["subject"], "split": "test"}
        strongest = max(self.light.detectors, key=lambda name: self.light.detectors[name])
        return {
            **about,
            **_condition_columns(self.condition),
            "score": self.light.score,
            "alarm": int(self.light.score > 1),
            "detector": strongest,
            "dice": self.dice,
        }


def judge_cases(model: Model, light: TrafficLight, source: DataFolder, changes: Changes) -> list[Judged]:
    """Judge at most 64 test cases of a run under conditions, in one pass of the network each.

    Args:
        model: model of the run.
        light: its detectors.
        source: its training data.
        changes: the conditions, clean first.

    Returns:
        The cases, condition by condition, the clean one first.
    """
    found: dict[Condition, list[Judged]] = {condition: [] for condition in changes.conditions}
    for image in load_split(model, source, "test", _MOST_CASES):
        for condition, cases in found.items():
            cases.append(_judge(model, light, changes.put(image, condition), condition))
    return [judged for cases in found.values() for judged in cases]


def _judge(model: Model, light: TrafficLight, image: LabeledImage, condition: Condition) -> Judged:
    """Judge an image that is under a condition already."""
    evidence = light.begin()
    labels = model.probabilities(image.decoded, evidence).argmax(0)
    dice = overlap(labels.numpy(), image.truth[0].numpy(), len(model.data.labels))["dice"]
    return Judged(image.case, condition, light.judge(evidence), mean_of_finite(dice))


def summarize_noticed(judged: Sequence[Judged]) -> list[dict[str, Any]]:
    """Summarize what is noticed of each condition, for each detector and for all of them together.

    Args:
        judged: what :func:`judge_cases` returned.

    Returns:
        Rows of ``COLUMNS``. ``auroc`` is the chance that a changed image scores above a clean one, ``fpr95`` the share
        of clean images above the threshold that 95 % of the changed ones exceed, ``alarms`` the share of cases without
        a green light (for a detector, with a score above the threshold); ``dice`` the mean over organs and cases,
        ``dice_lost`` that of the clean images minus it.
    """
    found: dict[Condition, list[Judged]] = {}
    for case in judged:
        found.setdefault(case.condition, []).append(case)
    return [row for condition, cases in found.items() for row in _rows(condition, cases, found[CLEAN])]


def _condition_columns(condition: Condition) -> dict[str, Any]:
    return {name: getattr(condition, name) for name in CONDITION}


def _rows(condition: Condition, cases: Sequence[Judged], clean: Sequence[Judged]) -> list[dict[str, Any]]:
    dice, usual = (mean_of_finite([case.dice for case in part]) for part in (cases, clean))
    rows = []
    for name in (ALL, *clean[0].light.detectors):
        here, there = (
            np.array([case.light.score if name == ALL else case.light.detectors[name] for case in part])
            for part in (cases, clean)
        )
        rows.append(
            {
                **_condition_columns(condition),
                "detector": name,
                "cases": len(cases),
                "auroc": auroc(here, there),
                "fpr95": float((there >= _noticed_by_95_percent(here)).mean()),
                "alarms": float((here > 1).mean()),
                "dice": dice,
                "dice_lost": usual - dice,
            }
        )
    return rows


def _noticed_by_95_percent(scores: npt.NDArray[np.float64]) -> float:
    """Return the greatest score that at least 95 % of the images reach."""
    needed = -(-95 * len(scores) // 100)
    return float(np.sort(scores)[len(scores) - needed])


def format_noticed(rows: Sequence[dict[str, Any]]) -> str:
    """Format for each kind of change from which strength on it is noticed, and how much Dice is lost by then.

    Args:
        rows: what :func:`summarize_noticed` returned.
    """
    together = [row for row in rows if row["detector"] == ALL]
    out = Table(title="what the lights notice", box=SIMPLE_HEAD, title_justify="left")
    for name in ("change", "noticed from", "Dice lost there", "Dice lost at most", "AUROC at most", "alarms at most"):
        out.add_column(name, justify="left" if name == "change" else "right", no_wrap=True)
    kinds: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    for row in together:
        if row["severity"]:
            kinds.setdefault(kind_title(row["degradation"]), []).append((row["severity"], row))
        elif row["shift"] != CLEAN.shift:
            kinds.setdefault(f"shift {row['shift'][:2]}", []).append((int(row["shift"][1:].lstrip("+-")), row))
    for kind, steps in kinds.items():
        steps.sort(key=lambda step: step[0])
        first = next((step for step in steps if step[1]["alarms"] >= _NOTICED), None)
        most = [max(row[key] for _, row in steps) for key in ("dice_lost", "auroc", "alarms")]
        where = ("-", "-") if first is None else (str(first[0]), f"{first[1]['dice_lost']:+.3f}")
        out.add_row(kind, *where, f"{most[0]:+.3f}", f"{most[1]:.2f}", f"{most[2]:.0%}")
    clean = together[0]
    note = (
        f"noticed: at least {_NOTICED:.0%} of {clean['cases']} test cases without a green light (clean images: "
        f"{clean['alarms']:.0%}); severity, or px of the network's grid"
    )
    return as_text(out, note, width=150)
