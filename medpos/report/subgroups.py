"""Tabulate the Dice of subgroups in a report's runs, where they have any."""

from collections.abc import Sequence

import pandas as pd

from medpos.core.labels import labels_of
from medpos.metrics import limits_of
from medpos.report.sources import Run, add_run, as_numbers, read_rows
from medpos.report.tables import Table, count_cell, interval_cell, number_cell, organ_cell, text_cell
from medpos.runs import files
from medpos.runs.subgroups import COLUMNS, TITLES, summarize_subgroups

_KEY = ["data", "split", "model", "seed", "case", "by", "subgroup", "organ"]


def collect_subgroups(runs: Sequence[Run]) -> pd.DataFrame:
    """Collect the rows of ``subgroups.csv`` once; evaluations of earlier versions have none.

    Returns:
        Long table with the columns ``data``, ``model``, ``seed`` (-1 where it is not recorded), ``run``,
        ``evaluation`` and those of ``subgroups.csv``.

    Raises:
        InputError: a file is malformed.
    """
    parts = [
        add_run(as_numbers(read_rows(path, COLUMNS), ["dice"], path, limits_of), run, evaluation)
        for run in runs
        for evaluation in run.pooled
        if (path := evaluation.folder / files.SUBGROUPS).is_file()
    ]
    if not parts:
        return pd.DataFrame(columns=["run", "evaluation", *_KEY, "dice"])
    return pd.concat(parts, ignore_index=True).drop_duplicates(_KEY, ignore_index=True)


def tabulate_subgroups(rows: pd.DataFrame) -> Table:
    """Tabulate the Dice of each subgroup and organ of every model.

    Args:
        rows: table from :func:`collect_subgroups`.
    """
    shown, records = [], []
    for (data, split, model), part in rows.groupby(["data", "split", "model"], sort=False):
        labels = labels_of(part["organ"])
        for found in summarize_subgroups(part.to_dict("records")):  # type: ignore[arg-type]
            name = str(data) if split == "test" else f"{data}, {split}"
            by = TITLES[found["by"]]
            shown.append(
                (
                    text_cell(found["subgroup"]),
                    *map(text_cell, (by, name, model)),
                    organ_cell(found["organ"], labels),
                    number_cell(found["mean"], 3, found["sd"]),
                    interval_cell(found["ci95"]),
                    *map(count_cell, (found["n"], found["missing"], found["subjects"])),
                )
            )
            low, high = found["ci95"] or (None, None)
            numbers = {key: value for key, value in found.items() if key != "ci95"}
            records.append({"data": data, "split": split, "model": model, **numbers, "low": low, "high": high})
    return Table(
        "subgroups",
        "Dice by subgroup, clean images",
        "mean ± sd over cases and seeds; 95 % interval of the mean over subjects (t); exploratory; levels: thirds of "
        "the slices with the heart, from the base; pathology and other groups as dataset.json names them",
        ("subgroup", "by", "data", "model", "organ", "Dice", "95 % interval", "n", "missing", "subjects"),
        tuple(shown),
        pd.DataFrame(records),
    )
