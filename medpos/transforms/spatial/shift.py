"""Shift the content of an image by whole pixels, to measure how much a network depends on absolute position.

Reference:
    "How Can CNNs Use Image Position for Segmentation?", section 3.5, Figure 5.
"""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from medpos.core.errors import InputError
from medpos.transforms.base.lift import Item, Lifted
from medpos.transforms.base.randomized import one_per_key

LOWEST = "lowest"


def shift(image: Tensor, dx: int, dy: int, fill: float | str = 0.0) -> Tensor:
    """Shift the content of an image and fill the free pixels.

    Args:
        image: image [C, X, Y] or [C, X, Y, Z].
        dx: shift to the right in px; negative to the left.
        dy: shift down in px; negative up.
        fill: value of the free pixels; all pixels are free after a shift by the image's size or more. ``"lowest"``: the
            lowest value of each channel and slice, the background of an image that was scaled from its minimum; 0 in a
            label map, which is an image of integers.

    Returns:
        The shifted image, of the same shape and type.
    """
    if isinstance(fill, str):
        lowest = image.amin((1, 2), keepdim=True) if image.is_floating_point() else image.new_zeros(())
        moved = lowest.expand_as(image).clone()
    else:
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
        fill: value of the free pixels, or ``"lowest"``, one for all keys or one for each: the background of the image
            and of the label map; see :func:`shift`.
        allow_missing_keys: whether keys that the item lacks are skipped.
        active: whether it shifts; False leaves every item as it is.

    Raises:
        InputError: the number of fill values isn't that of the keys, or a text is another than ``"lowest"``.
    """

    by_slice = by_condition = True

    def __init__(
        self,
        keys: str | Sequence[str] = ("image", "label"),
        fill: float | str | Sequence[float | str] = (0.0, 0),
        allow_missing_keys: bool = False,
        active: bool = True,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.fill = one_per_key("Shifted: fill", fill, self.keys)
        if unknown := [value for value in self.fill.values() if isinstance(value, str) and value != LOWEST]:
            raise InputError(f"Shifted: fill: expected numbers or {LOWEST!r}, got {unknown[0]!r}; correct it")
        self.active = active

    def apply(self, image: Tensor, item: Item, key: Hashable) -> Tensor:
        """Shift one entry."""
        dx, dy = (int(item.get(side, 0)) if self.active else 0 for side in ("shift_x", "shift_y"))
        return shift(image, dx, dy, self.fill[key]) if dx or dy else image
