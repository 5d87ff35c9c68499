"""Read and check the run folders and study folders of a report."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from medpos.core.errors import InputError
from medpos.core.files import unescape_cell
from medpos.core.labels import Label, labels_of
from medpos.data.conditions import is_clean
from medpos.metrics import METRICS, limits_of
from medpos.runs import files
from medpos.runs.cases import CaseView, load_cases
from medpos.runs.identity import ResultSettings
from medpos.runs.tables import COLUMNS, EARLIER_COLUMNS
from medpos.runs.task import not_a_segmentation
from medpos.statistics.grid import CONDITION
from medpos.transforms.intensity.degradations import KINDS, Table

_FINISH = "let the run finish, or resume it, then report again"
# Columns that identify a measurement; an evaluation under many conditions measures the clean images again.
_KEY = ["data", "split", "model", "seed", "case", "degradation", "severity", "shift", "organ"]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Hold one ``metrics.csv`` and the facts about its evaluation.

    Args:
        name: ``test`` for the test at the end of a training, else the name of the sub-folder.
        folder: folder of the evaluation.
        table: one row per case, organ and condition, with the columns :data:`medpos.runs.tables.COLUMNS`.
        data: name of the data set.
        phantom: True for phantoms.
        split: name of the split that was segmented.
        nominal_spacing: True where the true pixel sizes are unknown.
        warnings: what is implausible in the data, a line for each.
        environment: last entry of ``environment.json``, empty where there is none.
        differs: settings in which it differs from the test of its run, such as ``data``, ``split`` or
            ``degradation_table``; where there are any its results are never pooled with those of the run.
    """

    name: str
    folder: Path
    table: pd.DataFrame
    data: str
    phantom: bool
    split: str
    nominal_spacing: bool
    warnings: tuple[str, ...]
    environment: dict[str, Any]
    differs: tuple[str, ...] = ()

    @property
    def has_cases(self) -> bool:
        """Whether the segmented cases were saved."""
        return (self.folder / files.CASES).is_file()

    @property
    def conditions(self) -> list[tuple[Any, ...]]:
        """Degradation, severity and shift of each condition."""
        return list(dict.fromkeys(zip(*(self.table[name] for name in CONDITION), strict=True)))

    @property
    def labels(self) -> tuple[Label, ...]:
        """The classes of its data, background first."""
        return labels_of(self.table["organ"])

    def cases(self) -> list[CaseView]:
        """Load the segmented cases, none where they were not saved.

        Raises:
            InputError: the file is damaged.
        """
        return load_cases(self.folder / files.CASES) if self.has_cases else []


@dataclass(frozen=True, eq=False)
class Run:
    """Hold one trained model and its evaluations.

    Args:
        folder: run folder.
        model: name of the model in the tables.
        seed: random seed of the training, None where it is not recorded.
        evaluations: evaluations of the model, at least one.
    """

    folder: Path
    model: str
    seed: int | None
    evaluations: tuple[Evaluation, ...]

    @property
    def pooled(self) -> tuple[Evaluation, ...]:
        """Evaluations with the data and settings of the run's test."""
        return tuple(evaluation for evaluation in self.evaluations if not evaluation.differs)

    @property
    def external(self) -> tuple[Evaluation, ...]:
        """Evaluations with other data or settings."""
        return tuple(evaluation for evaluation in self.evaluations if evaluation.differs)

    @property
    def data(self) -> str:
        """Name of the data set of its first evaluation."""
        return self.evaluations[0].data


@dataclass(frozen=True, eq=False)
class Study:
    """Hold one study folder: ``study.json`` and its runs."""

    folder: Path
    content: dict[str, Any]
    runs: tuple[Run, ...]


@dataclass(frozen=True, eq=False)
class Sources:
    """Hold all runs and studies of a report."""

    runs: tuple[Run, ...]
    studies: tuple[Study, ...]

    @property
    def evaluations(self) -> list[Evaluation]:
        """Evaluations of all runs."""
        return [evaluation for run in self.runs for evaluation in run.evaluations]

    @property
    def phantom(self) -> bool:
        """Whether any of the data are phantoms."""
        flagged = any(study.content.get("phantom") for study in self.studies)
        return bool(flagged) or any(evaluation.phantom for evaluation in self.evaluations)

    @property
    def all_phantom(self) -> bool:
        """Whether all evaluations are on phantoms."""
        return all(evaluation.phantom for evaluation in self.evaluations)

    @property
    def nominal_spacing(self) -> bool:
        """Whether the true pixel sizes of any data are unknown."""
        flagged = any(study.content.get("nominal_spacing") for study in self.studies)
        return bool(flagged) or any(evaluation.nominal_spacing for evaluation in self.evaluations)

    @property
    def warnings(self) -> dict[str, list[str]]:
        """What is implausible in each data set, a line for each, by the name of the data set."""
        found: dict[str, dict[str, None]] = {}
        for evaluation in self.evaluations:
            if evaluation.warnings:
                found.setdefault(evaluation.data, {}).update(dict.fromkeys(evaluation.warnings))
        return {data: list(lines) for data, lines in found.items()}

    def table(self) -> pd.DataFrame:
        """Collect every measurement once, without external evaluations.

        Returns:
            Long table with the columns ``data``, ``model``, ``seed`` (-1 where it is not recorded), ``run`` (name of
            the folder), ``evaluation`` and those of :data:`medpos.runs.tables.COLUMNS`.
        """
        parts = [add_run(evaluation.table, run, evaluation) for run in self.runs for evaluation in run.pooled]
        # A study of the images alone has no runs.
        parts = parts or [pd.DataFrame(columns=["data", "model", "seed", "run", "evaluation", *COLUMNS])]
        whole = pd.concat(parts, ignore_index=True).drop_duplicates(_KEY, ignore_index=True)
        return whole[["data", "model", "seed", "run", "evaluation", *COLUMNS]]

    def native_table(self) -> pd.DataFrame:
        """Collect what was measured on the grid of the images, in the form of :meth:`table`."""
        parts = [
            add_run(_read_metrics(path), run, run.evaluations[0])
            for run in self.runs
            if (path := run.folder / files.NATIVE).is_file()
        ]
        return pd.concat(parts, ignore_index=True) if parts else self.table().head(0)


def clean_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the clean condition."""
    rows: pd.DataFrame = table[is_clean(table)]
    return rows


def read(sources: Sequence[Path]) -> Sources:
    """Read run folders and study folders.

    Raises:
        InputError: there is no source, a source is neither a run nor a study, or a file in it is missing or malformed.
    """
    if not sources:
        raise InputError("nothing to report; give the folder of a run, such as runs/jsrt_pe/first, or of a study")
    runs: list[Run] = []
    studies: list[Study] = []
    for folder in map(Path, dict.fromkeys(sources)):
        if (folder / files.STUDY).is_file():
            studies.append(_study(folder))
        elif files.Run(folder).is_recorded:
            runs.append(_run(folder))
        else:
            raise InputError(
                f"{folder}: holds neither {files.CONFIG} (a run) nor {files.STUDY} (a study); give the folder of a "
                "run, such as runs/jsrt_pe/first, or of a study"
            )
    return Sources((*_distinguish(runs), *(run for study in studies for run in study.runs)), tuple(studies))


def _study(folder: Path) -> Study:
    path = folder / files.STUDY
    content = files.read_json(path)
    for key in ("name", "models"):
        if key not in content:
            raise InputError(f"{path}: has no {key!r}, which a report needs; run the study again")
    models = content["models"]
    if not (isinstance(models, list) and all(isinstance(m, dict) and {"run", "model"} <= set(m) for m in models)):
        raise InputError(f"{path}: models: expected entries with 'run' and 'model', got others; run the study again")
    runs = []
    for entry in models:
        tests = entry.get("tests")
        run = _run(folder / str(entry["run"]), tests if isinstance(tests, dict) else {})
        seed = entry.get("seed", run.seed)
        runs.append(replace(run, model=str(entry["model"]), seed=seed if isinstance(seed, int) else None))
    return Study(folder, content, tuple(runs))


def _run(folder: Path, tests: dict[str, Any] | None = None) -> Run:
    """Read a run folder.

    Args:
        folder: the folder.
        tests: values for keys of its configuration that set the conditions of a study's tests.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: does not exist; give the folder of a finished run")
    evaluations = _compare([_evaluation(part, folder) for part in files.Run(folder).evaluations()], folder, tests or {})
    if not evaluations and (folder / files.PREDICTIONS).is_file():
        raise not_a_segmentation(folder)
    if not evaluations:
        raise InputError(f"{folder}: has no {files.METRICS}, so nothing was tested; {_FINISH}")
    seed = next((e.environment["seed"] for e in evaluations if "seed" in e.environment), None)
    bundle = files.read_json(evaluations[0].folder / files.SUMMARY).get("bundle", folder.resolve().parent.name)
    return Run(folder, str(bundle), seed if isinstance(seed, int) else None, evaluations)


def _compare(found: Sequence[Evaluation], folder: Path, tests: dict[str, Any]) -> tuple[Evaluation, ...]:
    """Find in which settings each evaluation differs from the test of its run.

    The settings of degradations or shifts are those of the run, or where nothing was measured under these, those of its
    first evaluation with degradations or shifts.
    """
    paths = [folder / files.CONFIG, *(entry.folder / files.CONFIG for entry in found)]
    recorded = [path for path in paths if path.is_file()]
    if not recorded:
        return tuple(found)
    own = ResultSettings.of({**files.read_json(recorded[0]), **tests})
    settings = [ResultSettings.of(files.read_json(path)) if path.is_file() else own for path in paths[1:]]
    for part in ("degraded", "shifted"):
        measured = [
            other
            for entry, other in zip(found, settings, strict=True)
            if own.depends_on(part, entry.conditions) and not own.find_differences(other, [])
        ]
        if measured and all(getattr(other, part) != getattr(own, part) for other in measured):
            own = replace(own, **{part: getattr(measured[0], part)})
    return tuple(
        replace(
            entry,
            differs=tuple(own.find_differences(other, entry.conditions)),
            table=_name_degradations(entry.table, other.degraded["degradation_table"]),
        )
        for entry, other in zip(found, settings, strict=True)
    )


def _name_degradations(table: pd.DataFrame, strengths: Table | None) -> pd.DataFrame:
    """Add the table of strengths, its name or its numbers, to the degradations of the rows if it isn't the study's."""
    if strengths in (None, "study"):
        return table
    if isinstance(strengths, str):
        names = {kind: f"{kind} ({strengths})" for kind in KINDS}
    else:
        names = {kind: f"{kind} ({', '.join(f'{s:g}' for s in found)})" for kind, found in strengths.items()}
    return table.assign(degradation=table["degradation"].replace(names))


def _distinguish(runs: Sequence[Run]) -> list[Run]:
    """Add the folder's name to the model's for runs of one bundle and seed, which differ in something else."""
    count = Counter((run.data, run.model, run.seed) for run in runs)
    return [
        run
        if count[run.data, run.model, run.seed] == 1
        else replace(run, model=f"{run.model} ({run.folder.resolve().name})")
        for run in runs
    ]


def _evaluation(part: files.Run, run: Path) -> Evaluation:
    folder, about = part.folder, part.summary
    if about is None:
        raise InputError(f"{folder}: has {files.METRICS} but no {files.SUMMARY}, so it is not finished; {_FINISH}")
    for key in ("data", "phantom"):
        if key not in about:
            raise InputError(f"{folder / files.SUMMARY}: has no {key!r}, which a report needs; evaluate again")
    return Evaluation(
        "test" if folder == run else folder.name,
        folder,
        _read_metrics(folder / files.METRICS),
        str(about["data"]),
        bool(about["phantom"]),
        str(about.get("split", "test")),
        bool(about.get("nominal_spacing")),
        tuple(map(str, about.get("warnings") or ())),
        part.environment,
    )


def read_rows(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read the rows of a table of measurements as text, so that names like ``NA`` or ``001`` stay as they are.

    Raises:
        InputError: the file can't be read, lacks a column, or is empty.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False).rename(columns=unescape_cell).map(unescape_cell)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: can't be read as a table ({error}); evaluate again") from error
    if missing := [name for name in columns if name not in table.columns]:
        raise InputError(f"{path}: lacks the columns {', '.join(missing)}; evaluate again")
    if table.empty:
        raise InputError(f"{path}: holds no rows; evaluate again")
    return table


def as_numbers(
    table: pd.DataFrame,
    names: Sequence[str],
    path: Path,
    limits: Callable[[str], tuple[float, float]] = lambda name: (-math.inf, math.inf),
) -> pd.DataFrame:
    """Convert columns of a table to numbers, and ``severity`` to integers.

    Args:
        table: cells as texts.
        names: columns to convert.
        path: file of the table, for the message.
        limits: function that returns the smallest and greatest possible value of a column.

    Raises:
        InputError: a cell isn't a number, or beyond the limits of its column.
    """
    found = _convert(table, names, path)
    for name in names:
        low, high = limits(name)
        if not (found[name].between(low, high) | found[name].isna()).all():
            raise InputError(f"{path}: {name}: expected numbers from {low:g} to {high:g}, got others; evaluate again")
    return found


def _convert(table: pd.DataFrame, names: Sequence[str], path: Path) -> pd.DataFrame:
    try:
        # Python's float reads "nan" as a number, pandas' conversion doesn't.
        return table.assign(**{name: table[name].map(float) for name in names}, severity=table["severity"].map(int))
    except ValueError as error:
        listed = ", ".join(["severity", *names])
        raise InputError(
            f"{path}: {listed}: expected numbers, 'nan' or 'inf', got others ({error}); evaluate again"
        ) from error


def _read_metrics(path: Path) -> pd.DataFrame:
    """Read the rows of ``metrics.csv``; metrics that an earlier version didn't measure are NaN."""
    found = read_rows(path, EARLIER_COLUMNS).reindex(columns=list(COLUMNS), fill_value="nan")
    return as_numbers(found, METRICS, path, limits_of)


def add_run(table: pd.DataFrame, run: Run, evaluation: Evaluation) -> pd.DataFrame:
    """Add the columns that identify run and evaluation."""
    return table.assign(
        data=evaluation.data,
        model=run.model,
        seed=-1 if run.seed is None else run.seed,
        run=run.folder.name,
        evaluation=evaluation.name,
    )
