"""Print the results of a run: metrics and scores as text tables."""

from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from medpos.core.labels import ALL_CLASSES, MEAN_OF_ORGANS, kind_title
from medpos.core.labels import title as organ_title
from medpos.core.text import as_text
from medpos.metrics import SHOWN
from medpos.trust.calibration import SCORES

TITLES = {
    "dice": "Dice",
    "iou": "IoU",
    "sensitivity": "sensitivity",
    "precision": "precision",
    "hd95_mm": "HD95 mm",
    "assd_mm": "ASSD mm",
    "surface_dice": "surface Dice",
    "class_accuracy": "class accuracy",
}
SCORE_TITLES = {
    "seg": "SEG",
    "seg_all_objects": "SEG, all objects",
    "adapted_rand_error": "adapted Rand error",
    "box_iou": "box IoU",
    "box_f1": "box F1",
    "box_f1_all_objects": "box F1, all objects",
    "objects_true": "true objects",
    "objects_predicted": "predicted objects",
    "mean_iou": "mean IoU",
    "frequency_weighted_iou": "frequency-weighted IoU",
    "boundary_f1": "boundary F1",
    "weighted_dice": "weighted mean Dice",
    "ece": "ECE",
    "mce": "MCE",
    "brier": "Brier",
    "nll": "NLL",
    "coverage": "size in 90 % interval",
    "width": "width of interval",
}
_CALIBRATION_NOTE = (
    "of the pixels of all cases together, 0 is best; ECE, MCE: mean and greatest difference of probability and "
    "frequency; Brier: mean squared\ndifference; NLL: mean negative logarithm of the probability of the truth; size in "
    "90 % interval: share of the cases, 0.9 is best"
)
PHANTOM_NOTE = "PHANTOM DATA: computed images, no patients; these numbers say nothing about clinical use"


TRAINED_NOTE = "TRAINING CASES: the model was trained on {count} of these cases or subjects; no measure of new ones"


def format_results(conditions: Sequence[dict[str, Any]], title: str, phantom: bool, training_cases: int = 0) -> str:
    """Format a summary as text: organs by metrics for one condition, conditions by organs for several.

    Args:
        conditions: entries as :func:`medpos.runs.tables.summarize_conditions` gives them; classes from
            :func:`medpos.runs.tables.add_confusions`, scores from :func:`medpos.runs.tables.add_scores` and calibration
            follow in tables of their own.
        title: line above the table.
        phantom: True adds the note that the data are phantoms.
        training_cases: number of cases or subjects that the model was trained on; above 0 it is noted.
    """
    if len(conditions) == 1:
        body = _organ_table(conditions[0], title)
        note = "mean ± sd over cases; 95 % interval of the mean Dice over subjects (t)"
    else:
        body, note = _condition_table(conditions, title), "mean Dice ± sd over cases"
    counts = "n: cases measured; missing: organ in neither truth nor prediction; inf: organ in only one of the two"
    below: list[Any] = [f"{note}\n{counts}"]
    if len(conditions) == 1 and "classes" in conditions[0]:
        about = "of the pixels of all cases together; class accuracy: share of the true pixels that is right"
        below += ["", _class_table(conditions[0]["classes"]), about]
    if any("scores" in entry for entry in conditions):
        about = "scores: mean ± sd over cases; whole set: one value of all cases together"
        below += ["", *_score_tables(conditions), about]
    if any("calibration" in entry for entry in conditions):
        below += [
            "",
            _calibration_table(conditions),
            _CALIBRATION_NOTE,
        ]
    notes = [PHANTOM_NOTE] if phantom else []
    notes += [TRAINED_NOTE.format(count=training_cases)] if training_cases else []
    return as_text(body, *below, *notes, width=150)


def _organ_table(condition: dict[str, Any], title: str) -> Table:
    out = Table(title=title, box=SIMPLE_HEAD, title_justify="left")
    out.add_column("organ", no_wrap=True)
    for metric in SHOWN:
        out.add_column(TITLES[metric], justify="right", no_wrap=True)
        if metric == "dice":
            out.add_column("95 % interval", justify="right", no_wrap=True)
    for name in ("n", "missing", "inf"):
        out.add_column(name, justify="right", no_wrap=True)
    for organ, metrics in condition["organs"].items():
        counts = (metrics["dice"]["n"], metrics["dice"]["missing"], metrics["hd95_mm"]["infinite"])
        cells = [format_mean(metrics[m], 1 if m.endswith("_mm") else 3) for m in SHOWN]
        out.add_row(organ_title(organ), cells[0], format_interval(metrics["dice"]), *cells[1:], *map(str, counts))
    mean = condition["mean_foreground_dice"]
    out.add_section()
    out.add_row(
        MEAN_OF_ORGANS, format_mean(mean, 3), format_interval(mean), *[""] * 5, str(mean["n"]), str(mean["missing"]), ""
    )
    return out


def _class_table(classes: dict[str, dict[str, float | None]]) -> Table:
    out = Table(title="classes, whole set", box=SIMPLE_HEAD, title_justify="left")
    out.add_column("class", no_wrap=True)
    for name in ("iou", "class_accuracy"):
        out.add_column(TITLES[name], justify="right", no_wrap=True)
    for name, found in classes.items():
        out.add_row(organ_title(name), *(_format_value(found[key]) for key in ("iou", "class_accuracy")))
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
            *_condition_words(entry),
            format_mean(entry["mean_foreground_dice"], 3),
            *(format_mean(d, 3) for d in dice),
            str(entry["mean_foreground_dice"]["n"]),
            str(sum(d["missing"] for d in dice)),
            str(infinite),
        )
    return out


def _condition_words(entry: dict[str, Any]) -> tuple[str, str, str]:
    """Return degradation, severity and shift in words."""
    degradation = kind_title(entry["degradation"]) if entry["severity"] else "none"
    return degradation, str(entry["severity"]), entry["shift"]


def _score_tables(conditions: Sequence[dict[str, Any]]) -> list[Table]:
    """List scores in rows for one condition, conditions in rows for several."""
    return [_score_table(conditions[0])] if len(conditions) == 1 else _score_condition_tables(conditions)


def _score_table(condition: dict[str, Any]) -> Table:
    scores = dict(condition["scores"])
    of_set = scores.pop("set")
    out = Table(title="scores", box=SIMPLE_HEAD, title_justify="left")
    for name in ("score", "over", "value", *(("95 % interval", "n", "missing") if scores else ())):
        out.add_column(name, justify="left" if name in ("score", "over") else "right", no_wrap=True)
    for name, found in scores.items():
        digits = score_digits(name)
        counts = str(found["n"]), str(found["missing"])
        out.add_row(score_title(name), "cases", format_mean(found, digits), format_interval(found, digits), *counts)
    for name, value in of_set.items():
        out.add_row(score_title(name), "whole set", _format_value(value))
    return out


def _score_condition_tables(conditions: Sequence[dict[str, Any]]) -> list[Table]:
    """Make a table of the cases' scores and one of the set's: side by side they would be too wide."""
    of_cases = [{k: v for k, v in entry["scores"].items() if k != "set"} for entry in conditions]
    cases = [[format_mean(v, score_digits(k)) for k, v in scores.items()] for scores in of_cases]
    sets = [[_format_value(value) for value in entry["scores"]["set"].values()] for entry in conditions]
    tables = []
    for over, names, cells in (("cases", of_cases[0], cases), ("whole set", conditions[0]["scores"]["set"], sets)):
        out = Table(title=f"scores, {over}", box=SIMPLE_HEAD, title_justify="left")
        for head in ("degradation", "severity", "shift px"):
            out.add_column(head)
        for name in names:
            out.add_column(score_title(name), justify="right")
        for entry, part in zip(conditions, cells, strict=True):
            out.add_row(*_condition_words(entry), *part)
        tables += [out] if names else []
    return tables


def _calibration_table(conditions: Sequence[dict[str, Any]]) -> Table:
    """List organs in rows for one condition; for several, conditions in rows, with all classes together."""
    out = Table(title="calibration of the probabilities, whole set", box=SIMPLE_HEAD, title_justify="left")
    several = len(conditions) > 1
    for head in ("degradation", "severity", "shift px") if several else ("organ",):
        out.add_column(head, no_wrap=True)
    for score in SCORES:
        out.add_column(SCORE_TITLES[score], justify="right", no_wrap=True)
    out.add_column(SCORE_TITLES["coverage"], justify="right", no_wrap=True)
    for entry in conditions:
        organs = entry["calibration"]
        for organ in [ALL_CLASSES] if several else organs:
            words = _condition_words(entry) if several else (organ_title(organ),)
            found = (*(organs[organ]["set"][score] for score in SCORES), organs[organ]["coverage"]["mean"])
            out.add_row(*words, *map(_format_value, found))
    return out


def score_title(name: str) -> str:
    """Return the title of a score."""
    return SCORE_TITLES.get(name, name.replace("_", " ").replace("trimap iou", "trimap IoU"))


def score_digits(name: str) -> int:
    """Return the number of decimals to show: most scores lie within 0 to 1, numbers of objects don't."""
    return 1 if name.startswith("objects_") else 3


def _format_value(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def format_mean(values: dict[str, Any], digits: int) -> str:
    """Format a mean ± sd; a dash where nothing was measured.

    Args:
        values: metric or score as :func:`medpos.metrics.summarize` gives it.
        digits: number of decimals.
    """
    if values["mean"] is None:
        return "-"
    spread = "" if values["sd"] is None else f" ± {values['sd']:.{digits}f}"
    return f"{values['mean']:.{digits}f}{spread}"


def format_interval(values: dict[str, Any], digits: int = 3) -> str:
    """Format a 95 % interval; a dash where there is none. Arguments as in :func:`format_mean`."""
    return "-" if values["ci95"] is None else " to ".join(f"{end:.{digits}f}" for end in values["ci95"])
