"""The mean over rotated versions of an image.

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

SMALLEST = torch.finfo(torch.float32).tiny  # whose logarithm is finite


class RotationMeanInferer(Inferer):
    """Averages the probabilities of rotated versions of an image, each rotated back.

    A rotated image stands on a canvas that holds all of it; the canvas's corners are the image mirrored at its edges.
    So the inferer inside must take images of any size.

    Args:
        inferer: runs the network on one version.
        rotations: number of versions, at equal angles over the full turn, 0 among them; multiples of 90 degrees are
            exact, and 1 is the inferer alone.

    Raises:
        InputError: no rotation; in the call, an image that isn't [N, C, X, Y].
    """

    def __init__(self, inferer: Inferer, rotations: int = 7) -> None:
        super().__init__()
        if rotations < 1:
            raise InputError(f"rotations is {rotations}, needed is 1 or more; 7 are the paper's")
        self.inferer = inferer
        self.rotations = rotations

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Logarithms of the mean probabilities [N, classes, X, Y], float32, whose softmax are the probabilities."""
        if self.rotations == 1:
            only: torch.Tensor = self.inferer(inputs, network, *args, **kwargs)
            return only
        images = to_plain_images(inputs, type(self).__name__)
        total = torch.zeros((), device=images.device)
        for turn in range(self.rotations):
            logits = self.inferer(self._turned(images, turn), network, *args, **kwargs)
            total = total + self._turned_back(logits.float().softmax(dim=1), turn, images.shape[2:])
        return (total / self.rotations).clamp(min=SMALLEST).log()

    def _turned(self, images: torch.Tensor, turn: int) -> torch.Tensor:
        quarters, rest = divmod(4 * turn, self.rotations)
        if rest == 0:
            return images.rot90(quarters, (2, 3))
        angle = 2 * math.pi * turn / self.rotations
        cosine, sine = abs(math.cos(angle)), abs(math.sin(angle))
        height, width = images.shape[2:]
        canvas = math.ceil(height * cosine + width * sine), math.ceil(width * cosine + height * sine)
        return rotated(images, angle, canvas)

    def _turned_back(self, maps: torch.Tensor, turn: int, size: Sequence[int]) -> torch.Tensor:
        quarters, rest = divmod(4 * turn, self.rotations)
        if rest == 0:
            return maps.rot90(-quarters, (2, 3))
        return rotated(maps, -2 * math.pi * turn / self.rotations, size)


def rotated(images: torch.Tensor, angle: float, size: Sequence[int]) -> torch.Tensor:
    """Images rotated about their center, bilinear, mirrored where the rotated image ends.

    Args:
        images: [N, C, X, Y], float32.
        angle: in radians, from the first axis towards the second, as ``torch.rot90``.
        size: X' and Y' of the result, in px, about the same center.

    Returns:
        [N, C, X', Y'].
    """
    x, y = (torch.arange(length, dtype=torch.float64) - (length - 1) / 2 for length in size)
    cosine, sine = math.cos(angle), math.sin(angle)
    sources = cosine * x[:, None] + sine * y, cosine * y - sine * x[:, None]
    halves = [max(length - 1, 1) / 2 for length in images.shape[2:]]
    # The last axis comes first there, from -1 to 1 between the centers of the outer pixels.
    grid = torch.stack([source / half for source, half in zip(sources, halves, strict=True)][::-1], dim=2)
    grids = grid.to(images).expand(len(images), -1, -1, -1)
    return functional.grid_sample(images, grids, mode="bilinear", padding_mode="reflection", align_corners=True)
