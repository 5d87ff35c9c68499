"""From finished models to what people read: one table of all cases, the study's tables, figures and ``study.json``."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from medpos.files import write_json, write_text
from medpos.labels import title
from medpos.metrics import METRICS
from medpos.runs import commit
from medpos.study import models, statistics, verdict
from medpos.study.declaration import Study
from medpos.study.models import Model
from medpos.study.plan import Planner

MEAN = "mean of organs"
_COLUMNS = ["data", "model", "seed", "case", "subject", "split", "degradation", "severity", "shift", "organ", *METRICS]


def collect(planner: Planner, found: Sequence[Model]) -> pd.DataFrame:
    """All rows of the models that are finished, under the study's conditions.

    Returns:
        One row per data set, model, seed, case, condition and organ; the columns of ``metrics.csv`` behind ``data``,
        ``model`` and ``seed``.
    """
    parts: list[dict[str, Any]] = []
    for model in found:
        run = model.folder()
        if models.is_trained(run):
            about = {"data": model.data, "model": model.variant, "seed": model.seed}
            parts += [{**about, **row} for row in models.rows(run, model.config, planner.conditions(model))]
    table = pd.DataFrame(parts, columns=_COLUMNS)
    return table.astype({"severity": int, "seed": int, **dict.fromkeys(METRICS, float)})


def write(study: Study, planner: Planner, found: Sequence[Model], out: Path, about: dict[str, Any]) -> dict[str, Any]:
    """Write tables, figures and ``study.json`` into ``out``; returns the content of the last.

    Args:
        study: as declared.
        planner: of the study.
        found: its models.
        out: folder of the study's results.
        about: ``command``, ``failed`` and ``created``.
    """
    table = collect(planner, found)
    write_text(out / "per_case.csv", table.to_csv(index=False))
    findings = verdict.find(table, study.criteria) if len(table) else []
    spread = statistics.over_seeds(table) if len(table) else pd.DataFrame()
    comparisons = _comparisons(table, study)
    write_text(out / "summary.csv", spread.to_csv(index=False))
    write_text(out / "comparisons.csv", comparisons.to_csv(index=False))
    trained = [model for model in found if models.is_trained(model.folder())]
    content = {
        "name": study.name,
        "title": study.title,
        "paper": study.paper,
        "claim": study.claim,
        "verdict": verdict.overall(findings) if findings else "undecided",
        "criteria": [finding.to_json() for finding in findings],
        **_data(trained, table),
        "models": [_model(model, out) for model in trained],
        "published": list(study.published),
        "comparisons": [_compared(row) for row in _records(comparisons)],
        "tables": _tables(study, spread),
        "figures": [],
        "commit": commit(),
        **about,
    }
    write_json(out / "study.json", content)
    return content


def _data(trained: Sequence[Model], table: pd.DataFrame) -> dict[str, Any]:
    entries = {}
    for model in trained:
        rows = table[table["data"] == model.data]
        source = models.data_folder(model.config)
        entries[model.data] = {
            "name": model.data,
            "phantom": source.phantom,
            "split": "test",
            "subjects": int(rows["subject"].nunique()),
            "cases": int(rows["case"].nunique()),
            "sha256": model.config["data_sha256"],
        }
    return {"phantom": any(e["phantom"] for e in entries.values()), "data": list(entries.values())}


def _model(model: Model, out: Path) -> dict[str, Any]:
    return {
        "data": model.data,
        "model": model.variant,
        "seed": model.seed,
        "bundle": str(model.config["bundle_name"]),
        "run": os.path.relpath(model.folder(), out),
        "overrides": model.overrides,
        "chosen": model.chosen,
        "identity": model.identity,
    }


def _comparisons(table: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Every pair of models that a criterion compares."""
    pairs = dict.fromkeys((c["model"], c["minus"]) for c in study.criteria if "minus" in c)
    there = set(table["model"])
    parts = [statistics.compare(table, a, b).assign(a=a, b=b) for a, b in pairs if {a, b} <= there]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON has them: no NaN."""
    return [{str(k): _plain(v) for k, v in row.items()} for row in frame.to_dict("records")]


def _compared(row: dict[str, Any]) -> dict[str, Any]:
    """One comparison as the page takes it."""
    low, high = row.pop("ci95_low"), row.pop("ci95_high")
    condition = " ".join(str(word) for word in _words((row["degradation"], row["severity"], row["shift"])))
    return {**row, "condition": condition, "ci95": None if low is None else [low, high]}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if value is None or (isinstance(value, float) and not pd.notna(value)):
        return None
    return value.item() if hasattr(value, "item") else value


def _tables(study: Study, spread: pd.DataFrame) -> list[dict[str, Any]]:
    """For each data set: models by organs on clean images, and models by conditions for the mean of organs."""
    tables: list[dict[str, Any]] = []
    for data in dict.fromkeys(spread["data"]) if len(spread) else []:
        rows = spread[spread["data"] == data]
        clean = rows[(rows["severity"] == 0) & (rows["shift"] == "0")]
        tables.append(_organs(data, clean))
        others = rows[(rows["organ"] == MEAN) & ~((rows["severity"] == 0) & (rows["shift"] == "0"))]
        if len(others):
            tables.append(_conditions(data, rows[rows["organ"] == MEAN]))
    return tables


def _organs(data: str, clean: pd.DataFrame) -> dict[str, Any]:
    organs = [MEAN, *(o for o in dict.fromkeys(clean["organ"]) if o != MEAN)]
    rows = []
    for name in dict.fromkeys(clean["model"]):
        of_model = clean[clean["model"] == name].set_index("organ")
        head = of_model.loc[MEAN]
        cells = [_cell(of_model.loc[organ]) if organ in of_model.index else "-" for organ in organs]
        rows.append([name, int(head["seeds"]), *cells, _interval(head), int(head["n"]), int(head["subjects"])])
    return {
        "title": f"{data}: Dice on clean test images",
        "note": "mean ± sd over seeds; 95 % bootstrap interval of the mean of organs, drawing subjects and seeds",
        "columns": ["model", "seeds", *(title(o) for o in organs), "95 % interval", "cases", "subjects"],
        "rows": rows,
    }


def _conditions(data: str, rows: pd.DataFrame) -> dict[str, Any]:
    names = list(dict.fromkeys(rows["model"]))
    keys = list(dict.fromkeys(zip(rows["degradation"], rows["severity"], rows["shift"], strict=True)))
    by_key = {(r["degradation"], r["severity"], r["shift"], r["model"]): r for _, r in rows.iterrows()}
    cells = [[*_words(key), *(_cell(by_key[(*key, n)]) if (*key, n) in by_key else "-" for n in names)] for key in keys]
    return {
        "title": f"{data}: mean Dice of organs under each condition",
        "note": "mean ± sd over seeds",
        "columns": ["degradation", "severity", "shift px", *names],
        "rows": cells,
    }


def _words(key: tuple[str, int, str]) -> tuple[str, int, str]:
    degradation, severity, shift = key
    return (degradation.replace("_", " ") if severity else "none"), int(severity), shift


def _cell(row: Any) -> str:
    if pd.isna(row["mean"]):
        return "-"
    return f"{row['mean']:.3f}" + ("" if pd.isna(row["sd"]) else f" ± {row['sd']:.3f}")


def _interval(row: Any) -> str:
    return "-" if pd.isna(row["ci95_low"]) else f"{row['ci95_low']:.3f} to {row['ci95_high']:.3f}"
