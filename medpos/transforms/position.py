"""Position channels: the absolute image position as two more input channels.

Reference:
    "How Can CNNs Use Image Position for Segmentation?", section 2.1, equations 1a and 1b.
"""

import math
from collections.abc import Hashable, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from medpos.errors import InputError
from medpos.transforms.lift import Item, Lifted

RANGES = ("symmetric", "positive")


def position_channels(shape: Sequence[int], alpha: float, range: str = "symmetric", x_axis: int = 1) -> Tensor:
    """Gives the x and the y channel of an image.

    Args:
        shape: [X, Y] or [X, Y, Z], in px; the channels are constant along Z.
        alpha: magnitude, > 0, in units of the standardised intensity.
        range: ``"symmetric"``, -alpha to alpha: ``x = alpha (2u / (W - 1) - 1)``, or ``"positive"``, 0 to alpha:
            ``x = alpha u / (W - 1)``. Both ends are exact; a side of 1 px gets 0.
        x_axis: dimension of the image [C, ...] along which the column u runs: 1 as NIfTI files load, or 2; y runs along
            the other one.

    Returns:
        Channels x and y, [2, X, Y] or [2, X, Y, Z], float32.

    Raises:
        InputError: alpha isn't positive and finite; unknown range or axis.
    """
    _check(alpha, range, x_axis)
    channels = torch.empty(2, *shape, dtype=torch.float32)
    for channel, axis in enumerate((x_axis, 3 - x_axis)):
        size = shape[axis - 1]
        ramp = torch.arange(size, dtype=torch.float64) / max(size - 1, 1)
        values = alpha * (2 * ramp - 1) if range == "symmetric" and size > 1 else alpha * ramp
        channels[channel] = values.reshape([-1 if d == axis else 1 for d, _ in enumerate(shape, start=1)])
    return channels


def _check(alpha: float, range: str, x_axis: int) -> None:
    if not (math.isfinite(alpha) and alpha > 0):
        raise InputError(
            f"alpha (pe_alpha) is {alpha}, it must be > 0 and finite; to leave position out take a bundle without _pe"
        )
    if range not in RANGES:
        raise InputError(f"range (pe_range) is {range!r}, needed is one of {', '.join(RANGES)}")
    if x_axis not in (1, 2):
        raise InputError(f"x_axis is {x_axis}, needed is 1 (columns run along dimension 1, as in NIfTI) or 2")


# A data set has few sizes; the cached grid is only ever copied by the concatenation.
_cached_channels = lru_cache(maxsize=16)(position_channels)


class PositionChannels(Lifted):
    """Appends the channels x and y to the image: (intensity, x, y).

    Any input type gives float32, so the coordinates of a uint8 image are not rounded.

    Args:
        alpha: magnitude, > 0, in units of the standardised intensity.
        range: ``"symmetric"`` for -alpha to alpha, ``"positive"`` for 0 to alpha.
        x_axis: dimension along which the columns run, 1 (as NIfTI files load) or 2.
        keys: entries to extend, [C, X, Y] or [C, X, Y, Z].
        allow_missing_keys: leave out keys that the item lacks.

    Raises:
        InputError: alpha isn't positive and finite; unknown range or axis.
    """

    def __init__(
        self,
        alpha: float,
        range: str = "symmetric",
        x_axis: int = 1,
        keys: str | Sequence[str] = "image",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        _check(alpha, range, x_axis)
        self.alpha, self.range, self.x_axis = alpha, range, x_axis

    def apply(self, image: Tensor, item: Item, key: Hashable) -> Tensor:
        """Maps [C, X, Y(, Z)] to float32 [C + 2, X, Y(, Z)]."""
        grid = _cached_channels(tuple(image.shape[1:]), self.alpha, self.range, self.x_axis)
        return torch.cat([image.float(), grid.to(image.device)])
