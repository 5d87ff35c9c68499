"""Write the sections of a model card that hold results: quality, calibration, and what the network notices."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from medpos.core.errors import printable
from medpos.core.labels import ALL_CLASSES, MEAN_OF_ORGANS, title
from medpos.export.facts import RunFacts
from medpos.metrics import SHOWN
from medpos.runs.subgroups import TITLES as SUBGROUP_TITLES
from medpos.runs.tables import CLEAN_KEY, condition_key
from medpos.runs.text import PHANTOM_NOTE, SCORE_TITLES, TITLES, format_interval, format_mean
from medpos.transforms.naming import condition_title
from medpos.trust.calibration import SCORES
from medpos.trust.failure import FAILED_BELOW, LEAST

_ALL_DETECTORS = "all"
UNTESTED = "The run was not tested, so its quality is unknown."


def escape(text: str) -> str:
    """Return text for Markdown, also in a cell of a table."""
    return html.escape(printable(text), quote=False).replace("|", "&#124;").replace("[", "&#91;").replace("`", "'")


def table_of(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def results_of(facts: RunFacts) -> str:
    """Write the Dice of every organ under every condition with its interval, and subgroups of the cases."""
    condition, summary = facts.clean, facts.summary
    if condition is None or summary is None:
        return UNTESTED
    notes = [
        f"{summary['split']} split: {summary['cases']} {'PHANTOMS' if summary['phantom'] else 'images'} of "
        f"{summary['subjects']} subjects; mean ± sd over them; 95 % interval of the mean over subjects (Student's t). "
        "Measured on the network's grid. Missing: the organ is in neither ground truth nor prediction; infinite: in "
        "only one of the two."
    ]
    notes += ["Pixel sizes are nominal, so distances in mm are too."] if summary["nominal_spacing"] else []
    notes += [PHANTOM_NOTE + "."] if summary["phantom"] else []
    parts = [_organ_table(condition), " ".join(notes), *_subgroups(summary)]
    for name, found in facts.evaluations.items():
        if rows := _condition_rows(found["conditions"], name in facts.external):
            organs = list(found["conditions"][0]["organs"])
            head = ["condition", *(escape(title(organ)) for organ in organs), MEAN_OF_ORGANS, "n"]
            data = f", on {escape(str(found['data']))}" if name in facts.external else ""
            parts += [f"### `{name}`{data}: mean Dice (95 % interval)", table_of(head, rows)]
    return "\n\n".join(parts)


def _organ_table(condition: Mapping[str, Any]) -> str:
    others = [metric for metric in SHOWN if metric != "dice"]
    head = ["organ", "Dice", "95 % interval", *(TITLES[m] for m in others), "n", "missing", "infinite"]
    rows = []
    for organ, metrics in condition["organs"].items():
        dice = metrics["dice"]
        values = [format_mean(metrics[m], 1 if m.endswith("_mm") else 3) for m in others]
        counts = [str(dice["n"]), str(dice["missing"]), str(metrics["hd95_mm"]["infinite"])]
        rows.append([escape(title(organ)), format_mean(dice, 3), format_interval(dice), *values, *counts])
    mean, blank = condition["mean_foreground_dice"], [""] * len(others)
    counts = [str(mean["n"]), str(mean["missing"]), ""]
    rows.append([MEAN_OF_ORGANS, format_mean(mean, 3), format_interval(mean), *blank, *counts])
    return table_of(head, rows)


def _condition_rows(conditions: Sequence[Mapping[str, Any]], with_clean: bool) -> list[list[str]]:
    """Return a row of every condition; none where there are clean images alone, unless these are of other data."""
    if not with_clean and all(condition_key(dict(entry)) == CLEAN_KEY for entry in conditions):
        return []
    return [
        [
            _name(entry),
            *(_dice(metrics["dice"]) for metrics in entry["organs"].values()),
            _dice(entry["mean_foreground_dice"]),
            str(entry["mean_foreground_dice"]["n"]),
        ]
        for entry in conditions
    ]


def _name(place: Mapping[str, Any]) -> str:
    return condition_title(str(place["degradation"]), int(place["severity"]), str(place["shift"]))


def _dice(values: Mapping[str, Any]) -> str:
    interval = f" ({format_interval(dict(values))})" if values["ci95"] else ""
    return "-" if values["mean"] is None else f"{values['mean']:.3f}{interval}"


def _subgroups(summary: Mapping[str, Any]) -> list[str]:
    rows = [
        [
            SUBGROUP_TITLES.get(found["by"], escape(str(found["by"]))),
            escape(str(found["subgroup"])),
            format_mean(found, 3),
            format_interval(found),
            str(found["n"]),
        ]
        for found in summary.get("subgroups", [])
        if found["organ"] == MEAN_OF_ORGANS
    ]
    head = ["by", "subgroup", "Dice, mean of organs", "95 % interval", "n"]
    return ["### Subgroups, exploratory", table_of(head, rows)] if rows else []


def calibration_of(facts: RunFacts) -> str:
    """Write how well the probabilities are calibrated on clean test images, and what temperatures change."""
    condition = facts.clean or {}
    if "calibration" not in condition:
        return "Not measured."
    failures = condition.get("failures", {})
    head = [
        "organ",
        *(SCORE_TITLES[s] for s in SCORES),
        SCORE_TITLES["coverage"],
        f"AUROC of Dice below {FAILED_BELOW}",
    ]
    rows = []
    for organ, found in condition["calibration"].items():
        name = organ if organ == ALL_CLASSES else escape(title(organ))
        auroc = failures.get(organ, {}).get("auroc")
        values = [*(found["set"][score] for score in SCORES), found["coverage"]["mean"], auroc]
        rows.append([name, *("-" if value is None else f"{value:.3f}" for value in values)])
    note = (
        "Of the pixels of all clean test images together; 0 is best. Size in 90 % interval: share of the cases, 0.9 is "
        f"best. AUROC: whether the Dice that the probabilities expect finds the predictions with a Dice below "
        f"{FAILED_BELOW}; 0.5 is chance, none is stated of fewer than {LEAST} cases."
    )
    parts = [table_of(head, rows), note]
    if (fitted := facts.temperatures) and fitted["test"]:
        one, by_class = (", ".join(f"{t:.2f}" for t in fitted[kind]) for kind in ("one", "class"))
        parts.append(
            f"Temperatures, fitted on {fitted['cases']} validation cases: {one} for all classes, or {by_class} for "
            f"each. They change the ECE of all classes on test images from {fitted['test']['none']['ece']:.3f} to "
            f"{fitted['test']['one']['ece']:.3f} or {fitted['test']['class']['ece']:.3f} (`predict --calibrated`)."
        )
    else:
        parts.append("No temperatures are fitted (`medpos calibrate RUN`).")
    return "\n\n".join(parts)


def noticed_by(facts: RunFacts) -> str:
    """Write how often ``predict`` raises an alarm, and what its lights notice."""
    if facts.light is None:
        return "It gives no warning: no detectors of strange images are fitted (`medpos calibrate RUN`)."
    light = facts.light
    text = (
        "`predict` gives every case a green, yellow or red light, with its reasons, by detectors fitted on training "
        f"images; stated rate of false alarms {light['false_alarm_rate']:.1%}, set on {light['validation']} validation "
        f"and {light['training']} training cases."
    )
    if light["test_cases"]:
        text += f" Of {light['test_cases']} clean test cases {light['test_alarms']} had an alarm."
    rows = [
        [_name(row), f"{float(row['alarms']):.2f}", row["cases"], *(_number(row[k]) for k in ("auroc", "dice_lost"))]
        for row in facts.noticed
        if row["detector"] == _ALL_DETECTORS
    ]
    if not rows:
        return f"{text}\n\nWhat it notices was not measured (`medpos calibrate RUN --condition degradations`)."
    head = ["condition", "share with an alarm", "cases", "AUROC against clean", "Dice lost"]
    return f"{text}\n\n{table_of(head, rows)}"


def _number(cell: str) -> str:
    return f"{float(cell):.3f}" if cell not in ("", "nan") else "-"
