"""Render rich tables as plain text for logs, and make text fit for a page."""

import io
from typing import Any

from rich.console import Console

_CONTROLS = dict.fromkeys((*range(9), 11, 12, *range(14, 32), *range(127, 160)), "\N{REPLACEMENT CHARACTER}")


def without_controls(text: str) -> str:
    """Put a sign in place of each control character, which HTML may not hold."""
    return text.translate(_CONTROLS)


def as_text(*parts: Any, width: int = 100) -> str:
    """Render tables and lines without color or markup.

    Args:
        parts: rich tables or texts, one below the other; ``[...]`` in a text isn't markup.
        width: maximum number of characters in a line.
    """
    stream = io.StringIO()
    console = Console(file=stream, width=width, color_system=None, markup=False, emoji=False)
    for part in parts:
        console.print(part)
    return stream.getvalue().rstrip()
