"""The prepared data of a bundle: the real ones where they are, phantoms, loudly, where they are not."""

import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from filelock import FileLock

from medpos.core.errors import InputError

logger = logging.getLogger(__name__)

AS_THEY_ARE = ("imagenet",)  # read where they lie


def ready(kind: str, dataset_dir: str, default_dir: str, phantom_dir: str, cases: int, seed: int = 0) -> str:
    """Find the prepared folder, or make phantoms where nobody named one and none is at the default place.

    Args:
        kind: a data set of which there are phantoms, such as ``jsrt``.
        dataset_dir: prepared folder that the user names; a named folder is never replaced by phantoms.
        default_dir: where real prepared data are looked for otherwise.
        phantom_dir: prepared phantoms, made once.
        cases: number of phantoms (subjects; images).
        seed: of the phantoms.

    Returns:
        The folder that holds ``dataset.json``; for ``imagenet`` the one that holds ``train`` and ``val``.
    """
    # Compared as text: a user who types the default's path means real data. A folder that is there without dataset.json
    # is a preparation that was interrupted; the reader says so.
    if dataset_dir != default_dir or Path(dataset_dir).is_dir():
        return dataset_dir
    logger.warning(
        "\n%s\n  No prepared data at %s.\n"
        "  This run uses PHANTOMS: computed images, no patients, and a short schedule.\n"
        "  For real data: python -m data_prep %s --help\n%s",
        "=" * 100,
        default_dir,
        kind,
        "=" * 100,
    )
    target = Path(phantom_dir)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Several processes of one training may come here at once.
    with FileLock(target.with_name(f".{target.name}.lock")):
        if not (target if kind in AS_THEY_ARE else target / "dataset.json").exists():
            _make(kind, target, cases, seed)
    return phantom_dir


def _make(kind: str, target: Path, cases: int, seed: int) -> None:
    with tempfile.TemporaryDirectory(prefix=f"{target.name}-raw-", dir=target.parent) as folder:
        raw = f"{folder}/raw"
        _data_prep("phantoms", "--kind", kind, "--out", raw, "--cases", str(cases), "--seed", str(seed))
        if kind in AS_THEY_ARE:
            Path(raw).rename(target)
            return
        if kind == "jsrt":
            # Phantoms have no detail that a quarter of the resolution would lose.
            source = ["--images", f"{raw}/All247images", "--masks", f"{raw}/scratch", "--size", "256"]
        else:
            source = ["--source", raw]
        _data_prep(kind, *source, "--out", str(target))


def _data_prep(*arguments: str) -> None:
    """Run the command line in a process of its own, whose workers start without MONAI."""
    root = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    workers = ("--workers", str(min(os.cpu_count() or 1, 8)))
    command = [sys.executable, "-m", "data_prep", *arguments, *workers]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise InputError(f"'{' '.join(command[1:])}' failed with exit code {done.returncode}; its message stands above")
