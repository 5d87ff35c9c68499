"""Read the files that a prediction needs from a run folder or an exported bundle."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medpos import __version__
from medpos.core.errors import InputError
from medpos.core.files import decode_json, read_json
from medpos.data.folder import DataFolder
from medpos.data.training_data import TrainingData
from medpos.runs import files

EXPORTED = Path("configs/inference.json")
EXPORTED_WEIGHTS = Path("models/model.pt")
_METADATA = Path("configs/metadata.json")
_REQUIRED = ("network_def", "decode", "standardise", "inferer")


@dataclass(frozen=True)
class RunFiles:
    """Hold what a prediction needs of a run or an exported bundle.

    Args:
        config: resolved configuration.
        data: description of the training data.
        weights: file of the network's weights.
    """

    config: dict[str, Any]
    data: TrainingData
    weights: Path


def read_run_files(run: Path, dataset_dir: Path | None = None) -> RunFiles:
    """Find and check the files of a run or an exported bundle.

    Args:
        run: folder of a run, of an exported bundle, or of an evaluation in a run, whose settings are then used.
        dataset_dir: training data, for a run without ``data.json`` whose data have moved.

    Raises:
        InputError: the folder is neither, lacks weights, is of a newer version, or its training data are unknown.
    """
    exported = not files.Run(run).is_recorded and (run / EXPORTED).is_file()
    path = run / (EXPORTED if exported else files.CONFIG)
    home = _home(run)
    weights = run / EXPORTED_WEIGHTS if exported else home / files.MODEL
    if not path.is_file():
        raise InputError(
            f"{run}: expected a run folder (with config.json) or an exported bundle (with {EXPORTED}), got neither; "
            "give the folder that a training or an export wrote"
        )
    if not weights.is_file():
        name = weights.relative_to(run)  # those of an evaluation are elsewhere, but known to exist
        remedy = "export it again" if exported else "train it for at least one epoch"
        raise InputError(f"{run}: expected {name}, got none; {remedy}")
    config = _read_config(path)
    _check_version(run, exported)
    data = _exported_data(path, config) if exported else _training_data(home, config, dataset_dir)
    return RunFiles(config, data, weights)


def _home(run: Path) -> Path:
    """Return the folder of a run's weights and data: that of its configuration; for an evaluation, the one above."""
    up = run.resolve().parent
    return up if not files.Run(run).has_model and files.Run(up).has_model else run


def inferer_key(config: dict[str, Any]) -> str:
    """Return the key of the inferer that the run was tested with, which an overlay may have replaced.

    Args:
        config: resolved configuration.
    """
    evaluator = config.get("evaluator")
    return "evaluator::inferer" if isinstance(evaluator, dict) and "inferer" in evaluator else "inferer"


def _read_config(path: Path) -> dict[str, Any]:
    config = read_json(path, "copy the run again")
    if missing := [key for key in _REQUIRED if key not in config]:
        raise InputError(
            f"{path}: expected the keys {', '.join(_REQUIRED)}, got a file without {', '.join(missing)}; give a run of "
            "a medpos bundle"
        )
    return config


def _check_version(run: Path, exported: bool) -> None:
    try:
        if exported:
            made_by = decode_json((run / _METADATA).read_text(encoding="utf-8"))["required_packages_version"]["medpos"]
        else:
            made_by = files.Run(run).environment["packages"]["medpos"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # copied without it
    if isinstance(made_by, str) and _numbers(made_by) > _numbers(__version__):
        raise InputError(
            f"{run}: expected a run of medpos {__version__} or older, got one of {made_by}; pip install --upgrade "
            "medpos"
        )


def _numbers(text: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", text)[:3]]


def _exported_data(path: Path, config: dict[str, Any]) -> TrainingData:
    source = config.get("source")
    try:
        return TrainingData.of_json(**{k: v for k, v in dict(source or {}).items() if not k.startswith("_")})
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{path}: expected a source that describes the training data, got: {error}; export it again"
        ) from error


def _training_data(run: Path, config: dict[str, Any], dataset_dir: Path | None) -> TrainingData:
    if dataset_dir is None and (run / files.DATA).is_file():
        return TrainingData.read(run / files.DATA)
    return TrainingData.from_folder(open_training_data(run, config, dataset_dir))


def open_training_data(run: Path, config: dict[str, Any], dataset_dir: Path | None) -> DataFolder:
    """Open the prepared data that a run was trained on.

    Args:
        run: folder of the run, as messages name it.
        config: its resolved configuration.
        dataset_dir: folder of the data, if they have moved.

    Raises:
        InputError: the folder can't be read, or holds other data.
    """
    folder = Path(dataset_dir or str(config.get("data_folder", "")))
    try:
        source = DataFolder(folder, config.get("fold", ""))
    except InputError as error:
        raise InputError(
            f"{run}: expected {files.DATA} or readable training data, got neither ({error}); give the data by "
            "--dataset-dir"
        ) from error
    if config.get("data_sha256") not in (None, source.sha256):
        raise InputError(
            f"{folder}: expected the training data of {run}, got another dataset.json; give these data by --dataset-dir"
        )
    return source
