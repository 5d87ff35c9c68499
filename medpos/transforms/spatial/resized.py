"""Resize and crop photographs to one size.

Reference:
    C. Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, section 6; the schemes of ResNet and DenseNet in
    PyTorch are the same.
"""

import math
from collections.abc import Hashable, Sequence

from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from medpos.transforms.base.lift import Item, Lifted
from medpos.transforms.base.randomized import RandLifted

CROP_AREA, CROP_ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)
TRIES = 10


def resize(image: Tensor, size: Sequence[int]) -> Tensor:
    """Resize an image [C, X, Y] to [C, X', Y'] bilinearly, with a low-pass filter where it shrinks, as in Pillow."""
    return F.interpolate(image[None], tuple(size), mode="bilinear", antialias=True)[0]


class ResizeShortSide(Lifted):
    """Resize images so that the shorter side has ``size`` px.

    Args:
        size: length of the shorter side in px; 256 before a central crop of 224.
        keys: entries to resize, [C, X, Y].
    """

    def __init__(self, size: int = 256, keys: str | Sequence[str] = "image") -> None:
        super().__init__(keys)
        self.size = size

    def apply(self, image: Tensor, item: Item, key: Hashable) -> Tensor:
        """Resize one entry; the longer side is rounded down."""
        short = min(image.shape[1:])
        return resize(image, [self.size * side // short for side in image.shape[1:]])


class RandResizedCrop(RandLifted):
    """Cut out a part of random area, shape and position, and resize it.

    Args:
        size: side of the result in px.
        area: smallest and largest share of the image's area, drawn uniformly.
        aspect: smallest and largest ratio of the sides, drawn uniformly in the logarithm.
        keys: entries to cut, [C, X, Y].
    """

    def __init__(
        self,
        size: int = 224,
        area: Sequence[float] = CROP_AREA,
        aspect: Sequence[float] = CROP_ASPECT,
        keys: str | Sequence[str] = "image",
    ) -> None:
        super().__init__(keys)
        self.size, self.area, self.aspect = size, tuple(area), tuple(aspect)
        self._field = (0, 0, 0, 0)

    def randomize(self, data: Item) -> None:
        """Draw the part; after ten parts that don't fit, use the largest central one of a valid shape."""
        super().randomize(data)
        whole = self.plane(data)
        for _ in range(TRIES):
            share = self.R.uniform(*self.area) * whole[0] * whole[1]
            aspect = math.exp(self.R.uniform(*map(math.log, self.aspect)))
            x, y = round(math.sqrt(share * aspect)), round(math.sqrt(share / aspect))
            if 0 < x <= whole[0] and 0 < y <= whole[1]:
                self._field = (self.R.randint(whole[0] - x + 1), self.R.randint(whole[1] - y + 1), x, y)
                return
        x, y = min(whole[0], round(whole[1] * self.aspect[1])), min(whole[1], round(whole[0] / self.aspect[0]))
        self._field = ((whole[0] - x) // 2, (whole[1] - y) // 2, x, y)

    def apply(self, image: Tensor, item: Item, key: Hashable) -> Tensor:
        """Cut and resize one entry."""
        x, y, width, height = self._field
        return resize(image[:, x : x + width, y : y + height], (self.size, self.size))
