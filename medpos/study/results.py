"""Write the results of a study: a table of all cases, summaries, comparisons, figures and ``study.json``."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medpos.core.files import write_frame, write_json
from medpos.plotting.style import Drawing, save_figure
from medpos.runs import files
from medpos.runs.cases import CaseView, load_cases
from medpos.runs.environment import commit
from medpos.runs.identity import TESTS
from medpos.statistics import verdict
from medpos.statistics.criteria import ALARM, DICE_LOST
from medpos.statistics.effects import compare_models, summarize_over_seeds
from medpos.statistics.verdict import Finding
from medpos.study import figures, forest, images, models, subgroups, tables, tensorboard, variance
from medpos.study.collecting import collect
from medpos.study.declaration import Study, is_moved
from medpos.study.figures import Maps
from medpos.study.images import ImageMeasures
from medpos.study.models import Model
from medpos.study.plan import Plan, Planner
from medpos.transforms.naming import condition_title

# Strengths of the position channels in the paper's figure 2.
ALPHAS = (1.0, 3.0, 10.0, 30.0, 100.0)
METHOD = (
    "values matched by case, organ, condition and seed; mean over seeds of the mean over cases; t interval whose "
    "variance has a part of the subjects and one of the seeds (with one seed, of the subjects alone: it then holds for "
    "this training); p-value of its distance from the nearest end of the range, two-sided"
)
OUT_OF_FOLD = (
    "each subject is tested once, by models that were trained without the subjects of its fold, and the tests of all "
    "folds are one test set; the training sets of the folds overlap, so an interval over subjects holds for these folds"
)


def write(study: Study, planner: Planner, found: Sequence[Model], out: Path, about: dict[str, Any]) -> dict[str, Any]:
    """Write the tables and figures of a study and ``study.json``.

    Args:
        study: declaration of the study.
        planner: planner of the study.
        found: models of the study.
        out: folder for the results.
        about: ``command``, ``failed``, ``created``, and ``left``, the number of jobs that are left.

    Returns:
        Content of ``study.json``.
    """
    table = collect(planner, found)
    write_frame(out / "per_case.csv", table)
    measured = _measure_images(study, planner)
    findings = _find(study, table, measured)
    spread = summarize_over_seeds(table) if len(table) else pd.DataFrame()
    comparisons = _compare(table, study)
    noticed = _summarize_noticed(table, study)
    parts = variance.decompose(table, study)
    trained = [model for model in found if files.Run(model.folder()).is_trained]
    by_subgroup = subgroups.summarize_subgroups(subgroups.collect_subgroups(trained), _pairs(study))
    write_frame(out / "summary.csv", spread)
    write_frame(out / "comparisons.csv", comparisons)
    for name, optional in (("variance", parts), ("subgroups", by_subgroup)):
        if len(optional):
            write_frame(out / f"{name}.csv", optional)
    content = {
        "name": study.name,
        "title": study.title,
        "paper": study.paper,
        "claim": study.claim,
        "verdict": verdict.overall_verdict(findings),
        "criteria": [finding.to_json() for finding in findings],
        "design": describe_design(findings, study.folds),
        **_describe_data(trained, table, measured),
        "models": [_describe_model(model, out) for model in trained],
        "published": list(study.published),
        "comparisons": [_comparison_entry(row) for row in _records(comparisons)],
        "tables": [
            *tables.choice_tables(planner.choices()),
            *tables.dice_tables(spread),
            *(tables.noticed_tables(*noticed) if noticed else []),
            *variance.tabulate(parts),
            *subgroups.tabulate_subgroups(by_subgroup),
            *_slice_tables(trained),
        ],
        "figures": _save(
            [
                *_draw(study, findings, spread, comparisons, trained, measured),
                *(figures.draw_noticed(study.figures, *noticed) if noticed else []),
                *variance.draw(parts),
            ],
            out / "figures",
        ),
        "commit": commit(),
        **about,
    }
    content["verdict_text"] = content["verdict"] + (" on phantoms" if content["phantom"] else "")
    tensorboard.write(trained, table, content["phantom"], out / files.TENSORBOARD)
    write_json(out / files.STUDY, content)
    return content


def is_written(planner: Planner, plan: Plan, out: Path) -> bool:
    """Tell whether a folder has the results of this very plan, so that nothing is left to do.

    Args:
        planner: planner of the study.
        plan: its plan.
        out: folder of the results.
    """
    path = out / files.STUDY
    if plan.jobs or not plan.models or not path.is_file():
        return False
    content = files.read_json(path)
    names = [criterion.text for criterion in planner.study.criteria]
    return (
        not content["failed"]
        and {model["identity"] for model in content["models"]} == {model.identity for model in plan.models}
        and set(names) == {finding["text"] for finding in content["criteria"]}
    )


def _summarize_noticed(table: pd.DataFrame, study: Study) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """Summarize alarms and Dice lost over seeds; None where the study has none."""
    own = table[~table["model"].map(is_moved).astype(bool)]
    if not (study.needs_lights and len(own)):
        return None
    return summarize_over_seeds(own, ALARM), summarize_over_seeds(own, DICE_LOST)


def _find(study: Study, table: pd.DataFrame, measured: Sequence[ImageMeasures]) -> list[Finding]:
    """Measure every criterion of the study on every data set that it declares, and decide."""
    findings = verdict.evaluate_criteria(table, study.criteria, study.declared)
    known = {(found.data, quantity): found for found in measured for quantity in found.quantities}
    for criterion in study.intensity_criteria:
        for data in [name for name in study.declared if criterion.data in ("", name)]:
            findings.append(
                images.evaluate_criterion(known[data, criterion.intensity], criterion)
                if (data, criterion.intensity) in known
                else verdict.not_measured(data, criterion, "the data set was not run")
            )
    return verdict.decide_family(findings)


def describe_design(findings: Sequence[Finding], folds: int = 0) -> dict[str, Any]:
    """Describe the family of tests, the method and the cross-validation, if it is one, for the page."""
    family = [finding for finding in findings if finding.criterion.role == "primary"]
    return {
        "family": len(family),
        "measured": sum(bool(finding.parts) for finding in family),
        "alpha": verdict.ALPHA,
        "first_step": verdict.ALPHA / len(family) if family else None,
        "method": METHOD,
        **({"validation": f"{folds}-fold cross-validation: {OUT_OF_FOLD}"} if folds else {}),
    }


def _measure_images(study: Study, planner: Planner) -> list[ImageMeasures]:
    """Measure the images of each data set for the figures that show images alone."""
    return [
        images.MEASURES[kind](data, *planner.bundle(data, data))
        for kind in study.figures
        if kind in images.MEASURES
        for data in study.data
    ]


def _draw(
    study: Study,
    findings: Sequence[Finding],
    spread: pd.DataFrame,
    comparisons: pd.DataFrame,
    trained: Sequence[Model],
    measured: Sequence[ImageMeasures],
) -> list[Drawing]:
    """Draw the study's figures: first the forest plot, then levels and differences."""
    drawings: list[Drawing] = forest.draw(findings)
    drawings += figures.draw(study.figures, spread) if len(spread) else []
    drawings += figures.draw_differences(study.figures, comparisons) if len(comparisons) else []
    if "changes" in study.figures:
        drawings += [figures.change_maps(maps, data, name) for data, name, maps in _changes(trained)]
    drawings += figures.draw_images(measured, ALPHAS)
    return drawings


def _save(drawings: Sequence[Drawing], folder: Path) -> list[dict[str, str]]:
    """Save figures, and return their names and texts."""
    for drawing in drawings:
        save_figure(drawing.figure, folder, drawing.name)
    return [{"name": d.name, "title": d.title, "alt": d.alt} for d in drawings]


def _changes(trained: Sequence[Model]) -> list[tuple[str, str, Maps]]:
    """Load the change maps of each data set's first model, averaged over its seeds."""
    first = {model.data: model.variant for model in reversed(trained)}
    found = []
    for data, variant in first.items():
        seeds = [m for m in trained if (m.data, m.variant) == (data, variant)]
        paths = [find_newest(m.folder(), files.CHANGES) for m in seeds]
        maps = [dict(np.load(path, allow_pickle=False)) for path in paths if path is not None]
        if maps:
            found.append((data, variant, {name: np.mean([m[name] for m in maps], axis=0) for name in maps[0]}))
    return found


def find_newest(run: Path, name: str) -> Path | None:
    """Find the newest file of this name in a run folder and its evaluations; None where there is none."""
    paths = [*run.glob(name), *run.glob(f"*/{name}")]
    return max(paths, key=lambda path: path.stat().st_mtime_ns, default=None)


def _slice_tables(trained: Sequence[Model]) -> list[dict[str, Any]]:
    found = []
    for data in dict.fromkeys(model.data for model in trained):
        of_data = [model for model in trained if model.data == data]
        labels = models.open_data_folder(of_data[0].config).labels
        cases: dict[str, dict[int, list[CaseView]]] = {}
        for model in of_data:
            if path := find_newest(model.folder(), files.CASES):
                cases.setdefault(model.variant, {}).setdefault(model.seed, []).extend(load_cases(path))
        by_model: dict[str, Sequence[Sequence[CaseView]]] = {
            name: list(seeds.values()) for name, seeds in cases.items()
        }
        found.append(tables.slice_table(data, labels, by_model))
    return [table for table in found if table is not None]


def _describe_data(trained: Sequence[Model], table: pd.DataFrame, measured: Sequence[ImageMeasures]) -> dict[str, Any]:
    entries = {}
    for found in measured:
        entries[found.data] = {
            "name": found.data,
            "phantom": found.phantom,
            "split": found.split,
            "subjects": len(next(iter(found.quantities.values()))),
            "cases": found.images,
        }
    for model in trained:
        rows = table[table["data"] == model.data]
        source = models.open_data_folder(model.config)
        entries[model.data] = {
            "name": model.data,
            "phantom": source.phantom,
            "nominal_spacing": source.nominal_spacing,
            "spacing": source.spacing_source,
            "split": f"test parts of {len(set(rows['fold']))} folds" if model.fold else "test",
            "subjects": int(rows["subject"].nunique()),
            "cases": int(rows["case"].nunique()),
            "sha256": model.config["data_sha256"],
        }
    return {
        "phantom": any(entry["phantom"] for entry in entries.values()),
        "nominal_spacing": any(entry.get("nominal_spacing") for entry in entries.values()),
        "data": list(entries.values()),
    }


def _describe_model(model: Model, out: Path) -> dict[str, Any]:
    return {
        "data": model.data,
        "model": model.variant,
        "seed": model.seed,
        **({"fold": model.fold} if model.fold else {}),
        "bundle": str(model.config["bundle_name"]),
        "run": os.path.relpath(model.folder(), out),
        "overrides": model.overrides,
        "chosen": model.chosen,
        "identity": model.identity,
        "tests": {key: model.config[key] for key in TESTS if key in model.config},
    }


def _compare(table: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Compare every pair of models in a criterion, at each condition and organ: exploratory, with intervals alone."""
    known = set(table["model"])
    parts = [
        compare_models(table, a, b).drop(columns="p").assign(a=a, b=b) for a, b in _pairs(study) if {a, b} <= known
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _pairs(study: Study) -> list[tuple[str, str]]:
    """List the pairs of models in the criteria of a study."""
    return list(dict.fromkeys((c.model, c.minus) for c in study.criteria if c.minus))


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Convert rows for JSON: NaN becomes None."""
    return [{str(k): _plain(v) for k, v in row.items()} for row in frame.to_dict("records")]


def _comparison_entry(row: dict[str, Any]) -> dict[str, Any]:
    """Convert one comparison for the page."""
    low, high = row.pop("ci95_low"), row.pop("ci95_high")
    condition = condition_title(row["degradation"], row["severity"], row["shift"])
    return {**row, "condition": condition, "ci95": None if low is None else [low, high]}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if value is None or (isinstance(value, float) and not pd.notna(value)):
        return None
    return value.item() if hasattr(value, "item") else value
