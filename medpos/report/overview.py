"""Say on the first screen of a report what was run, what was found, and what to beware of."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from medpos.core.labels import MEAN_OF_ORGANS, title
from medpos.core.rules import is_finite
from medpos.data.conditions import is_clean
from medpos.report.sources import Run, Sources, clean_rows
from medpos.runs import files
from medpos.runs.tables import summarize_conditions
from medpos.runs.text import PHANTOM_NOTE
from medpos.statistics.grid import CONDITION
from medpos.statistics.paired import SMALL
from medpos.transforms.naming import condition_title
from medpos.trust.failure import FAILED_BELOW

_MOST_MODELS = 3  # with a sentence of their own
_MOST_SEEDS = 6  # that are listed one by one


@dataclass(frozen=True)
class Caution:
    """Hold a reason to read the numbers with care: a head word and a sentence, and perhaps a list of details."""

    head: str
    text: str
    details: tuple[str, ...] = ()


def list_facts(sources: Sources) -> list[tuple[str, str]]:
    """List what was run, and on what: pairs of a name and a text."""
    runs = sources.runs
    if not runs:
        return []
    configs = [files.read_json(run.folder / files.CONFIG) for run in runs]
    epochs = sorted({config["max_epochs"] for config in configs if is_finite(config.get("max_epochs"))})
    seeds = sorted({run.seed for run in runs if run.seed is not None})
    commits = dict.fromkeys(str(e.environment["commit"]) for e in sources.evaluations if e.environment.get("commit"))
    started = sorted(str(e.environment["started"])[:10] for e in sources.evaluations if e.environment.get("started"))
    models = list(dict.fromkeys(run.model for run in runs))
    facts = [
        ("Model" if len(models) == 1 else "Models", _join_few(models, 4, "models")),
        ("Data", "; ".join(_describe_data(sources))),
        ("Trainings", f"{len(runs)}" if len(runs) > 1 else ""),
        ("Seeds" if len(seeds) > 1 else "Seed", _join_few(list(map(str, seeds)), _MOST_SEEDS, "seeds")),
        ("Epochs", " to ".join(str(n) for n in dict.fromkeys((epochs[0], epochs[-1]))) if epochs else ""),
        ("Commit", _join_few([f"{name[:10]}{'-dirty' * name.endswith('-dirty')}" for name in commits], 2, "commits")),
        ("Evaluated", " to ".join(dict.fromkeys((started[0], started[-1]))) if started else ""),
    ]
    return [(name, text) for name, text in facts if text]


def _describe_data(sources: Sources) -> Iterator[str]:
    found: dict[tuple[str, str, bool], list[pd.DataFrame]] = {}
    for run in sources.runs:
        for evaluation in run.pooled:
            found.setdefault((evaluation.data, evaluation.split, evaluation.phantom), []).append(evaluation.table)
    for (data, split, phantom), tables in found.items():
        cases, subjects = (len({name for table in tables for name in table[key]}) for key in ("case", "subject"))
        kind = "PHANTOMS" if phantom else "real images"
        yield f"{data} ({kind}), split {split}: {_count(cases, 'case')} of {_count(subjects, 'subject')}"


def _join_few(names: Sequence[str], most: int, noun: str) -> str:
    return ", ".join(names) if len(names) <= most else f"{len(names)} {noun}"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def write_sentences(table: pd.DataFrame) -> list[str]:
    """Say in plain words how good each model is; of many models, of the best and the worst one of each data set.

    Args:
        table: long table from :meth:`medpos.report.sources.Sources.table`.
    """
    sentences = []
    for _, part in table.groupby(["data", "split"], sort=False):
        models = {str(name): rows for name, rows in part.groupby("model", sort=False) if len(clean_rows(rows))}
        if len(models) > _MOST_MODELS:
            means = {name: clean_rows(rows)["dice"].mean() for name, rows in models.items()}
            ranked = sorted((name for name in models if is_finite(means[name])), key=lambda name: -means[name])
            ends = {f"The best of {len(models)} models": ranked[:1], "The worst": ranked[1:][-1:]}
            sentences += [
                f"{words}: {_sentence(name, models[name])}" for words, names in ends.items() for name in names
            ]
        else:
            sentences += [_sentence(name, rows) for name, rows in models.items()]
    return sentences


def _sentence(model: str, table: pd.DataFrame) -> str:
    clean = clean_rows(table)
    # Every seed measures every case.
    rows = clean.assign(case=clean["case"] + "\n" + clean["seed"].astype(str)).to_dict("records")
    [found] = summarize_conditions(rows)  # type: ignore[arg-type]
    organs = [_organ_words(name, metrics["dice"]) for name, metrics in found["organs"].items()]
    organs = [words.replace("95 % interval ", "") if n else words for n, words in enumerate(organs)]
    data = clean["data"].iloc[0]
    counts = f"{_count(clean['case'].nunique(), 'case')} of {_count(clean['subject'].nunique(), 'subject')} ({data})"
    failed, all_organs = int((clean["dice"] < FAILED_BELOW).sum()), int(clean["dice"].notna().sum())
    parts = [
        f"{model} found {_list(organs)} on {counts}.",
        f"{failed} of {_count(all_organs, 'organ')} had a Dice below {FAILED_BELOW}.",
        *_worst_words(table, found["mean_foreground_dice"]),
    ]
    return " ".join(parts)


def _organ_words(name: str, dice: dict[str, Any]) -> str:
    if dice["mean"] is None:
        return f"no {title(name)} to measure"
    interval = f" (95 % interval {dice['ci95'][0]:.2f} to {dice['ci95'][1]:.2f})" if dice["ci95"] else ""
    return f"the {title(name)} with a Dice of {dice['mean']:.2f}{interval}"


def _list(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _worst_words(table: pd.DataFrame, clean: dict[str, Any]) -> Iterator[str]:
    """Name the condition with the lowest mean Dice, where others than clean images were measured."""
    others = table[~is_clean(table)]
    cases = others.groupby([*CONDITION, "case", "seed"])["dice"].mean().reset_index()
    means = cases.groupby(list(CONDITION))["dice"].mean().dropna().reset_index().to_dict("records")
    if means and clean["mean"] is not None:
        worst = min(means, key=lambda row: row["dice"])
        words = condition_title(worst["degradation"], worst["severity"], worst["shift"])
        yield f"The {MEAN_OF_ORGANS} is {clean['mean']:.2f} on clean images, at worst {worst['dice']:.2f} ({words})."


def list_cautions(sources: Sources) -> list[Caution]:
    """List the reasons to read the numbers of a report with care."""
    return [*_warn_of_data(sources), *_warn_of_size(sources.runs), *_warn_of_runs(sources.runs)]


def note_phantoms(sources: Sources) -> str:
    """Say that data are phantoms; empty where all are real."""
    mixed = "" if sources.all_phantom else " Some of the data are real: see the table of runs."
    return f"{PHANTOM_NOTE}.{mixed}" if sources.phantom else ""


def _warn_of_data(sources: Sources) -> Iterator[Caution]:
    if note := note_phantoms(sources):
        head, text = note.split(": ", 1)
        yield Caution(head, text)
    if sources.nominal_spacing:
        yield Caution(
            "NOMINAL SPACING",
            "the true pixel size of some of these data is not known; distances, areas and volumes are nominal.",
        )
    for data, lines in sources.warnings.items():
        yield Caution(f"Implausible in {data}", f"{_count(len(lines), 'remark')} of its preparation.", tuple(lines))


def _warn_of_size(runs: Sequence[Run]) -> Iterator[Caution]:
    subjects: dict[str, set[str]] = {}
    for run in runs:
        subjects.setdefault(run.data, set()).update(name for part in run.pooled for name in part.table["subject"])
    for data, names in subjects.items():
        if len(names) < SMALL:
            yield Caution(
                "Few subjects", f"{data} has {len(names)}, fewer than {SMALL}: read the intervals, not the means."
            )
    if runs and len({run.seed for run in runs}) == 1:
        yield Caution("One seed", "how much another training would differ was not measured.")


def _warn_of_runs(runs: Sequence[Run]) -> Iterator[Caution]:
    without = [run for run in runs if not (run.folder / files.DETECTORS).is_file()]
    if without:
        those = "this run" if len(runs) == 1 else f"{len(without)} of {len(runs)} runs"
        yield Caution(
            "No detectors",
            f"{those} can't say whether an image is unlike the training images, so predictions have no light; run "
            f"python -m medpos calibrate {os.path.normpath(without[0].folder)}.",
        )
    if any(str(e.environment.get("commit", "")).endswith("-dirty") for run in runs for e in run.evaluations):
        yield Caution("Uncommitted changes", "the code of some of these results is in no commit.")
