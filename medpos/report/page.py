"""Collect the content of the page."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from medpos.core.labels import Label, labels_of
from medpos.data.conditions import is_clean
from medpos.plotting.confusion import MOST
from medpos.plotting.style import Drawing
from medpos.report.browser import Browser
from medpos.report.calibration import (
    collect_calibration,
    collect_reliability,
    collect_scaling,
    draw_calibration,
    tabulate_calibration,
    tabulate_scaling,
)
from medpos.report.clinical import Index, tabulate_agreement, tabulate_categories
from medpos.report.comparisons import tabulate_comparisons
from medpos.report.confusion import (
    ModelConfusion,
    clean_confusions,
    collect_confusions,
    draw_confusions,
    tabulate_classes,
)
from medpos.report.failures import (
    collect_predicted,
    draw_failures,
    expect,
    tabulate_failures,
    tabulate_predictors,
)
from medpos.report.figures import probe_curves, severity_curves, shift_curves
from medpos.report.overview import Caution, list_cautions, list_facts, note_phantoms, write_sentences
from medpos.report.provenance import describe_command, tabulate_runs
from medpos.report.scores import collect_scores, tabulate_scores
from medpos.report.sources import Sources
from medpos.report.studies import Picture, load_pictures, tabulate_study
from medpos.report.subgroups import collect_subgroups, tabulate_subgroups
from medpos.report.tables import (
    Table,
    fold_constants,
    slug,
    tabulate_conditions,
    tabulate_external,
    tabulate_organs,
)
from medpos.report.training import draw_courses, draw_spread
from medpos.transforms.position.probe import PROBES

_CURVES = {"severity": severity_curves, "shift": shift_curves, "position alone": probe_curves}


@dataclass(frozen=True, eq=False)
class Page:
    """Hold everything that the template shows.

    Args:
        sources: runs and studies.
        indices: clinical indices.
        browser: cards of the cases.
        given: folders as the user gave them.
    """

    sources: Sources
    indices: Sequence[Index]
    browser: Browser
    given: tuple[str, ...]

    @cached_property
    def table(self) -> pd.DataFrame:
        """Long table of every measurement."""
        return self.sources.table()

    @property
    def title(self) -> str:
        """Title of the page."""
        names = [str(study.content.get("title") or study.content["name"]) for study in self.sources.studies]
        if names:
            return "; ".join(names)
        models = dict.fromkeys(f"{run.model} on {run.data}" for run in self.sources.runs)
        data = dict.fromkeys(run.data for run in self.sources.runs)
        return ", ".join(models) if len(models) < 3 else f"{len(self.sources.runs)} runs on {', '.join(data)}"

    @property
    def created(self) -> str:
        """Date and time of the report, UTC."""
        return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())

    @property
    def phantom_note(self) -> str:
        """Text of the banner, empty where all data are real."""
        return note_phantoms(self.sources)

    @cached_property
    def facts(self) -> list[tuple[str, str]]:
        """What was run, and on what."""
        return list_facts(self.sources)

    @cached_property
    def sentences(self) -> list[str]:
        """What was found, in plain words."""
        return write_sentences(self.table)

    @cached_property
    def cautions(self) -> list[Caution]:
        """What to beware of."""
        return list_cautions(self.sources)

    @property
    def labels(self) -> list[Label]:
        """Every organ of every data set once, for the color key."""
        found = [label for _, part in self.table.groupby("data", sort=False) for label in labels_of(part["organ"])[1:]]
        return list({label.name: label for label in found}.values())

    @cached_property
    def runs(self) -> Table:
        """Table of the runs and their evaluations."""
        return tabulate_runs(self.sources.runs)

    @cached_property
    def organs(self) -> Table:
        """Table of the metrics per organ."""
        return fold_constants(tabulate_organs(self.table), "data", "model", "seeds", "subjects")

    @cached_property
    def native(self) -> Table:
        """Table of the metrics per organ on the grid of the images; empty where no run was measured on it."""
        found = tabulate_organs(self.sources.native_table(), is_native=True)
        return fold_constants(found, "data", "model", "seeds", "subjects")

    @cached_property
    def subgroups(self) -> Table:
        """Table of Dice by subgroup; empty where no run has any."""
        return tabulate_subgroups(collect_subgroups(self.sources.runs))

    @cached_property
    def score_rows(self) -> pd.DataFrame:
        """Long table of every value of every score."""
        return collect_scores(self.sources.runs)

    @cached_property
    def scores(self) -> list[Table]:
        """Tables of the scores; none where no run has any."""
        return [] if self.score_rows.empty else tabulate_scores(self.score_rows)

    @cached_property
    def confusion_rows(self) -> pd.DataFrame:
        """Long table of every confusion matrix."""
        return collect_confusions(self.sources.runs)

    @cached_property
    def confusions(self) -> list[ModelConfusion]:
        """Confusion matrices of every model on clean images; none where no run has any."""
        return [] if self.confusion_rows.empty else clean_confusions(self.confusion_rows)

    @cached_property
    def classes(self) -> Table:
        """Table of the classes over the whole set."""
        return tabulate_classes(self.confusions)

    @cached_property
    def matrices(self) -> list[Drawing]:
        """Figures of the confusion matrices."""
        return draw_confusions(self.confusions)

    @property
    def undrawn(self) -> list[str]:
        """Models whose confusion matrix has too many classes for a figure."""
        return [f"{found.model} on {found.data}" for found in self.confusions if len(found.classes) > MOST]

    @cached_property
    def calibration_rows(self) -> pd.DataFrame:
        """Long table of the calibration of every case."""
        return collect_calibration(self.sources.runs)

    @cached_property
    def calibration(self) -> list[Table]:
        """Tables of the calibration; none where no run has any."""
        rows, scaling = self.calibration_rows, collect_scaling(self.sources.runs)
        scaled = [] if scaling.empty else [tabulate_scaling(scaling)]
        return [] if rows.empty else [*tabulate_calibration(rows), *scaled]

    @cached_property
    def expected_rows(self) -> pd.DataFrame:
        """Long table of expected and measured Dice."""
        rows = self.calibration_rows
        return rows if rows.empty else expect(rows, self.table)

    @cached_property
    def predicted_rows(self) -> pd.DataFrame:
        """Long table of predicted and measured Dice."""
        return collect_predicted(self.sources.runs)

    @cached_property
    def failures(self) -> list[Table]:
        """Tables of how well failures are found without the truth; none where no run measured it."""
        found = [] if self.predicted_rows.empty else [tabulate_predictors(self.predicted_rows)]
        return found if self.expected_rows.empty else [*found, tabulate_failures(self.expected_rows)]

    @cached_property
    def risks(self) -> list[Drawing]:
        """Risk-coverage curves of each model: of every predictor, or of the expected Dice where there are no others."""
        rows = self.expected_rows if self.predicted_rows.empty else self.predicted_rows
        return [] if rows.empty else draw_failures(rows)

    @cached_property
    def reliability(self) -> list[Drawing]:
        """Reliability diagram of each model."""
        return draw_calibration(collect_reliability(self.sources.runs))

    @cached_property
    def conditions(self) -> list[Table]:
        """Tables of Dice under every condition."""
        return tabulate_conditions(self.table)

    @cached_property
    def external(self) -> Table:
        """Table of the evaluations with other data or settings."""
        return tabulate_external(self.sources.runs)

    @cached_property
    def comparisons(self) -> Table:
        """Table of the paired comparisons that no study declared."""
        return tabulate_comparisons(self.sources)

    @cached_property
    def clinical(self) -> Table:
        """Table of the agreement of clinical indices."""
        return tabulate_agreement(self.indices)

    @cached_property
    def categories(self) -> Table:
        """Table of the sides of 0.5 on which true and predicted cardiothoracic ratios are."""
        return tabulate_categories(self.indices)

    @cached_property
    def pictures(self) -> list[list[Picture]]:
        """Figures of each study."""
        return [load_pictures(study) for study in self.sources.studies]

    @cached_property
    def study_tables(self) -> list[list[Table]]:
        """Tables of each study."""
        return [tabulate_study(study) for study in self.sources.studies]

    @property
    def csv(self) -> list[Table]:
        """Tables that are written to files, each name once."""
        tables = [
            self.runs,
            self.organs,
            self.native,
            self.subgroups,
            *self.scores,
            self.classes,
            *self.calibration,
            *self.failures,
            *self.conditions,
            self.external,
            self.comparisons,
            self.clinical,
            self.categories,
        ]
        return [t for t in (*tables, *(t for ts in self.study_tables for t in ts)) if t.rows]

    @cached_property
    def trainings(self) -> list[Drawing]:
        """Figures of losses and validation Dice of each model's trainings."""
        return draw_courses(self.sources.runs)

    @cached_property
    def spreads(self) -> list[Drawing]:
        """Figures of the Dice of every case, by data set."""
        return draw_spread(self.table)

    @cached_property
    def curves(self) -> list[Drawing]:
        """Figures of Dice against severity and shift, by data set."""
        out = []
        for data, part in self.table.groupby("data", sort=False):
            for kind, draw in _CURVES.items():
                if figure := draw(part):
                    title = f"Dice against {kind}, {data}; bands: 95 % interval over subjects"
                    alt = f"Curves of the Dice coefficient against {kind} on {data}. {_describe(part, kind)}"
                    out.append(Drawing(f"{slug(kind)}_{slug(str(data))}", title, alt, figure))
        return out

    @cached_property
    def plots(self) -> list[tuple[Index, Drawing]]:
        """Bland-Altman plot of each index."""
        return [
            (index, Drawing(f"bland_altman_{n:02d}_{slug(index.name)}", index.name, index.alt, index.figure()))
            for n, index in enumerate(self.indices, 1)
        ]

    @property
    def figures(self) -> list[Drawing]:
        """Figures that are written to files."""
        return [
            *self.trainings,
            *self.spreads,
            *self.curves,
            *self.matrices,
            *self.reliability,
            *self.risks,
            *(drawn for _, drawn in self.plots),
        ]

    @property
    def commands(self) -> list[dict[str, Any]]:
        """Command and environment of each evaluation."""
        return [describe_command(run, evaluation) for run in self.sources.runs for evaluation in run.evaluations]


def _describe(table: pd.DataFrame, kind: str) -> str:
    """Describe curves in words: clean and worst mean Dice of every model."""
    probed = table["degradation"].isin(PROBES)
    off = {"shift": table["shift"] != "0", "severity": (table["severity"] > 0) & ~probed}
    moved = off.get(kind, probed)
    parts = []
    for model, rows in table[moved].groupby("model", sort=False):
        of_model = table[table["model"] == model]
        clean = of_model[is_clean(of_model)]["dice"].mean()
        worst = rows.groupby(["degradation", "severity", "shift"])["dice"].mean().min()
        parts.append(f"{model}: mean Dice {clean:.3f} clean, {worst:.3f} under the worst condition")
    return f"{'; '.join(parts)}. The table below holds all numbers."
