"""Draw all figures in one style, and save them for a paper or a page.

Every figure is saved as SVG and PNG for a paper, and as SVG within the page, where its ink is the page's text color.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from medpos.core.files import write_atomically
from medpos.core.text import without_controls

INK = "#1a1a1b"  # in the page: currentColor
_STYLE = {
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#8888884d",
    "legend.frameon": False,
    "font.size": 10,
    "axes.titlesize": 10,
    "text.parse_math": False,  # a name from a file is plain text
    "svg.hashsalt": "medpos",
}
LINES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


@dataclass(frozen=True, eq=False)
class Drawing:
    """Hold a figure with its texts.

    Args:
        name: stem of its files.
        title: caption.
        alt: description of the figure in words.
        figure: the figure.
    """

    name: str
    title: str
    alt: str
    figure: Figure

    @property
    def inches(self) -> float:
        """Width of the figure in inches."""
        return float(self.figure.get_figwidth())

    @property
    def svg(self) -> Markup:
        """The figure as an ``<svg>`` for a page."""
        return inline_svg(self.figure, self.name, self.alt)


@contextmanager
def styled(**more: Any) -> Iterator[None]:
    """Draw in the style of all figures."""
    with mpl.rc_context({**_STYLE, **more}):
        yield


def save_figure(figure: Figure, folder: Path, name: str) -> None:
    """Write ``<name>.svg`` (text as outlines) and ``<name>.png`` (200 dpi) on white, each whole or not at all.

    Raises:
        InputError: the folder can't be written to.
    """
    _lay_out(figure)
    for kind in ("svg", "png"):
        meta = {"Date": None} if kind == "svg" else {}
        options: dict[str, Any] = {"format": kind, "dpi": 200, "facecolor": "white", "metadata": meta}

        def write(partial: Path, options: dict[str, Any] = options) -> None:
            figure.savefig(partial, **options)

        with styled(**{"svg.fonttype": "path"}):
            write_atomically(folder / f"{name}.{kind}", write)


def inline_svg(figure: Figure, name: str, alt: str) -> Markup:
    """Render a figure as an ``<svg>`` element for a page.

    Args:
        figure: figure drawn in :func:`styled`.
        name: prefix of its ids, to keep them unique in the page.
        alt: description of the figure in words, for screen readers.
    """
    _lay_out(figure)
    stream = StringIO()
    with styled(**{"svg.fonttype": "none"}):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    svg = stream.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{re.sub(r'[^a-z0-9]', '-', name.lower())}-", svg)
    svg = re.sub(
        r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', rf'<svg viewBox="\1" role="img" aria-label="{_escape(alt)}">', svg
    )
    svg = re.sub(r">[^<]+<", lambda text: text[0].replace('"', "&quot;"), svg)  # which matplotlib leaves in texts
    return Markup(without_controls(svg).replace(INK, "currentColor"))


def _lay_out(figure: Figure) -> None:
    """Place the axes once and for all: a figure is saved up to three times, and each would place them twice."""
    engine = figure.get_layout_engine()
    if engine is not None:
        with styled():
            engine.execute(figure)
            figure.set_layout_engine(None)


def _escape(text: str) -> str:
    """Escape text for an attribute and for the replacement of a regular expression."""
    return str(escape(text)).replace("\\", r"\\")
