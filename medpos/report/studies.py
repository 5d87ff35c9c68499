"""Make the tables of a study, and load its figures."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from medpos.core.errors import InputError
from medpos.report.sources import Study
from medpos.report.tables import Table, slug, text_cell
from medpos.runs import files


@dataclass(frozen=True)
class Picture:
    """Hold a figure of a study: caption, description in words, the file as data URI, and whether it comes first."""

    title: str
    alt: str
    uri: str
    is_forest: bool


def tabulate_study(study: Study) -> list[Table]:
    """Make the tables of a study, with published numbers."""
    out = []
    for n, entry in enumerate(study.content.get("tables", []), 1):
        columns = tuple(str(column) for column in entry.get("columns", []))
        rows = [(*row, *[None] * len(columns))[: len(columns)] for row in entry.get("rows", [])]
        out.append(_plain(f"{slug(study.content['name'])}_{n}", entry, columns, rows))
    if published := study.content.get("published"):
        keys = ("model", "data", "metric", "value", "source")
        entry = {"title": "Published numbers", "note": "as printed in the sources named; not measured here"}
        lines = [tuple(row.get(key) for key in keys) for row in published]
        out.append(_plain(f"{slug(study.content['name'])}_published", entry, keys, lines))
    return out


def _plain(name: str, entry: Mapping[str, Any], columns: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> Table:
    cells = tuple(tuple(map(text_cell, row)) for row in rows)
    frame = pd.DataFrame(list(rows), columns=list(columns))
    return Table(name, str(entry.get("title", name)), str(entry.get("note", "")), columns, cells, frame)


def load_pictures(study: Study) -> list[Picture]:
    """Load the figures of a study.

    Raises:
        InputError: a figure has no file.
    """
    return [_picture(study, entry) for entry in study.content.get("figures", [])]


def _picture(study: Study, entry: dict[str, Any]) -> Picture:
    name = str(entry.get("name", ""))
    folder = (study.folder / "figures").resolve()
    path = (folder / f"{name}.svg").resolve()
    if not (path.is_relative_to(folder) and path.is_file()):
        raise InputError(
            f"{study.folder / files.STUDY}: figure {name!r}: expected figures/{name}.svg in the study's folder, got no "
            "such file; run the study again"
        )
    # As the source of an <img>, an SVG file can neither run a script nor load anything.
    uri = f"data:image/svg+xml;base64,{b64encode(path.read_bytes()).decode('ascii')}"
    title = str(entry.get("title", name))
    return Picture(title, str(entry.get("alt", title)), uri, name.startswith("forest_"))
