"""Append position channels: the absolute position in the image as additional input channels.

| encoding | channels | implemented by |
|---|---|---|
| ``linear`` | 2: x, y | :class:`PositionChannels` |
| ``radial`` | 3: distance from the center, cosine and sine of the angle | :class:`PositionChannels` |
| ``fourier`` | 4 K: for each band k < K the cosine and sine of x, then of y | :class:`PositionChannels` |
| ``learned`` | 2, in the network | :class:`medpos.networks.LearnedPosition` |
| ``placebo`` | 2: alpha in every pixel, so nothing about position | :class:`PositionChannels` |
| ``coordconv`` | x, y before every 3 x 3 convolution, in the network | :class:`medpos.networks.CoordConv2d` |

All have the same magnitude alpha and span the whole image, independent of its content.

References:
    linear: "How Can CNNs Use Image Position for Segmentation?", section 2.1, equations 1a and 1b.
    radial: the distance is the optional third channel of R. Liu et al., "An intriguing failing of convolutional neural
    networks and the CoordConv solution", NeurIPS 2018. It doesn't distinguish left from right, so the angle
    is added, as cosine and sine because the angle itself is discontinuous; the three determine the position.
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
ENCODINGS = ("linear", "radial", "fourier", "learned", "coordconv", "placebo")
IN_NETWORK = ("learned", "coordconv")
BANDS = 4
Place = tuple[Tensor, Tensor]  # index of each pixel along an axis, and the last index


def channel_count(encoding: str, bands: int = BANDS) -> int:
    """Count the channels that an encoding appends to the image; 0 for encodings inside the network.

    Args:
        encoding: one of ``ENCODINGS``.
        bands: number of bands K of ``"fourier"``.
    """
    return {"linear": 2, "radial": 3, "fourier": 4 * bands, "placebo": 2}.get(encoding, 0)


def position_channels(
    shape: Sequence[int],
    alpha: float,
    range: str = "symmetric",
    x_axis: int = 1,
    encoding: str = "linear",
    bands: int = BANDS,
) -> Tensor:
    """Compute the position channels of an image.

    Args:
        shape: size [X, Y] or [X, Y, Z] of the image in px; the channels are constant along Z.
        alpha: magnitude, above 0, in units of the standardized intensity.
        range: range of the values, ``"symmetric"``, -alpha to alpha, or ``"positive"``, 0 to alpha; for ``"linear"``
            these are the equations 1a, ``x = alpha (2u / (W - 1) - 1)``, and 1b, ``x = alpha u / (W - 1)``.
        x_axis: dimension of the image [C, ...] of the column u, 1 as in NIfTI files, or 2; the other one is that of the
            row.
        encoding: one of ``ENCODINGS``. With coordinates p in x and q in y from -1 to 1,

            - ``"linear"``: x and y. Both ends are exact; a side of 1 px has the value 0.
            - ``"radial"``: the distance ``sqrt((p^2 + q^2) / 2)``, 0 in the center and 1 in the corners, scaled to the
              range; then cosine and sine of the angle, which are 0 exactly in the center. A side of 1 px has p = 0.
            - ``"fourier"``: for k = 0 to bands - 1 ``cos(2^k pi u)``, ``sin(2^k pi u)`` with u = (p + 1) / 2, then
              the same for y.
            - ``"placebo"``: alpha in every pixel of two channels, for any range: a control for what the channels of
              ``"linear"`` change besides the position.
            - ``"learned"``, ``"coordconv"``: no channels, because the encoding is inside the network.
        bands: number of bands K of ``"fourier"``, 1 to 16; the finest has a period of ``(W - 1) / 2^(K - 2)`` px.

    Returns:
        Channels [``channel_count(encoding, bands)``, X, Y] or [..., X, Y, Z], float32.

    Raises:
        InputError: alpha isn't positive and finite; range, axis or encoding is unknown; there are too few bands, or too
            many for the resolution of the image.
    """
    check_position(alpha, range, x_axis, encoding, bands)
    if encoding == "fourier":
        _check_bands(shape, bands)
    places = []
    for axis in (x_axis, 3 - x_axis):
        sides = [-1 if dimension == axis else 1 for dimension in (1, 2)]
        index = torch.arange(shape[axis - 1], dtype=torch.float64).reshape(sides)
        places.append((index, index.new_tensor(shape[axis - 1] - 1)))
    channels = torch.empty(channel_count(encoding, bands), *shape[:2], dtype=torch.float32)
    for channel, values in enumerate(_encode(places, alpha, range, encoding, bands)):
        channels[channel] = values
    for size in shape[2:]:
        channels = channels.unsqueeze(-1).expand(*channels.shape, size)
    return channels.contiguous()


def count_pixels(image: Tensor, axis: int) -> Place:
    """Count the pixels along an axis on the image itself, so that a traced network works for other sizes.

    Args:
        image: images [N, C, X, Y].
        axis: dimension to count along, 2 or 3.

    Returns:
        Index of each pixel, from 0, [1, 1, X, Y], and the last index, float32.
    """
    index = torch.ones_like(image[:1, :1], dtype=torch.float32).cumsum(axis) - 1
    return index, index.amax(axis, keepdim=True)


def _encode(places: Sequence[Place], alpha: float, range: str, encoding: str, bands: int) -> list[Tensor]:
    """Compute the channels from the places of the pixels in x and in y, which must fit for broadcasting."""
    if encoding == "linear":
        return [alpha * _ramp(index, last, range) for index, last in places]
    if encoding == "placebo":
        return [alpha * torch.ones_like(index) for index, _ in places]
    waves = _radial(places) if encoding == "radial" else _fourier(places, bands) if encoding == "fourier" else []
    return [alpha * (wave if range == "symmetric" else (wave + 1) / 2) for wave in waves]


def _ramp(index: Tensor, last: Tensor, range: str) -> Tensor:
    """Compute equation 1a or 1b without alpha; a side of 1 px has the value 0."""
    ramp = index / last.clamp(min=1)
    return torch.where(last > 0, 2 * ramp - 1, ramp) if range == "symmetric" else ramp


def _radial(places: Sequence[Place]) -> list[Tensor]:
    """Compute distance, cosine and sine, -1 to 1."""
    p, q = torch.broadcast_tensors(*((2 * index - last) / last.clamp(min=1) for index, last in places))
    distance = torch.sqrt(p * p + q * q)
    nonzero = distance.clamp(min=torch.finfo(p.dtype).tiny)
    return [2 * torch.sqrt((p * p + q * q) / 2) - 1, p / nonzero, q / nonzero]


def _fourier(places: Sequence[Place], bands: int) -> list[Tensor]:
    """Compute cosine and sine of every band of x, then of y, -1 to 1."""
    waves = []
    for index, last in places:
        for k in range(bands):
            # Full periods are removed in integers, so that values of 0 and 1 are exact.
            steps = (index.long() * 2**k) % (2 * last.clamp(min=1).long())
            phase = math.pi * steps.to(index.dtype) / last.clamp(min=1)
            waves += [phase.cos(), phase.sin()]
    return [wave.round(decimals=12) for wave in waves] if waves[0].dtype == torch.float64 else waves


def _check_bands(shape: Sequence[int], bands: int) -> None:
    """Check that the finest band has two pixels per period.

    Raises:
        InputError: there are too many bands for the image.
    """
    last = min(shape[:2]) - 1
    if 2 ** (bands - 1) > last:
        raise InputError(
            f"bands (encoding_bands): expected at most {last.bit_length()} for {last + 1} px (the finest needs two "
            f"px per period), got {bands}; use fewer bands or a larger image_size"
        )


def check_position(alpha: float, range: str, x_axis: int, encoding: str, bands: int) -> None:
    """Check the parameters of a position encoding, which are those of :func:`position_channels`.

    Raises:
        InputError: a parameter is out of range.
    """
    if not (math.isfinite(alpha) and alpha > 0):
        raise InputError(
            f"alpha (pe_alpha): expected a finite number above 0, got {alpha}; or use a bundle without _pe"
        )
    if range not in RANGES:
        raise InputError(f"range (pe_range): expected one of {', '.join(RANGES)}, got {range!r}")
    if x_axis not in (1, 2):
        raise InputError(f"x_axis: expected 1 (columns along dimension 1, as in NIfTI) or 2, got {x_axis}")
    if encoding not in ENCODINGS:
        raise InputError(f"encoding: expected one of {', '.join(ENCODINGS)}, got {encoding!r}")
    if isinstance(bands, bool) or not isinstance(bands, int) or not 1 <= bands <= 16:
        raise InputError(f"bands (encoding_bands): expected a whole number, 1 to 16, such as {BANDS}, got {bands!r}")


@lru_cache(maxsize=16)  # a data set has few image sizes
def _cached_grid(
    shape: Sequence[int], alpha: float, range: str, x_axis: int, encoding: str, bands: int, device: torch.device
) -> Tensor:
    """Compute the channels of an image of this size once for each device; a concatenation copies them."""
    return position_channels(shape, alpha, range, x_axis, encoding, bands).to(device)


class PositionChannels(Lifted):
    """Append the position channels to the image, such as (intensity, x, y).

    The result is float32 for any input type, so the coordinates of a uint8 image are not rounded. Encodings inside the
    network append nothing, so that one chain of transforms fits all.

    Args:
        alpha: magnitude, above 0, in units of the standardized intensity.
        range: range of the values, ``"symmetric"`` for -alpha to alpha, ``"positive"`` for 0 to alpha.
        x_axis: dimension of the columns, 1 (as in NIfTI files) or 2.
        encoding: one of ``ENCODINGS``, as in :func:`position_channels`.
        bands: number of bands K of ``"fourier"``.
        keys: entries to extend, [C, X, Y] or [C, X, Y, Z].
        allow_missing_keys: whether keys that the item lacks are skipped.

    Raises:
        InputError: as in :func:`position_channels`; too many bands for the image are found when called.
    """

    by_slice = True

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
        # The grid of a slice is expanded to volumes: grids of all depths would fill the memory with Fourier bands.
        grid = self._grid(image.shape[1:3], image.device)
        if image.ndim == 4 and not image.is_contiguous():
            # The images of a batch are one after the other in memory, and stay so.
            slices = image.float().movedim(-1, 0)
            return torch.cat([slices, grid.expand(len(slices), *grid.shape)], dim=1).movedim(0, -1)
        for size in image.shape[3:]:
            grid = grid.unsqueeze(-1).expand(*grid.shape, size)
        return torch.cat([image.float(), grid])

    def compute(self, image: Tensor) -> Tensor:
        """Compute the channels [1, ``channel_count``, X, Y] for images [N, C, X, Y].

        In a traced network they follow the size of the image, in float32.
        """
        if not torch.jit.is_tracing():
            return self._grid(image.shape[2:], image.device)[None]
        if self.encoding in IN_NETWORK:
            return image[:1, :0]
        places = [count_pixels(image, axis + 1) for axis in (self.x_axis, 3 - self.x_axis)]
        return torch.cat(_encode(places, self.alpha, self.range, self.encoding, self.bands), dim=1)

    def _grid(self, shape: Sequence[int], device: torch.device) -> Tensor:
        return _cached_grid(tuple(shape), self.alpha, self.range, self.x_axis, self.encoding, self.bands, device)
