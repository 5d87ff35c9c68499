"""Photometric distortion of color images.

Reference:
    https://github.com/open-mmlab/mmsegmentation, ``PhotoMetricDistortion``; after W. Liu et al., "SSD: Single Shot
    MultiBox Detector", ECCV 2016.
"""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from medpos.core.errors import InputError
from medpos.transforms.base.lift import Item
from medpos.transforms.base.randomized import RandLifted

BRIGHTNESS = 32 / 255
CONTRAST = (0.5, 1.5)
SATURATION = (0.5, 1.5)
HUE_DEGREES = 36.0  # 18 in MMSegmentation, whose 8-bit hue has two degrees a step


def rgb_to_hsv(image: Tensor) -> Tensor:
    """Hue, saturation and value.

    Args:
        image: [3, X, Y], red, green and blue in [0, 1].

    Returns:
        [3, X, Y]: hue in [0, 1), one turn; saturation and value in [0, 1]. Gray has hue 0 and saturation 0.
    """
    value, brightest = image.max(0)
    spread = value - image.amin(0)
    # The hue runs from the brightest channel towards the larger of its neighbours, up to a sixth of a turn.
    after, before = (image.gather(0, ((brightest + by) % 3)[None])[0] for by in (1, 2))
    colored = spread > 0
    hue = ((2 * brightest + (after - before) / torch.where(colored, spread, 1)) / 6) % 1
    # Of a tiny negative number float32 makes a whole turn.
    hue = torch.where(colored & (hue < 1), hue, 0)
    return torch.stack([hue, spread / torch.where(value > 0, value, 1), value])


def hsv_to_rgb(image: Tensor) -> Tensor:
    """The inverse of :func:`rgb_to_hsv`; the hue may be any number of turns."""
    hue, saturation, value = image
    # Each channel is full for a third of a turn, falls to nothing within a sixth, and stays so for a third.
    positions = (torch.tensor([5.0, 3.0, 1.0], device=image.device).reshape(3, 1, 1) + 6 * hue) % 6
    return value - value * saturation * torch.minimum(positions, 4 - positions).clamp(0, 1)


def distort(
    image: Tensor, brightness: float, contrast: float, saturation: float, hue: float, contrast_first: bool
) -> Tensor:
    """Changes brightness, contrast, saturation and hue, and clips after each.

    Args:
        image: [3, X, Y], red, green and blue in [0, 1].
        brightness: added to all channels; 0 changes nothing.
        contrast: factor of all channels; 1 changes nothing.
        saturation: factor of the saturation; 1 changes nothing.
        hue: added to the hue, degrees; 0 changes nothing.
        contrast_first: the contrast comes before saturation and hue, not after.

    Returns:
        [3, X, Y] in [0, 1].
    """
    image = (image + brightness).clamp(0, 1)
    if contrast_first:
        image = (image * contrast).clamp(0, 1)
    if saturation != 1 or hue != 0:
        turns, strength, value = rgb_to_hsv(image)
        image = hsv_to_rgb(torch.stack([turns + hue / 360, (strength * saturation).clamp(0, 1), value])).clamp(0, 1)
    return image if contrast_first else (image * contrast).clamp(0, 1)


class PhotometricDistortion(RandLifted):
    """Distorts a color image, each of the four ways with probability 0.5, as :func:`distort` does.

    The original rounds to 8 bits after every step; here nothing is rounded.

    Args:
        keys: entries to distort, [3, X, Y], red, green and blue in [0, 1].
        brightness: largest addition or subtraction.
        contrast: lowest and highest factor.
        saturation: lowest and highest factor.
        hue: largest turn either way, degrees.
        prob: of distorting an item at all.
        allow_missing_keys: leave out keys that the item lacks.

    Raises:
        InputError: when called, an image that hasn't three channels.
    """

    def __init__(
        self,
        keys: str | Sequence[str] = "image",
        brightness: float = BRIGHTNESS,
        contrast: Sequence[float] = CONTRAST,
        saturation: Sequence[float] = SATURATION,
        hue: float = HUE_DEGREES,
        prob: float = 1.0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, prob, allow_missing_keys)
        # Lowest, highest, and the amount that changes nothing.
        self.amounts = {
            "brightness": (-brightness, brightness, 0.0),
            "contrast": (*contrast, 1.0),
            "saturation": (*saturation, 1.0),
            "hue": (-hue, hue, 0.0),
        }
        self._drawn: dict[str, float] = {}
        self._contrast_first = False

    def randomize(self, data: Item) -> None:
        """Draws which ways, how much, and the place of the contrast."""
        super().randomize(data)
        self._contrast_first = bool(self.R.randint(2))
        self._drawn = {
            name: float(self.R.uniform(low, high)) if self.R.randint(2) else neutral
            for name, (low, high, neutral) in self.amounts.items()
        }

    def apply(self, image: Tensor, item: Item, key: Hashable) -> Tensor:
        """Distorts one entry."""
        if len(image) != 3:
            raise InputError(
                f"PhotometricDistortion: {key} has {len(image)} channels, needed are red, green and blue; for gray "
                "images take RandScaleIntensityd and RandShiftIntensityd"
            )
        return distort(image, **self._drawn, contrast_first=self._contrast_first)
