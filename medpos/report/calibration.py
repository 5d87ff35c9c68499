"""Tabulate and draw how well the probabilities of a report's runs are calibrated, where that was measured."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from medpos.core.errors import InputError
from medpos.core.labels import ALL_CLASSES, labels_of, title
from medpos.metrics import summarize
from medpos.plotting.reliability import draw_reliability
from medpos.plotting.style import Drawing
from medpos.report.sources import Run, add_run, as_numbers, clean_rows, read_rows
from medpos.report.tables import Table, count_cell, number_cell, organ_cell, slug, stated_cell, text_cell
from medpos.runs import files
from medpos.runs.calibration import CALIBRATION_COLUMNS, RELIABILITY_COLUMNS
from medpos.runs.text import SCORE_TITLES
from medpos.statistics.grid import CONDITION
from medpos.transforms.naming import condition_title
from medpos.trust.calibration import EXPECTED, LIMITS, SCORES, SIZES
from medpos.trust.failure import FAILED_BELOW, LEAST, score_failures

_IDENTITY = ["data", "split", "model", "seed"]
_MOST_DRAWN = 12  # organs whose panels are readable
_MEANS = ("probability", "frequency")
_NOTE = (
    "mean ± sd over cases and seeds, 0 is best. ECE, MCE: mean and greatest difference of probability and frequency "
    "over 15 bins of equal numbers of pixels, among those with a probability of 0.01 or more; Brier: mean squared "
    "difference; NLL: mean negative logarithm of the probability of the truth. The interval of an organ's size reaches "
    "from the pixels with a probability of 0.95 to those with 0.05: share of cases whose true size lies in it (0.90 is "
    "best), and its width over the true size"
)


_STATED = {
    "auroc": "AUROC",
    "excess_aurc": "excess AURC",
    "aurc": "AURC",
    "correlation": "rank correlation",
}
_FAILURE_NOTE = (
    "The expected Dice comes from the probabilities alone, without the truth. A failure is a Dice below "
    f"{FAILED_BELOW}. AUROC: how likely a failure has a lower expectation than another case, 0.5 is chance; AURC: mean "
    "of 1 - Dice over the best cases by expectation, of 1 case to all; excess: how much of it a perfect order would "
    f"save, 0 is best; none is stated of fewer than {LEAST} cases. Cases of all seeds together"
)


def collect_calibration(runs: Sequence[Run]) -> pd.DataFrame:
    """Collect the scores of every case once; runs of earlier versions have none.

    Returns:
        Long table with the columns ``data``, ``model``, ``seed`` (-1 where it is not recorded), ``run``,
        ``evaluation`` and those of ``calibration.csv``.

    Raises:
        InputError: a file is malformed.
    """
    return _collect(runs, files.CALIBRATION, CALIBRATION_COLUMNS, LIMITS, ["case"])


def collect_reliability(runs: Sequence[Run]) -> pd.DataFrame:
    """Collect the points of every reliability diagram once; as :func:`collect_calibration`."""
    limits = {"low": (0.0, 1.0), "high": (0.0, 1.0), "pixels": (0.0, 2.0**53)}
    limits |= dict.fromkeys(_MEANS, (0.0, 1.0))
    return _collect(runs, files.RELIABILITY, RELIABILITY_COLUMNS, limits, ["low"])


def _collect(
    runs: Sequence[Run], name: str, columns: Sequence[str], limits: Mapping[str, tuple[float, float]], key: list[str]
) -> pd.DataFrame:
    found = ((run, part, part.folder / name) for run in runs for part in run.pooled)
    parts = [
        add_run(_read(path, columns, limits), run, part).assign(split=part.split)
        for run, part, path in found
        if path.is_file()
    ]
    kept = list(dict.fromkeys([*_IDENTITY, "run", "evaluation", *columns]))
    if not parts:
        return pd.DataFrame(columns=kept)
    # An evaluation under many conditions measures the clean images again.
    same = [*_IDENTITY, *CONDITION, "organ", *key]
    return pd.concat(parts, ignore_index=True).drop_duplicates(same, ignore_index=True)[kept]


def _read(path: Path, columns: Sequence[str], limits: Mapping[str, tuple[float, float]]) -> pd.DataFrame:
    table = as_numbers(read_rows(path, columns), [*limits], path)
    for name, (low, high) in limits.items():
        if not (table[name].between(low, high) | table[name].isna()).all():
            raise InputError(f"{path}: {name}: expected numbers from {low:g} to {high:g}, got others; evaluate again")
    return table


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


def tabulate_failures(rows: pd.DataFrame, metrics: pd.DataFrame) -> Table:
    """Tabulate how well the expected Dice of every model tells which predictions are bad, under every condition.

    Args:
        rows: table from :func:`collect_calibration`.
        metrics: long table of the metrics per case.
    """
    # Not by the evaluation: that of an earlier version has the Dice under a condition, a later one the probabilities.
    same = [*_IDENTITY, "run", "case", *CONDITION, "organ"]
    rows = rows.merge(metrics[[*same, "dice"]], on=same, validate="one_to_one")
    keys = ["data", "split", "model", *CONDITION, "organ"]
    labels, shown, records = labels_of(rows["organ"].unique()), [], []
    for key, part in rows.groupby(keys, sort=False):
        place: dict[str, Any] = dict(zip(keys, key, strict=True))
        found = score_failures(part[EXPECTED].tolist(), part["dice"].tolist())
        split = "" if place["split"] == "test" else f", {place['split']}"
        shown.append(
            (
                organ_cell(place["organ"], labels),
                text_cell(f"{place['data']}{split}"),
                text_cell(place["model"]),
                text_cell(condition_title(*(place[column] for column in CONDITION))),
                *(number_cell(found[name]) for name in ("expected", "dice")),
                *(stated_cell(found[name], found["n"]) for name in _STATED),
                *map(count_cell, (found["failures"], found["n"])),
            )
        )
        records.append({**place, **found})
    head = ("organ", "data", "model", "condition", "expected Dice", "Dice", *_STATED.values(), "failures", "n")
    caption = "Expected Dice against Dice"
    return Table("failures", caption, _FAILURE_NOTE, head, tuple(shown), pd.DataFrame(records))


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
        if len(diagrams) <= _MOST_DRAWN:
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
