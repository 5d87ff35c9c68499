"""What a training left behind to predict with: a run folder, or a bundle that was exported from one."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medpos import __version__
from medpos.core.errors import InputError
from medpos.core.files import read_json
from medpos.data.folder import DataFolder
from medpos.data.training_data import TrainingData
from medpos.runs import files

EXPORTED = Path("configs/inference.json")
EXPORTED_WEIGHTS = Path("models/model.pt")
_METADATA = Path("configs/metadata.json")
_NEEDED = ("network_def", "decode", "standardise", "inferer")


@dataclass(frozen=True)
class RunFiles:
    """The files of a run, or of an exported bundle, that a prediction needs.

    Args:
        config: the bundle's configuration, plain values worked out.
        data: what it was trained on.
        weights: the file of the network's state.
    """

    config: dict[str, Any]
    data: TrainingData
    weights: Path


def read_run_files(run: Path, dataset_dir: Path | None = None) -> RunFiles:
    """Find and check the files.

    Args:
        run: a run's folder or an exported bundle's; or that of a later evaluation in a run, to predict as that did.
        dataset_dir: the training data, for a run without ``data.json`` whose data have moved.

    Raises:
        InputError: neither the one nor the other, without weights, of a newer version, or its data are not known.
    """
    exported = not files.Run(run).is_recorded and (run / EXPORTED).is_file()
    path = run / (EXPORTED if exported else files.CONFIG)
    home = _home(run)
    weights = run / EXPORTED_WEIGHTS if exported else home / files.MODEL
    if not path.is_file():
        raise InputError(
            f"{run}: is no run folder (no config.json) and no exported bundle (no {EXPORTED}); give the folder that a "
            "training or an export made"
        )
    if not weights.is_file():
        name = weights.relative_to(run)  # only an evaluation's stand elsewhere, and those are there
        mend = "export it again" if exported else "it was not trained to its first epoch; train it first"
        raise InputError(f"{run}: has no {name}: {mend}")
    config = _read_config(path)
    _check_version(run, exported)
    data = _exported_data(path, config) if exported else _training_data(home, config, dataset_dir)
    return RunFiles(config, data, weights)


def _home(run: Path) -> Path:
    """Where weights and data of a run stand: beside its configuration, or of an evaluation one folder up."""
    up = run.resolve().parent
    return up if not files.Run(run).has_model and files.Run(up).has_model else run


def inferer_key(config: dict[str, Any]) -> str:
    """Where the inferer stands with which the run was tested; an overlay may have put another one there."""
    evaluator = config.get("evaluator")
    return "evaluator::inferer" if isinstance(evaluator, dict) and "inferer" in evaluator else "inferer"


def _read_config(path: Path) -> dict[str, Any]:
    config = read_json(path, "copy the run again")
    if missing := [key for key in _NEEDED if key not in config]:
        raise InputError(f"{path}: lacks {', '.join(missing)}; give a run of a medpos bundle")
    return config


def _check_version(run: Path, exported: bool) -> None:
    name, key = (_METADATA, "required_packages_version") if exported else (Path(files.ENVIRONMENT), "packages")
    try:
        made_by = json.loads((run / name).read_text(encoding="utf-8"))[key]["medpos"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # copied without it
    if isinstance(made_by, str) and _numbers(made_by) > _numbers(__version__):
        raise InputError(f"{run}: was made by medpos {made_by}, this is {__version__}; pip install --upgrade medpos")


def _numbers(text: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", text)[:3]]


def _exported_data(path: Path, config: dict[str, Any]) -> TrainingData:
    source = config.get("source")
    try:
        return TrainingData.of_json(**{k: v for k, v in dict(source or {}).items() if not k.startswith("_")})
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{path}: its source does not say what it was trained on ({error}); export it again"
        ) from error


def _training_data(run: Path, config: dict[str, Any], dataset_dir: Path | None) -> TrainingData:
    if dataset_dir is None and (run / files.DATA).is_file():
        return TrainingData.read(run / files.DATA)
    folder = Path(dataset_dir or str(config.get("data_folder", "")))
    try:
        source = DataFolder(folder)
    except InputError as error:
        raise InputError(
            f"{run}: has no {files.DATA} and its training data can't be read ({error}); give them by --dataset-dir"
        ) from error
    if config.get("data_sha256") not in (None, source.sha256):
        raise InputError(f"{folder}: is not what {run} was trained on (other dataset.json); give that by --dataset-dir")
    return TrainingData.from_folder(source)
