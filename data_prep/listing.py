"""Find the raw files of a data set by their names."""

import re
from collections.abc import Sequence
from pathlib import Path

from data_prep.pictures import SUFFIXES
from medpos.core.errors import InputError


def find_by_name(source: Path, pattern: str) -> dict[str, Path]:
    """Find the files at any depth of a folder by a pattern of their names; hidden files are skipped.

    Args:
        source: folder; folders of the download may have been moved or renamed.
        pattern: regular expression of the whole name, case-insensitive; its first group is the key.

    Returns:
        Paths by key.

    Raises:
        InputError: the folder is missing, or two files have one key.
    """
    if not source.is_dir():
        raise InputError(f"{source}: no such folder; check the path.")
    found: dict[str, Path] = {}
    for path in sorted(source.rglob("*")):
        match = None if path.name.startswith(".") else re.fullmatch(pattern, path.name, re.IGNORECASE)
        if match is None or not path.is_file():
            continue
        key = match.group(1)
        if key in found:
            raise InputError(f"{path}: a second {path.name} beside {found[key]}; remove or rename one.")
        found[key] = path
    return found


def find_by_stem(folder: Path, suffixes: Sequence[str] = SUFFIXES) -> dict[str, Path]:
    """Find the files of a folder with given suffixes; hidden files are skipped.

    Args:
        folder: folder to list, without its subfolders.
        suffixes: suffixes in lower case; by default all that can be read.

    Returns:
        Paths by name without suffix.

    Raises:
        InputError: the folder is missing, has no such file, or has two files of one name.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; check the path.")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        suffix = next((suffix for suffix in suffixes if path.name.lower().endswith(suffix)), "")
        if not suffix or path.name.startswith(".") or not path.is_file():
            continue
        stem = path.name[: -len(suffix)]
        if stem in found:
            raise InputError(f"{path}: a second {stem} beside {found[stem]}; remove or rename one.")
        found[stem] = path
    if not found:
        raise InputError(
            f"{folder}: expected files that end in {', '.join(suffixes)}, found none; check the path, or convert them."
        )
    return found


def require_file(path: Path, why: str) -> Path:
    """Return the path of a file that must exist.

    Args:
        path: path of the file.
        why: clause for the message that says what names the file.

    Raises:
        InputError: the file is missing.
    """
    if not path.is_file():
        raise InputError(f"{path}: is missing, {why}; unpack the download again.")
    return path
