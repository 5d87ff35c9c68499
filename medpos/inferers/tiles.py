"""Run a network over a large image in overlapping tiles, with the same result as one pass over the whole image.

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

SMALLEST_TILE = SMALLEST + STRIDE  # the network's smallest input gives 4 px, less than the shortest step


class OverlapTileInferer(Inferer):
    """Run :class:`medpos.networks.UNet2015` over images of any size, with mirrored context beyond their edges.

    The network pools four times, so a pixel's logit depends on its position within blocks of 16 x 16 px. Tiles start at
    multiples of 16 px, so their outputs equal those of one pass over the whole image, up to rounding. The paper's
    adjacent tiles of 388 px aren't such multiples; here they overlap by 4 px.

    Args:
        size: side of a tile in px, 16 k + 60, at least 204. Smaller tiles save time for small images.
        border: px that the network removes on each side.
        step: distance between tiles in px, a multiple of 16, at most ``size - 2 * border``. The default is the largest
            one, 384 for the paper's tiles.
        sw_batch_size: number of tiles in a batch.

    Raises:
        InputError: size or step is invalid; in the call, an image that isn't [N, C, X, Y], or a network with another
            border.
    """

    def __init__(self, size: int = 572, border: int = BORDER, step: int | None = None, sw_batch_size: int = 1) -> None:
        super().__init__()
        if size < SMALLEST_TILE or (size - OFFSET) % STRIDE:
            near = max((size - OFFSET) // STRIDE * STRIDE + OFFSET, SMALLEST_TILE)
            raise InputError(
                f"OverlapTileInferer: size: expected {STRIDE} k + {OFFSET} px, at least {SMALLEST_TILE}, got {size}; "
                f"try {near}"
            )
        self.size, self.border, self.output = size, border, size - 2 * border
        largest = self.output // STRIDE * STRIDE
        self.step = largest if step is None else step
        if not 0 < self.step <= self.output or self.step % STRIDE:
            raise InputError(
                f"OverlapTileInferer: step: expected a multiple of {STRIDE}, {STRIDE} to {self.output} px, for tiles "
                f"of {size} px, got {step}; try {largest}"
            )
        self.sw_batch_size = sw_batch_size

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Compute logits [N, classes, X, Y], float32, of ``inputs`` [N, C, X, Y]."""
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
        """Compute the starts of the tiles on an axis; the last tile may extend into the mirrored context."""
        rest = max(length - self.output, 0)
        return [*range(0, rest, self.step), -(-rest // STRIDE) * STRIDE]

    def _checked(self, logits: torch.Tensor) -> torch.Tensor:
        if tuple(logits.shape[2:]) != (self.output, self.output):
            given = " x ".join(str(length) for length in logits.shape[2:])
            raise InputError(
                f"OverlapTileInferer: expected {self.output} x {self.output} px from the network for {self.size} px "
                f"and a border of {self.border} px, got {given}; set border to that of the network, or use a UNet2015"
            )
        return logits


def to_plain_images(inputs: torch.Tensor, name: str, dims: tuple[int, ...] = (4,)) -> torch.Tensor:
    """Convert inputs to plain tensors, because MONAI's metadata would slow down every crop.

    Args:
        inputs: images [N, C, X, Y] or volumes [N, C, X, Y, Z].
        name: name of the inferer, the start of the message.
        dims: allowed numbers of dimensions, 4 for images, 5 for volumes.

    Raises:
        InputError: the number of dimensions isn't allowed.
    """
    if inputs.ndim not in dims:
        shapes = {4: "[N, C, X, Y]", 5: "[N, C, X, Y, Z]"}
        allowed = " or ".join(shapes[count] for count in dims)
        raise InputError(f"{name}: expected an input {allowed}, got shape {list(inputs.shape)}")
    images: torch.Tensor = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
    return images
