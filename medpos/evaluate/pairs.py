"""Find the label maps that belong together: by their names, or by a CSV file."""

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medpos.core.errors import InputError
from medpos.core.files import decode_text, read_bytes
from medpos.io.listing import find_fault, list_files
from medpos.io.readers import suffix_of
from medpos.io.walk import LeftOut, check_links, find_spelling

_LISTED = 20  # greatest number of names in a message
_NAME = re.compile(r"\w[\w.-]*")
_TAKEN = ("report", "comparisons.csv")  # names in the folder of the results
_CHANNEL = re.compile(r"_\d{4}$")  # of nnU-Net
_COLUMNS = ("prediction", "truth", "case", "subject", "phase", "image")


@dataclass(frozen=True)
class Tool:
    """Name a tool and the folder, or the file, of its predictions."""

    name: str
    predictions: Path


@dataclass(frozen=True)
class Case:
    """Name the files of one case.

    Args:
        name: name of the case, unique.
        subject: name of the subject.
        truth: label map of the ground truth.
        predictions: label map of each tool, in the order of the tools; None: the tool has none.
        phase: ``ED``, ``ES`` or empty.
        image: image to show behind the label maps; None: there is none.
    """

    name: str
    subject: str
    truth: Path
    predictions: tuple[Path | None, ...]
    phase: str = ""
    image: Path | None = None


def check_tools(tools: Sequence[Tool]) -> None:
    """Check that the names of the tools differ and can be folders.

    Raises:
        InputError: a name is used twice or has other characters than letters, digits, ``.``, ``_`` and ``-``.
    """
    names = [tool.name for tool in tools]
    for name in names:
        if not _NAME.fullmatch(name):
            raise InputError(
                f"expected a tool's name of letters, digits, '.', '_' and '-', got {name!r}; name it by --name NAME, "
                "or --also NAME=FOLDER"
            )
        if [other.lower() for other in names].count(name.lower()) > 1 or (len(names) > 1 and name in _TAKEN):
            raise InputError(
                f"expected a name of its own for each tool, got {name!r}; give --name, or --also NAME=FOLDER"
            )


def match_by_name(tools: Sequence[Tool], truth: Path, images: Path | None, left_out: LeftOut) -> list[Case]:
    """Match the files of folders by their paths in the folder without suffix; two files match in any case.

    Args:
        tools: tools with their predictions.
        truth: folder, or file, of the ground truth.
        images: folder, or file, of the images, which may have nnU-Net's ending ``_0000``.
        left_out: record of the other files, those without a ground truth among them.

    Returns:
        The cases of the ground truth in the order of their names.

    Raises:
        InputError: a path doesn't exist or holds no label map, a file of a case is a link to nothing, or two files of
            one folder have one name.
    """
    true = _list_files(truth, left_out)
    [only] = true if len(true) == 1 and truth.is_file() else [None]
    found = [_list_files(tool.predictions, left_out, only) for tool in tools]
    shown = _list_files(images, left_out, only) if images else {}
    cases = [
        Case(name, name, path, tuple(part.get(name) for part in found), "", shown.get(name, shown.get(f"{name}_0000")))
        for name, path in true.items()
    ]
    unmatched = [path for part in found for name, path in part.items() if name not in true]
    unmatched += [path for name, path in shown.items() if not {name, _CHANNEL.sub("", name)} & true.keys()]
    for path in unmatched:
        left_out.add("files without a ground truth of their name", path)
    check_links(file for case in cases for file in (case.truth, *case.predictions, case.image) if file is not None)
    return cases


def _list_files(place: Path, left_out: LeftOut, name: str | None = None) -> dict[str, Path]:
    """List the readable files below a folder by path without suffix.

    Args:
        place: folder with any sub-folders, or a file.
        left_out: record of the other files.
        name: key for a file; None: its own name.
    """
    if place.is_file():
        return {name or _key(place, place.parent): place}
    if not place.is_dir():
        raise InputError(f"{place}: does not exist; give a folder of label maps, or a file")
    found: dict[str, Path] = {}
    for path in list_files(place, left_out, find_fault):
        key = _key(path, place)
        if key in found:
            raise InputError(f"{path} and {found[key]}: expected one file of this name; remove one, or give --pairs")
        found[key] = path
    if not found:
        raise InputError(f"{place}: expected label maps in it, got none; check the path")
    return found


def _key(path: Path, folder: Path) -> str:
    # macOS spells accents in another way than other systems.
    name = unicodedata.normalize("NFC", path.relative_to(folder).as_posix())
    return name[: len(name) - len(suffix_of(path))]


def read_pairs(path: Path, tools: Sequence[Tool], truth: Path, images: Path | None = None) -> list[Case]:
    """Read cases from a CSV file, separated by commas or semicolons.

    It has the columns ``prediction`` and ``truth`` and, if wanted, ``case``, ``subject``, ``phase`` and ``image``.

    Args:
        path: CSV file, UTF-8. Its paths are relative to the folders below.
        tools: tools with the folders of their predictions.
        truth: folder of the ground truth.
        images: folder of the images.

    Raises:
        InputError: a column is missing or unknown, a cell is empty, a case is listed twice, or a ground truth or image
            doesn't exist.
    """
    rows = _read_rows(path)
    cases = []
    for line, row in rows:
        if not (row["prediction"] and row["truth"]):
            raise InputError(f"{path}: line {line}: expected prediction and truth, got an empty cell; fill it")
        if row.get("image") and images is None:
            raise InputError(f"{path}: line {line}: expected --images with the column image, got none; give the folder")
        true = find_spelling(truth, row["truth"])
        image = find_spelling(images, row["image"]) if images and row.get("image") else None
        if lacking := [str(file) for file in (true, image) if file is not None and not file.is_file()]:
            raise InputError(f"{path}: line {line}: {lacking[0]} does not exist; correct the path")
        files = (find_spelling(tool.predictions, row["prediction"]) for tool in tools)
        name = row.get("case") or _key(true, truth)
        predictions = tuple(file if file.is_file() else None for file in files)
        cases.append(Case(name, row.get("subject") or name, true, predictions, row.get("phase", ""), image))
    names = [case.name for case in cases]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise InputError(f"{path}: expected every case once, got {_list(twice)} twice; name them in the column 'case'")
    return cases


def _read_rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    try:
        text = decode_text(read_bytes(path))
    except ValueError as error:
        raise InputError(f"{path}: expected UTF-8 text ({error}); save the table as CSV UTF-8") from error
    head = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=";" if head.count(";") > head.count(",") else ",")
    columns = [name.strip() for name in reader.fieldnames or ()]
    if not {"prediction", "truth"} <= set(columns) <= set(_COLUMNS):
        raise InputError(
            f"{path}: expected the columns prediction and truth, with {', '.join(_COLUMNS[2:])} if wanted, got "
            f"{', '.join(columns) or 'none'}; correct the first line"
        )
    reader.fieldnames = columns
    rows = []
    for row in reader:
        if None in row or None in row.values():
            raise InputError(f"{path}: line {reader.line_num}: expected {len(columns)} cells, got another number")
        rows.append((reader.line_num, {key: value.strip() for key, value in row.items()}))
    if not rows:
        raise InputError(f"{path}: expected at least one line below the names of the columns, got none; add the cases")
    return rows


def leave_out_unlisted(cases: Sequence[Case], folders: Iterable[Path], left_out: LeftOut) -> None:
    """Record the files of the folders that belong to no case of a table of pairs.

    Args:
        cases: the cases of the table.
        folders: folders of predictions, ground truth and images.
        left_out: record of the files.
    """
    listed = {file for case in cases for file in (case.truth, *case.predictions, case.image) if file is not None}
    known = {file.resolve() for file in listed}
    for folder in folders:
        for path in list_files(folder, left_out, find_fault) if folder.is_dir() else ():
            if path.resolve() not in known:
                left_out.add("files that the table of pairs doesn't list", path)


def find_subjects(cases: Iterable[Case], pattern: str) -> list[Case]:
    """Name the subjects by a regular expression that is searched in the names of the cases.

    Args:
        cases: the cases.
        pattern: expression; its first group, if any, is the subject.

    Raises:
        InputError: the expression is none, or matches nothing in a name.
    """
    try:
        searched = re.compile(pattern)
    except re.error as error:
        raise InputError(
            f"--subject {pattern!r}: expected a regular expression such as '^patient[0-9]+', got: {error}; correct it"
        ) from error
    named = []
    for case in cases:
        found = searched.search(case.name)
        subject = found and (found.group(1) if searched.groups else found.group())
        if not subject:
            raise InputError(f"--subject {pattern!r}: expected it in every case, got none in {case.name}; correct it")
        named.append(replace(case, subject=subject))
    return named


def check_predictions(cases: Sequence[Case], tools: Sequence[Tool]) -> None:
    """Check that every tool has a prediction for every case.

    Raises:
        InputError: predictions are missing.
    """
    for n, tool in enumerate(tools):
        if lacking := [case.name for case in cases if case.predictions[n] is None]:
            raise InputError(
                f"{tool.predictions}: expected a prediction for each of {len(cases)} cases, got none for "
                f"{len(lacking)}: {_list(lacking)}; add them, list the wanted cases in --pairs, or measure them as "
                "empty by --allow-missing"
            )


def _list(names: Sequence[str]) -> str:
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")
