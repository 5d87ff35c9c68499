"""Record finished cases in a folder of predictions, so that a stopped call can be resumed."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medpos import __version__
from medpos.core.errors import InputError
from medpos.core.files import write_json, write_text
from medpos.core.labels import Label
from medpos.io.label_descriptions import write_itksnap_labels
from medpos.io.volumes import find_parts
from medpos.predict import measurements
from medpos.predict.ensemble import Ensemble
from medpos.predict.inputs import CaseFiles

FOLDER = ".cases"
MANIFEST = "predictions.json"
MEASUREMENTS = "measurements.csv"
WARNINGS = "warnings.csv"
FAILED = "failed.txt"
NAMES = "names.csv"
LABELS = "labels.txt"


@dataclass(frozen=True)
class Options:
    """Hold the user's choices; one folder never mixes results of different choices.

    Args:
        probabilities: whether to write probabilities too.
        overlays: whether to write a picture of each case.
        force: whether to accept images that look wrong.
        window: grey values of the file that are black and white; those of its format if omitted.
        spacing_mm: spacing along the file's axes in mm, for files without spacing.
        format: format of the label maps, a key of ``medpos.io.targets.FORMATS``; empty: that of the image.
    """

    probabilities: bool = False
    overlays: bool = True
    force: bool = False
    window: tuple[float, float] | None = None
    spacing_mm: tuple[float, ...] | None = None
    format: str = ""


def begin(out: Path, ensemble: Ensemble, options: Options) -> None:
    """Write the manifest of networks and options, or check that an existing one is equal.

    Args:
        out: folder of the results.
        ensemble: model or models.
        options: the user's choices.

    Raises:
        InputError: ``out`` can't be written to, or holds results of another network or other options.
    """
    if options.window is not None and not ensemble.models[0].is_absolute:
        raise InputError(
            f"--window: expected a run that uses absolute grey values, got {ensemble.models[0].run}, which scales each "
            "image by itself; leave --window out"
        )
    path = out / MANIFEST
    settings = {
        "models": [model.identity for model in ensemble.models],
        "backend": ensemble.models[0].backend,
        "tta_flip": ensemble.flip,
        "options": json.loads(json.dumps(asdict(options))),
    }
    if path.is_file():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))["settings"]
            before["options"] = asdict(Options()) | before["options"]  # a folder of an earlier version lacks some
        except (OSError, ValueError, KeyError, TypeError):
            before = None
        if before != settings:
            raise InputError(
                f"{out}: expected predictions of the same runs and options, got others; choose another --out"
            )
        return
    about = {
        "medpos": __version__,
        "runs": [f"{model.run.resolve().parent.name}/{model.run.resolve().name}" for model in ensemble.models],
        "trained_on_phantoms": ensemble.phantom,
        "labels": [label.to_json() for label in ensemble.labels],
        "settings": settings,
    }
    write_json(path, about)


def write(
    out: Path, source: CaseFiles, files: Sequence[Path], measured: Sequence[dict[str, Any]], warnings: Sequence[str]
) -> None:
    """Record a case as complete, after all its files are written.

    Args:
        out: folder of the results.
        source: files of the case.
        files: result files of the case.
        measured: rows of :func:`measurements.measure_organs`.
        warnings: warnings, one per line.

    Raises:
        InputError: the folder can't be written to.
    """
    record = {
        "made_from": _stamp(source),
        "files": [str(path.relative_to(out)) for path in files],
        # JSON has no NaN.
        "measurements": [{**row, "value": None if row["value"] != row["value"] else row["value"]} for row in measured],
        "warnings": list(warnings),
    }
    write_json(_path(out, source), record)


def read(out: Path, source: CaseFiles) -> dict[str, Any] | None:
    """Return the record of a case, or None where it isn't complete or its files have changed.

    Args:
        out: folder of the results.
        source: files of the case.
    """
    try:
        record: dict[str, Any] = json.loads(_path(out, source).read_text(encoding="utf-8"))
        same = record["made_from"] == _stamp(source) and all((out / name).is_file() for name in record["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if same else None


def _path(out: Path, source: CaseFiles) -> Path:
    return out / FOLDER / f"{source.name}.json"


def _stamp(source: CaseFiles) -> list[list[Any]]:
    """Return path, size and time of each file, which stay equal as long as the files do.

    A path that may name a patient is left empty: the name of its case is a hash of the image's UID.
    """
    files = [*source.files, *sorted(find_parts(source.files))]
    stats = [(path, path.stat()) for path in files]
    return [["" if source.titles else str(path.resolve()), stat.st_size, stat.st_mtime_ns] for path, stat in stats]


def finish(out: Path, sources: Sequence[CaseFiles], failed: Sequence[str], labels: Sequence[Label]) -> int:
    """Write the tables of all complete cases, including those of earlier calls.

    Args:
        out: folder of the results.
        sources: files of all cases of this call.
        failed: file and reason of each case that could not be segmented.
        labels: classes, background first.

    Returns:
        Number of cases with a warning.

    Raises:
        InputError: the folder can't be written to.
    """
    rows: list[dict[str, Any]] = []
    found: list[dict[str, str]] = []
    is_nifti = False
    indexed: list[tuple[str, str, list[dict[str, Any]]]] = []
    for source in sources:
        record = read(out, source)
        if record is None:
            continue
        is_nifti = is_nifti or record["files"][0].endswith(".nii.gz")
        subject, phase = source.subject_and_phase
        measured = record["measurements"]
        rows += [{"case": source.name, "subject": subject, "phase": phase, **row} for row in measured]
        found += [{"case": source.name, "warning": text} for text in record["warnings"]]
        indexed.append((subject, phase, measured))
    measurements.write_table(out / MEASUREMENTS, measurements.COLUMNS, rows + measurements.measure_ventricles(indexed))
    measurements.write_table(out / WARNINGS, ("case", "warning"), found)
    named = [
        {"case": source.name, "file": str(path)} for source in sources if source.keeps_name for path in source.files
    ]
    if is_nifti:
        write_itksnap_labels(out / LABELS, labels)
    if named:
        measurements.write_table(out / NAMES, ("case", "file"), named)
    write_text(out / FAILED, "".join(f"{line}\n" for line in failed))
    return len({row["case"] for row in found})
