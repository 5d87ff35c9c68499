"""Print text on output of any encoding, with plain characters where it has no others."""

import codecs
import sys
import unicodedata

_PLAIN = {
    "±": "+-",
    "\N{MULTIPLICATION SIGN}": "x",
    "·": "*",
    "…": "...",
    "\N{EN DASH}": "-",
    "—": "-",
    "\N{MINUS SIGN}": "-",
    "→": "->",
    "←": "<-",
    "≤": "<=",
    "≥": ">=",
    "•": "*",
    "✓": "ok",
    "✗": "x",
    "µ": "u",
    "°": " deg",
    "\N{NO-BREAK SPACE}": " ",
    "“": '"',
    "”": '"',
    "\N{LEFT SINGLE QUOTATION MARK}": "'",
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
}


def show_plainly() -> None:
    """Let stdout and stderr replace each character that their encoding lacks, instead of failing at it.

    Frames of tables become ``-``, ``|`` and ``+``; letters become escapes such as ``\\u5f20``, which stay distinct.
    """
    codecs.register_error("plain", _replace)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # not in a notebook
            stream.reconfigure(errors="plain")


def _replace(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_to_plain, error.object[error.start : error.end])), error.end


def _to_plain(character: str) -> str:
    """Return ASCII for a character: a sign alike, or its escape."""
    if character in _PLAIN:
        return _PLAIN[character]
    words = set(unicodedata.name(character, "").split())
    if {"BOX", "DRAWINGS"} <= words:
        across, down = words & {"HORIZONTAL", "LEFT", "RIGHT"}, words & {"VERTICAL", "UP", "DOWN"}
        return "+" if across and down else "-" if across else "|"
    if "BLOCK" in words:
        return "#"
    return character.encode("ascii", "backslashreplace").decode()
