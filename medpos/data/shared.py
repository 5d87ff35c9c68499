"""Share decoded cases among the processes of a study: one memory-mapped file for each list of cases and its decoding.

The first process that needs a file decodes the cases and writes it, while the others wait; the pages in memory are the
same for all. A file is complete or absent, and one that is damaged since is written anew.
"""

import hashlib
import io
import json
import logging
import pickle
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import IO, Any

import torch
from monai.data import MetaTensor
from monai.data.image_reader import ImageReader
from monai.transforms import Compose

from medpos.core.files import WriteError, write_atomically
from medpos.core.lock import BusyError, FolderLock

logger = logging.getLogger(__name__)
Item = dict[str, Any]
_POLL_S = 0.1  # between two looks at a file that another process writes
_folder: ContextVar[Path | None] = ContextVar("folder", default=None)


@contextmanager
def share_in(folder: Path | None) -> Iterator[None]:
    """Let data sets that decode their cases in this block share them by files in a folder; None shares nothing."""
    token = _folder.set(folder)
    try:
        yield
    finally:
        _folder.reset(token)


def decode_once(data: Sequence[Item], transform: Any, memory_gb: float, decode: Callable[[], list[Item]]) -> list[Item]:
    """Return decoded cases: those that another process has written, or else newly decoded ones, for others to read.

    Args:
        data: cases with the names of their files.
        transform: transform that decodes them.
        memory_gb: memory limit of decoded cases in 10^9 bytes.
        decode: function that decodes the cases.
    """
    folder = _folder.get()
    key = None if folder is None else _compute_key(data, transform, memory_gb)
    if folder is None or key is None:
        return decode()
    path = folder / f"{key}.pt"
    while True:
        if (cases := _read(path)) is not None:
            return cases
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FolderLock(path):
                return _read(path) or _write(path, decode())
        except BusyError:
            time.sleep(_POLL_S)
        except (OSError, WriteError) as error:
            logger.warning("decoded cases aren't shared among processes: %s", error)
            return decode()


class _Pickler(pickle.Pickler):
    """Pickle equal steps to equal bytes, whether or not they share objects or have read files."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(stream)
        self.fast = True  # writes an object anew wherever it occurs

    def reducer_override(self, value: Any) -> Any:
        """Leave out the files that a reader of MONAI has read last."""
        if isinstance(value, ImageReader):
            return type(value), (), {key: part for key, part in vars(value).items() if key != "filenames"}
        return NotImplemented


def _compute_key(data: Sequence[Item], transform: Any, memory_gb: float) -> str | None:
    """Compute a name for decoded cases, from their files and the steps of the transform; None where one has none."""
    steps = io.BytesIO()
    pickler = _Pickler(steps)
    try:
        for step in Compose([transform]).flatten().transforms:  # a Compose holds a random state that nothing uses
            pickler.dump(step)
    except (pickle.PicklingError, AttributeError, TypeError, RecursionError) as error:
        logger.warning("decoded cases aren't shared among processes, because a step can't be compared (%s)", error)
        return None
    states = [
        Path(value).stat()
        for case in data
        for key, value in case.items()
        if key in ("image", "label", "instances") and Path(value).exists()
    ]
    about = [list(data), memory_gb, [(state.st_size, state.st_mtime_ns) for state in states]]
    digest = hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode())
    digest.update(steps.getvalue())
    return digest.hexdigest()[:32]


def _read(path: Path) -> list[Item] | None:
    """Map the cases of a file into memory; None where there is no such file, or a damaged one."""
    try:
        with zipfile.ZipFile(path) as content:
            if content.testzip() is None:
                cases: list[Item] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
                logger.info("took %d decoded cases from %s", len(cases), path)
                return cases
    except FileNotFoundError:
        return None
    except (OSError, RuntimeError, ValueError, NotImplementedError, pickle.UnpicklingError, zipfile.BadZipFile):
        pass
    logger.warning("%s is damaged: its cases are decoded again", path)
    return None


def _write(path: Path, cases: list[Item]) -> list[Item]:
    """Write decoded cases to a file, and return them as mapped from it."""
    write_atomically(path, lambda partial: torch.save([_packed(case) for case in cases], partial))
    return _read(path) or cases


def _packed(case: Item) -> Item:
    """Return a case with plain tensors, each with memory of its own, because a file would hold the whole of a view."""
    packed = dict(case)
    for key, value in case.items():
        if isinstance(value, torch.Tensor):
            plain = value.as_tensor() if isinstance(value, MetaTensor) else value
            packed[key] = plain.clone() if plain.nbytes < plain.untyped_storage().nbytes() else plain
    return packed
