"""Name test conditions for people to read."""

import re

from medpos.core.labels import kind_title
from medpos.transforms.position.probe import DISTANCES, PROBES

_MOVES = {"x+": "right", "x-": "left", "y+": "down", "y-": "up"}


def condition_title(degradation: str, severity: int, shift: str) -> str:
    """Name a condition in words: ``Gaussian noise, severity 1``, ``shifted 8 px right``.

    Args:
        degradation: kind of the degradation or probe of the position channels, as in the tables; a report may have
            added the strengths to it.
        severity: severity from 0 to 5; at 0 the degradation doesn't count.
        shift: shift as in the tables, such as ``0`` or ``x+8 y-16``.
    """
    parts = [_degradation_title(degradation, severity)] if severity else []
    moves = [f"{pixels} px {_MOVES[axis]}" for axis, pixels in re.findall(r"([xy][+-])(\d+)", shift)]
    if moves:
        parts.append(f"shifted {' and '.join(moves)}")
    return ", ".join(parts) or "clean"


def _degradation_title(degradation: str, severity: int) -> str:
    words = kind_title(degradation)
    if degradation not in PROBES:
        return f"{words}, severity {severity}"
    return f"{words} {DISTANCES[severity - 1]} px" if PROBES[degradation] > 1 else words
