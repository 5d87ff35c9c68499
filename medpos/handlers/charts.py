"""Chart the results of an evaluation in TensorBoard: curves over severity, distance and cases, all organs in one chart.

TensorBoard draws scalars over steps. Here a step is the severity of a degradation, the distance of a shift in pixels,
or a number of cases, so that no chart has a single point.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from medpos.core.files import read_csv
from medpos.core.labels import kind_title
from medpos.data.conditions import Condition
from medpos.plotting.overlay import encode_png
from medpos.runs import files
from medpos.runs.more_epochs import KEPT
from medpos.runs.tables import CLEAN_KEY, Key, Row, condition_key
from medpos.runs.task import is_classification
from medpos.runs.text import SCORE_TITLES, TITLES
from medpos.trust.calibration import SCORES

Layout = dict[str, dict[str, list[Any]]]
_DIRECTIONS = {"x+": "shift_right", "x-": "shift_left", "y+": "shift_down", "y-": "shift_up"}
_ORGAN_METRICS = ("dice", "hd95_mm")  # metrics of each organ that are charted
_SHARES = ("top1", "top5")  # of a classification
CALIBRATE = "calibrate"  # part of the tags of what medpos calibrate measures
# Beginning of tags -> title of their chart.
_CHARTS = {
    **{f"{metric}/": TITLES[metric] for metric in _ORGAN_METRICS},
    **{f"{score}/{place}": SCORE_TITLES[score] for place in ("", "all_classes/") for score in SCORES},
    "top": "accuracy",
    "alarms/": "share of cases with an alarm",
    "dice_lost": "Dice lost",
}
_OF_CASES = ("dice/", "top")  # of those, the ones that are also drawn over the cases


def write_results(
    writer: SummaryWriter,
    part: str,
    conditions: Sequence[Mapping[str, Any]],
    cases: Mapping[str, Sequence[float]],
    text: str,
) -> None:
    """Write the results of an evaluation.

    Args:
        writer: event writer of the run.
        part: name of the evaluation, the first part of all tags.
        conditions: its conditions as ``summary.json`` has them. Each kind of degradation and each direction of a shift
            is a curve ``PART/KIND/METRIC/ORGAN``, which begins with the clean images at step 0.
        cases: values of the cases on clean images by name, such as ``dice/heart``; drawn as the mean over the first n
            cases at step n, so that the last value is the mean, and the curve shows how settled it is.
        text: the table of the results.
    """
    writer.add_text(f"{part}/results", as_block(text))
    clean = next((_values(entry) for entry in conditions if condition_key(dict(entry)) == CLEAN_KEY), {})
    steps = sorted((curve, step, n) for n, (curve, step) in enumerate(map(_curve_of, conditions)) if curve)
    for curve in dict.fromkeys(curve for curve, *_ in steps):
        points = [(0, clean), *((step, _values(conditions[n])) for name, step, n in steps if name == curve)]
        for name in dict.fromkeys(name for _, values in points for name in values):
            _add_curve(writer, f"{part}/{curve}/{name}", [(step, values.get(name)) for step, values in points])
    for name, values in cases.items():
        _add_curve(writer, f"{part}/{name}", enumerate(running_mean(values), 1))
    writer.flush()


def write_settings(writer: SummaryWriter, settings: Mapping[str, Any], metrics: Iterable[str]) -> None:
    """Write a line of the HPARAMS page into the events of a run.

    ``SummaryWriter.add_hparams`` would write a scalar of its own for each metric, and into a folder that TensorBoard
    lists as another run.

    Args:
        writer: event writer of the run.
        settings: names and values of the settings; values that aren't plain are shown as text.
        metrics: tags of scalars; the page shows the last value of each.
    """
    plain = {k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in settings.items()}
    for summary in hparams(plain, dict.fromkeys(metrics, 0.0)):  # it takes the names alone
        writer.file_writer.add_summary(summary)
    writer.flush()


def write_picture(writer: SummaryWriter, tag: str, picture: Image.Image, step: int) -> None:
    """Write an RGB picture; the writer's own ``add_image`` takes twice as long to compress it."""
    content = Summary.Image(
        height=picture.height, width=picture.width, colorspace=3, encoded_image_string=encode_png(picture)
    )
    writer.file_writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=content)]), step)


def running_mean(values: Iterable[float]) -> list[float]:
    """Compute the mean of the first 1, 2, 3 ... finite values."""
    finite = [value for value in values if np.isfinite(value)]
    means: list[float] = (np.cumsum(finite) / np.arange(1, len(finite) + 1)).tolist()
    return means


def dice_of_cases(rows: Iterable[Row]) -> dict[str, list[float]]:
    """Collect the Dice of every case on clean images, as :func:`write_results` takes it.

    Args:
        rows: rows of ``metrics.csv``.

    Returns:
        ``mean_dice``, the mean over the organs of each case, and ``dice/ORGAN``.
    """
    cases: dict[str, list[float]] = {}
    organs: dict[str, list[float]] = {}
    for row in rows:
        if condition_key(row) == CLEAN_KEY and np.isfinite(row["dice"]):
            cases.setdefault(row["case"], []).append(row["dice"])
            organs.setdefault(f"dice/{row['organ']}", []).append(row["dice"])
    return {"mean_dice": [float(np.mean(values)) for values in cases.values()], **organs}


def example_tag(part: str, condition: Condition) -> tuple[str, int]:
    """Return the tag and the step of an example, a picture of a case, under a condition; clean images have step 0."""
    place = {"degradation": condition.degradation, "severity": condition.severity, "shift": condition.shift}
    curve, step = _curve_of(place)
    return f"{part}/{curve}/example", step


def layout(run: Path, part: str = "", conditions: Sequence[Mapping[str, Any]] = ()) -> Layout:
    """Lay out the page *Custom Scalars* of a run: one chart with all organs for each metric and curve.

    TensorBoard takes the last layout of a run alone, so it has the charts of all finished evaluations.

    Args:
        run: run folder.
        part: name of an evaluation that isn't finished yet; empty: none.
        conditions: its conditions as ``summary.json`` will have them.

    Returns:
        Charts by category and title, as ``SummaryWriter.add_custom_scalars`` takes them.
    """
    recorded = files.Run(run)
    classifies = recorded.is_recorded and is_classification(recorded.config)
    measured = {"accuracy": "top"} if classifies else {TITLES[metric]: f"{metric}/" for metric in _ORGAN_METRICS}
    training = {"loss": "loss/", **{f"validation: {name}": beginning for name, beginning in measured.items()}}
    found = {"training": {name: _lines(beginning) for name, beginning in training.items()}}
    folders = {"test": run, **{path.name: path for path in sorted(run.glob("*/")) if not path.name.startswith(KEPT)}}
    summaries = {name: files.Run(folder).summary or {} for name, folder in folders.items()}
    evaluations = {name: summary.get("conditions", []) for name, summary in summaries.items()}
    evaluations[CALIBRATE] = _read_calibrated(run)
    charts = {name: lay_out(name, entries) for name, entries in {**evaluations, part: conditions}.items()}
    return found | {name: one for name, one in charts.items() if one}


def lay_out(part: str, conditions: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Lay out the charts of one evaluation; arguments as in :func:`write_results`."""
    values = {name for entry in conditions for name in _values(entry)}
    found = {begin: end for begin, end in _CHARTS.items() if any(value.startswith(begin) for value in values)}
    charted = {end: begin for begin, end in found.items()}  # of several beginnings, the last and narrowest one
    curves = dict.fromkeys(curve for curve, _ in map(_curve_of, conditions) if curve)
    charts = {
        f"{part}: {end} of the first n cases": _lines(f"{part}/{begin}")
        for end, begin in charted.items()
        if begin in _OF_CASES
    }
    for curve in curves:
        charts |= {f"{kind_title(curve)}: {end}": _lines(f"{part}/{curve}/{begin}") for end, begin in charted.items()}
    return charts


def write_calibrated(run: Path, text: str) -> None:
    """Write what temperatures and lights do under conditions into the events of a run that has some.

    Tags: ``calibrate/KIND/SCORE/ORGAN/TEMPERATURES`` of ``temperature_scaling.csv``;
    ``calibrate/KIND/alarms/DETECTOR`` and ``calibrate/KIND/dice_lost`` of ``noticed.csv``.

    Args:
        run: run folder.
        text: what was found.
    """
    if not (run / files.TENSORBOARD).is_dir():
        return
    with SummaryWriter(str(run / files.TENSORBOARD)) as writer:
        write_results(writer, CALIBRATE, _read_calibrated(run), {}, text)
        writer.add_custom_scalars(layout(run))


def _read_calibrated(run: Path) -> list[dict[str, Any]]:
    """Read the tables of ``medpos calibrate`` as conditions, in the form of those of ``summary.json``."""
    found: dict[Key, dict[str, Any]] = {}

    def at(row: Mapping[str, str]) -> dict[str, Any]:
        place = {"degradation": row["degradation"], "severity": int(row["severity"]), "shift": row["shift"]}
        return found.setdefault(condition_key(place), {**place, "calibration": {}, "scores": {"set": {}}})

    for row in read_csv(run / files.SCALING) if (run / files.SCALING).is_file() else []:
        scores = {score: float(row[score] or "nan") for score in SCORES}
        at(row)["calibration"][f"{row['organ']}/{row['temperatures']}"] = {"set": scores}
    for row in read_csv(run / files.NOTICED) if (run / files.NOTICED).is_file() else []:
        lost = {"dice_lost": float(row["dice_lost"] or "nan")}
        at(row)["scores"]["set"] |= {
            f"alarms/{row['detector'].replace(' ', '_')}": float(row["alarms"] or "nan"),
            **lost,
        }
    return list(found.values())


def _lines(beginning: str) -> list[Any]:
    """Return the chart of all tags that begin with a text."""
    return ["Multiline", [f"^{re.escape(beginning)}"]]


def _curve_of(condition: Mapping[str, Any]) -> tuple[str, int]:
    """Return the curve that a condition is a point of, and its step there; clean images are step 0 of all, ``""``.

    Args:
        condition: ``degradation``, ``severity`` and ``shift``; a degradation of shifted images is a point of a curve
            for that shift.
    """
    degradation, severity, shift = (condition[name] for name in ("degradation", "severity", "shift"))
    if severity:
        moved = "" if shift == CLEAN_KEY[-1] else f"_{shift.replace(' ', '_')}"
        return f"{degradation}{moved}", int(severity)
    if shift == CLEAN_KEY[-1]:
        return "", 0
    moves = [(_DIRECTIONS[part[:2]], int(part[2:])) for part in shift.split(" ")]
    return "_".join(name for name, _ in moves), max(distance for _, distance in moves)


def _values(entry: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the values of a condition that are charted, by the end of their tags."""
    found = {f"{m}/{organ}": one[m]["mean"] for organ, one in entry.get("organs", {}).items() for m in _ORGAN_METRICS}
    if "mean_foreground_dice" in entry:
        found["mean_dice"] = entry["mean_foreground_dice"]["mean"]
    for organ, calibration in entry.get("calibration", {}).items():
        found |= {f"{score}/{organ.replace(' ', '_')}": calibration["set"][score] for score in SCORES}
    scores = dict(entry.get("scores", {}))
    found |= scores.pop("set", {})
    found |= {name: values["mean"] for name, values in scores.items()}
    return found | {name: entry[name] for name in _SHARES if name in entry}


def _add_curve(writer: SummaryWriter, tag: str, points: Iterable[tuple[int, float | None]]) -> None:
    """Write the finite values of a curve, unless there is only one."""
    finite = [(step, value) for step, value in points if value is not None and np.isfinite(value)]
    for step, value in finite if len(finite) > 1 else []:
        writer.add_scalar(tag, value, step)


def as_block(text: str) -> str:
    """Indent text, so that TensorBoard shows it as it is, in Markdown."""
    return "\n".join(f"    {line}" for line in text.splitlines())
