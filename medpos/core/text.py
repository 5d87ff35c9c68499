"""Render rich tables as plain text for logs, and make text fit for a page."""

import io
from collections.abc import Iterable
from typing import Any

from rich.console import Console

_CONTROLS = dict.fromkeys((*range(9), 11, 12, *range(14, 32), *range(127, 160)), "\N{REPLACEMENT CHARACTER}")


def without_controls(text: str) -> str:
    """Put a sign in place of each control character, which HTML may not hold."""
    return text.translate(_CONTROLS)


def group_remarks(remarks: Iterable[tuple[str, str]], most: int = 5) -> list[str]:
    """Return a line for each remark, with the number of files or cases that it is about.

    Args:
        remarks: file or case, and the remark on it.
        most: number of lines; a last one counts the other remarks.
    """
    of_text: dict[str, list[str]] = {}
    for name, text in dict.fromkeys(remarks):
        of_text.setdefault(text, []).append(name)
    lines = [
        f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {text}"
        for text, names in of_text.items()
    ]
    return lines[:most] + ([f"{len(lines) - most} more remarks on headers"] if len(lines) > most else [])


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
