"""Define test conditions: the degradation and shift of an image before the network."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from medpos.core.errors import InputError
from medpos.transforms.intensity.degradations import KINDS, SEVERITIES, Table, find_strengths
from medpos.transforms.naming import condition_title
from medpos.transforms.position.probe import PROBES


@dataclass(frozen=True)
class Condition:
    """Describe one test condition.

    Args:
        degradation: ``none``, ``gaussian_noise``, ``gaussian_blur`` or ``shot_noise``, or a probe of the position
            channels from :data:`medpos.transforms.position.probe.PROBES`.
        severity: level from 0 (none) to 5 (strongest).
        shift_x: shift to the right in pixels; negative is left.
        shift_y: shift down in pixels; negative is up.
    """

    degradation: str = "none"
    severity: int = 0
    shift_x: int = 0
    shift_y: int = 0

    @property
    def shift(self) -> str:
        """The shift as written in tables: ``0``, ``x+8``, ``y-16`` or ``x+8 y-16`` (pixels, y down)."""
        parts = [f"{axis}{n:+d}" for axis, n in (("x", self.shift_x), ("y", self.shift_y)) if n]
        return " ".join(parts) or "0"

    @property
    def is_shift(self) -> bool:
        """Whether it shifts the image and changes nothing else."""
        return self.severity == CLEAN.severity and self.shift != CLEAN.shift

    @property
    def title(self) -> str:
        """The condition for people to read."""
        return condition_title(self.degradation, self.severity, self.shift)

    @property
    def is_degraded(self) -> bool:
        """True if the gray values change, so that neither a shift nor a probe of the position channels counts."""
        return self.severity > 0 and self.degradation in KINDS

    def to_item(self) -> dict[str, Any]:
        """Return the fields that the transforms read from an item."""
        return asdict(self)


CLEAN = Condition()


def is_clean(rows: Any) -> Any:
    """Tell for each row of a metrics table whether it was measured on clean images.

    Args:
        rows: pandas table with the columns ``severity`` and ``shift``.

    Returns:
        A boolean column.
    """
    return (rows["severity"] == CLEAN.severity) & (rows["shift"] == CLEAN.shift)


def degradations(table: Table = "study") -> list[Condition]:
    """Return clean, then every kind at every severity of one table: 16 conditions with the three kinds.

    Args:
        table: ``study``, ``imagenet_c``, ``cifar_c``, or for each kind its strengths for severity 1 to 5; see
            :data:`medpos.transforms.intensity.degradations.TABLES`.

    Raises:
        InputError: a wrong table.
    """
    return [CLEAN, *(Condition(kind, severity) for kind in find_strengths(table) for severity in SEVERITIES)]


def shifts(pixels: Sequence[int]) -> list[Condition]:
    """Return clean, then each distance in both directions of either axis.

    Args:
        pixels: distances in pixels, above 0.
    """
    moves = [Condition(shift_x=sign * n) for sign in (1, -1) for n in pixels]
    moves += [Condition(shift_y=sign * n) for sign in (1, -1) for n in pixels]
    return [CLEAN, *moves]


def probes() -> list[Condition]:
    """Return clean, then every probe of the position channels at every severity: 13 conditions."""
    return [CLEAN, *(Condition(probe, n) for probe, most in PROBES.items() for n in range(1, most + 1))]


GROUPS = ("clean", "degradations", "shifts", "position")


def named(groups: Sequence[str], table: Table = "study", pixels: Sequence[int] = ()) -> list[Condition]:
    """Return clean, then the conditions of each group, each condition once.

    Args:
        groups: names of groups: ``clean``, ``degradations``, ``shifts``, ``position``.
        table: table of the degradations; see :func:`degradations`.
        pixels: distances of the shifts in pixels.

    Raises:
        InputError: unknown group.
    """
    chosen = [CLEAN]
    for group in [groups] if isinstance(groups, str) else groups:
        if group not in GROUPS:
            raise InputError(f"conditions: expected a list of {', '.join(GROUPS)}, got {group!r}")
        if group == "degradations":
            chosen += degradations(table)
        elif group == "shifts":
            chosen += shifts(pixels)
        elif group == "position":
            chosen += probes()
    return list(dict.fromkeys(chosen))
