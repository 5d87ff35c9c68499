"""Store with a run the cases that its model was trained on, and find them among the cases of an evaluation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medpos.core.errors import InputError
from medpos.core.files import read_csv, write_csv
from medpos.data.leaks import find_leaks
from medpos.runs import files

COLUMNS = ("data", "case", "subject", "image_sha256")


def write(folder: Path, data: str, cases: Sequence[Mapping[str, Any]]) -> None:
    """Write ``training_cases.csv`` into a run's folder.

    Args:
        folder: folder of the run.
        data: name of the data set.
        cases: entries of the cases, as :meth:`medpos.data.DataFolder.cases` gives them.
    """
    rows = [{**{key: case.get(key, "") for key in COLUMNS}, "data": data} for case in cases]
    write_csv(folder / files.TRAINING_CASES, COLUMNS, rows)


def find(folder: Path, data: str, cases: Sequence[Mapping[str, Any]]) -> list[str]:
    """Find the cases of an evaluation that the model of a run was trained on.

    A subject counts if the data set has the same name, an image wherever it is.

    Args:
        folder: folder of the run; one of an earlier version has no ``training_cases.csv``, and nothing is found then.
        data: name of the data set that is evaluated.
        cases: entries of the cases that are evaluated.

    Returns:
        A line for each shared subject or image.

    Raises:
        InputError: the table is damaged.
    """
    path = folder / files.TRAINING_CASES
    if not path.is_file():
        return []
    trained = read_csv(path)
    if trained and set(trained[0]) != set(COLUMNS):
        raise InputError(f"{path}: expected the columns {', '.join(COLUMNS)}, got {', '.join(map(str, trained[0]))}")
    keys = ("subject", "image_sha256") if trained and trained[0]["data"] == data else ("image_sha256",)
    parts = {"the model's training": trained, "this evaluation": cases}
    return find_leaks(
        {
            part: [{k: case[k] for k in ("case", *keys) if case.get(k)} for case in found]
            for part, found in parts.items()
        }
    )
