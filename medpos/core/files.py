"""Writing files that are either whole or not there."""

import contextlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

from medpos.core.errors import InputError


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Write beside the target, flush to the disk, then rename; a kill at any point leaves the old file or the new one.

    Args:
        path: the target; its folder is made.
        write: writes the file whose name it is given.

    Raises:
        InputError: the disk is full or the folder can't be written to.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(partial)
        with partial.open("rb") as stream:
            os.fsync(stream.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        # torch.save reports a full disk as a RuntimeError.
        raise InputError(
            f"{path}: can't be written ({error}); make room on the disk or choose another folder"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file, whole or not at all."""
    write_atomically(path, lambda partial: _put(partial, text))


def write_json(path: Path, content: Any) -> None:
    """Write JSON that every reader takes: no NaN, no infinity."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def _put(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


class Readable(Protocol):
    """A ``Path``, or what is read like one."""

    def read_bytes(self) -> bytes:
        """All bytes of the file."""
        ...


def read_bytes(path: Readable) -> bytes:
    """All bytes of a file.

    Raises:
        InputError: the file is missing or can't be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}). Check the path and its permissions.") from error


def root_of(source: Path, places: Iterable[str], inside: str) -> Path:
    """The folder that holds ``inside``: ``source`` or one of ``places`` in it.

    Raises:
        InputError: there is none.
    """
    for root in (source, *(source / place for place in places)):
        if (root / inside).exists():
            return root
    raise InputError(f"{source}: no {inside} in it; give the folder of the download that holds it.")
