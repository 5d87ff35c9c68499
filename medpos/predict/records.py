"""Record finished cases in a folder of predictions, so that a stopped call can be resumed."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medpos import __version__
from medpos.core.errors import InputError
from medpos.core.files import decode_json, write_json
from medpos.io.volumes import find_parts
from medpos.predict.ensemble import Ensemble
from medpos.predict.inputs import CaseFiles
from medpos.trust.light import Light

FOLDER = ".cases"
MANIFEST = "predictions.json"
_CHUNK = 1 << 20
_LISTS = ("made_from", "files", "measurements", "warnings")


@dataclass(frozen=True)
class Options:
    """Hold the user's choices; one folder never mixes results of different choices.

    Args:
        probabilities: whether to write probabilities too.
        overlays: whether to write a picture of each case.
        force: whether to accept images that look wrong.
        window: gray values of the file that are black and white; those of its format if omitted.
        spacing_mm: spacing along the file's axes in mm, for files without spacing.
        format: format of the label maps, a key of ``medpos.io.targets.FORMATS``; empty: that of the image.
        uncertainty: whether to write maps of the uncertainty, and to measure it for each organ.
    """

    probabilities: bool = False
    overlays: bool = True
    force: bool = False
    window: tuple[float, float] | None = None
    spacing_mm: tuple[float, ...] | None = None
    format: str = ""
    uncertainty: bool = False


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
            f"--window: expected a run that uses absolute gray values, got {ensemble.models[0].run}, which scales each "
            "image by itself; leave --window out"
        )
    path = out / MANIFEST
    runs = [f"{model.run.resolve().parent.name}/{model.run.resolve().name}" for model in ensemble.models]
    settings = {
        "models": [model.identity for model in ensemble.models],
        "backend": ensemble.models[0].backend,
        "precision": ensemble.models[0].precision,
        "tta": ",".join(ensemble.tta),
        "dropout": ensemble.dropout,
        "calibrated": ensemble.calibrated,
        "options": json.loads(json.dumps(asdict(options))),
    }
    if path.is_file() or next((out / FOLDER).glob("*.json"), None):
        _check_settings(out, runs, settings)
        return
    about = {
        "medpos": __version__,
        "runs": runs,
        "trained_on_phantoms": ensemble.phantom,
        "labels": [label.to_json() for label in ensemble.labels],
        "settings": settings,
        **({"lights": ensemble.light.facts} if ensemble.light else {}),
    }
    write_json(path, about)


def _check_settings(out: Path, runs: Sequence[str], settings: dict[str, Any]) -> None:
    """Check that the predictions in a folder are of the same networks and options."""
    try:
        about = decode_json((out / MANIFEST).read_text(encoding="utf-8"))
        before = about["settings"]
        before["options"] = asdict(Options()) | before["options"]  # a folder of an earlier version lacks some
        one, other = _describe_settings(about["runs"], before), _describe_settings(runs, settings)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{out / MANIFEST}: expected runs and options of the predictions, got: {error}; choose another --out"
        ) from error
    different = [key for key in other if one.get(key) != other[key]]
    if different:
        expected, got = (", ".join(texts.get(key, "") for key in different) for texts in (one, other))
        raise InputError(f"{out}: expected {expected}, as for the predictions there, got {got}; choose another --out")


def _describe_settings(runs: Sequence[str], settings: dict[str, Any]) -> dict[str, str]:
    """Describe networks and options as on the command line, each by its key."""
    found = {
        "models": " and ".join(
            f"{run} (weights {identity[:8]})" for run, identity in zip(runs, settings["models"], strict=True)
        )
    }
    chosen = {
        "backend": settings["backend"],
        "precision": settings.get("precision", ""),  # not in a folder of an earlier version
        "tta": settings.get("tta", "flip" if settings.get("tta_flip") else ""),
        "dropout": settings.get("dropout", 0),
        "calibrated": settings.get("calibrated", ""),
        **settings["options"],
    }
    for key, value in chosen.items():
        name = f"--{key.removesuffix('_mm')}"
        text = ",".join(f"{part:g}" for part in value) if isinstance(value, list) else str(value)
        found[key] = f"no {name}" if value in (None, "", False) else name if value is True else f"{name} {text}"
    return found


def write(
    out: Path,
    source: CaseFiles,
    files: Sequence[Path],
    measured: Sequence[dict[str, Any]],
    warnings: Sequence[str],
    light: Light | None = None,
) -> None:
    """Record a case as complete, after all its files are written.

    Args:
        out: folder of the results.
        source: files of the case.
        files: result files of the case.
        measured: rows of :func:`medpos.predict.measurements.measure_organs`.
        warnings: warnings, one per line.
        light: whether the image is like those of the training; None: not known.

    Raises:
        InputError: the folder can't be written to.
    """
    record = {
        "made_from": stamp_files(source),
        "content": hash_content(source),
        "files": [str(path.relative_to(out)) for path in files],
        # JSON has no NaN.
        "measurements": [{**row, "value": None if row["value"] != row["value"] else row["value"]} for row in measured],
        "warnings": list(warnings),
        **({"light": asdict(light)} if light else {}),
    }
    write_json(_path(out, source.name), record)


def load(out: Path, name: str) -> dict[str, Any] | None:
    """Return the record of a case, or None if there is none; its files may be missing.

    Args:
        out: folder of the results.
        name: name of the case.
    """
    try:
        record: dict[str, Any] = decode_json(_path(out, name).read_text(encoding="utf-8"))
        return record if all(isinstance(record[key], list) for key in _LISTS) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read(out: Path, name: str) -> dict[str, Any] | None:
    """Return the record of a case, or None if it isn't complete.

    Args:
        out: folder of the results.
        name: name of the case.
    """
    record = load(out, name)
    return record if record and all((out / file).is_file() for file in record["files"]) else None


def restamp(out: Path, name: str, stamp: list[list[Any]] | None) -> None:
    """Record new paths and times of files with the same content, so that they needn't be read at the next call.

    Args:
        out: folder of the results.
        name: name of the case.
        stamp: :func:`stamp_files` of the files; None: they can't be read.

    Raises:
        InputError: the folder can't be written to.
    """
    record = load(out, name)
    if record and stamp and record["made_from"] != stamp:
        write_json(_path(out, name), {**record, "made_from": stamp})


def _path(out: Path, name: str) -> Path:
    return out / FOLDER / f"{name}.json"


def _all_files(source: CaseFiles) -> list[Path]:
    return [*source.files, *sorted(find_parts(source.files))]


def stamp_files(source: CaseFiles) -> list[list[Any]]:
    """Return path, size and time of each file, which stay equal as long as the files do.

    A path that may name a patient is left empty: the name of its case is a hash of the image's UID.

    Args:
        source: files of the case.
    """
    stats = [(path, path.stat()) for path in _all_files(source)]
    return [["" if source.titles else str(path.resolve()), stat.st_size, stat.st_mtime_ns] for path, stat in stats]


def hash_content(source: CaseFiles) -> str:
    """Return the SHA-256 of the sums of all files of a case.

    Args:
        source: files of the case.
    """
    whole = hashlib.sha256()
    for path in _all_files(source):
        one = hashlib.sha256()
        with path.open("rb") as stream:
            while piece := stream.read(_CHUNK):
                one.update(piece)
        whole.update(one.digest())
    return whole.hexdigest()
