"""Cut random tiles and crops.

References:
    O. Ronneberger, P. Fischer, T. Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015,
    section 2 and figure 2: tiles with the missing context filled by mirroring.
    https://github.com/open-mmlab/mmsegmentation, ``RandomCrop`` and ``Pad``.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from monai.utils import ensure_tuple_rep
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from medpos.core.errors import InputError
from medpos.core.labels import IGNORED
from medpos.transforms.base.lift import Item
from medpos.transforms.base.randomized import RandLifted, one_per_key

CLASS_CAP = 0.75
TRIES = 10


def mirror_indices(start: int, length: int, size: int) -> Tensor:
    """Compute indices into an axis that is mirrored at both ends repeatedly, without repeating the end pixel.

    Args:
        start: first position, possibly negative.
        length: number of positions.
        size: size of the axis in px.

    Returns:
        Indices [length], 0 to size - 1.
    """
    period = max(2 * (size - 1), 1)
    steps = torch.arange(start, start + length) % period
    return torch.where(steps < size, steps, period - steps)


class RandomTile(RandLifted):
    """Cut a tile at a random position for a network without padding, with a larger tile of the image than of the label.

    The label's tile is inside the image, and the image's tile is ``border`` px larger on every side. Pixels beyond the
    image are filled by mirroring. An image smaller than the label's tile gets a random position in it, and both are
    filled by mirroring.

    Args:
        size: size X, Y of the image's tile in px, valid for the network: 16 k + 60, k >= 8, for ``UNet2015``.
        border: px that the network removes on every side, 92 for ``UNet2015``.
        keys: entries to cut, [C, X, Y].
        whole: entries that get the whole tile; the others get its middle, ``size - 2 border``.
        allow_missing_keys: whether keys that the item lacks are skipped.

    Raises:
        InputError: the border leaves no middle; when called, entries of different sizes.
    """

    def __init__(
        self,
        size: int | Sequence[int] = 572,
        border: int = 92,
        keys: str | Sequence[str] = ("image", "label", "weight"),
        whole: str | Sequence[str] = "image",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, 1.0, allow_missing_keys)
        self.size: tuple[int, ...] = ensure_tuple_rep(size, 2)
        if border < 0 or min(self.size) <= 2 * border:
            raise InputError(f"RandomTile: expected a size above {2 * border} px, twice the border, got {size}")
        self.border = border
        self.whole = (whole,) if isinstance(whole, str) else tuple(whole)
        self._start = (0, 0)

    def randomize(self, data: Item) -> None:
        """Draw the start of the label's tile."""
        super().randomize(data)
        spaces = [extent - (size - 2 * self.border) for extent, size in zip(self.plane(data), self.size, strict=True)]
        x, y = (int(self.R.randint(min(space, 0), max(space, 0) + 1)) for space in spaces)
        self._start = (x, y)

    def apply(self, image: Tensor, item: Item, key: Hashable) -> Tensor:
        """Cut the tile out of one entry."""
        before, less = (self.border, 0) if key in self.whole else (0, 2 * self.border)
        for axis, (start, size) in enumerate(zip(self._start, self.size, strict=True), start=1):
            index = mirror_indices(start - before, size - less, image.shape[axis])
            image = image.index_select(axis, index.to(image.device))
        return image


class RandCropWithClassCap(RandLifted):
    """Cut a random crop in which no class has too large a share.

    Up to ten positions are drawn until no class has ``cap`` or more of the crop's labeled pixels; an eleventh is used
    in any case. An image smaller than the crop is padded on the right and at the bottom. MMSegmentation pads after
    standardization, with the mean; for the same result, standardize first.

    Args:
        size: size X, Y of the crop in px.
        cap: maximal share of a class among the labeled pixels, above 0; 1 accepts the first position.
        keys: entries to cut, [C, X, Y].
        label_key: entry of the label map, [1, X, Y], 255 ignored.
        fill: value of the padding, one for all keys or one for each.
        allow_missing_keys: whether keys that the item lacks are skipped.

    Raises:
        InputError: a size below 1, a cap not above 0, or a number of fill values that isn't that of the keys; when
            called, entries of different sizes.
    """

    def __init__(
        self,
        size: int | Sequence[int],
        cap: float = CLASS_CAP,
        keys: str | Sequence[str] = ("image", "label"),
        label_key: str = "label",
        fill: float | Sequence[float] = (0.0, IGNORED),
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, 1.0, allow_missing_keys)
        self.size: tuple[int, ...] = ensure_tuple_rep(size, 2)
        if min(self.size) < 1 or not cap > 0:
            raise InputError(f"RandCropWithClassCap: expected a size and a cap above 0, got size {size} and cap {cap}")
        self.cap, self.label_key = cap, label_key
        self.fill = one_per_key("fill", fill, self.keys)
        self._start = (0, 0)

    def randomize(self, data: Item) -> None:
        """Draw positions until one is valid."""
        super().randomize(data)
        plane = self.plane(data)
        self._start = self._draw(plane)
        for _ in range(TRIES if self.cap < 1 else 0):
            if self._is_mixed(data[self.label_key]):
                break
            self._start = self._draw(plane)

    def _draw(self, plane: Sequence[int]) -> tuple[int, int]:
        x, y = (int(self.R.randint(max(extent - size, 0) + 1)) for extent, size in zip(plane, self.size, strict=True))
        return x, y

    def _cut(self, image: Any) -> Any:
        (x, y), (width, height) = self._start, self.size
        return image[:, x : x + width, y : y + height]

    def _is_mixed(self, label: Any) -> bool:
        counts = torch.bincount(torch.as_tensor(self._cut(label)).flatten().long(), minlength=IGNORED + 1)
        counts[IGNORED] = 0
        return bool(counts.max() < self.cap * counts.sum())

    def apply(self, image: Tensor, item: Item, key: Hashable) -> Tensor:
        """Cut the crop out of one entry."""
        crop = self._cut(image)
        missing = [size - extent for size, extent in zip(self.size, crop.shape[1:], strict=True)]
        return F.pad(crop, (0, missing[1], 0, missing[0]), value=self.fill[key]) if any(missing) else crop
