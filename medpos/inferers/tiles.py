"""Overlap-tile inference: a large image in tiles, as if the network had seen it whole.

Reference:
    O. Ronneberger et al., "U-Net", MICCAI 2015, figure 2; https://arxiv.org/abs/1505.04597.
"""

import itertools
from collections.abc import Callable
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer

from medpos.core.errors import InputError
from medpos.networks.encoder_decoder.unet2015 import BORDER, OFFSET, SMALLEST, STRIDE
from medpos.transforms.spatial.crops import mirror_indices

SMALLEST_TILE = SMALLEST + STRIDE  # the network's smallest gives 4 px, less than the shortest step


class OverlapTileInferer(Inferer):
    """Runs :class:`medpos.networks.UNet2015` over images of any size, with the context beyond their edges mirrored.

    The network pools four times, so a pixel's logit depends on its place within fields of 16 x 16 px. Tiles begin at
    multiples of 16 px, and what they give is what one pass over the whole image would give, but for rounding. The
    paper's 388 px side by side are no such multiple: its tiles overlap here by 4 px.

    Args:
        size: of a tile, in px: 16 k + 60, at least 204. A smaller one saves time where images are small.
        border: px that the network takes off on each side.
        step: from tile to tile, in px: a multiple of 16, ``size - 2 * border`` at most, which is the default; 384 for
            the paper's tiles.
        sw_batch_size: tiles that the network gets at a time.

    Raises:
        InputError: a size or step as above; in the call, an image that isn't [N, C, X, Y], or a network of another
            border.
    """

    def __init__(self, size: int = 572, border: int = BORDER, step: int | None = None, sw_batch_size: int = 1) -> None:
        super().__init__()
        if size < SMALLEST_TILE or (size - OFFSET) % STRIDE:
            near = max((size - OFFSET) // STRIDE * STRIDE + OFFSET, SMALLEST_TILE)
            raise InputError(
                f"size is {size} px, needed is {STRIDE} k + {OFFSET} and at least {SMALLEST_TILE}; try {near}"
            )
        self.size, self.border, self.output = size, border, size - 2 * border
        largest = self.output // STRIDE * STRIDE
        self.step = largest if step is None else step
        if not 0 < self.step <= self.output or self.step % STRIDE:
            raise InputError(
                f"step is {step} px, needed is a multiple of {STRIDE}, {STRIDE} to {self.output} for tiles of {size} "
                f"px; try {largest}"
            )
        self.sw_batch_size = sw_batch_size

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Logits [N, classes, X, Y], float32, of ``inputs`` [N, C, X, Y]."""
        images = to_plain_images(inputs, type(self).__name__)
        starts = [self._starts(length) for length in images.shape[2:]]
        for axis, begins in enumerate(starts, 2):
            places = mirror_indices(-self.border, begins[-1] + self.size, images.shape[axis])
            images = images.index_select(axis, places.to(images.device))
        tiles_at = list(itertools.product(range(len(images)), *starts))
        result: torch.Tensor | None = None
        for first in range(0, len(tiles_at), self.sw_batch_size):
            batch = tiles_at[first : first + self.sw_batch_size]
            tiles = [images[n, :, x : x + self.size, y : y + self.size] for n, x, y in batch]
            logits = self._checked(network(torch.stack(tiles), *args, **kwargs))
            if result is None:
                size = [begins[-1] + self.output for begins in starts]
                result = logits.new_empty(len(images), logits.shape[1], *size, dtype=torch.float32)
            for (n, x, y), tile in zip(batch, logits, strict=True):
                result[n, :, x : x + self.output, y : y + self.output] = tile
        assert result is not None
        return result[:, :, : inputs.shape[2], : inputs.shape[3]]

    def _starts(self, length: int) -> list[int]:
        """Where the tiles begin on an axis; the last one may reach into the mirrored context, to stay a multiple."""
        rest = max(length - self.output, 0)
        return [*range(0, rest, self.step), -(-rest // STRIDE) * STRIDE]

    def _checked(self, logits: torch.Tensor) -> torch.Tensor:
        if tuple(logits.shape[2:]) != (self.output, self.output):
            given = " x ".join(str(length) for length in logits.shape[2:])
            raise InputError(
                f"OverlapTileInferer: of {self.size} px the network gives {given}, a border of {self.border} px needs "
                f"{self.output} x {self.output}; give the network's own border, or a UNet2015"
            )
        return logits


def to_plain_images(inputs: torch.Tensor, name: str, dims: tuple[int, ...] = (4,)) -> torch.Tensor:
    """The inputs without MONAI's metadata, which cutting would carry along.

    Raises:
        InputError: they are no images [N, C, X, Y] (4 dimensions), or no volumes [N, C, X, Y, Z] either (5).
    """
    if inputs.ndim not in dims:
        shapes = {4: "[N, C, X, Y]", 5: "[N, C, X, Y, Z]"}
        needed = " or ".join(shapes[count] for count in dims)
        raise InputError(f"{name}: the input has shape {list(inputs.shape)}, needed is {needed}")
    images: torch.Tensor = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
    return images
