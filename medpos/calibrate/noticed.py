"""Measure which degradations and shifts the detectors of a run notice, and how much Dice is lost by then."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from medpos.calibrate.outputs import Changes, LabeledImage, load_split
from medpos.core.labels import kind_title
from medpos.core.text import as_text
from medpos.data.conditions import CLEAN, Condition
from medpos.data.folder import DataFolder
from medpos.metrics import mean_of_finite, overlap
from medpos.predict.model import Model
from medpos.trust.failure import auroc
from medpos.trust.light import Light, TrafficLight

COLUMNS = ("degradation", "severity", "shift", "detector", "cases", "auroc", "fpr95", "alarms", "dice", "dice_lost")
ALL = "all"  # detectors together
_MOST_CASES = 64
_NOTICED = 0.5  # share of cases that ring
_Found = list[tuple[Light, float]]


def measure_noticed(model: Model, light: TrafficLight, source: DataFolder, changes: Changes) -> list[dict[str, Any]]:
    """Judge the test cases of a run under conditions.

    Args:
        model: model of the run.
        light: its detectors.
        source: its training data.
        changes: the conditions, clean first.

    Returns:
        A row of ``COLUMNS`` for each condition and detector, and for all of them together. ``auroc`` is the chance that
        a changed image scores above a clean one, ``fpr95`` the share of clean images that ring where 95 % of the
        changed ones do, ``alarms`` the share of cases without a green light (for a detector, with a score above the
        threshold); ``dice`` the mean over organs and cases, ``dice_lost`` that of the clean images minus it.
    """
    found: dict[Condition, _Found] = {condition: [] for condition in changes.conditions}
    for image in load_split(model, source, "test", _MOST_CASES):
        for condition, cases in found.items():
            cases.append(_judge(model, light, changes.put(image, condition)))
    clean = found[CLEAN]
    return [row for condition, cases in found.items() for row in _rows(condition, cases, clean)]


def _judge(model: Model, light: TrafficLight, image: LabeledImage) -> tuple[Light, float]:
    """Return the light of an image, and its mean Dice."""
    evidence = light.begin()
    labels = model.probabilities(image.decoded, evidence).argmax(0)
    dice = overlap(labels.numpy(), image.truth[0].numpy(), len(model.data.labels))["dice"]
    return light.judge(evidence), mean_of_finite(dice)


def _rows(condition: Condition, cases: _Found, clean: _Found) -> list[dict[str, Any]]:
    dice, usual = (mean_of_finite([score for _, score in part]) for part in (cases, clean))
    rows = []
    for name in (ALL, *clean[0][0].detectors):
        here, there = (
            np.array([light.score if name == ALL else light.detectors[name] for light, _ in part])
            for part in (cases, clean)
        )
        rows.append(
            {
                "degradation": condition.degradation,
                "severity": condition.severity,
                "shift": condition.shift,
                "detector": name,
                "cases": len(cases),
                "auroc": auroc(here, there),
                "fpr95": float((there >= np.quantile(here, 0.05)).mean()),
                "alarms": float((here > 1).mean()),
                "dice": dice,
                "dice_lost": usual - dice,
            }
        )
    return rows


def format_noticed(rows: Sequence[dict[str, Any]]) -> str:
    """Format for each kind of change from which strength on it is noticed, and how much Dice is lost by then."""
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
