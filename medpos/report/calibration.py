"""Tabulate and draw how well the probabilities of a report's runs are calibrated, where that was measured."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from medpos.core.labels import ALL_CLASSES, labels_of, title
from medpos.metrics import summarize
from medpos.plotting.reliability import draw_reliability
from medpos.plotting.style import Drawing
from medpos.report.sources import Run, add_run, as_numbers, clean_rows, read_rows
from medpos.report.tables import Table, count_cell, number_cell, organ_cell, slug, text_cell
from medpos.runs import files
from medpos.runs.calibration import CALIBRATION_COLUMNS, RELIABILITY_COLUMNS, SCALING_COLUMNS
from medpos.runs.text import SCORE_TITLES
from medpos.statistics.grid import CONDITION
from medpos.transforms.naming import condition_title
from medpos.trust.calibration import LIMITS, SCORES, SIZES

IDENTITY = ["data", "split", "model", "seed"]
MOST_DRAWN = 12  # organs whose panels are readable
_MEANS = ("probability", "frequency")
_NOTE = (
    "mean ± sd over cases and seeds, 0 is best. ECE, MCE: mean and greatest difference of probability and frequency "
    "over 15 bins of equal numbers of pixels, among those with a probability of 0.01 or more; Brier: mean squared "
    "difference; NLL: mean negative logarithm of the probability of the truth. The interval of an organ's size reaches "
    "from the pixels with a probability of 0.95 to those with 0.05: share of cases whose true size lies in it (0.90 is "
    "best), and its width over the true size"
)
_SCALING_NOTE = (
    "of all pixels of the test images together, mean over runs, 0 is best; one: a temperature for all classes; class: "
    "one for each. Fitted to validation images by medpos calibrate"
)


def collect_calibration(runs: Sequence[Run]) -> pd.DataFrame:
    """Collect the scores of every case once; runs of earlier versions have none.

    Returns:
        Long table with the columns ``data``, ``model``, ``seed`` (-1 where it is not recorded), ``run``,
        ``evaluation`` and those of ``calibration.csv``.

    Raises:
        InputError: a file is malformed.
    """
    return collect_rows(runs, files.CALIBRATION, CALIBRATION_COLUMNS, LIMITS, ["case"])


def collect_reliability(runs: Sequence[Run]) -> pd.DataFrame:
    """Collect the points of every reliability diagram once; as :func:`collect_calibration`."""
    limits = {"low": (0.0, 1.0), "high": (0.0, 1.0), "pixels": (0.0, 2.0**53)}
    limits |= dict.fromkeys(_MEANS, (0.0, 1.0))
    return collect_rows(runs, files.RELIABILITY, RELIABILITY_COLUMNS, limits, ["low"])


def collect_scaling(runs: Sequence[Run]) -> pd.DataFrame:
    """Collect what temperatures change, which ``medpos calibrate`` has written; as :func:`collect_calibration`."""
    limits = {score: LIMITS[score] for score in SCORES}
    return collect_rows(runs, files.SCALING, SCALING_COLUMNS, limits, ["temperatures"])


def collect_rows(
    runs: Sequence[Run], name: str, columns: Sequence[str], limits: Mapping[str, tuple[float, float]], key: list[str]
) -> pd.DataFrame:
    """Collect the rows of a file of every run once.

    Args:
        runs: the runs; those without the file have no rows.
        name: name of the file.
        columns: its columns.
        limits: smallest and greatest possible value of each column of numbers.
        key: columns that tell its rows apart besides run, condition and organ.

    Raises:
        InputError: a file is malformed.
    """
    found = ((run, part, part.folder / name) for run in runs for part in run.pooled)
    parts = [
        add_run(_read(path, columns, limits), run, part).assign(split=part.split)
        for run, part, path in found
        if path.is_file()
    ]
    kept = list(dict.fromkeys([*IDENTITY, "run", "evaluation", *columns]))
    if not parts:
        return pd.DataFrame(columns=kept)
    # An evaluation under many conditions measures the clean images again.
    same = [*IDENTITY, *CONDITION, "organ", *key]
    return pd.concat(parts, ignore_index=True).drop_duplicates(same, ignore_index=True)[kept]


def _read(path: Path, columns: Sequence[str], limits: Mapping[str, tuple[float, float]]) -> pd.DataFrame:
    return as_numbers(read_rows(path, columns), [*limits], path, limits.__getitem__)


def tabulate_calibration(rows: pd.DataFrame) -> list[Table]:
    """Tabulate the calibration of every model on clean images and, where there are others, under every condition.

    Args:
        rows: table from :func:`collect_calibration`.
    """
    clean = clean_rows(rows)
    tables = [_table("calibration", "Calibration, clean images", clean, False)]
    if len(rows) > len(clean):
        tables.append(_table("calibration_conditions", "Calibration under every condition", rows, True))
    return tables


def _table(name: str, caption: str, rows: pd.DataFrame, conditions: bool) -> Table:
    keys = ["data", "split", "model", *(CONDITION if conditions else ()), "organ"]
    labels = labels_of(name for name in rows["organ"] if name != ALL_CLASSES)
    shown, records = [], []
    for key, part in rows.groupby(keys, sort=False):
        place: dict[str, Any] = dict(zip(keys, key, strict=True))
        found = {s: summarize(part[s].to_numpy(), part["subject"].tolist(), LIMITS[s]) for s in (*SCORES, *SIZES)}
        counts = {"seeds": part["seed"].nunique(), "subjects": part["subject"].nunique()}
        split = "" if place["split"] == "test" else f", {place['split']}"
        condition = [condition_title(*(place[column] for column in CONDITION))] if conditions else []
        shown.append(
            (
                organ_cell(place["organ"], labels),
                *map(text_cell, (f"{place['data']}{split}", place["model"], *condition)),
                *(number_cell(found[s]["mean"], 3, found[s]["sd"]) for s in SCORES),
                *(number_cell(found[s]["mean"], 2) for s in SIZES),
                *map(count_cell, (found["brier"]["n"], *counts.values())),
            )
        )
        values = {f"{s}_{part}": found[s][part] for s in (*SCORES, *SIZES) for part in ("mean", "sd", "n", "missing")}
        records.append({**place, **values, **counts})
    head = ("organ", "data", "model", *(("condition",) if conditions else ()))
    titles = tuple(SCORE_TITLES[score] for score in (*SCORES, *SIZES))
    return Table(name, caption, _NOTE, (*head, *titles, "n", "seeds", "subjects"), tuple(shown), pd.DataFrame(records))


def tabulate_scaling(rows: pd.DataFrame) -> Table:
    """Tabulate what temperatures change in the calibration, under every condition that was measured.

    Args:
        rows: table from :func:`collect_scaling`.
    """
    keys = ["data", "split", "model", *CONDITION, "organ", "temperatures"]
    labels = labels_of(name for name in rows["organ"] if name != ALL_CLASSES)
    shown, records = [], []
    for key, part in rows.groupby(keys, sort=False):
        place: dict[str, Any] = dict(zip(keys, key, strict=True))
        means = {score: float(part[score].mean()) for score in SCORES}
        condition = condition_title(*(place[column] for column in CONDITION))
        names = (place["data"], place["model"], condition, place["temperatures"])
        numbers = (number_cell(mean) for mean in means.values())
        shown.append((organ_cell(place["organ"], labels), *map(text_cell, names), *numbers, count_cell(len(part))))
        records.append({**place, **means, "runs": len(part)})
    titles = (SCORE_TITLES[score] for score in SCORES)
    head = ("organ", "data", "model", "condition", "temperatures", *titles, "runs")
    caption = "Calibration without and with temperatures"
    return Table("temperature_scaling", caption, _SCALING_NOTE, head, tuple(shown), pd.DataFrame(records))


def draw_calibration(rows: pd.DataFrame) -> list[Drawing]:
    """Draw the reliability diagram of every model on clean images, the pixels of all seeds together.

    Args:
        rows: table from :func:`collect_reliability`.
    """
    drawings = []
    for n, (key, part) in enumerate(clean_rows(rows).groupby(["data", "split", "model"], sort=False), 1):
        data, split, model = map(str, key)
        diagrams = {str(organ): list(_merge(points)) for organ, points in part.groupby("organ", sort=False)}
        caption = f"{model} on {data}{'' if split == 'test' else f', {split}'}"
        if len(diagrams) <= MOST_DRAWN:
            alt = f"Reliability diagram of {caption}. {_describe(diagrams)}"
            name = f"reliability_{n:02d}_{slug(model)[:40]}"
            drawings.append(Drawing(name, caption, alt, draw_reliability(diagrams)))
    return drawings


def _merge(points: pd.DataFrame) -> Iterator[dict[str, float]]:
    """Merge the points of all seeds, weighted by their pixels."""
    for low, part in points.groupby("low"):
        pixels = part["pixels"].sum()
        means = {k: (part[k] * part["pixels"]).sum() / pixels if pixels else float("nan") for k in _MEANS}
        yield {"low": float(str(low)), "high": float(part["high"].iloc[0]), "pixels": float(pixels), **means}


def _describe(diagrams: dict[str, list[dict[str, float]]]) -> str:
    """Describe in words how often the organ was there where the network was surest."""
    parts = []
    for organ, points in diagrams.items():
        if surest := next((point for point in reversed(points) if point["pixels"]), None):
            parts.append(
                f"{title(organ)}: where the probability is {surest['probability']:.2f} on average, the highest bin, "
                f"the frequency is {surest['frequency']:.2f}"
            )
    return f"{'; '.join(parts)}."
