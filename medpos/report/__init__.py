"""Write a report: one HTML file that works offline, with its tables as CSV and its figures as SVG and PNG.

``sources`` reads runs and studies; ``overview`` says the most important first; ``tables``, ``studies``, ``scores``,
``subgroups``, ``confusion``, ``calibration``, ``failures``, ``comparisons``, ``clinical``, ``training``, ``provenance``
and ``browser`` choose the content, ``figures`` and ``pictures`` draw it, ``page`` collects it, and ``rendering`` fills
it into the ``templates``. No content of a file is evaluated, or run in the page: the page's policy allows a single
script, that of ``templates``, and no loading.
"""

from collections.abc import Sequence
from pathlib import Path

from medpos.core.files import remove_partials, write_frame, write_text
from medpos.core.lock import FolderLock
from medpos.plotting.style import save_figure
from medpos.report.browser import make_browser
from medpos.report.clinical import measure_indices, tabulate_cases
from medpos.report.page import Page
from medpos.report.rendering import render
from medpos.report.sources import Sources, read

__all__ = ["build"]


def build(sources: Sequence[Path], out: Path) -> Path:
    """Write the report of runs and studies.

    Args:
        sources: run folders (``runs/<bundle>/<run>``) and study folders (with ``study.json``).
        out: folder for the report; files of the same names in it are replaced.

    Returns:
        Path of ``index.html``.

    Raises:
        InputError: a source is neither a run nor a study, a file in it is missing or malformed, or ``out`` can't be
            written to or is being written by another process.
    """
    found = read([Path(source) for source in sources])
    with FolderLock(out, inside=True, other="choose another --out"):
        _write(found, tuple(map(str, sources)), out)
    return out / "index.html"


def _write(found: Sources, given: tuple[str, ...], out: Path) -> None:
    for part in (out, out / "csv", out / "figures"):
        remove_partials(part, is_shared=True, pattern=".*.partial")
    page = Page(found, measure_indices(found.runs), make_browser(found.runs), given)
    for table in page.csv:
        write_frame(out / f"csv/{table.name}.csv", table.frame)
    write_frame(out / "csv/cases.csv", page.table, missing="nan")
    if page.scores:
        write_frame(out / "csv/score_cases.csv", page.score_rows, missing="nan")
    if page.confusions:
        write_frame(out / "csv/confusion.csv", page.confusion_rows)
    if page.calibration:
        write_frame(out / "csv/calibration_cases.csv", page.calibration_rows, missing="nan")
    if not page.predicted_rows.empty:
        write_frame(out / "csv/predicted_dice_cases.csv", page.predicted_rows, missing="nan")
    if page.indices:
        write_frame(out / "csv/clinical_cases.csv", tabulate_cases(page.indices))
    for drawn in page.figures:
        save_figure(drawn.figure, out / "figures", drawn.name)
    write_text(out / "index.html", render(page))
