"""Resizing and cropping of photographs of many sizes to one.

Reference:
    C. Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, section 6, which the schemes of ResNet and DenseNet
    in PyTorch follow.
"""

import math
from collections.abc import Hashable, Sequence

from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from medpos.transforms.base.lift import Item, Lifted
from medpos.transforms.base.randomized import RandLifted

CROP_AREA, CROP_ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)
TRIES = 10


def resized(image: Tensor, size: Sequence[int]) -> Tensor:
    """[C, X', Y'] of [C, X, Y], bilinear, low-passed where it shrinks, as Pillow does it."""
    return F.interpolate(image[None], tuple(size), mode="bilinear", antialias=True)[0]


class ResizeShortSide(Lifted):
    """Resizes images so that the shorter side has ``size`` px.

    Args:
        size: in px, 256 before a central crop of 224.
        keys: entries to resize, [C, X, Y].
    """

    def __init__(self, size: int = 256, keys: str | Sequence[str] = "image") -> None:
        super().__init__(keys)
        self.size = size

    def apply(self, image: Tensor, item: Item, key: Hashable) -> Tensor:
        """Resizes one entry; the longer side is rounded down."""
        short = min(image.shape[1:])
        return resized(image, [self.size * side // short for side in image.shape[1:]])


class RandResizedCrop(RandLifted):
    """Cuts out a part of random area, shape and place, and resizes it.

    Args:
        size: side of the result in px.
        area: least and largest share of the image, drawn uniformly.
        aspect: least and largest quotient of its sides, drawn uniformly in the logarithm.
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
        """Draws the part; after ten that don't fit, the largest central one of a valid shape."""
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
        """Cuts and resizes one entry."""
        x, y, width, height = self._field
        return resized(image[:, x : x + width, y : y + height], (self.size, self.size))
