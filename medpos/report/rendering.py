"""Render the template of the page."""

from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import jinja2
from markupsafe import Markup

from medpos.core.text import without_controls
from medpos.plotting.overlay import OPACITY
from medpos.report import pictures
from medpos.report.page import Page
from medpos.report.tables import Cell

_TEMPLATES = Path(__file__).parent / "templates"
_VERDICTS = {
    "confirmed": "✓",
    "contradicted": "✗",
    "mixed": "±",
    "undecided": "?",
    "not measured": "-",
    "exploratory": "·",
}


def _sorting(cell: Cell) -> str:
    return repr(cell.sort) if isinstance(cell.sort, float) else cell.sort.lower()


def _show(value: object) -> object:
    """Return text without control characters, and markup as it is."""
    return without_controls(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def render(page: Page) -> str:
    """Render the whole HTML file."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        finalize=_show,
        undefined=jinja2.ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["sorting"] = _sorting
    environment.filters["p"] = lambda p: "< 0.001" if p < 0.001 else f"= {p:.3f}"
    environment.filters["ci95"] = lambda ends: f"{ends[0]:.3f} to {ends[1]:.3f}" if ends else "-"
    script, style = ((_TEMPLATES / name).read_text(encoding="utf-8") for name in ("script.js", "style.css"))
    digest = b64encode(sha256(script.encode()).digest()).decode("ascii")
    return environment.get_template("page.html.j2").render(
        page=page,
        script=Markup(script),
        style=Markup(style),
        policy=f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'",
        verdicts=_VERDICTS,
        opacity=round(100 * OPACITY),
        missed=pictures.MISSED,
        extra=pictures.EXTRA,
    )
