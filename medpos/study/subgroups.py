"""Collect and tabulate the Dice of subgroups in a study: of every model, and of the differences between models."""

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from medpos.core.labels import MEAN_OF_ORGANS
from medpos.data.conditions import CLEAN
from medpos.runs import files
from medpos.runs.subgroups import COLUMNS, TITLES
from medpos.statistics.effects import compare_models, summarize_over_seeds
from medpos.study.models import Model, read_rows

_KEYS = ["data", "by", "subgroup"]


def collect_subgroups(trained: Sequence[Model]) -> pd.DataFrame:
    """Collect the rows of ``subgroups.csv`` of trained models; runs of earlier versions have none.

    Returns:
        One row per data set, model, seed, case, subgroup and organ. Where all cases of a data set are in one subgroup
        there are none.
    """
    rows = [
        {"data": model.data, "model": model.variant, "seed": model.seed, **row}
        for model in trained
        for row in read_rows(model.folder(), model.config, [CLEAN], files.SUBGROUPS)
    ]
    table = pd.DataFrame(rows, columns=["data", "model", "seed", *COLUMNS]).astype({"severity": int, "dice": float})
    counts = table.groupby(["data", "by"])["subgroup"].transform("nunique")
    found: pd.DataFrame = table[counts > 1]
    return found


def summarize_subgroups(table: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Summarize the Dice of each subgroup over cases and seeds, for the models and for differences of models.

    Args:
        table: table from :func:`collect_subgroups`.
        pairs: pairs of models a, b for the differences a - b.

    Returns:
        One row per data set, subgroup, organ and model or difference (``a - b``): ``data``, ``by``, ``subgroup``,
        ``model``, ``organ``, ``mean``, ``ci95_low``, ``ci95_high``, ``n``, ``subjects``, ``seeds``.
    """
    kept = [*_KEYS, "model", "organ", "mean", "ci95_low", "ci95_high", "n", "subjects", "seeds"]
    parts = [
        found.assign(**dict(zip(_KEYS, map(str, key), strict=True)))[kept]
        for key, part in table.groupby(_KEYS, sort=False)
        for found in (summarize_over_seeds(part), *_differences(part, pairs))
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=kept)


def _differences(part: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> Iterator[pd.DataFrame]:
    known = set(part["model"])
    for a, b in (pair for pair in pairs if known.issuperset(pair)):
        names = {"mean_difference": "mean", "seeds_a": "seeds"}
        yield compare_models(part, a, b).rename(columns=names).assign(model=f"{a} - {b}")


def tabulate_subgroups(found: pd.DataFrame) -> list[dict[str, Any]]:
    """Tabulate the mean Dice of organs of each subgroup, a table for each data set and each way to form subgroups.

    Args:
        found: table from :func:`summarize_subgroups`.
    """
    out = []
    mean = found[found["organ"] == MEAN_OF_ORGANS]
    for (data, by), rows in mean.groupby(["data", "by"], sort=False):
        cells = [
            [row.model, row.subgroup, f"{row.mean:.3f}", _interval(row), row.n, row.subjects, row.seeds]
            for _, part in rows.groupby("model", sort=False)
            for row in part.itertuples()
        ]
        out.append(
            {
                "title": f"{data}: mean Dice of organs by {TITLES[str(by)]}",
                "note": "clean test images; 95 % interval over subjects and seeds (t); differences are matched by case "
                "and seed; exploratory, without a correction; subgroups.csv has the organs",
                "columns": ["model", TITLES[str(by)], "Dice", "95 % interval", "cases", "subjects", "seeds"],
                "rows": cells,
            }
        )
    return out


def _interval(row: Any) -> str:
    return "-" if pd.isna(row.ci95_low) else f"{row.ci95_low:.3f} to {row.ci95_high:.3f}"
