"""Find the prepared data of a bundle, or make phantoms in their place with a warning."""

import logging
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from filelock import FileLock

from data_prep.phantom_counts import check_count
from medpos.core.errors import InputError
from medpos.core.files import decode_json
from medpos.data.schema import MANIFEST, PHANTOM_MARKER, is_phantom

logger = logging.getLogger(__name__)

_RAW = "-raw-"  # in the names of folders that are removed when the phantoms are made
READ_IN_PLACE = ("imagenet",)  # data sets that need no preparation
_WARNING = """
{line}
  No prepared data at {folder}.
  This run uses PHANTOMS: computed images, no patients, and a short schedule.
  For real data: python -m data_prep {kind} --help
{line}"""


# What `state` returns.
PREPARED, PHANTOMS, MISSING = "prepared", "phantoms", "missing"


def state(kind: str, dataset_dir: str, bundle_root: str, cases: int | None = None) -> str:
    """Tell which data a bundle would read, without making any.

    Args:
        kind: data set of which there are phantoms, such as ``jsrt``.
        dataset_dir: prepared folder; by default one below ``bundle_root``.
        bundle_root: folder of ``data``.
        cases: number of phantoms; None: any, as in bundles of earlier versions.

    Returns:
        ``prepared``; ``phantoms`` if they exist already; ``missing`` if phantoms would have to be made.
    """
    default, phantoms = _find_places(kind, bundle_root, cases)
    if not _is_named(dataset_dir, default):
        return PHANTOMS if _exists(kind, Path(phantoms)) else MISSING
    return PHANTOMS if _holds_phantoms(kind, Path(dataset_dir)) else PREPARED


def folder(kind: str, dataset_dir: str, bundle_root: str, cases: int) -> str:
    """Find the prepared folder of a bundle, or make phantoms; see :func:`find_or_make_phantoms`."""
    return find_or_make_phantoms(kind, dataset_dir, *_find_places(kind, bundle_root, cases), cases)


def _find_places(kind: str, bundle_root: str, cases: int | None) -> tuple[str, str]:
    """Return the default folders of prepared data and of prepared phantoms.

    The phantoms that were made first have the folder ``KIND``; those of another number ``KIND-NUMBER``, so that each
    bundle reads as many as it asks for.
    """
    phantoms = f"{bundle_root}/data/phantoms/{kind}"
    counted = _count_phantoms(Path(phantoms))
    fits = cases is None or counted in (None, cases)
    return f"{bundle_root}/data/{kind}", phantoms if fits else f"{phantoms}-{cases}"


def _count_phantoms(place: Path) -> int | None:
    """Return the number of phantoms in a folder; None where there are none, or where an earlier version made them."""
    try:
        return int(decode_json((place / PHANTOM_MARKER).read_text(encoding="utf-8"))["cases"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_named(dataset_dir: str, default_dir: str) -> bool:
    # Compared as text: a user who types the default's path means real data. A folder without dataset.json is an
    # interrupted preparation, which the reader reports.
    return dataset_dir != default_dir or Path(dataset_dir).is_dir()


def _exists(kind: str, place: Path) -> bool:
    return (place if kind in READ_IN_PLACE else place / MANIFEST).exists()


def _holds_phantoms(kind: str, place: Path) -> bool:
    if kind in READ_IN_PLACE:
        return is_phantom(place)
    try:
        content = decode_json((place / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False  # the reader says what is wrong
    return isinstance(content, dict) and content.get("phantom") is True


def find_or_make_phantoms(
    kind: str, dataset_dir: str, default_dir: str, phantom_dir: str, cases: int, seed: int = 0
) -> str:
    """Find the prepared folder; make phantoms if the user named no folder and there is none at the default place.

    Args:
        kind: data set of which there are phantoms, such as ``jsrt``.
        dataset_dir: prepared folder that the user names; a named folder is never replaced by phantoms.
        default_dir: folder of real prepared data if the user names none.
        phantom_dir: folder of prepared phantoms, made once.
        cases: number of phantoms (subjects or images).
        seed: random seed of the phantoms.

    Returns:
        The folder that holds ``dataset.json``; for ``imagenet`` the one that holds ``train`` and ``val``.

    Raises:
        InputError: the phantoms can't be made.
    """
    if _is_named(dataset_dir, default_dir):
        return dataset_dir
    if not _exists(kind, Path(phantom_dir)):
        check_count(kind, cases)
    logger.warning(_WARNING.format(line="=" * 100, folder=default_dir, kind=kind))
    target = Path(phantom_dir)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Several processes of one training may come here at once.
    with FileLock(target.with_name(f".{target.name}.lock")):
        for raw in target.parent.glob(f"{target.name}{_RAW}*"):  # of a process that was killed
            shutil.rmtree(raw, ignore_errors=True)
        if not _exists(kind, target):
            _make_phantoms(kind, target, cases, seed)
    return phantom_dir


def _make_phantoms(kind: str, target: Path, cases: int, seed: int) -> None:
    with tempfile.TemporaryDirectory(prefix=f"{target.name}{_RAW}", dir=target.parent) as folder:
        raw = f"{folder}/raw"
        _run_data_prep("phantoms", "--kind", kind, "--out", raw, "--cases", str(cases), "--seed", str(seed))
        marker = (Path(raw) / PHANTOM_MARKER).read_bytes()
        if kind in READ_IN_PLACE:
            Path(raw).rename(target)
            return
        if kind == "jsrt":
            # Phantoms have no detail that a quarter of the resolution would lose.
            source = ["--images", f"{raw}/All247images", "--masks", f"{raw}/scratch", "--size", "256"]
        else:
            source = ["--source", raw]
        _run_data_prep(kind, *source, "--out", str(target))
        (target / PHANTOM_MARKER).write_bytes(marker)


def _run_data_prep(*arguments: str) -> None:
    """Run the command line in a process of its own, so that its workers start without MONAI."""
    root = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    workers = ("--workers", str(min(os.cpu_count() or 1, 8)))
    command = [sys.executable, "-m", "data_prep", *arguments, *workers]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise InputError(f"'{' '.join(command[1:])}' failed with exit code {done.returncode}; see its message above")
