"""One run, one folder: creating and finding it, and what it records about its own making.

``<runs_dir>/<bundle>/<run name>/`` holds ``config.json`` (resolved, runs again as it is), ``environment.json``,
``data.json`` (what a prediction must know of the training data), ``log.txt``, ``model.pt``, ``metrics.csv``,
``summary.json``, ``overlays/`` and ``tensorboard/``; later evaluations of the same model stand in sub-folders
``evaluate/``, ``robustness/`` and ``shift/``.
"""

import json
import logging
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed

from medpos.core.device import is_main_process
from medpos.core.errors import InputError
from medpos.core.files import write_json
from medpos.data.folder import DataFolder
from medpos.data.training_data import TrainingData
from medpos.runs import files
from medpos.runs.environment import environment

logger = logging.getLogger(__name__)
# What a resumed run may change: where and how long it computes, not what.
_FREE_TO_CHANGE = frozenset({"resume", "run_name", "runs_dir", "bundle_root", "device", "num_workers", "max_epochs"})
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class RunFolder:
    """The folder of this run: :meth:`create` or :meth:`open` chooses it, :meth:`record` begins to write in it.

    Args:
        runs_dir: where all runs stand.
        bundle: name of the bundle, the folder below ``runs_dir``.
        run_name: the folder below that. Empty: the time of day for a new run, the latest run for an evaluation.
        resume: go on with an unfinished run instead of beginning a new one.
        checkpoint: weights to evaluate instead of a run's own ``model.pt``; the results then get a run folder of their
            own.

    Raises:
        InputError: the name holds anything but letters, digits, ``.``, ``_`` and ``-``.
    """

    def __init__(
        self, runs_dir: str | Path, bundle: str, run_name: str = "", resume: bool = False, checkpoint: str = ""
    ) -> None:
        self.parent = Path(runs_dir) / bundle
        self.run_name = str(run_name)
        if self.run_name and not _NAME.fullmatch(self.run_name):
            raise InputError(f"run_name is {run_name!r}, needed letters, digits, '.', '_' or '-', such as 'first-try'")
        self.resume = resume
        self.checkpoint = checkpoint
        self._folder: Path | None = None
        self._part = ""
        self._exists = False

    @property
    def folder(self) -> Path:
        """The run's folder; before :meth:`create` or :meth:`open`, the one that would be created."""
        return self._folder or self.parent / (self.run_name or time.strftime("%Y-%m-%d_%H-%M-%S"))

    @property
    def results(self) -> Path:
        """Where the tables and overlays of the present evaluation go."""
        return self.folder / self._part

    @property
    def model(self) -> Path:
        """The weights that are evaluated."""
        return Path(self.checkpoint) if self.checkpoint else self.folder / files.MODEL

    def create(self) -> "RunFolder":
        """Begin a new run, or go on with an unfinished one.

        Raises:
            InputError: the run exists and is finished, or exists and ``resume`` was not asked for, or there is none to
                resume, or a ``checkpoint`` was given.
        """
        if self.checkpoint:
            raise InputError("checkpoint is for evaluations, a training begins anew; leave --checkpoint out")
        if self.resume:
            self._folder = self._existing("resume", lambda run: not files.Run(run).is_finished)
            if files.Run(self._folder).is_finished:
                raise InputError(
                    f"{self._folder} is finished, so there is nothing to resume; begin a new run without --resume"
                )
        else:
            self._folder = self._new()
        self._agree()
        return self

    def open(self, part: str) -> "RunFolder":
        """Take up a trained run to evaluate it; results go to its sub-folder ``part``, which is never overwritten.

        Raises:
            InputError: there is no such run, or it has no ``model.pt``, or ``checkpoint`` names no file.
        """
        if self.checkpoint:
            if not Path(self.checkpoint).is_file():
                raise InputError(f"checkpoint {self.checkpoint!r} is not there; give the model.pt of a run")
            self._folder = self._new()
        else:
            self._folder = self._existing(part, lambda run: files.Run(run).has_model)
            if not self.model.exists():
                raise InputError(
                    f"{self._folder} has no model.pt: it was not trained to its first epoch; train it first"
                )
        self._part = self._free(part)
        self._agree()
        return self

    def _free(self, part: str) -> str:
        """``part``, or ``part-2`` and so on where a finished evaluation stands already."""
        names = [part, *(f"{part}-{n}" for n in range(2, 1000))]
        return next(name for name in names if not files.Run(self.folder / name).is_finished)

    def _new(self) -> Path:
        folder = self.folder
        if folder.exists() and is_main_process():
            if files.Run(folder).is_finished:
                raise InputError(f"{folder} exists and is finished; choose another --run_name, it is not overwritten")
            raise InputError(f"{folder} exists; go on with it by --resume True, or choose another --run_name")
        return folder

    def _existing(self, purpose: str, wanted: Callable[[Path], bool]) -> Path:
        self._exists = True
        if self.run_name:
            folder = self.parent / self.run_name
            if not folder.is_dir():
                names = sorted(p.name for p in self.parent.glob("*/")) or ["none"]
                raise InputError(f"{purpose}: {folder} is not there; runs of this bundle: {', '.join(names)}")
            return folder
        runs = [run for run in self.parent.glob("*/") if files.Run(run).is_recorded and wanted(run)]
        if not runs:
            raise InputError(
                f"{purpose}: no fitting run under {self.parent}; train first, or give --run_name or --runs_dir"
            )
        return max(runs, key=lambda run: (run / files.CONFIG).stat().st_mtime)

    def _agree(self) -> None:
        if torch.distributed.is_initialized():
            agreed = [self._folder, self._part]  # the time of day may differ between processes
            torch.distributed.broadcast_object_list(agreed)
            self._folder, self._part = agreed  # type: ignore[assignment]

    def _begin(self) -> None:
        try:
            # Another run may have taken the name since it was chosen.
            self.folder.mkdir(parents=True, exist_ok=self._exists)
            self.results.mkdir(exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.results} can't be made ({error}); give another --runs_dir") from error
        _log_to(self.folder / files.LOG)
        logger.info("run folder: %s", self.folder)

    def record(
        self, config: dict[str, Any], device: torch.device | str, seed: int, data: TrainingData | None = None
    ) -> None:
        """Make the folder, begin its log, write ``config.json`` and ``environment.json`` (evaluations: in ``part``).

        What a prediction must know of the training data goes to ``data.json``.

        Args:
            config: the resolved configuration.
            device: on which the run computes.
            seed: of the run.
            data: the training data, where they aren't those of a prepared folder.

        Raises:
            InputError: a resumed run was begun with other values, so the result would be neither the one nor the other;
                or the folder can't be made.
        """
        if is_main_process():
            if self.resume:
                _check_unchanged(self.results / files.CONFIG, config)
            self._begin()
            write_json(self.results / files.CONFIG, {**config, "resume": False})
            write_json(self.results / files.ENVIRONMENT, environment(device, seed))
            # An evaluation may use other data than the training.
            if "data_folder" in config and not self._part:
                (data or TrainingData.of(DataFolder(config["data_folder"]))).write(self.folder)


def _check_unchanged(path: Path, config: dict[str, Any]) -> None:
    if not path.exists():
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    changed = [k for k in config if k not in _FREE_TO_CHANGE and k in before and before[k] != config[k]]
    if changed:
        values = ", ".join(f"{k} was {before[k]!r}, is {config[k]!r}" for k in changed[:3])
        raise InputError(
            f"{path.parent} was begun otherwise: {values}; resume with the same values, or begin a new run"
        )


def _log_to(path: Path) -> None:
    """Send all log messages to this file as well, in place of an earlier run's file of this process."""
    root = logging.getLogger()
    for handler in [h for h in root.handlers if isinstance(h, logging.FileHandler)]:
        root.removeHandler(handler)
        handler.close()
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root.addHandler(handler)
    if root.level > logging.INFO or root.level == logging.NOTSET:
        root.setLevel(logging.INFO)
