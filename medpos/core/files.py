"""Read and write files; a written file is complete or absent."""

import codecs
import contextlib
import csv
import errno
import glob
import hashlib
import itertools
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import psutil

from medpos.core.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

# Beginnings of formulas in spreadsheets, some of which read the wide signs too. Apostrophes before them are escapes.
_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_OF_THE_NAME = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL)  # faults of a name, not of the folder


class WriteError(InputError):
    """Report a full disk or a folder that can't be written to, which no other file could be written to either."""


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Write a temporary file beside the target, flush it to the disk and rename it.

    A process killed at any point leaves the old file or the new one.

    Args:
        path: target file; its folder is created if missing.
        write: function that writes the file at the path it is given.

    Raises:
        WriteError: the disk is full or the folder can't be written to.
        InputError: the file system has no such name.
    """
    # A short name: that of the target may be as long as a name can be.
    digest = hashlib.sha256(path.name.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    partial = path.with_name(f".{digest}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(partial)
        with partial.open("rb") as stream:
            os.fsync(stream.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno in _OF_THE_NAME:
            raise InputError(
                f"{path}: can't be written under this name ({error.strerror}); give the file another name"
            ) from error
        # torch.save reports a full disk as a RuntimeError.
        raise WriteError(
            f"{path}: can't be written ({error}); make room on the disk or choose another folder"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def write_folder(names: Iterable[Path], write: Callable[[Path], None]) -> Path:
    """Write a temporary folder beside the target, and rename it.

    A process killed at any point leaves no folder, or the whole one; of two processes each writes a folder of its own.

    Args:
        names: target folder, and others to take where one exists; those in another folder than the first are on the
            same disk.
        write: function that fills the folder that it is given.

    Returns:
        The folder that was written.

    Raises:
        WriteError: the disk is full or the folder can't be written to.
        InputError: all the names are taken.
    """
    names = iter(names)
    first = next(names)
    place = first.resolve()
    partial = place.with_name(f".{place.name}.{os.getpid()}.partial")
    remove_partials(place.parent, is_shared=True, pattern=f".{glob.escape(place.name)}.*.partial")
    try:
        partial.mkdir(parents=True)
        write(partial)
        for name in itertools.chain([first], names):
            if _take_name(partial, name):
                return name
    except OSError as error:
        raise WriteError(f"{first}: can't be written ({error}); make room or choose another --out") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    raise InputError(f"{first}: expected a folder that doesn't exist, got an existing one; choose another --out")


def _take_name(folder: Path, name: Path) -> bool:
    """Rename a folder unless the name is taken, maybe by another process since it was looked up."""
    if name.exists() or name.is_symlink():
        return False
    try:
        folder.rename(name)
    except OSError:
        if name.exists():
            return False
        raise
    return True


def remove_partials(folder: Path, is_shared: bool = False, pattern: str = "**/.*.partial") -> None:
    """Remove the temporary files and folders of killed processes from a folder and the folders in it.

    Args:
        folder: folder that this process begins to write to, and so has no temporary files in yet.
        is_shared: whether other processes may write to folders in it; their temporary files stay.
        pattern: names of the temporary files, relative to the folder, with the number of the process before the last
            suffix.
    """
    for path in list(folder.glob(pattern)):
        number = path.name.split(".")[-2]
        is_alive = number.isdecimal() and int(number) != os.getpid() and psutil.pid_exists(int(number))
        if not (is_shared and is_alive):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file of these bytes atomically, as :func:`write_atomically`."""
    write_atomically(path, lambda partial: _put(partial, content))


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    # A file name in another encoding than the system's has bytes that are no text.
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically; NaN and infinity raise ValueError, because standard JSON has neither."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a CSV file atomically; NaN is written as ``nan``, infinity as ``inf``.

    Text that a spreadsheet would take for a formula gets an apostrophe before it, which :func:`read_csv` removes.

    Args:
        path: target file.
        columns: column names in order; a row has these keys alone.
        rows: one mapping for each line.
    """
    lines: list[str] = []
    # A carriage return in a cell is quoted only where it is part of the line's end.
    writer = csv.writer(_Sink(lambda line: lines.append(line.removesuffix("\r\n"))), lineterminator="\r\n")
    writer.writerow(map(_escape_cell, columns))
    for row in rows:
        if unknown := row.keys() - set(columns):
            raise ValueError(f"{path}: expected the columns {', '.join(columns)}, got {', '.join(sorted(unknown))} too")
        writer.writerow([_escape_cell(row.get(name, "")) for name in columns])
    write_text(path, "\n".join([*lines, ""]))


@dataclass(frozen=True)
class _Sink:
    """Pass text that is written to it to a function."""

    write: Callable[[str], None]


def write_frame(path: Path, frame: "pd.DataFrame", missing: str = "") -> None:
    """Write a pandas table as :func:`write_csv` does, without its index.

    Args:
        path: target file.
        frame: table.
        missing: text of a cell without a value.
    """
    safe = frame.rename(columns=_escape_cell)
    for name in safe.columns[[dtype.kind == "O" for dtype in safe.dtypes]]:
        safe[name] = safe[name].map(_escape_cell, na_action="ignore")
    write_text(path, safe.to_csv(index=False, lineterminator="\n", na_rep=missing))


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read the rows of a file that :func:`write_csv` or :func:`write_frame` wrote; all cells are text.

    Raises:
        InputError: the file can't be read, or its lines differ in their number of cells.
    """
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream, strict=True))
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: can't be read as a table ({error}); copy it again") from error
    if any(None in row or None in row.values() for row in rows):
        raise InputError(f"{path}: expected as many cells in each line as columns, got others; copy it again")
    return [{unescape_cell(name): unescape_cell(cell) for name, cell in row.items()} for row in rows]


def _escape_cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) and not _is_number(value) else value


def unescape_cell(text: str) -> str:
    """Return the text of a cell of a file that :func:`write_csv` or :func:`write_frame` wrote."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text, 1) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _put(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def decode_json(text: str | bytes) -> Any:
    """Decode a JSON value from anywhere; bytes with or without a byte order mark, in UTF-8 or UTF-16.

    Raises:
        ValueError: the text isn't JSON, or is nested more deeply than Python can read.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def decode_text(content: bytes, errors: str = "strict") -> str:
    """Decode UTF-8, or UTF-16 with a byte order mark, as Windows writes it.

    Args:
        content: text.
        errors: what is done about bytes that are neither, as ``bytes.decode`` takes it.

    Raises:
        ValueError: there are some, and ``errors`` is ``"strict"``.
    """
    is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if is_wide else "utf-8-sig", errors)


def parse_json(path: Path, advice: str) -> Any:
    """Read any JSON value.

    Args:
        path: JSON file.
        advice: advice for the error message of an unreadable file.

    Raises:
        InputError: the file is missing or isn't JSON.
    """
    try:
        return decode_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: can't be read as JSON ({error}); {advice}") from error


def read_json(path: Path, advice: str) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: JSON file.
        advice: advice for the error message of an unreadable file.

    Raises:
        InputError: the file is missing, is not JSON, or holds something other than an object.
    """
    content = parse_json(path, advice)
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON object, got {type(content).__name__}; {advice}")
    return content


class Readable(Protocol):
    """Describe a ``Path``, or an object that is read like one."""

    def read_bytes(self) -> bytes:
        """Return all bytes of the file."""
        ...


def read_bytes(path: Readable, most: int | None = None) -> bytes:
    """Read all bytes of a file, or the first ones.

    Args:
        path: file to read.
        most: number of bytes after which a file on the disk is read no further; None: all are read.

    Raises:
        InputError: the file is missing or can't be read.
    """
    try:
        if most is None or not isinstance(path, Path):
            return path.read_bytes()
        with path.open("rb") as stream:
            size = path.stat().st_size or most  # a pipe has none
            return stream.read(min(most, size))
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}). Check the path and its permissions.") from error


def find_root(source: Path, places: Iterable[str], inside: str) -> Path:
    """Find the folder that holds ``inside``: ``source`` or one of ``places`` in it.

    Args:
        source: folder that the user names.
        places: paths of further candidates, relative to ``source``.
        inside: path that the folder must hold.

    Raises:
        InputError: no candidate holds it.
    """
    for root in (source, *(source / place for place in places)):
        if (root / inside).exists():
            return root
    raise InputError(f"{source}: expected {inside} in it, found none; give the folder of the download that holds it.")
