"""Position channels: the absolute image position as more input channels.

| encoding | channels | held by |
|---|---|---|
| ``linear`` | 2: x, y | :class:`PositionChannels` |
| ``radial`` | 3: distance from the center, cosine and sine of the angle | :class:`PositionChannels` |
| ``fourier`` | 4 K: for each band k < K the cosine and sine of x, then of y | :class:`PositionChannels` |
| ``learned`` | 2, in the network | :class:`medpos.networks.LearnedPosition` |
| ``coordconv`` | x, y before every 3 x 3 convolution, in the network | :class:`medpos.networks.CoordConv2d` |

All have the same magnitude alpha and span the whole image, whatever its content.

References:
    linear: "How Can CNNs Use Image Position for Segmentation?", section 2.1, equations 1a and 1b.
    radial: the distance is the optional third channel of R. Liu et al., "An intriguing failing of convolutional neural
    networks and the CoordConv solution", NeurIPS 2018. By itself it can't tell left from right, so the angle stands
    beside it, as cosine and sine because the angle itself jumps; the three determine the position as x and y do.
    fourier: B. Mildenhall et al., "NeRF", ECCV 2020, equation 4; M. Tancik et al., "Fourier features let networks learn
    high frequency functions in low dimensional domains", NeurIPS 2020. The coordinate runs from 0 to 1, not -1 to 1:
    the lowest band is then half a period, and opposite edges of the image differ.
"""

import math
from collections.abc import Hashable, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from medpos.core.errors import InputError
from medpos.transforms.base.lift import Item, Lifted

RANGES = ("symmetric", "positive")
ENCODINGS = ("linear", "radial", "fourier", "learned", "coordconv")
IN_NETWORK = ("learned", "coordconv")
BANDS = 4


def channel_count(encoding: str, bands: int = BANDS) -> int:
    """How many channels an encoding appends to the image; 0 where the network holds the encoding.

    Args:
        encoding: one of ``ENCODINGS``.
        bands: K, for ``"fourier"``.
    """
    return {"linear": 2, "radial": 3, "fourier": 4 * bands}.get(encoding, 0)


def position_channels(
    shape: Sequence[int],
    alpha: float,
    range: str = "symmetric",
    x_axis: int = 1,
    encoding: str = "linear",
    bands: int = BANDS,
) -> Tensor:
    """Gives the position channels of an image.

    Args:
        shape: [X, Y] or [X, Y, Z], in px; the channels are constant along Z.
        alpha: magnitude, > 0, in units of the standardized intensity.
        range: ``"symmetric"``, -alpha to alpha, or ``"positive"``, 0 to alpha; for ``"linear"`` the equations 1a,
            ``x = alpha (2u / (W - 1) - 1)``, and 1b, ``x = alpha u / (W - 1)``.
        x_axis: dimension of the image [C, ...] along which the column u runs: 1 as NIfTI files load, or 2; y runs along
            the other one.
        encoding: one of ``ENCODINGS``. With p, q the coordinates of -1 to 1 in x and y,

            - ``"linear"``: x and y. Both ends are exact; a side of 1 px gets 0.
            - ``"radial"``: the distance ``sqrt((p^2 + q^2) / 2)``, which is 0 in the center and 1 in the corners,
              stretched over the range; then cosine and sine of the angle, which count as 0 in the very center. A side
              of 1 px has p = 0.
            - ``"fourier"``: for k = 0 to bands - 1 ``cos(2^k pi u)``, ``sin(2^k pi u)`` with u = (p + 1) / 2, then
              the same of y.
            - ``"learned"``, ``"coordconv"``: none, the network holds them.
        bands: K of ``"fourier"``, 1 to 16; the finest has a period of ``(W - 1) / 2^(K - 2)`` px.

    Returns:
        [``channel_count(encoding, bands)``, X, Y] or [..., X, Y, Z], float32.

    Raises:
        InputError: alpha isn't positive and finite; unknown range, axis or encoding; too few bands, or so many that the
            image's pixels can't carry the finest.
    """
    check_position(alpha, range, x_axis, encoding, bands)
    channels = torch.empty(channel_count(encoding, bands), *shape, dtype=torch.float32)
    if encoding == "linear":
        for channel, axis in enumerate((x_axis, 3 - x_axis)):
            size = shape[axis - 1]
            ramp = torch.arange(size, dtype=torch.float64) / max(size - 1, 1)
            values = alpha * (2 * ramp - 1) if range == "symmetric" and size > 1 else alpha * ramp
            channels[channel] = _along(values, axis, len(shape))
        return channels
    waves: list[Tensor] = []
    if encoding == "radial":
        waves = _radial(shape, x_axis)
    elif encoding == "fourier":
        waves = _fourier(shape, x_axis, bands)
    for channel, values in enumerate(waves):
        channels[channel] = alpha * (values if range == "symmetric" else (values + 1) / 2)
    return channels


def _along(values: Tensor, axis: int, dimensions: int) -> Tensor:
    """Values of one axis [n], shaped to be broadcast over an image [X, Y] or [X, Y, Z]; the axis counts from 1."""
    return values.reshape([-1 if d == axis else 1 for d in range(1, dimensions + 1)])


def _radial(shape: Sequence[int], x_axis: int) -> list[Tensor]:
    """Distance, cosine and sine, float64, -1 to 1."""
    sides = []
    for axis in (x_axis, 3 - x_axis):
        size = shape[axis - 1]
        ramp = (2 * torch.arange(size, dtype=torch.float64) - (size - 1)) / max(size - 1, 1)
        sides.append(_along(ramp, axis, len(shape)))
    p, q = torch.broadcast_tensors(*sides)
    distance = torch.sqrt(p * p + q * q)
    nonzero = distance.clamp(min=torch.finfo(torch.float64).tiny)
    return [2 * torch.sqrt((p * p + q * q) / 2) - 1, p / nonzero, q / nonzero]


def _fourier(shape: Sequence[int], x_axis: int, bands: int) -> list[Tensor]:
    """Cosine and sine of every band of x, then of y, float64, -1 to 1."""
    waves = []
    for axis in (x_axis, 3 - x_axis):
        last = shape[axis - 1] - 1
        if 2 ** (bands - 1) > last:
            raise InputError(
                f"bands (encoding_bands) is {bands}, but {last + 1} px carry {last.bit_length()} at most (the finest "
                "needs two px a period); take fewer bands or a larger image_size"
            )
        for k in range(bands):
            # Whole periods go off while the numbers are whole, and what should be 0 or 1 is so exactly.
            steps = (torch.arange(last + 1) * 2**k) % (2 * last)
            phase = math.pi * steps.double() / last
            waves += [_along(wave.round(decimals=12), axis, len(shape)) for wave in (phase.cos(), phase.sin())]
    return waves


def check_position(alpha: float, range: str, x_axis: int, encoding: str, bands: int) -> None:
    """Refuses what is no position encoding; the arguments are those of :func:`position_channels`.

    Raises:
        InputError: names the argument, what was given and what is needed.
    """
    if not (math.isfinite(alpha) and alpha > 0):
        raise InputError(
            f"alpha (pe_alpha) is {alpha}, it must be > 0 and finite; to leave position out take a bundle without _pe"
        )
    if range not in RANGES:
        raise InputError(f"range (pe_range): expected one of {', '.join(RANGES)}, got {range!r}")
    if x_axis not in (1, 2):
        raise InputError(f"x_axis is {x_axis}, needed is 1 (columns run along dimension 1, as in NIfTI) or 2")
    if encoding not in ENCODINGS:
        raise InputError(f"encoding: expected one of {', '.join(ENCODINGS)}, got {encoding!r}")
    if isinstance(bands, bool) or not isinstance(bands, int) or not 1 <= bands <= 16:
        raise InputError(f"bands (encoding_bands) is {bands!r}, needed is a whole number from 1 to 16, such as {BANDS}")


# A data set has few sizes; the cached grid is only ever copied by the concatenation.
_cached_channels = lru_cache(maxsize=16)(position_channels)


class PositionChannels(Lifted):
    """Appends the position channels to the image: (intensity, x, y) and its like.

    Any input type gives float32, so the coordinates of a uint8 image are not rounded. The encodings that the network
    holds append nothing, so that one chain serves all.

    Args:
        alpha: magnitude, > 0, in units of the standardized intensity.
        range: ``"symmetric"`` for -alpha to alpha, ``"positive"`` for 0 to alpha.
        x_axis: dimension along which the columns run, 1 (as NIfTI files load) or 2.
        encoding: one of ``ENCODINGS``, as in :func:`position_channels`.
        bands: K of ``"fourier"``.
        keys: entries to extend, [C, X, Y] or [C, X, Y, Z].
        allow_missing_keys: leave out keys that the item lacks.

    Raises:
        InputError: as in :func:`position_channels`; the number of bands is compared with the image when one comes.
    """

    def __init__(
        self,
        alpha: float,
        range: str = "symmetric",
        x_axis: int = 1,
        keys: str | Sequence[str] = "image",
        allow_missing_keys: bool = False,
        *,
        encoding: str = "linear",
        bands: int = BANDS,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        check_position(alpha, range, x_axis, encoding, bands)
        self.alpha, self.range, self.x_axis = alpha, range, x_axis
        self.encoding, self.bands = encoding, bands

    def apply(self, image: Tensor, item: Item, key: Hashable) -> Tensor:
        """Map [C, X, Y(, Z)] to float32 [C + ``channel_count``, X, Y(, Z)]."""
        # Volumes share the grid of their slices: one of every depth would fill the memory with Fourier bands.
        grid = _cached_channels(
            tuple(image.shape[1:3]), self.alpha, self.range, self.x_axis, self.encoding, self.bands
        ).to(image.device)
        for size in image.shape[3:]:
            grid = grid.unsqueeze(-1).expand(*grid.shape, size)
        return torch.cat([image.float(), grid])
