"""Distort brightness, contrast, saturation and hue of color images.

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
HUE_DEGREES = 36.0  # 18 in MMSegmentation, where a step of the 8-bit hue is two degrees


def rgb_to_hsv(image: Tensor) -> Tensor:
    """Convert red, green and blue to hue, saturation and value.

    Args:
        image: image [3, X, Y], red, green and blue in [0, 1].

    Returns:
        [3, X, Y]: hue in [0, 1), in turns; saturation and value in [0, 1]. Gray has hue 0 and saturation 0.
    """
    value, brightest = image.max(0)
    spread = value - image.amin(0)
    # The hue runs from the brightest channel toward the larger of its neighbors, up to a sixth of a turn.
    after, before = (image.gather(0, ((brightest + by) % 3)[None])[0] for by in (1, 2))
    colored = spread > 0
    hue = ((2 * brightest + (after - before) / torch.where(colored, spread, 1)) / 6) % 1
    # float32 rounds a tiny negative number modulo 1 to a full turn.
    hue = torch.where(colored & (hue < 1), hue, 0)
    return torch.stack([hue, spread / torch.where(value > 0, value, 1), value])


def hsv_to_rgb(image: Tensor) -> Tensor:
    """Convert hue, saturation and value to red, green and blue; the hue may be any number of turns."""
    hue, saturation, value = image
    # Each channel is 1 for a third of a turn, falls to 0 within a sixth, stays 0 for a third, and rises again.
    positions = (torch.tensor([5.0, 3.0, 1.0], device=image.device).reshape(3, 1, 1) + 6 * hue) % 6
    return value - value * saturation * torch.minimum(positions, 4 - positions).clamp(0, 1)


def distort(
    image: Tensor, brightness: float, contrast: float, saturation: float, hue: float, contrast_first: bool
) -> Tensor:
    """Change brightness, contrast, saturation and hue, and clip after each step.

    Args:
        image: image [3, X, Y], red, green and blue in [0, 1].
        brightness: offset of all channels; 0 changes nothing.
        contrast: factor of all channels; 1 changes nothing.
        saturation: factor of the saturation; 1 changes nothing.
        hue: offset of the hue in degrees; 0 changes nothing.
        contrast_first: whether contrast is changed before saturation and hue, or after.

    Returns:
        The distorted image [3, X, Y] in [0, 1].
    """
    image = (image + brightness).clamp(0, 1)
    if contrast_first:
        image = (image * contrast).clamp(0, 1)
    if saturation != 1 or hue != 0:
        turns, strength, value = rgb_to_hsv(image)
        image = hsv_to_rgb(torch.stack([turns + hue / 360, (strength * saturation).clamp(0, 1), value])).clamp(0, 1)
    return image if contrast_first else (image * contrast).clamp(0, 1)


class PhotometricDistortion(RandLifted):
    """Distort a color image in the four ways of :func:`distort`, each with probability 0.5.

    The original rounds to 8 bits after every step; this one doesn't round.

    Args:
        keys: entries to distort, [3, X, Y], red, green and blue in [0, 1].
        brightness: largest absolute offset.
        contrast: lowest and highest factor.
        saturation: lowest and highest factor.
        hue: largest absolute offset of the hue in degrees.
        prob: probability of distorting an item.
        allow_missing_keys: whether keys that the item lacks are skipped.

    Raises:
        InputError: when called, an image without exactly three channels.
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
        """Draw the amount of each distortion, and when the contrast is changed."""
        super().randomize(data)
        self._contrast_first = bool(self.R.randint(2))
        self._drawn = {
            name: float(self.R.uniform(low, high)) if self.R.randint(2) else neutral
            for name, (low, high, neutral) in self.amounts.items()
        }

    def apply(self, image: Tensor, item: Item, key: Hashable) -> Tensor:
        """Distort one entry."""
        if len(image) != 3:
            raise InputError(
                f"PhotometricDistortion: {key}: expected red, green and blue channels, got {len(image)}; for "
                "gray images use RandScaleIntensityd and RandShiftIntensityd"
            )
        return distort(image, **self._drawn, contrast_first=self._contrast_first)
