"""Find the raw files of a data set by their names."""

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from medpos.core.errors import InputError
from medpos.io.listing import list_files
from medpos.io.readers import SUFFIXES
from medpos.io.walk import OTHER, LeftOut, check_links, walk


def find_by_name(source: Path, pattern: str) -> dict[str, Path]:
    """Find the files at any depth of a folder by a pattern of their names; hidden files are skipped.

    Args:
        source: folder; folders of the download may have been moved or renamed.
        pattern: regular expression of the whole name, case-insensitive; its first group is the key.

    Returns:
        Paths by key.

    Raises:
        InputError: the folder is missing, a file is a link to nothing, or two files have one key.
    """
    if not source.is_dir():
        raise InputError(f"{source}: no such folder; check the path.")
    found: dict[str, Path] = {}
    for path in walk(source, LeftOut()):
        match = re.fullmatch(pattern, path.name, re.IGNORECASE)
        if match is None:
            continue
        check_links([path])
        key = match.group(1)
        if key in found:
            raise InputError(f"{path}: a second {path.name} beside {found[key]}; remove or rename one.")
        found[key] = path
    return found


def find_by_stem(
    folder: Path, suffixes: Sequence[str] = SUFFIXES, left_out: LeftOut | None = None, skip: Sequence[Path] = ()
) -> dict[str, Path]:
    """Find the files below a folder with given suffixes, by :func:`medpos.io.listing.list_files`.

    Args:
        folder: folder to list.
        suffixes: suffixes in lower case; by default all that can be read.
        left_out: record of the other files.
        skip: folders of which nothing is listed.

    Returns:
        Paths by their name without suffix, accents composed (NFC), with the names of subfolders before it.

    Raises:
        InputError: the folder is missing, has no such file, or has two files of one name or a link to nothing.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; check the path.")
    left_out = LeftOut() if left_out is None else left_out
    found: dict[str, Path] = {}
    for path in list_files(folder, left_out, lambda path: "" if _suffix(path, suffixes) else OTHER, skip):
        suffix = _suffix(path, suffixes)
        stem = unicodedata.normalize("NFC", "-".join(path.relative_to(folder).parts)[: -len(suffix)])
        if stem in found:
            raise InputError(f"{path}: a second {stem} beside {found[stem]}; remove or rename one.")
        found[stem] = path
    check_links(found.values())
    if not found:
        raise InputError(
            f"{folder}: expected files that end in {', '.join(suffixes)}, found none; check the path, or convert them."
        )
    return found


def _suffix(path: Path, suffixes: Sequence[str]) -> str:
    return next((suffix for suffix in suffixes if path.name.lower().endswith(suffix)), "")


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
