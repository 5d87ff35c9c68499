"""What the readers of published downloads share: files found by their names, and counts compared with the whole."""

import re
from collections.abc import Mapping
from pathlib import Path

from medpos.core.errors import InputError


def by_name(source: Path, pattern: str) -> dict[str, Path]:
    """The files at or below a folder whose whole name fits, wherever they lie; hidden files are left out.

    Args:
        source: the folder; a folder of the download may have been moved or renamed.
        pattern: regular expression whose first group is the key; upper and lower case count alike.

    Raises:
        InputError: no such folder, or two files of one key.
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
            raise InputError(f"{path}: a second {path.name}, the first is {found[key]}; remove or rename one.")
        found[key] = path
    return found


def shortfall(found: Mapping[str, int], whole: Mapping[str, int]) -> str:
    """What differs from the published counts, as the end of a line; empty where nothing does.

    Args:
        found: counts by what was counted.
        whole: the published ones, by the same.
    """
    counts = ", ".join(f"{found[what]} {what} (published: {count})" for what, count in whole.items())
    return "" if found == whole else f"; not the published number: {counts}"
