"""The page: what stands where, and the template filled in."""

import shlex
import time
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from medpos.core.errors import InputError
from medpos.core.labels import Label, labels_of
from medpos.data.conditions import is_clean
from medpos.plotting.style import inline_svg
from medpos.report import pictures
from medpos.report.browser import Browser
from medpos.report.clinical import Index, clinical_table
from medpos.report.figures import probe_curves, severity_curves, shift_curves
from medpos.report.scores import score_rows, scores
from medpos.report.sources import Evaluation, Run, Sources, Study
from medpos.report.tables import Cell, Table, comparisons, conditions, count, organs, slug, study_tables, text
from medpos.runs.text import PHANTOM_NOTE
from medpos.transforms.position.probe import PROBES

_TEMPLATES = Path(__file__).parent / "templates"
_CURVES = {"severity": severity_curves, "shift": shift_curves, "position alone": probe_curves}
_VERDICTS = {"confirmed": "✓", "contradicted": "✗", "undecided": "?"}


@dataclass(frozen=True, eq=False)
class Drawn:
    """A figure, the stem of its files, its caption and what it shows in words."""

    name: str
    title: str
    alt: str
    figure: Figure

    @property
    def svg(self) -> Markup:
        """It, to stand in the page."""
        return inline_svg(self.figure, self.name, self.alt)


@dataclass(frozen=True)
class Picture:
    """A figure that a study brings: caption, words, and the file as data URI."""

    title: str
    alt: str
    uri: str


@dataclass(frozen=True, eq=False)
class Page:
    """Everything that the template shows.

    Args:
        sources: what was read.
        indices: clinical indices.
        browser: the cases.
        given: the folders as the user gave them.
    """

    sources: Sources
    indices: Sequence[Index]
    browser: Browser
    given: tuple[str, ...]

    @cached_property
    def table(self) -> pd.DataFrame:
        """Every measurement."""
        return self.sources.table()

    @property
    def title(self) -> str:
        """Of the page."""
        names = [str(study.content.get("title") or study.content["name"]) for study in self.sources.studies]
        if names:
            return "; ".join(names)
        models = dict.fromkeys(f"{run.model} on {run.data}" for run in self.sources.runs)
        data = dict.fromkeys(run.data for run in self.sources.runs)
        return ", ".join(models) if len(models) < 3 else f"{len(self.sources.runs)} runs on {', '.join(data)}"

    @property
    def created(self) -> str:
        """When the report was made, UTC."""
        return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())

    @property
    def phantom_note(self) -> str:
        """The banner, empty where all data are real."""
        if not self.sources.phantom:
            return ""
        mixed = "" if self.sources.all_phantom else " Part of the data here are real: see the table of runs."
        return f"{PHANTOM_NOTE}.{mixed}"

    @property
    def labels(self) -> list[Label]:
        """Every organ of every data set once, for the colour key."""
        found = [label for _, part in self.table.groupby("data", sort=False) for label in labels_of(part["organ"])[1:]]
        return list({label.name: label for label in found}.values())

    @cached_property
    def runs(self) -> Table:
        """What was run on what."""
        return _runs_table(self.sources.runs)

    @cached_property
    def organs(self) -> Table:
        """The metrics per organ."""
        return organs(self.table)

    @cached_property
    def score_rows(self) -> pd.DataFrame:
        """Every value of every score."""
        return score_rows(self.sources.runs)

    @cached_property
    def scores(self) -> list[Table]:
        """The scores beside the metrics per organ; none where no run has any."""
        return [] if self.score_rows.empty else scores(self.score_rows)

    @cached_property
    def conditions(self) -> list[Table]:
        """Dice under every condition."""
        return conditions(self.table)

    @cached_property
    def comparisons(self) -> Table:
        """Paired comparisons."""
        return comparisons(self.sources)

    @cached_property
    def clinical(self) -> Table:
        """Agreement of the clinical indices."""
        return clinical_table(self.indices)

    @cached_property
    def study_tables(self) -> dict[int, list[Table]]:
        """The tables of each study, by its number."""
        return {n: study_tables(study) for n, study in enumerate(self.sources.studies)}

    @property
    def csv(self) -> list[Table]:
        """The tables that come as files, each name once."""
        own = [self.runs, self.organs, *self.scores, *self.conditions, self.comparisons, self.clinical]
        return [t for t in (*own, *(t for ts in self.study_tables.values() for t in ts)) if t.rows]

    @cached_property
    def curves(self) -> list[Drawn]:
        """Dice against severity and shift, by data set."""
        out = []
        for data, part in self.table.groupby("data", sort=False):
            for kind, draw in _CURVES.items():
                if figure := draw(part):
                    title = f"Dice against {kind}, {data}; bands: 95 % bootstrap interval over subjects"
                    alt = f"Curves of the Dice coefficient against {kind} on {data}. {_in_words(part, kind)}"
                    out.append(Drawn(f"{slug(kind)}_{slug(str(data))}", title, alt, figure))
        return out

    @cached_property
    def plots(self) -> list[tuple[Index, Drawn]]:
        """A Bland-Altman plot for each index."""
        return [
            (index, Drawn(f"bland_altman_{n:02d}_{slug(index.name)}", index.name, index.alt, index.figure()))
            for n, index in enumerate(self.indices, 1)
        ]

    @property
    def figures(self) -> list[Drawn]:
        """The figures that come as files."""
        return [*self.curves, *(drawn for _, drawn in self.plots)]

    @property
    def commands(self) -> list[dict[str, Any]]:
        """How each run was made."""
        return [_command(run, evaluation) for run in self.sources.runs for evaluation in run.evaluations]

    def pictures_of(self, study: Study) -> list[Picture]:
        """The figures that a study brings.

        Raises:
            InputError: a figure is named but not there.
        """
        return [_picture(study, entry) for entry in study.content.get("figures", [])]


def _runs_table(runs: Sequence[Run]) -> Table:
    rows, records = [], []
    for run in runs:
        for evaluation in run.evaluations:
            table = evaluation.table
            record = {
                "model": run.model,
                "seed": run.seed,
                "evaluation": evaluation.name,
                "data": evaluation.data,
                "images": "PHANTOMS" if evaluation.phantom else "real",
                "split": evaluation.split,
                "subjects": table["subject"].nunique(),
                "cases": table["case"].nunique(),
                "conditions": len(table[["degradation", "severity", "shift"]].drop_duplicates()),
                "pictures": "yes" if evaluation.has_cases else "no",
                "commit": evaluation.environment.get("commit"),
            }
            shown = {**record, "commit": str(record["commit"] or "-")[:10]}
            rows.append(tuple(count(v) if k in ("seed", "subjects", "cases") else text(v) for k, v in shown.items()))
            records.append(record)
    note = "pictures: whether the segmented cases were kept, from which the case browser and the clinical indices come"
    head = tuple(records[0]) if records else ()
    return Table("runs", "Runs and their evaluations", note, head, tuple(rows), pd.DataFrame(records))


def _in_words(table: pd.DataFrame, kind: str) -> str:
    """Clean and worst mean Dice of every model, for those who don't see the curves."""
    probed = table["degradation"].isin(PROBES)
    off = {"shift": table["shift"] != "0", "severity": (table["severity"] > 0) & ~probed}
    moved = off.get(kind, probed)
    parts = []
    for model, rows in table[moved].groupby("model", sort=False):
        own = table[table["model"] == model]
        clean = own[is_clean(own)]["dice"].mean()
        worst = rows.groupby(["degradation", "severity", "shift"])["dice"].mean().min()
        parts.append(f"{model}: mean Dice {clean:.3f} clean, {worst:.3f} under the worst condition")
    return f"{'; '.join(parts)}. The table below holds all numbers."


def _command(run: Run, evaluation: Evaluation) -> dict[str, Any]:
    environment = evaluation.environment
    words = [str(word) for word in environment.get("command") or []]
    if words and words[0].endswith("__main__.py"):
        # What python -m leaves of a command: MONAI's own, or a study that made the run.
        words = ["python", "-m", "monai.bundle" if "--config_file" in words else "medpos", *words[1:]]
    packages = environment.get("packages")
    device = environment.get("device")
    return {
        "model": run.model,
        "evaluation": evaluation.name,
        "folder": str(evaluation.folder),
        "command": shlex.join(words),
        "seed": run.seed,
        "commit": environment.get("commit"),
        "started": environment.get("started"),
        "python": environment.get("python"),
        "device": device.get("type") if isinstance(device, dict) else None,
        "packages": {k: v for k, v in packages.items() if v} if isinstance(packages, dict) else {},
    }


def _picture(study: Study, entry: dict[str, Any]) -> Picture:
    name = str(entry.get("name", ""))
    folder = (study.folder / "figures").resolve()
    path = (folder / f"{name}.svg").resolve()
    if not (path.is_relative_to(folder) and path.is_file()):
        raise InputError(
            f"{study.folder / 'study.json'}: figure {name!r}: needed figures/{name}.svg in the study's folder; run the "
            "study again"
        )
    # As the source of an <img>, an SVG file can neither run a script nor load anything.
    uri = f"data:image/svg+xml;base64,{b64encode(path.read_bytes()).decode('ascii')}"
    return Picture(str(entry.get("title", name)), str(entry.get("alt", entry.get("title", name))), uri)


def _sorting(cell: Cell) -> str:
    return repr(cell.sort) if isinstance(cell.sort, float) else cell.sort.lower()


def render(page: Page) -> str:
    """The whole HTML file."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["sorting"] = _sorting
    environment.filters["ci95"] = lambda ends: f"{ends[0]:.3f} to {ends[1]:.3f}" if ends else "-"
    script, style = ((_TEMPLATES / name).read_text(encoding="utf-8") for name in ("script.js", "style.css"))
    digest = b64encode(sha256(script.encode()).digest()).decode("ascii")
    return environment.get_template("page.html.j2").render(
        page=page,
        script=Markup(script),
        style=Markup(style),
        policy=f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'",
        verdicts=_VERDICTS,
        missed=pictures.MISSED,
        extra=pictures.EXTRA,
    )
