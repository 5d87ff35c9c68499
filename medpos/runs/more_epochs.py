"""Train a finished run for more epochs: check that it can be, keep its results, and describe the learning rate."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medpos.core.config import Config, find_references, follow_references
from medpos.core.errors import InputError
from medpos.core.lock import FolderLock
from medpos.runs import files
from medpos.runs.checkpoints import load

KEPT = "until_epoch_"  # folder of the results before
_STAYING = {files.RESUME, files.LOG, files.TENSORBOARD}  # these go on
_COPIED = {files.MODEL, files.CONFIG, files.ENVIRONMENT, files.DATA, files.TRAINING_CASES, files.START}


def check_more_epochs(folder: Path, max_epochs: int | None, patience: int) -> None:
    """Check that a finished run can be trained further.

    Args:
        folder: folder of the run.
        max_epochs: wanted length of the training in epochs; None for that of the run.
        patience: epochs without a better key metric after which the training stops; 0 for never.

    Raises:
        InputError: the run has been trained as long, stopped early for the same reason, has no state to resume, or is
            being evaluated.
    """
    path = folder / files.RESUME
    state = load(path) if path.exists() else {}
    trained = int(state.get("epoch", 0))
    if not state or max_epochs is None or max_epochs <= trained:
        more = f"train it further by --max_epochs above {trained}, or " if state else ""
        raise InputError(f"{folder} is finished, so there is nothing to resume; {more}start a new run without --resume")
    for part in folder.glob("*/"):
        FolderLock(part).check()
    best = max(int(state["best_metric_epoch"]), 0)
    if state.get("stopped") and 0 < patience <= trained - best:
        raise InputError(f"{folder}: {state['stopped']}; train it further by --patience 0, or above {trained - best}")


def keep_results(folder: Path) -> Path:
    """Move the results of a finished run to a folder of its own, which is a whole run folder.

    ``summary.json``, which marks the run as finished, goes last, so that a killed call can be repeated.

    Args:
        folder: folder of the run.

    Returns:
        The new folder, ``until_epoch_100``.
    """
    target = folder / f"{KEPT}{int(load(folder / files.RESUME)['epoch'])}"
    parts = [path for path in folder.iterdir() if path.name not in _STAYING and not path.name.startswith(KEPT)]
    if not target.exists():
        partial = target.with_name(f"{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        for path in parts:
            (shutil.copytree if path.is_dir() else shutil.copy2)(path, partial / path.name)
        partial.rename(target)
    moved = [path for path in parts if path.name not in _COPIED]
    for path in sorted(moved, key=lambda path: path.name == files.SUMMARY):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return target


def describe_change(before: Config, config: Config) -> str:
    """Describe a change of ``max_epochs``, and what it does to the learning rate; "" where nothing changes.

    Args:
        before: resolved configuration of the training until now.
        config: that of the training from now on.
    """
    old, new = before.get("max_epochs"), config.get("max_epochs")
    if old == new:
        return ""
    train = {key: value for key, value in config.get("train", {}).items() if key not in ("trainer", "handlers")}
    schedules = [f"train#{path} ({target})" for path, target in _find_dependent(train, config)]
    if not schedules:
        return (
            f"max_epochs was {old}, is {new}; the learning rate doesn't depend on it, so this equals a training of "
            f"{new} epochs from the start"
        )
    return (
        f"max_epochs was {old}, is {new}; {', '.join(schedules)} depends on it: from now on the learning rate is that "
        f"of a training of {new} epochs, but until now it was that of {old} epochs, so it changes at the first step, "
        f"and the model differs from that of {new} epochs from the start"
    )


def _find_dependent(node: Any, config: Config, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield path and target of the components with an argument that depends on ``max_epochs``."""
    if not isinstance(node, dict | list):
        return
    if isinstance(node, dict) and "_target_" in node:
        plain = [value for value in node.values() if isinstance(value, str)]
        if "max_epochs" in find_references(plain) | follow_references(plain, config, ("train",)):
            yield path, str(node["_target_"])
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        yield from _find_dependent(value, config, f"{path}#{key}" if path else str(key))
