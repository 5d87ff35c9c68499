"""Shift the content of an image by whole pixels, to measure how much a network depends on absolute position.

Reference:
    "How Can CNNs Use Image Position for Segmentation?", section 3.5, Figure 5.
"""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from medpos.transforms.base.lift import Item, Lifted
from medpos.transforms.base.randomized import one_per_key


def shift(image: Tensor, dx: int, dy: int, fill: float = 0.0) -> Tensor:
    """Shift the content of an image and fill the free pixels.

    Args:
        image: image [C, X, Y] or [C, X, Y, Z].
        dx: shift to the right in px; negative to the left.
        dy: shift down in px; negative up.
        fill: value of the free pixels; all pixels are free after a shift by the image's size or more.

    Returns:
        The shifted image, of the same shape and type.
    """
    moved = torch.full_like(image, fill)
    width, height = image.shape[1], image.shape[2]
    if abs(dx) < width and abs(dy) < height:
        moved[:, max(dx, 0) : width + min(dx, 0), max(dy, 0) : height + min(dy, 0)] = image[
            :, max(-dx, 0) : width + min(-dx, 0), max(-dy, 0) : height + min(-dy, 0)
        ]
    return moved


class Shifted(Lifted):
    """Shift image and label by the item's ``shift_x`` and ``shift_y`` in px, 0 by default.

    Use it before :class:`PositionChannels`, because position channels aren't shifted.

    Args:
        keys: entries to shift.
        fill: value of the free pixels, one for all keys or one for each: the background of the image and of the label
            map.
        allow_missing_keys: whether keys that the item lacks are skipped.

    Raises:
        InputError: the number of fill values isn't that of the keys.
    """

    by_slice = by_condition = True

    def __init__(
        self,
        keys: str | Sequence[str] = ("image", "label"),
        fill: float | Sequence[float] = (0.0, 0),
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.fill = one_per_key("Shifted: fill", fill, self.keys)

    def apply(self, image: Tensor, item: Item, key: Hashable) -> Tensor:
        """Shift one entry."""
        dx, dy = int(item.get("shift_x", 0)), int(item.get("shift_y", 0))
        return shift(image, dx, dy, self.fill[key]) if dx or dy else image
