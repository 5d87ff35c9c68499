"""Write measurements as run folders that ``medpos report`` reads, and compare tools in pairs."""

import shutil
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table

from medpos.core.errors import InputError
from medpos.core.files import write_csv, write_frame, write_json, write_text
from medpos.core.labels import MEAN_OF_ORGANS, labels_of
from medpos.core.labels import title as organ_title
from medpos.core.lock import FolderLock
from medpos.core.text import as_text
from medpos.evaluate.measuring import SPLIT, Measured
from medpos.io.archives import FOLDER
from medpos.metrics import INTERVAL, METRICS
from medpos.runs import files
from medpos.runs.cases import save_cases
from medpos.runs.environment import environment
from medpos.runs.subgroups import COLUMNS as SUBGROUP_COLUMNS
from medpos.runs.subgroups import measure_subgroups, summarize_subgroups
from medpos.runs.tables import (
    COLUMNS,
    CONFUSION_COLUMNS,
    Confusions,
    Row,
    add_confusions,
    condition_key,
    summarize_conditions,
)
from medpos.runs.text import TITLES
from medpos.statistics.effects import adjust_primary, compare_models

COMPARISONS = "comparisons.csv"
# Marks a folder whose evaluation was killed, or goes on. The folder is emptied, so no other tool may use this name.
_UNFINISHED = ".medpos_evaluate_unfinished"
_SHOWN = ("dice", "hd95_mm")  # metrics of the printed comparison; the file has all


@dataclass(frozen=True)
class About:
    """Describe an evaluation.

    Args:
        data: name of the data set.
        phantom: whether the images are computed.
        nominal_spacing: whether the pixel sizes of some cases are unknown.
        reduced: names of the cases whose maps are kept with fewer pixels.
        settings: how it was done, for ``config.json``.
    """

    data: str
    phantom: bool
    nominal_spacing: bool
    reduced: Sequence[str]
    settings: Mapping[str, Any]


@contextmanager
def new_folder(out: Path) -> Iterator[None]:
    """Lock a folder that doesn't exist or is empty, as no result is overwritten, and empty it again if the block fails.

    A folder that a killed process has begun is emptied, and written again.

    Raises:
        InputError: it holds anything, or another process writes into it.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: expected a new or empty folder, got a file; choose another --out")
    with FolderLock(out, inside=True, other="choose another --out") as lock:
        kept, mark = {lock.path.name}, out / _UNFINISHED
        if mark.exists():
            _empty(out, kept)
        # The folder of a killed process may hold what its Unpacker left, which the next one removes.
        if any(path.name not in {*kept, FOLDER} for path in out.iterdir()):
            raise InputError(f"{out}: expected a new or empty folder, got one with files; choose another --out")
        try:
            write_text(mark, "")
            yield
            mark.unlink()
        except BaseException:  # Ctrl-C too
            _empty(out, kept)
            raise


def _empty(folder: Path, kept: Container[str]) -> None:
    """Remove what is in a folder, but for files of some names; the mark goes last, as this may be killed too."""
    for path in sorted(folder.iterdir(), key=lambda path: path.name == _UNFINISHED):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name not in kept:
            path.unlink(missing_ok=True)


def write_run(folder: Path, measured: Measured, about: About) -> dict[str, Any]:
    """Write the files of a run folder, ``summary.json`` last.

    Returns:
        Content of ``summary.json``.
    """
    rows = measured.rows
    confusions = Confusions(measured.classes, {condition_key(rows[0]): measured.confusion})
    write_csv(folder / files.METRICS, COLUMNS, rows)
    write_csv(folder / files.CONFUSION, CONFUSION_COLUMNS, confusions.rows)
    if measured.views:
        save_cases(measured.views, folder / files.CASES)
    subgroups = _measure_subgroups(measured, about)
    if subgroups:
        write_csv(folder / files.SUBGROUPS, SUBGROUP_COLUMNS, subgroups)
    write_json(folder / files.CONFIG, {"bundle_name": measured.tool.name, **about.settings})
    facts = environment("cpu", 0)
    del facts["seed"]  # nothing is known about the training of the tool
    write_json(folder / files.ENVIRONMENT, [facts])
    content = {
        "bundle": measured.tool.name,
        "data": about.data,
        "phantom": about.phantom,
        "nominal_spacing": about.nominal_spacing,
        "split": SPLIT,
        "subjects": len({row["subject"] for row in rows}),
        "cases": len({row["case"] for row in rows}),
        "interval": INTERVAL,
        "missing_predictions": measured.missing,
        "resampled": measured.resampled,
        "unplaced": measured.unplaced,
        "reduced_pictures": list(about.reduced) if measured.views else [],
        "conditions": add_confusions(summarize_conditions(rows), confusions),
        **({"subgroups": found} if (found := summarize_subgroups(subgroups)) else {}),
    }
    write_json(folder / files.SUMMARY, content)
    return content


def _measure_subgroups(measured: Measured, about: About) -> list[Row]:
    """Measure the phases, and the levels of hearts whose maps are kept whole."""
    entries = [{"case": view.case, "phase": view.phase} for view in measured.views]
    whole = [view for view in measured.views if view.case not in about.reduced]
    return measure_subgroups(measured.rows, entries, whole, labels_of(measured.classes[1:]))


def compare_tools(measured: Sequence[Measured], data: str) -> pd.DataFrame:
    """Compare every pair of tools on the same cases, for every metric.

    Args:
        measured: measurements of two or more tools.
        data: name of the data set.

    Returns:
        One row per pair, metric and organ: ``a``, ``b``, ``metric`` and the columns of
        :func:`medpos.statistics.effects.compare_models`; differences are a - b. The Dice of the mean of organs is
        primary: it alone has ``p``, and ``p_holm``, adjusted over the pairs. The rest is exploratory.
    """
    names = [part.tool.name for part in measured]
    table = pd.DataFrame(
        [{"data": data, "model": part.tool.name, "seed": 0, **row} for part in measured for row in part.rows]
    )
    parts = []
    for a, b in combinations(names, 2):
        for metric in METRICS:
            found = compare_models(table, a, b, metric).drop(columns=["seeds_a", "seeds_b"])
            parts.append(pd.DataFrame({"a": a, "b": b, "metric": metric}, index=found.index).join(found))
    whole = pd.concat(parts, ignore_index=True)
    return adjust_primary(whole, (whole["metric"] == "dice") & (whole["organ"] == MEAN_OF_ORGANS))


def write_comparisons(folder: Path, comparisons: pd.DataFrame) -> None:
    """Write ``comparisons.csv``."""
    write_frame(folder / COMPARISONS, comparisons)


def format_comparisons(comparisons: pd.DataFrame) -> str:
    """Format the differences of Dice and HD95 as text."""
    out = Table(title="pairs: a - b on the same cases", box=SIMPLE_HEAD, title_justify="left")
    for name in ("a", "b", "metric", "organ"):
        out.add_column(name, no_wrap=True)
    for name in ("a - b", "95 % interval", "p", "p (Holm)", "n", "missing", "inf"):
        out.add_column(name, justify="right", no_wrap=True)
    for row in comparisons[comparisons["metric"].isin(_SHOWN)].to_dict("records"):
        digits = 1 if row["metric"].endswith("_mm") else 3
        interval = [_number(row[key], digits, "+") for key in ("ci95_low", "ci95_high")]
        out.add_row(
            row["a"],
            row["b"],
            TITLES[row["metric"]],
            organ_title(row["organ"]),
            _number(row["mean_difference"], digits, "+"),
            "-" if "-" in interval else " to ".join(interval),
            *(_number(row[key], 3) for key in ("p", "p_holm")),
            *(str(row[key]) for key in ("n", "missing", "infinite")),
        )
    note = (
        "interval: t over subjects; p: Wilcoxon signed-rank test of the subjects' means, two-sided, from 6 subjects, "
        "for the Dice of the mean of organs alone; Holm: over the pairs\nabove 0: a has the higher Dice, or the "
        "greater distance"
    )
    return as_text(out, note, width=170)


def _number(value: Any, digits: int, sign: str = "") -> str:
    return "-" if pd.isna(value) else f"{value:{sign}.{digits}f}"
