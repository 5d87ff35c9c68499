"""Test conditions: how an image is degraded and shifted before the network sees it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from medpos.transforms.degradations import TABLES


@dataclass(frozen=True)
class Condition:
    """One test condition.

    Args:
        degradation: ``none``, ``gaussian_noise``, ``gaussian_blur`` or ``shot_noise``.
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
        degradation = f"{self.degradation.replace('_', ' ')} {self.severity}" if self.severity else ""
        return ", ".join(part for part in (degradation, shift) if part)

    def to_item(self) -> dict[str, Any]:
        """The fields that the transforms read from an item."""
        return asdict(self)


CLEAN = Condition()


def degradations(table: str = "study") -> list[Condition]:
    """Clean, then every kind at every severity of one table: 16 conditions.

    Args:
        table: ``study``, ``imagenet_c`` or ``cifar_c``; see :data:`medpos.transforms.degradations.TABLES`.
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
