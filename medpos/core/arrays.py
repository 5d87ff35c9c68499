"""Write named arrays into one compressed file, and read them; no code in the file is run."""

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medpos.core.errors import InputError
from medpos.core.files import write_atomically

# What NumPy, zipfile and a reader of the arrays raise for a damaged file.
_DAMAGED = (
    *(OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, MemoryError),
    *(ValueError, KeyError, TypeError, IndexError, AttributeError),
)


def save_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write named arrays to one compressed file, whole or not at all."""
    write_atomically(path, lambda partial: _compress(partial, arrays))


def _compress(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    with path.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]


@contextmanager
def open_arrays(path: Path, what: str, advice: str) -> Iterator[Any]:
    """Open what :func:`save_arrays` wrote, to read its arrays by their names in this block.

    Args:
        path: the file.
        what: what it should be, for the message.
        advice: what to do if it isn't.

    Raises:
        InputError: the file is missing, damaged or something else; also for what the block raises of it.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            yield content
    except InputError:
        raise
    except _DAMAGED as error:
        raise InputError(f"{path}: can't be read as {what} ({error}); {advice}") from error
