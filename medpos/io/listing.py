"""List the files below a folder that a command reads, and record all others with the reason."""

from collections.abc import Callable, Sequence
from pathlib import Path

from medpos.io import volumes
from medpos.io.readers import suffix_of
from medpos.io.walk import OTHER, LeftOut, walk


def list_files(
    folder: Path, left_out: LeftOut, find_fault: Callable[[Path], str], skip: Sequence[Path] = ()
) -> list[Path]:
    """List files below a folder by :func:`medpos.io.walk.walk`; those that hold the data of a header belong to it.

    Args:
        folder: folder to list.
        left_out: record of the other files.
        find_fault: function that returns why a file isn't read, empty if it is.
        skip: folders of which nothing is listed.
    """
    faults = {path: find_fault(path) for path in walk(folder, left_out, skip)}
    parts = volumes.find_parts(faults) if any(faults.values()) else ()
    for path, fault in faults.items():
        if fault and path not in parts:
            left_out.add(fault, path)
    return [path for path, fault in faults.items() if not fault]


def find_fault(path: Path) -> str:
    """Return why a file is neither a volume nor a picture, empty if it is one by its name."""
    return "" if suffix_of(path) else OTHER
