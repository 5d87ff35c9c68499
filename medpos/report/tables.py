"""Make the tables of a report, for the page and as CSV: organs and conditions."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import pandas as pd

from medpos.core.labels import MEAN_OF_ORGANS, Label, labels_of
from medpos.core.labels import title as organ_title
from medpos.core.rules import is_finite
from medpos.metrics import SHOWN, limits_of, summarize
from medpos.report.sources import Run, clean_rows
from medpos.runs.tables import summarize_conditions
from medpos.runs.text import TITLES
from medpos.transforms.naming import condition_title
from medpos.trust.failure import LEAST

_COLUMNS = (*SHOWN, "surface_dice")
_SPREAD = "mean ± sd over cases; 95 % interval of the mean over subjects (t)"
_COUNTS = (
    "n: cases measured, times seeds; missing: organ in neither truth nor prediction; inf: organ in only one of the "
    "two, left out of the mean distance; in the median they rank last"
)


@dataclass(frozen=True)
class Cell:
    """Hold one cell: its text, its sorting key (number or text), and the color of the organ that it names, if any."""

    text: str
    sort: float | str = ""
    color: str = ""


@dataclass(frozen=True, eq=False)
class Table:
    """Hold one table.

    Args:
        name: stem of its CSV file.
        title: caption.
        note: explanation of the numbers.
        columns: titles of the columns.
        rows: cells of each row; the first one heads the row.
        frame: the numbers in full precision.
    """

    name: str
    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    frame: pd.DataFrame = field(default_factory=pd.DataFrame)

    @cached_property
    def numeric(self) -> tuple[bool, ...]:
        """Whether each column holds numbers, which are aligned to the right."""
        return tuple(any(isinstance(row[n].sort, float) for row in self.rows) for n in range(len(self.columns)))


def fold_constants(table: Table, *names: str) -> Table:
    """Move columns that say the same in every row from the shown table into its caption; its CSV keeps them.

    Args:
        table: the table.
        names: titles of the columns that may be moved.
    """
    same = {
        name: cells.pop()
        for n, name in enumerate(table.columns)
        if name in names and len(cells := {row[n].text for row in table.rows}) == 1
    }
    kept = [n for n, name in enumerate(table.columns) if name not in same]
    return replace(
        table,
        title="; ".join((table.title, *(f"{name}: {text}" for name, text in same.items()))),
        columns=tuple(table.columns[n] for n in kept),
        rows=tuple(tuple(row[n] for n in kept) for row in table.rows),
    )


def number_cell(value: Any, digits: int = 3, spread: Any = None) -> Cell:
    """Format a number, with its spread where there is one; a missing or infinite one reads ``-`` and is sorted last."""
    if not is_finite(value):
        return Cell("-", math.inf)
    text = f"{float(value):.{digits}f}"
    return Cell(f"{text} ± {float(spread):.{digits}f}" if is_finite(spread) else text, float(value))


def stated_cell(value: Any, n: Any, digits: int = 3) -> Cell:
    """Format a statistic that is stated of :data:`medpos.trust.failure.LEAST` values or more; of fewer, say so."""
    return Cell(f"n < {LEAST}", math.inf) if is_finite(n) and n < LEAST else number_cell(value, digits)


def interval_cell(ends: Any, digits: int = 3) -> Cell:
    """Format a 95 % interval, sorted by its lower end."""
    if not (isinstance(ends, Sequence) and len(ends) == 2 and all(map(is_finite, ends))):
        return Cell("-", math.inf)
    return Cell(f"{ends[0]:.{digits}f} to {ends[1]:.{digits}f}", float(ends[0]))


def count_cell(value: Any) -> Cell:
    """Format a whole number; a missing one reads ``-``."""
    return Cell(str(int(value)), float(value)) if is_finite(value) else Cell("-", math.inf)


def text_cell(value: Any) -> Cell:
    """Format any value as text; a number is sorted as a number."""
    if is_finite(value):
        return Cell(f"{value:.4g}" if isinstance(value, float) else str(value), float(value))
    shown = "-" if value is None else str(value)
    return Cell(shown, shown)


def organ_cell(name: str, labels: Iterable[Label] = ()) -> Cell:
    """Make the cell of an organ with its color."""
    color = next((label.color for label in labels if label.name == name), "")
    return Cell(organ_title(name), organ_title(name), color)


def tabulate_organs(table: pd.DataFrame, is_native: bool = False) -> Table:
    """Tabulate every metric per model and organ on clean images.

    Args:
        table: long table from :meth:`medpos.report.sources.Sources.table`.
        is_native: whether it was measured on the grid of the images, rather than on the network's.
    """
    rows, records = [], []
    for (data, split, model), part in clean_rows(table).groupby(["data", "split", "model"], sort=False):
        labels = labels_of(part["organ"])
        identity = {"data": data, "split": split, "model": model}
        counts = {
            "seeds": part["seed"].nunique(),
            "subjects": part["subject"].nunique(),
            "cases": part["case"].nunique(),
        }
        # Every seed measures every case.
        measured = part.assign(case=part["case"] + "\n" + part["seed"].astype(str))
        [found] = summarize_conditions(measured.to_dict("records"))  # type: ignore[arg-type]
        organs_found = {**found["organs"], MEAN_OF_ORGANS: {"dice": found["mean_foreground_dice"]}}
        for name, metrics in organs_found.items():
            rows.append(_organ_row(identity, counts, organ_cell(name, labels), metrics))
            records.append({**identity, "organ": name, **counts, **_flat(metrics)})
    metrics_titles = [TITLES[metric] for metric in _COLUMNS]
    return Table(
        "organs_native" if is_native else "organs",
        f"Metrics per organ, clean images{', on the grid of the images' if is_native else ''}",
        f"{_SPREAD}; {_COUNTS}",
        (
            *("organ", "data", "model", metrics_titles[0], "95 % interval", *metrics_titles[1:]),
            *("median HD95 mm", "n", "missing", "inf", "seeds", "subjects"),
        ),
        tuple(rows),
        pd.DataFrame(records),
    )


def _organ_row(
    identity: Mapping[str, Any], counts: Mapping[str, int], name: Cell, metrics: Mapping[str, Any]
) -> tuple[Cell, ...]:
    dice = metrics["dice"]
    cells = [
        number_cell(metrics[m]["mean"], 1 if m.endswith("_mm") else 3, metrics[m]["sd"])
        if m in metrics
        else Cell("", math.inf)
        for m in _COLUMNS
    ]
    infinite = metrics["hd95_mm"]["infinite"] if "hd95_mm" in metrics else None
    numbers = map(count_cell, (dice["n"], dice["missing"], infinite, counts["seeds"], counts["subjects"]))
    split = "" if identity["split"] == "test" else f", {identity['split']}"
    data = text_cell(f"{identity['data']}{split}")
    median = _median_cell(metrics["hd95_mm"]) if "hd95_mm" in metrics else Cell("", math.inf)
    model = text_cell(identity["model"])
    return (name, data, model, cells[0], interval_cell(dice["ci95"]), *cells[1:], median, *numbers)


def _median_cell(values: Mapping[str, Any]) -> Cell:
    """Format the median of distances, in which infinite ones rank last."""
    is_infinite = values["median"] is None and values["infinite"]
    return Cell("inf", math.inf) if is_infinite else number_cell(values["median"], 1)


def _flat(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Flatten statistics to columns: ``dice_mean``, ``dice_low`` and so on."""
    out: dict[str, Any] = {}
    for metric, values in metrics.items():
        low, high = values["ci95"] or (None, None)
        entry = {"mean": values["mean"], "sd": values["sd"], "low": low, "high": high, "n": values["n"]}
        entry["median"] = values["median"]
        out |= {f"{metric}_{key}": value for key, value in entry.items()}
        out |= {f"{metric}_{key}": values[key] for key in ("missing", "infinite")}
    return out


def tabulate_conditions(table: pd.DataFrame) -> list[Table]:
    """Tabulate mean Dice under every condition, one table per data set with more than clean images."""
    return [
        _condition_table(str(data), part)
        for data, part in table.groupby("data", sort=False)
        if len(part) > len(clean_rows(part))
    ]


def _condition_table(data: str, table: pd.DataFrame) -> Table:
    labels = labels_of(table["organ"])[1:]
    rows, records = [], []
    for key, part in table.groupby(["model", "degradation", "severity", "shift"], sort=False):
        model, degradation, severity, shift = key
        cells = []
        for label in labels:
            dice = part.loc[part["organ"] == label.name]
            found = summarize(dice["dice"].to_numpy(), dice["subject"].tolist(), limits_of("dice"))
            cells.append(number_cell(found["mean"], 3, found["sd"]))
            place = {"data": data, "model": model, "degradation": degradation, "severity": severity, "shift": shift}
            records.append({**place, "organ": label.name, **_flat({"dice": found})})
        name = condition_title(str(degradation), int(str(severity)), str(shift))
        rows.append((Cell(name, name), text_cell(model), *cells))
    return Table(
        f"conditions_{slug(data)}",
        f"Dice under every condition, {data}",
        "mean ± sd over cases and seeds",
        ("condition", "model", *(label.title for label in labels)),
        tuple(rows),
        pd.DataFrame(records),
    )


def tabulate_external(runs: Sequence[Run]) -> Table:
    """Tabulate mean Dice per organ and condition of each evaluation with other data or settings than its run's test."""
    rows, records = [], []
    for run, evaluation in ((of, external) for of in runs for external in of.external):
        for found in summarize_conditions(evaluation.table.to_dict("records")):  # type: ignore[arg-type]
            condition = condition_title(found["degradation"], int(found["severity"]), found["shift"])
            dice = {name: metrics["dice"] for name, metrics in found["organs"].items()}
            for organ, values in {**dice, MEAN_OF_ORGANS: found["mean_foreground_dice"]}.items():
                subjects = evaluation.table["subject"].nunique()
                place = {
                    "model": run.model,
                    "seed": run.seed,
                    "evaluation": evaluation.name,
                    "data": evaluation.data,
                    "differs in": ", ".join(evaluation.differs),
                    "condition": condition,
                }
                rows.append(
                    (
                        organ_cell(organ, evaluation.labels),
                        *map(text_cell, place.values()),
                        number_cell(values["mean"], 3, values["sd"]),
                        interval_cell(values["ci95"]),
                        *map(count_cell, (values["n"], values["missing"], subjects)),
                    )
                )
                records.append({**place, "organ": organ, **_flat({"dice": values}), "subjects": subjects})
    return Table(
        "external",
        "External evaluations",
        f"of the same trained models, on other data or with other settings; each by itself, never pooled; {_SPREAD}",
        (
            *("organ", "model", "seed", "evaluation", "data", "differs in", "condition", "Dice", "95 % interval"),
            *("n", "missing", "subjects"),
        ),
        tuple(rows),
        pd.DataFrame(records),
    )


def slug(name: str) -> str:
    """Convert a name for a file or an id: lower-case letters, digits and ``_``."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "unnamed"
