"""Create or find the folder of a run, and record the run's configuration and environment in it.

``<runs_dir>/<bundle>/<run name>/`` holds ``config.json`` (resolved configuration, which can be run again),
``environment.json``, ``data.json`` (facts about the training data that a prediction needs), ``training_cases.csv``,
``log.txt``, ``model.pt``, ``metrics.csv``, ``summary.json``, ``overlays/`` and ``tensorboard/``; later evaluations of
the same model are in the sub-folders ``evaluate/``, ``robustness/`` and ``shift/``.
"""

import contextlib
import itertools
import logging
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed

from medpos.core.config import expand_clean_chain, expand_steps, is_entry_point
from medpos.core.device import is_main_process
from medpos.core.errors import InputError
from medpos.core.files import remove_partials, write_json
from medpos.core.lock import BusyError, FolderLock
from medpos.core.moved import LATER, with_current_names, without_later_keys
from medpos.data.folder import DataFolder
from medpos.data.training_data import TrainingData
from medpos.runs import files, training_cases
from medpos.runs.environment import continue_environments, environment
from medpos.runs.identity import OF_MACHINE, OF_TESTS
from medpos.runs.more_epochs import check_more_epochs, describe_change, keep_results

logger = logging.getLogger(__name__)
# A resumed run may change where and how long it computes, and what its model is tested under, but not the training.
_FREE_TO_CHANGE = OF_MACHINE | OF_TESTS | {"resume", "run_name", "runs_dir", "bundle_root", "max_epochs"}
_FREE_TO_CHANGE |= {"patience", "patience_nan"}
_FREE_TO_CHANGE |= {"_desc_", "imports", "known_keys", "steps"}  # a step counts where a chain takes it
_NOT_THE_SAME = (
    "the run was begun in another environment: %s; its results will equal those of an uninterrupted training within "
    "rounding, not bit for bit"
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class RunFolder:
    """Manage the folder of this run: :meth:`create` or :meth:`open` chooses it, :meth:`record` begins to write in it.

    Args:
        runs_dir: folder of all runs.
        bundle: name of the bundle and of its folder in ``runs_dir``.
        run_name: name of the run's folder. Empty: the date and time for a new run, the latest run for an evaluation.
        resume: True continues an unfinished run instead of beginning a new one.
        checkpoint: file of weights to evaluate instead of a run's ``model.pt``; the results then get a run folder of
            their own.

    Raises:
        InputError: the name has other characters than letters, digits, ``.``, ``_`` and ``-``.
    """

    def __init__(
        self, runs_dir: str | Path, bundle: str, run_name: str = "", resume: bool = False, checkpoint: str = ""
    ) -> None:
        self.bundle = bundle
        self.parent = Path(runs_dir) / bundle
        self.run_name = str(run_name)
        if self.run_name and not _NAME.fullmatch(self.run_name):
            raise InputError(
                f"run_name: expected letters, digits, '.', '_' or '-', got {run_name!r}; give one like 'first-try'"
            )
        self.resume = resume
        self.checkpoint = checkpoint
        self.is_compared = False  # whether the data were compared with those of the training
        self.training_cases = 0  # cases of the evaluation that the model was trained on
        self.stopped = ""  # reason for which the training ended before its last epoch
        self._folder: Path | None = None
        self._part = ""
        self._exists = False
        self._lock: FolderLock | None = None

    @property
    def folder(self) -> Path:
        """Folder of the run; before :meth:`create` or :meth:`open`, the one that would be created."""
        return self._folder or self.parent / (self.run_name or time.strftime("%Y-%m-%d_%H-%M-%S"))

    @property
    def results(self) -> Path:
        """Folder for the tables and overlays of the present evaluation."""
        return self.folder / self._part

    @property
    def model(self) -> Path:
        """File of the weights that are evaluated."""
        return Path(self.checkpoint) if self.checkpoint else self.folder / files.MODEL

    def create(self, max_epochs: int | None = None, patience: int = 0) -> "RunFolder":
        """Begin a new run, continue an unfinished one, or a finished one for more epochs.

        Args:
            max_epochs: length of the training in epochs; None never continues a finished run.
            patience: number of epochs without a better key metric after which the training stops; 0 for never.

        Raises:
            InputError: the run is finished and was trained as long; it exists and ``resume`` is False; there is no run
                to resume; or a ``checkpoint`` was given.
        """
        if self.checkpoint:
            raise InputError(
                "checkpoint is for evaluations alone, a training starts from its own weights; leave --checkpoint out"
            )
        if self.resume:
            self._folder = self._find_resumable(max_epochs)
            if files.Run(self._folder).is_finished:
                check_more_epochs(self._folder, max_epochs, patience)
            FolderLock(self._folder).check()
        else:
            self._folder = self._find_unused()
        self._share()
        return self

    def find_trained(self, purpose: str = "evaluation") -> Path:
        """Find the trained run whose weights are evaluated.

        Args:
            purpose: name of the evaluation, for messages.

        Returns:
            Folder of the weights; with ``checkpoint`` that of its file.

        Raises:
            InputError: there is no such run, it has no ``model.pt``, or ``checkpoint`` is no file.
        """
        if self.checkpoint:
            if not Path(self.checkpoint).is_file():
                raise InputError(f"checkpoint {self.checkpoint!r} does not exist; give the {files.MODEL} of a run")
            self._folder = self._folder or self._find_unused()
        elif self._folder is None:
            self._folder = self._find(purpose, lambda run: files.Run(run).has_model)
        if not self.model.exists():
            raise InputError(f"{self._folder} has no {files.MODEL}: its first epoch is not complete; train it first")
        return self.model.parent

    def open(self, part: str) -> "RunFolder":
        """Find a trained run to evaluate; the results go to its sub-folder ``part``, which is never overwritten.

        Args:
            part: name of the evaluation, such as ``robustness``; a finished one of this name makes it ``robustness-2``.

        Raises:
            InputError: there is no such run, it has no ``model.pt``, or ``checkpoint`` isn't a file.
        """
        self.find_trained(part)
        self._part = self._unused_name(part)
        self._share()
        return self

    def _unused_name(self, part: str) -> str:
        """Return ``part``, or ``part-2`` and so on where an evaluation is finished or under way."""
        return next(name for name in _numbered(part) if _is_free(self.folder / name))

    def _find_unused(self) -> Path:
        """Return the folder of a new run, after checking that no other run has it."""
        folder = self.folder
        if not self.run_name:  # another run may have been started in the same second
            return next(self.parent / name for name in _numbered(folder.name) if not (self.parent / name).exists())
        if folder.exists() and is_main_process():
            if files.Run(folder).is_finished:
                raise InputError(
                    f"{folder} exists and is finished, and no run is overwritten; choose another --run_name"
                )
            raise InputError(f"{folder} exists; continue it by --resume True, or choose another --run_name")
        return folder

    def _find(self, purpose: str, fits: Callable[[Path], bool]) -> Path:
        """Return the folder of the run with the given name, or of the latest run that fits."""
        self._exists = True
        if self.run_name:
            folder = self.parent / self.run_name
            if not folder.is_dir():
                names = sorted(p.name for p in self.parent.glob("*/")) or ["none"]
                raise InputError(f"{purpose}: {folder} does not exist; runs of this bundle: {', '.join(names)}")
            return folder
        runs = [run for run in self.parent.glob("*/") if files.Run(run).is_recorded and fits(run)]
        if not runs:
            raise InputError(
                f"{purpose}: no fitting run in {self.parent}; train first, or give --run_name or --runs_dir"
            )
        return max(runs, key=lambda run: (run / files.CONFIG).stat().st_mtime)

    def _find_resumable(self, max_epochs: int | None) -> Path:
        """Return the folder with the given name, or of the latest unfinished run, or of a finished shorter one."""

        def is_unfinished(run: Path) -> bool:
            return not files.Run(run).is_finished

        def is_shorter(run: Path) -> bool:
            return int(files.Run(run).config.get("max_epochs", 0)) < (max_epochs or 0)

        runs = [run for run in self.parent.glob("*/") if files.Run(run).is_recorded]
        return self._find("resume", is_unfinished if any(map(is_unfinished, runs)) else is_shorter)

    def _share(self) -> None:
        """Give the choice of the main process to all others."""
        if torch.distributed.is_initialized():
            chosen = [self._folder, self._part]  # the clocks of the processes may differ
            torch.distributed.broadcast_object_list(chosen)
            self._folder, self._part = chosen  # type: ignore[assignment]

    def _make(self) -> None:
        """Make the folders and begin the log."""
        try:
            self.parent.mkdir(parents=True, exist_ok=True)
            self._claim()
            self.results.mkdir(exist_ok=True)
            remove_partials(self.results, is_shared=True)
        except OSError as error:
            self.close()
            raise InputError(f"{self.results}: can't be made ({error}); give another --runs_dir") from error
        _log_to(self.folder / files.LOG)
        logger.info("run folder: %s", self.folder)

    def _claim(self) -> None:
        """Make the run's folder and lock it; another process may have taken its name since it was chosen."""
        while True:
            try:
                if not self._part:
                    self._lock = FolderLock(self.folder).acquire()
                self.folder.mkdir(exist_ok=self._exists)
                break
            except (BusyError, FileExistsError):
                if self.run_name or self._exists:
                    raise
                self._folder = self._find_unused()
        if self._part:
            self._lock = FolderLock(self.results).acquire()

    def close(self) -> None:
        """Release the folder for other processes."""
        if self._lock:
            self._lock.release()

    def record(
        self, config: dict[str, Any], device: torch.device | str, seed: int, data: TrainingData | None = None
    ) -> None:
        """Make the folder, begin its log, and write ``config.json`` and ``environment.json``.

        A training also gets ``data.json`` and ``training_cases.csv``; the files of an evaluation go to its sub-folder.
        A resumed run keeps the environments of the calls before, and warns if this call may round otherwise.

        Args:
            config: the resolved configuration.
            device: device that the run computes on.
            seed: random seed of the run.
            data: training data that are not a prepared folder; None: those of ``data_folder`` in ``config``.

        Raises:
            InputError: a resumed run was started with other values, or the folder can't be made.
        """
        if is_main_process():
            change = _check_unchanged(self.results / files.CONFIG, config) if self.resume else ""
            environments = files.Run(self.results).environments if self.resume else []
            environments = continue_environments(environments, environment(device, seed))
            self._make()
            if self.resume and not self._part and files.Run(self.folder).is_finished:
                logger.info("the results until now are in %s", keep_results(self.folder))
            if change:
                logger.info(change)
            write_json(self.results / files.CONFIG, {**config, "resume": False})
            if changed := environments[-1].get("changed"):
                logger.warning(_NOT_THE_SAME, "; ".join(changed))
            write_json(self.results / files.ENVIRONMENT, environments)
            if "data_folder" in config and not self._part:
                self._describe_training(config, data)
        self._share()

    def _describe_training(self, config: dict[str, Any], data: TrainingData | None) -> None:
        """Write ``data.json``, and ``training_cases.csv`` for a prepared folder."""
        if data is None:
            source = DataFolder(config["data_folder"], config.get("fold", ""))
            cases = source.cases("training", config.get("train_cases"), config.get("seed", 0))
            training_cases.write(self.folder, source.name, cases)
            data = TrainingData.from_folder(source)
        data.write(self.folder)


def _numbered(name: str) -> Iterator[str]:
    """Yield ``name``, ``name-2``, ``name-3`` and so on."""
    yield name
    yield from (f"{name}-{number}" for number in itertools.count(2))


def _is_free(folder: Path) -> bool:
    """Tell whether a folder holds no finished evaluation and none that is under way."""
    return not files.Run(folder).is_finished and not FolderLock(folder).holder()


def _check_unchanged(path: Path, config: dict[str, Any]) -> str:
    """Check that a training is resumed with the same values, and describe a change of its length."""
    if not path.exists():
        return ""
    recorded = files.read_json(path)
    before, now = _fixed_values(recorded), _fixed_values(config)
    changed = [k for k in now if k in before and before[k] != now[k]]
    if changed:
        values = ", ".join(f"{k} was {before[k]!r}, is {now[k]!r}" for k in changed[:3])
        raise InputError(
            f"{path.parent} was started with other values: {values}; resume with the same values, or start a new run"
        )
    return describe_change(recorded, config)


def _fixed_values(config: dict[str, Any]) -> dict[str, Any]:
    """Return the values that a resumed run can't change, independent of the way steps and entry points are written."""
    later = {key: config.get(key, LATER[key]) for key in LATER}  # an earlier version lacks some
    config = without_later_keys(config)
    fixed = {k: v for k, v in {**config, **later}.items() if k not in _FREE_TO_CHANGE and not is_entry_point(k, v)}
    if "preprocessing" in fixed:
        fixed["preprocessing"] = expand_clean_chain(config)  # validation is on clean images
    return {k: with_current_names(expand_steps(v, config)) for k, v in fixed.items()}


def _log_to(path: Path) -> None:
    """Send all log messages to this file as well, in place of the file of an earlier run in this process."""
    close_log()
    root = logging.getLogger()
    handler = _RunLog(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root.addHandler(handler)
    if root.level > logging.INFO or root.level == logging.NOTSET:
        root.setLevel(logging.INFO)


class _RunLog(logging.FileHandler):
    """Say once in one line that the log can't be written; the files of a run say so themselves, with an error."""

    is_reported = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write a message; the file is opened anew if somebody closed it, and its folder may be gone by then."""
        try:
            super().emit(record)
        except OSError:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """Say it on stderr."""
        if not self.is_reported:
            sys.stderr.write(f"{self.baseFilename}: can't be written ({sys.exc_info()[1]})\n")
        self.is_reported = True

    def close(self) -> None:
        """Close the file, which writes what is left of it."""
        with contextlib.suppress(OSError):
            super().close()


def close_log() -> None:
    """Stop sending log messages to the file of a run."""
    root = logging.getLogger()
    for handler in [h for h in root.handlers if isinstance(h, _RunLog)]:
        root.removeHandler(handler)
        handler.close()
