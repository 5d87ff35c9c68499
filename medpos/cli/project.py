"""Find files that come with the package by name, and copy them."""

import difflib
import filecmp
import shutil
from collections.abc import Sequence
from pathlib import Path

from medpos.core.errors import InputError
from medpos.core.project import project_folder

BUNDLES = project_folder() / "bundles"
STUDIES = BUNDLES / "studies"
NOTEBOOKS = project_folder() / "notebooks"


def find_file(folder: Path, name: str, known: Sequence[str], kind: str, suffix: str = ".json") -> Path:
    """Return the file of a name; its suffix may be given too.

    Args:
        folder: folder of the files.
        name: a name that a user gave.
        known: names of the files, without suffix.
        kind: a word for the files, for the message.
        suffix: suffix of the files.

    Raises:
        InputError: there is no such file.
    """
    stem = name.removesuffix(suffix)
    if stem not in known:
        near = difflib.get_close_matches(stem, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
        raise InputError(f"{kind} {name!r} is unknown; {hint}")
    return folder / f"{stem}{suffix}"


def copy_files(files: Sequence[Path], out: Path, replace: bool = False) -> list[Path]:
    """Copy files into a folder; copies that are there already are left alone.

    Args:
        files: the files; their names are kept.
        out: folder of the copies; made if it is missing.
        replace: whether files with other content are overwritten.

    Returns:
        Paths of the copies, in the order of ``files``.

    Raises:
        InputError: a file with other content exists, or the folder can't be written to.
    """
    copies = [out / file.name for file in files]
    try:
        changed = [
            copy
            for file, copy in zip(files, copies, strict=True)
            if copy.exists() and not filecmp.cmp(file, copy, shallow=False)
        ]
        if changed and not replace:
            raise InputError(f"{changed[0]}: exists with other content; choose another --out, or give --replace")
        out.mkdir(parents=True, exist_ok=True)
        for file, copy in zip(files, copies, strict=True):
            if copy in changed or not copy.exists():
                shutil.copyfile(file, copy)
    except OSError as error:
        raise InputError(f"{out}: can't be written ({error}); choose another --out") from error
    return copies
