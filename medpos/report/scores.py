"""Tabulate the scores of a report's runs, where they have any."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from medpos.core.errors import InputError
from medpos.metrics import limits_of, summarize
from medpos.report.sources import Evaluation, Run, add_run, as_numbers, clean_rows, read_rows
from medpos.report.tables import Cell, Table, count_cell, interval_cell, number_cell, text_cell
from medpos.runs import files
from medpos.runs.tables import SCORE_COLUMNS
from medpos.runs.text import score_digits, score_title
from medpos.statistics.grid import CONDITION
from medpos.transforms.naming import condition_title

_CASES, _SET = "cases", "whole set"
_IDENTITY = ["data", "split", "model", "seed"]
_COLUMNS = ["data", "model", "seed", "run", "evaluation", *SCORE_COLUMNS, "over", "score", "value"]
# An evaluation under many conditions measures the clean images again.
_KEY = [*_IDENTITY, "case", *CONDITION, "over", "score"]


def collect_scores(runs: Sequence[Run]) -> pd.DataFrame:
    """Collect every value of every score once; values of a whole set have no case and no subject.

    Returns:
        Long table with the columns ``data``, ``model``, ``seed`` (-1 where it is not recorded), ``run``,
        ``evaluation``, those of ``scores.csv``, ``over`` (``cases`` or ``whole set``), ``score`` and ``value``.

    Raises:
        InputError: a file is malformed.
    """
    parts = [
        add_run(part, run, evaluation)
        for run in runs
        for evaluation in run.pooled
        for part in (_of_cases(evaluation.folder / files.SCORES), _of_sets(evaluation))
        if not part.empty
    ]
    if not parts:
        return pd.DataFrame(columns=_COLUMNS)
    return pd.concat(parts, ignore_index=True).drop_duplicates(_KEY, ignore_index=True)[_COLUMNS]


def _of_cases(path: Path) -> pd.DataFrame:
    if not path.is_file():
        return pd.DataFrame()
    table = read_rows(path, SCORE_COLUMNS)
    names = [name for name in table.columns if name not in SCORE_COLUMNS]
    table = as_numbers(table, names, path)
    return table.melt(list(SCORE_COLUMNS), names, "score", "value").assign(over=_CASES)


def _of_sets(evaluation: Evaluation) -> pd.DataFrame:
    path = evaluation.folder / files.SUMMARY
    rows = []
    conditions = files.read_json(path).get("conditions") or []
    try:
        if not (evaluation.folder / files.SCORES).is_file() and all("scores" not in entry for entry in conditions):
            return pd.DataFrame()  # of an earlier version
        for entry in conditions:
            place = {"case": "", "subject": "", "split": evaluation.split, **{key: entry[key] for key in CONDITION}}
            for name, value in entry["scores"]["set"].items():
                rows.append({**place, "score": name, "value": float("nan" if value is None else value)})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path}: expected the scores of the set under every condition, got others ({error!r}); evaluate again"
        ) from error
    return pd.DataFrame(rows, columns=[*SCORE_COLUMNS, "score", "value"]).assign(over=_SET)


def tabulate_scores(rows: pd.DataFrame) -> list[Table]:
    """Tabulate every score of every model on clean images and, where there are others, under every condition.

    Args:
        rows: table from :func:`collect_scores`.
    """
    clean = clean_rows(rows)
    tables = [_table("scores", "Scores, clean images", clean, False)]
    if len(rows) > len(clean):
        tables.append(_table("score_conditions", "Scores under every condition", rows, True))
    return tables


def _table(name: str, title: str, rows: pd.DataFrame, conditions: bool) -> Table:
    keys = ["data", "split", "model", *(CONDITION if conditions else ()), "over", "score"]
    shown, records = [], []
    for key, part in rows.groupby(keys, sort=False):
        place = dict(zip(keys, key, strict=True))
        # A set has no subject, and so no interval, because seeds are no sample of patients.
        found = summarize(part["value"].to_numpy(), part["subject"].tolist(), limits_of(place["score"]))
        low, high = found["ci95"] or (None, None)
        counts = {"seeds": part["seed"].nunique(), "subjects": part.loc[part["over"] == _CASES, "subject"].nunique()}
        shown.append(_row(place, found, {**counts, "subjects": counts["subjects"] or None}))
        records.append({**place, **{k: v for k, v in found.items() if k != "ci95"}, "low": low, "high": high, **counts})
    return Table(
        name,
        title,
        "over cases: mean ± sd over cases and seeds, 95 % interval of the mean over subjects (t); over the "
        "whole set: one value of all cases together, mean ± sd over seeds; mean IoU, class accuracy: over all "
        "classes, the background too; n: values measured; missing: nothing to measure",
        (
            *("score", "over", "data", "model", *(("condition",) if conditions else ())),
            *("value", "95 % interval", "n", "missing", "seeds", "subjects"),
        ),
        tuple(shown),
        pd.DataFrame(records),
    )


def _row(place: dict[str, Any], found: dict[str, Any], counts: dict[str, Any]) -> tuple[Cell, ...]:
    name, digits = score_title(place["score"]), score_digits(place["score"])
    split = "" if place["split"] == "test" else f", {place['split']}"
    condition = [condition_title(*(place[key] for key in CONDITION))] if "severity" in place else []
    return (
        Cell(name, name),
        *map(text_cell, (place["over"], f"{place['data']}{split}", place["model"], *condition)),
        number_cell(found["mean"], digits, found["sd"]),
        interval_cell(found["ci95"], digits),
        *map(count_cell, (found["n"], found["missing"], counts["seeds"], counts["subjects"])),
    )
