"""Tabulate the paired comparisons of a report that no study declared: they explore, and decide nothing."""

from typing import Any

import pandas as pd

from medpos.core.labels import MEAN_OF_ORGANS
from medpos.core.rules import is_finite
from medpos.report.sources import Sources, clean_rows
from medpos.report.tables import (
    Cell,
    Table,
    count_cell,
    interval_cell,
    number_cell,
    organ_cell,
    stated_cell,
    text_cell,
)
from medpos.statistics.effects import adjust_primary, compare_models
from medpos.trust.failure import LEAST

_TESTS = ("p", "p_holm", "effect_size")
_COMPARED = (
    *("organ", "data", "a", "b", "condition", "difference in Dice", "95 % interval", "p", "p (Holm)", "effect size"),
    *("n", "subjects"),
)


def tabulate_comparisons(sources: Sources) -> Table:
    """Tabulate paired differences a - b, from the studies, and of other runs on one data set with the first of them."""
    entries = [e for study in sources.studies for e in study.content.get("comparisons", [])]
    in_study = {id(run) for study in sources.studies for run in study.runs}
    others = tuple(run for run in sources.runs if id(run) not in in_study)
    if others:
        entries += _compare_with_first(clean_rows(Sources(others, ()).table()))
    labels = [label for evaluation in sources.evaluations for label in evaluation.labels]
    rows = []
    for entry in entries:
        name = str(entry.get("organ", ""))
        rows.append(
            (
                organ_cell(name, labels),
                *(text_cell(entry.get(key)) for key in ("data", "a", "b", "condition")),
                number_cell(entry.get("mean_difference")),
                interval_cell(entry.get("ci95")),
                *(_probability(entry.get(key)) for key in ("p", "p_holm")),
                stated_cell(entry.get("effect_size"), entry.get("subjects"), 2),
                *(count_cell(entry.get(key)) for key in ("n", "subjects")),
            )
        )
    note = (
        "a - b, matched by case, organ and seed; above 0: a is better; interval: t over subjects and seeds; p: "
        "Wilcoxon signed-rank test of the subjects' means, two-sided, for the mean of organs alone, and of no pair of "
        "a study, which has criteria; Holm: over all p of this table; effect size: matched-pairs rank-biserial "
        f"correlation, from {LEAST} subjects on"
    )
    return Table("comparisons", "Exploratory comparisons", note, _COMPARED, tuple(rows), pd.DataFrame(entries))


def _probability(value: Any) -> Cell:
    return Cell("< 0.001", float(value)) if is_finite(value) and value < 0.001 else number_cell(value)


def _compare_with_first(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Compare the models of each data set with its first one, organ by organ, on the cases that both segmented."""
    parts = []
    for _, part in table.groupby(["data", "split"], sort=False):
        first, *others = dict.fromkeys(part["model"])
        parts += [compare_models(part, first, model).assign(a=first, b=model) for model in others]
    if not parts:
        return []
    whole = pd.concat(parts, ignore_index=True)
    entries = []
    for row in adjust_primary(whole, whole["organ"] == MEAN_OF_ORGANS).to_dict("records"):
        ends = [row["ci95_low"], row["ci95_high"]] if is_finite(row["ci95_low"]) else None
        found = {key: row[key] for key in ("data", "a", "b", "organ", "n", "subjects", "mean_difference", *_TESTS)}
        if row["n"]:
            entries.append({**found, "condition": "clean", "ci95": ends})
    return entries
