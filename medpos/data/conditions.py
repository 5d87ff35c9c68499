"""Test conditions: how an image is degraded and shifted before the network sees it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from medpos.core.errors import InputError
from medpos.transforms.intensity.degradations import TABLES
from medpos.transforms.position.probe import DISTANCES, PROBES


@dataclass(frozen=True)
class Condition:
    """One test condition.

    Args:
        degradation: ``none``, ``gaussian_noise``, ``gaussian_blur`` or ``shot_noise``, or a probe of the position
            channels from :data:`medpos.transforms.position.probe.PROBES`.
        severity: 0 (none) to 5 (strongest).
        shift_x: pixels to the right, negative to the left.
        shift_y: pixels down, negative up.
    """

    degradation: str = "none"
    severity: int = 0
    shift_x: int = 0
    shift_y: int = 0

    @property
    def shift(self) -> str:
        """The shift as tables hold it: ``0``, ``x+8``, ``y-16`` or ``x+8 y-16`` (pixels, y down)."""
        parts = [f"{axis}{n:+d}" for axis, n in (("x", self.shift_x), ("y", self.shift_y)) if n]
        return " ".join(parts) or "0"

    @property
    def title(self) -> str:
        """The condition as people read it."""
        if self == CLEAN:
            return "clean"
        shift = f"shift {self.shift} px" if self.shift != "0" else ""
        degradation = _title(self.degradation, self.severity) if self.severity else ""
        return ", ".join(part for part in (degradation, shift) if part)

    def to_item(self) -> dict[str, Any]:
        """The fields that the transforms read from an item."""
        return asdict(self)


CLEAN = Condition()


def is_clean(rows: Any) -> Any:
    """Tell for each row of a metrics table whether it was measured on the images as they are.

    Args:
        rows: table (pandas) with the columns ``severity`` and ``shift``.

    Returns:
        A boolean column.
    """
    return (rows["severity"] == CLEAN.severity) & (rows["shift"] == CLEAN.shift)


def degradations(table: str = "study") -> list[Condition]:
    """Clean, then every kind at every severity of one table: 16 conditions.

    Args:
        table: ``study``, ``imagenet_c`` or ``cifar_c``; see :data:`medpos.transforms.intensity.degradations.TABLES`.
    """
    kinds = TABLES[table]
    return [CLEAN, *(Condition(kind, severity) for kind in kinds for severity in range(1, 6))]


def shifts(pixels: Sequence[int]) -> list[Condition]:
    """No shift, then each distance in both directions of either axis.

    Args:
        pixels: distances in pixels, above zero.
    """
    moves = [Condition(shift_x=sign * n) for sign in (1, -1) for n in pixels]
    moves += [Condition(shift_y=sign * n) for sign in (1, -1) for n in pixels]
    return [CLEAN, *moves]


def probes() -> list[Condition]:
    """Clean, then every probe of the position channels at every severity: 13 conditions."""
    return [CLEAN, *(Condition(probe, n) for probe, most in PROBES.items() for n in range(1, most + 1))]


GROUPS = ("clean", "degradations", "shifts", "position")


def named(groups: Sequence[str], table: str = "study", pixels: Sequence[int] = ()) -> list[Condition]:
    """Clean, then the conditions of each group, each condition once.

    Args:
        groups: of ``clean``, ``degradations``, ``shifts`` and ``position``.
        table: of the degradations.
        pixels: distances of the shifts.

    Raises:
        InputError: unknown group.
    """
    chosen = [CLEAN]
    for group in [groups] if isinstance(groups, str) else groups:
        if group not in GROUPS:
            raise InputError(f"conditions: {group!r} is unknown, needed a list of {', '.join(GROUPS)}")
        if group == "degradations":
            chosen += degradations(table)
        elif group == "shifts":
            chosen += shifts(pixels)
        elif group == "position":
            chosen += probes()
    return list(dict.fromkeys(chosen))


def _title(degradation: str, severity: int) -> str:
    words = degradation.replace("_", " ")
    if degradation not in PROBES:
        return f"{words} {severity}"
    return f"{words} {DISTANCES[severity - 1]} px" if PROBES[degradation] > 1 else words
