"""Make the tables of a study for ``study.json``: cells of text, one row per model or condition."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from medpos.core.labels import MEAN_OF_ORGANS, Label, title
from medpos.data.conditions import is_clean
from medpos.metrics import overlap
from medpos.runs.cases import CaseView
from medpos.statistics.grid import CONDITION, mean
from medpos.transforms.naming import condition_title

Content = dict[str, Any]


def dice_tables(spread: pd.DataFrame) -> list[Content]:
    """Tabulate Dice for each data set: models by organs on clean images, and conditions by models.

    Args:
        spread: table from :func:`medpos.statistics.effects.summarize_over_seeds`.
    """
    found: list[Content] = []
    for data in dict.fromkeys(spread["data"]) if len(spread) else []:
        rows = spread[spread["data"] == data]
        clean = rows[is_clean(rows)]
        found.append(_organ_table(data, clean))
        others = rows[(rows["organ"] == MEAN_OF_ORGANS) & ~is_clean(rows)]
        if len(others):
            found.append(_condition_table(data, rows[rows["organ"] == MEAN_OF_ORGANS]))
    return found


def _organ_table(data: str, clean: pd.DataFrame) -> Content:
    organs = [MEAN_OF_ORGANS, *(o for o in dict.fromkeys(clean["organ"]) if o != MEAN_OF_ORGANS)]
    rows = []
    for name in dict.fromkeys(clean["model"]):
        of_model = clean[clean["model"] == name].set_index("organ")
        head = of_model.loc[MEAN_OF_ORGANS]
        cells = [_cell(of_model.loc[organ]) if organ in of_model.index else "-" for organ in organs]
        spreads = [_root(head[f"variance_{part}"]) for part in ("seed", "case", "residual")]
        counts = [int(head[part]) for part in ("n", "subjects", "missing")]
        rows.append([name, int(head["seeds"]), *cells, _interval(head), *spreads, *counts])
    return {
        "title": f"{data}: Dice on clean test images",
        "note": "mean ± sd over seeds; 95 % interval of the mean of organs (t, subjects and seeds); "
        f"sd of seeds, of cases and left (residual): variance components of the mean of organs{_few(clean)}",
        "columns": [
            "model",
            "seeds",
            *(title(o) for o in organs),
            "95 % interval",
            "sd of seeds",
            "sd of cases",
            "sd left",
            "cases",
            "subjects",
            "missing",
        ],
        "rows": rows,
    }


def _condition_table(data: str, rows: pd.DataFrame) -> Content:
    names = list(dict.fromkeys(rows["model"]))
    keys = list(dict.fromkeys(zip(rows["degradation"], rows["severity"], rows["shift"], strict=True)))
    by_key = {(r["degradation"], r["severity"], r["shift"], r["model"]): r for _, r in rows.iterrows()}
    cells = [
        [condition_title(*key), *(_cell(by_key[(*key, n)]) if (*key, n) in by_key else "-" for n in names)]
        for key in keys
    ]
    return {
        "title": f"{data}: mean Dice of organs under each condition",
        "note": "mean ± sd over seeds",
        "columns": ["condition", *names],
        "rows": cells,
    }


def noticed_tables(alarms: pd.DataFrame, lost: pd.DataFrame) -> list[Content]:
    """Tabulate alarms and Dice lost for each data set, conditions by models.

    Args:
        alarms: table of ``alarm`` from :func:`medpos.statistics.effects.summarize_over_seeds`.
        lost: table of ``dice_lost``, likewise.
    """
    found: list[Content] = []
    shares, losses = (
        {tuple(row[name] for name in ("data", *CONDITION, "model")): _cell(row) for _, row in part.iterrows()}
        for part in (table[table["organ"] == MEAN_OF_ORGANS] for table in (alarms, lost))
    )
    for data in dict.fromkeys(alarms["data"]) if len(alarms) else []:
        names = [name for of, *_, name in shares if of == data]
        conditions = dict.fromkeys(key[:-1] for key in shares if key[0] == data)
        columns = [(name, what) for name in dict.fromkeys(names) for what in (shares, losses)]
        found.append(
            {
                "title": f"{data}: alarms and Dice lost under each condition",
                "note": "share of cases with an alarm; Dice of the clean images less the Dice; ± sd over seeds",
                "columns": ["condition", *(f"{n}: {'alarms' if w is shares else 'Dice lost'}" for n, w in columns)],
                "rows": [
                    [condition_title(*key[1:]), *(what.get((*key, name), "-") for name, what in columns)]
                    for key in conditions
                ],
            }
        )
    return found


def slice_table(data: str, labels: Sequence[Label], cases: dict[str, Sequence[Sequence[CaseView]]]) -> Content | None:
    """Tabulate Dice slice by slice, on clean images; None for data without volumes.

    Args:
        data: name of the data set.
        labels: the classes.
        cases: cases of each seed, by model.
    """
    rows = []
    for model, seeds in cases.items():
        dice = [_slice_dice(view, len(labels)) for view in seeds if view and view[0].truth.ndim == 3]
        if dice:
            means = np.array([mean(d, 0) for d in dice])
            lacking = np.isnan(dice).any(axis=0)  # [slices, organs]: the seeds have the same slices
            cells = [
                f"{m:.3f}" + (f" ± {s:.3f}" if len(dice) > 1 else "") for m, s in zip(*_mean_sd(means), strict=True)
            ]
            rows.append([model, len(dice), *cells, len(dice[0]), int(lacking.sum())])
    if not rows:
        return None
    return {
        "title": f"{data}: Dice slice by slice, on clean test images",
        "note": "mean ± sd over seeds of the mean over slices; a slice without the organ in truth and prediction is "
        "left out; missing: slices times organs that are left out at one seed or more, each counted once; the "
        "statistics of this study are over volumes",
        "columns": ["model", "seeds", *(label.title for label in labels[1:]), "slices", "missing"],
        "rows": rows,
    }


def _slice_dice(views: Sequence[CaseView], classes: int) -> Any:
    """Compute the Dice of every slice of every volume, [slices, organs]."""
    return np.array(
        [
            overlap(view.prediction[..., z], view.truth[..., z], classes)["dice"]
            for view in views
            for z in range(view.truth.shape[2])
        ]
    )


def _mean_sd(means: Any) -> tuple[Any, Any]:
    return means.mean(axis=0), means.std(axis=0, ddof=1) if len(means) > 1 else np.zeros(means.shape[1])


def choice_tables(rows: Sequence[tuple[str, str, str, Any, float, bool]]) -> list[Content]:
    """Tabulate the choices on the validation split; no table where there were none.

    Args:
        rows: data set, model, key, value, mean foreground Dice of the best epoch on the validation split, and whether
            the value was chosen, for each candidate.
    """
    if not rows:
        return []
    return [
        {
            "title": "Chosen on the validation split",
            "note": "mean foreground Dice of the best epoch, first seed; the best value is used for all seeds",
            "columns": ["data", "model", "key", "value", "validation Dice", "chosen"],
            "rows": [[*row[:4], f"{row[4]:.4f}", "yes" if row[5] else ""] for row in rows],
        }
    ]


def _few(rows: pd.DataFrame) -> str:
    return "; fewer than 20 subjects" if bool(rows["small"].any()) else ""


def _root(variance: Any) -> str:
    return "-" if pd.isna(variance) else f"{variance**0.5:.3f}"


def _cell(row: Any) -> str:
    if pd.isna(row["mean"]):
        return "-"
    return f"{row['mean']:.3f}" + ("" if pd.isna(row["sd"]) else f" ± {row['sd']:.3f}")


def _interval(row: Any) -> str:
    return "-" if pd.isna(row["ci95_low"]) else f"{row['ci95_low']:.3f} to {row['ci95_high']:.3f}"
