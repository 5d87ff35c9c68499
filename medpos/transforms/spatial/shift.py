"""Moving the content of an image by whole pixels, to see what a network knows from position alone.

Reference:
    "How Can CNNs Use Image Position for Segmentation?", section 3.5, Figure 5.
"""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from medpos.core.errors import InputError
from medpos.transforms.base.lift import Item, Lifted


def shift(image: Tensor, dx: int, dy: int, fill: float = 0.0) -> Tensor:
    """Moves the content and fills what becomes free.

    Args:
        image: [C, X, Y] or [C, X, Y, Z], dimension 1 running along the columns.
        dx: columns to the right, px; negative to the left.
        dy: rows down, px; negative up.
        fill: value of the free pixels; a shift of at least the image's size leaves nothing else.

    Returns:
        The moved image, same shape and type.
    """
    moved = torch.full_like(image, fill)
    width, height = image.shape[1], image.shape[2]
    if abs(dx) < width and abs(dy) < height:
        moved[:, max(dx, 0) : width + min(dx, 0), max(dy, 0) : height + min(dy, 0)] = image[
            :, max(-dx, 0) : width + min(-dx, 0), max(-dy, 0) : height + min(-dy, 0)
        ]
    return moved


class Shifted(Lifted):
    """Moves image and label by the item's ``shift_x`` and ``shift_y`` (px, 0 where the item has none).

    It comes before the position channels, which stay where they are.

    Args:
        keys: entries to move.
        fill: value of the free pixels, one for each key: the background of the image and of the label map.
        allow_missing_keys: leave out keys that the item lacks.
    """

    def __init__(
        self,
        keys: str | Sequence[str] = ("image", "label"),
        fill: float | Sequence[float] = (0.0, 0),
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        fills = list(fill) if isinstance(fill, Sequence) else [fill] * len(self.keys)
        if len(fills) != len(self.keys):
            raise InputError(f"Shifted: {len(fills)} fill values for {len(self.keys)} keys; give one for each key")
        self.fill = dict(zip(self.keys, fills, strict=True))

    def apply(self, image: Tensor, item: Item, key: Hashable) -> Tensor:
        """Moves one entry."""
        dx, dy = int(item.get("shift_x", 0)), int(item.get("shift_y", 0))
        return shift(image, dx, dy, self.fill[key]) if dx or dy else image
