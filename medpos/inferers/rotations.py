"""Average the predictions for rotated versions of an image.

Reference:
    O. Ronneberger et al., "U-Net", MICCAI 2015, section 4 and table 1, "averaged over 7 rotated versions of the input
    data"; https://arxiv.org/abs/1505.04597.

Resolved where the paper is silent: the angles are k 360 / 7 degrees; probabilities are averaged; images and
probabilities are interpolated bilinearly.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.inferers import Inferer
from torch.nn import functional

from medpos.core.errors import InputError
from medpos.inferers.tiles import to_plain_images

SMALLEST = torch.finfo(torch.float32).tiny  # smallest number with a finite logarithm


class RotationMeanInferer(Inferer):
    """Average the probabilities of rotated versions of an image, each rotated back.

    The canvas of a rotated image is large enough for all of it; its corners are filled by mirroring the image. So the
    inner inferer must accept images of any size.

    Args:
        inferer: inferer that runs the network on one version.
        rotations: number of versions, at equal angles over the full turn from 0 on; multiples of 90 degrees are exact,
            and 1 is the inner inferer alone.

    Raises:
        InputError: ``rotations`` is below 1; in the call, an image that isn't [N, C, X, Y].
    """

    def __init__(self, inferer: Inferer, rotations: int = 7) -> None:
        super().__init__()
        if rotations < 1:
            raise InputError(f"RotationMeanInferer: rotations: expected 1 or more, got {rotations}; 7 in the paper")
        self.inferer = inferer
        self.rotations = rotations

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Compute logarithms of the mean probabilities, [N, classes, X, Y], float32."""
        if self.rotations == 1:
            only: torch.Tensor = self.inferer(inputs, network, *args, **kwargs)
            return only
        images = to_plain_images(inputs, type(self).__name__)
        total = torch.zeros((), device=images.device)
        for turn in range(self.rotations):
            logits = self.inferer(self._rotate(images, turn), network, *args, **kwargs)
            total = total + self._rotate_back(logits.float().softmax(dim=1), turn, images.shape[2:])
        return (total / self.rotations).clamp(min=SMALLEST).log()

    def _rotate(self, images: torch.Tensor, turn: int) -> torch.Tensor:
        quarters, rest = divmod(4 * turn, self.rotations)
        if rest == 0:
            return images.rot90(quarters, (2, 3))
        angle = 2 * math.pi * turn / self.rotations
        cosine, sine = abs(math.cos(angle)), abs(math.sin(angle))
        height, width = images.shape[2:]
        canvas = math.ceil(height * cosine + width * sine), math.ceil(width * cosine + height * sine)
        return rotate(images, angle, canvas)

    def _rotate_back(self, maps: torch.Tensor, turn: int, size: Sequence[int]) -> torch.Tensor:
        quarters, rest = divmod(4 * turn, self.rotations)
        if rest == 0:
            return maps.rot90(-quarters, (2, 3))
        return rotate(maps, -2 * math.pi * turn / self.rotations, size)


def rotate(images: torch.Tensor, angle: float, size: Sequence[int]) -> torch.Tensor:
    """Rotate images about their center, with bilinear interpolation and mirroring outside of the image.

    Args:
        images: images [N, C, X, Y], float32.
        angle: angle in radians from the first axis toward the second, as in ``torch.rot90``.
        size: size X', Y' of the result in px, around the same center.

    Returns:
        Rotated images [N, C, X', Y'].
    """
    x, y = (torch.arange(length, dtype=torch.float64) - (length - 1) / 2 for length in size)
    cosine, sine = math.cos(angle), math.sin(angle)
    sources = cosine * x[:, None] + sine * y, cosine * y - sine * x[:, None]
    halves = [max(length - 1, 1) / 2 for length in images.shape[2:]]
    # grid_sample expects the last axis first, from -1 to 1 between the centers of the outer pixels.
    grid = torch.stack([source / half for source, half in zip(sources, halves, strict=True)][::-1], dim=2)
    grids = grid.to(images).expand(len(images), -1, -1, -1)
    return functional.grid_sample(images, grids, mode="bilinear", padding_mode="reflection", align_corners=True)
