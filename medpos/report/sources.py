"""What a report is made of: run folders and study folders, read and checked."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from medpos.core.errors import InputError
from medpos.core.labels import Label, labels_of
from medpos.data.conditions import is_clean
from medpos.metrics import METRICS
from medpos.runs import files
from medpos.runs.cases import CaseView, load_cases
from medpos.runs.tables import COLUMNS
from medpos.runs.task import not_a_segmentation

_FINISH = "let the run finish, or resume it, then report again"
# One measurement; an evaluation under many conditions measures the clean images once more.
_KEY = ["data", "split", "model", "seed", "case", "degradation", "severity", "shift", "organ"]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One ``metrics.csv`` with what stands beside it.

    Args:
        name: ``test`` for the one that ends a training, else the name of the sub-folder.
        folder: where it lies.
        table: a row per case, organ and condition, columns as in :data:`medpos.runs.tables.COLUMNS`.
        data: name of the data set.
        phantom: True where the images are computed.
        split: the split that was segmented.
        nominal_spacing: True where the data don't hold their true pixel sizes.
        environment: ``environment.json``, empty where there is none.
    """

    name: str
    folder: Path
    table: pd.DataFrame
    data: str
    phantom: bool
    split: str
    nominal_spacing: bool
    environment: dict[str, Any]

    @property
    def has_cases(self) -> bool:
        """Whether the segmented cases were kept."""
        return (self.folder / files.CASES).is_file()

    @property
    def labels(self) -> tuple[Label, ...]:
        """The classes of its data, background first."""
        return labels_of(self.table["organ"])

    def cases(self) -> list[CaseView]:
        """The segmented cases, none where they were not kept.

        Raises:
            InputError: the file is damaged.
        """
        return load_cases(self.folder / files.CASES) if self.has_cases else []


@dataclass(frozen=True, eq=False)
class Run:
    """One trained model and its evaluations.

    Args:
        folder: the run's folder.
        model: the name that tables show.
        seed: of the training, None where it is not recorded.
        evaluations: at least one.
    """

    folder: Path
    model: str
    seed: int | None
    evaluations: tuple[Evaluation, ...]

    @property
    def data(self) -> str:
        """Name of the data set of its first evaluation."""
        return self.evaluations[0].data


@dataclass(frozen=True, eq=False)
class Study:
    """One study folder: ``study.json`` and the runs that it names."""

    folder: Path
    content: dict[str, Any]
    runs: tuple[Run, ...]


@dataclass(frozen=True, eq=False)
class Sources:
    """All that a report shows."""

    runs: tuple[Run, ...]
    studies: tuple[Study, ...]

    @property
    def evaluations(self) -> list[Evaluation]:
        """Those of all runs."""
        return [evaluation for run in self.runs for evaluation in run.evaluations]

    @property
    def phantom(self) -> bool:
        """True where any of the images are computed."""
        flagged = any(study.content.get("phantom") for study in self.studies)
        return bool(flagged) or any(evaluation.phantom for evaluation in self.evaluations)

    @property
    def all_phantom(self) -> bool:
        """True where no evaluation was on real images."""
        return all(evaluation.phantom for evaluation in self.evaluations)

    @property
    def nominal_spacing(self) -> bool:
        """True where any data don't hold their true pixel sizes."""
        flagged = any(study.content.get("nominal_spacing") for study in self.studies)
        return bool(flagged) or any(evaluation.nominal_spacing for evaluation in self.evaluations)

    def table(self) -> pd.DataFrame:
        """Every measurement once, long.

        Returns:
            The columns of :data:`medpos.runs.tables.COLUMNS` and before them ``data``, ``model``, ``seed`` (-1 where it
            is not recorded), ``run`` (folder name) and ``evaluation``.
        """
        parts = [with_run(evaluation.table, run, evaluation) for run in self.runs for evaluation in run.evaluations]
        # A study of the images alone has no runs.
        parts = parts or [pd.DataFrame(columns=["data", "model", "seed", "run", "evaluation", *COLUMNS])]
        whole = pd.concat(parts, ignore_index=True).drop_duplicates(_KEY, ignore_index=True)
        return whole[["data", "model", "seed", "run", "evaluation", *COLUMNS]]


def clean(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that were measured on images as they are."""
    rows: pd.DataFrame = table[is_clean(table)]
    return rows


def read(sources: Sequence[Path]) -> Sources:
    """Read run folders and study folders.

    Raises:
        InputError: no source, or one that is neither, or a file in it that is missing or malformed.
    """
    if not sources:
        raise InputError("nothing to report; give the folder of a run, such as runs/jsrt_pe/first, or of a study")
    runs: list[Run] = []
    studies: list[Study] = []
    for folder in map(Path, dict.fromkeys(sources)):
        if (folder / "study.json").is_file():
            studies.append(_study(folder))
        elif files.Run(folder).is_recorded:
            runs.append(_run(folder))
        else:
            raise InputError(
                f"{folder}: holds neither config.json (a run) nor study.json (a study); give a folder such as "
                "runs/jsrt_pe/first, or that of a study"
            )
    return Sources((*_told_apart(runs), *(run for study in studies for run in study.runs)), tuple(studies))


def _study(folder: Path) -> Study:
    path = folder / "study.json"
    content = files.read_json(path)
    for key in ("name", "models"):
        if key not in content:
            raise InputError(f"{path}: has no {key!r}, which a report needs; run the study again")
    models = content["models"]
    if not (isinstance(models, list) and all(isinstance(m, dict) and {"run", "model"} <= set(m) for m in models)):
        raise InputError(f"{path}: models: needed a list of entries with 'run' and 'model'; run the study again")
    runs = []
    for entry in models:
        run = _run(folder / str(entry["run"]))
        seed = entry.get("seed", run.seed)
        runs.append(replace(run, model=str(entry["model"]), seed=seed if isinstance(seed, int) else None))
    return Study(folder, content, tuple(runs))


def _run(folder: Path) -> Run:
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; give the folder of a finished run")
    evaluations = tuple(_evaluation(part, folder) for part in files.Run(folder).evaluations())
    if not evaluations and (folder / files.PREDICTIONS).is_file():
        raise not_a_segmentation(folder)
    if not evaluations:
        raise InputError(f"{folder}: has no metrics.csv, so nothing was tested; {_FINISH}")
    seed = next((e.environment["seed"] for e in evaluations if "seed" in e.environment), None)
    bundle = files.read_json(evaluations[0].folder / files.SUMMARY).get("bundle", folder.resolve().parent.name)
    return Run(folder, str(bundle), seed if isinstance(seed, int) else None, evaluations)


def _told_apart(runs: Sequence[Run]) -> list[Run]:
    """Runs of one bundle and one seed differ in something else, so their folder's name joins the model's."""
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
        raise InputError(f"{folder}: has metrics.csv but no summary.json, so it is not finished; {_FINISH}")
    for key in ("data", "phantom"):
        if key not in about:
            raise InputError(f"{folder / 'summary.json'}: has no {key!r}, which a report needs; evaluate again")
    return Evaluation(
        "test" if folder == run else folder.name,
        folder,
        _metrics(folder / files.METRICS),
        str(about["data"]),
        bool(about["phantom"]),
        str(about.get("split", "test")),
        bool(about.get("nominal_spacing")),
        part.environment,
    )


def read_rows(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """The rows of a file of measurements, all as text; names stay so, even ``NA`` or ``001``.

    Raises:
        InputError: the file can't be read, lacks a column, or is empty.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: can't be read as a table ({error}); evaluate again") from error
    if missing := [name for name in columns if name not in table.columns]:
        raise InputError(f"{path}: lacks the columns {', '.join(missing)}; evaluate again")
    if table.empty:
        raise InputError(f"{path}: holds no rows; evaluate again")
    return table


def as_numbers(table: pd.DataFrame, names: Sequence[str], path: Path) -> pd.DataFrame:
    """These columns of the rows of a file as numbers, and ``severity`` as a whole one.

    Raises:
        InputError: what stands there is none.
    """
    try:
        # Python's own reading: pandas would take no text "nan" as a number.
        return table.assign(**{name: table[name].map(float) for name in names}, severity=table["severity"].map(int))
    except ValueError as error:
        listed = ", ".join(["severity", *names])
        raise InputError(f"{path}: {listed}: {error}; needed numbers, 'nan' or 'inf'") from error


def _metrics(path: Path) -> pd.DataFrame:
    """The rows of ``metrics.csv``."""
    return as_numbers(read_rows(path, COLUMNS), METRICS, path)[list(COLUMNS)]


def with_run(table: pd.DataFrame, run: Run, evaluation: Evaluation) -> pd.DataFrame:
    """Rows of an evaluation with what tells it from others."""
    return table.assign(
        data=evaluation.data,
        model=run.model,
        seed=-1 if run.seed is None else run.seed,
        run=run.folder.name,
        evaluation=evaluation.name,
    )
