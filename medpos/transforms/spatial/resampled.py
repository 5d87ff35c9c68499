"""Bring images to a square: resized to it, or resampled to one pixel size and centered on it.

The second way keeps shapes and sizes: every pixel of every image then measures the same, as in nnU-Net. An image that
is smaller than the square is padded, the borders of a larger one are cut away.

Reference:
    F. Isensee et al., "nnU-Net", Nature Methods 18, 2021: resampling to the median spacing of the training images.
"""

import copy
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from monai.data import MetaTensor
from monai.transforms import Pad, Resize, Resized, SpatialCrop
from torch import Tensor, tensor

from medpos.core.errors import InputError
from medpos.core.labels import IGNORED

RESAMPLED_SIZE = "resampled_size"  # key of an item, and of an image's metadata: X, Y before padding and cropping
MAX_SIDE = 16384  # px, as of image_size


class SpacingError(InputError):
    """Report an image that can't be resampled to a pixel size and centered on a square."""


def find_borders(size: Sequence[int], square: Sequence[int]) -> list[tuple[int, int]]:
    """Return the pixels to add before and after each axis to center an image on a square; below 0 to cut away.

    Args:
        size: X and Y of the image in pixels.
        square: X and Y of the square in pixels.
    """
    return [((new - old) // 2, new - old - (new - old) // 2) for old, new in zip(size, square, strict=True)]


class Resampled(Resized):
    """Resize images to a square, or resample them to one pixel size, and pad or crop them centrally to the square.

    Without a pixel size this is MONAI's ``Resized``. With one, images get ``round(size * spacing / pixel size)``
    pixels, in the same modes. Padding takes the lowest value of each channel and slice of ``image``, and 0, the
    background, elsewhere. The item needs the spacing of its file in mm along X and Y as ``spacing_mm``; it gets the
    size X, Y before padding and cropping as ``resampled_size``, and so do the metadata of a ``MetaTensor``.

    Args:
        keys: entries to bring to the square, [C, X, Y] or [C, X, Y, Z].
        spatial_size: sides X, Y of the square in pixels; -1 as the third keeps the slices.
        mode: interpolation, one for all keys or one for each, as in ``Resized``.
        align_corners: as in ``Resized``.
        anti_aliasing: whether to smooth before shrinking, one for all keys or one for each, as in ``Resized``.
        allow_missing_keys: whether keys that the item lacks are skipped, instead of raising KeyError.
        pixdim: pixel size along X and Y in mm, as in MONAI's ``Spacing``; None resizes every image to the square.

    Raises:
        SpacingError: the item's spacing is unknown or far larger, or the crop would cut labeled pixels away; raised by
            a call.
    """

    def __init__(
        self,
        keys: str | Sequence[str],
        spatial_size: Sequence[int] | int,
        mode: Sequence[str] | str = "area",
        align_corners: Sequence[bool | None] | bool | None = None,
        anti_aliasing: Sequence[bool] | bool = False,
        allow_missing_keys: bool = False,
        pixdim: Sequence[float] | None = None,
    ) -> None:
        super().__init__(
            keys,
            spatial_size,
            mode=mode,
            align_corners=align_corners,
            anti_aliasing=anti_aliasing,
            allow_missing_keys=allow_missing_keys,
        )
        self.pixdim = None if pixdim is None else tuple(pixdim)

    @property
    def square(self) -> tuple[int, int]:
        """X and Y of the square in pixels."""
        size = self.resizer.spatial_size
        x, y = (size, size) if isinstance(size, int) else size[:2]
        return x, y

    def find_size(self, shape: Sequence[int], spacing_mm: Sequence[float] | None) -> tuple[int, int]:
        """Return X and Y of an image at the pixel size, before padding and cropping.

        Args:
            shape: X and Y of the image in pixels.
            spacing_mm: spacing of the image along X and Y in mm; None: unknown.

        Raises:
            SpacingError: the spacing is unknown, or the image would get more than ``MAX_SIDE`` pixels.
        """
        if self.pixdim is None:
            return self.square
        wanted = _show(self.pixdim)
        if spacing_mm is None:
            raise SpacingError(
                f"expected a known pixel size, to resample to {wanted} mm, got none; give it ('medpos predict': by "
                "--spacing X,Y), or train without --spacing_mm"
            )
        x, y = (max(1, round(float(n * mm / new))) for n, mm, new in zip(shape, spacing_mm, self.pixdim, strict=False))
        if max(x, y) > MAX_SIDE:
            raise SpacingError(
                f"expected at most {MAX_SIDE} x {MAX_SIDE} px at --spacing_mm, got {x} x {y} px of {wanted} mm; give "
                "larger pixels"
            )
        return x, y

    def __call__(self, data: Mapping[Hashable, Any], lazy: bool | None = None) -> dict[Hashable, Any]:
        """Return the item with its entries on the square."""
        if self.pixdim is None:
            return dict(super().__call__(data, lazy))
        image = next(data[key] for key in self.key_iterator(data))
        size = self.find_size(image.shape[1:3], data.get("spacing_mm"))
        resizing = copy.copy(self)
        resizing.resizer = Resize([*size, *[-1] * (image.ndim - 3)])
        item = dict(super(Resampled, resizing).__call__(data, lazy=False))
        for key in self.key_iterator(item):
            whole = item[key]
            item[key] = self._center(whole, is_image=key == "image")
            if key == "label":
                self._check_crop(whole, item[key])
            if isinstance(item[key], MetaTensor):
                item[key].meta[RESAMPLED_SIZE] = tensor(size)
        return {**item, RESAMPLED_SIZE: tensor(size)}

    def _center(self, image: Tensor, is_image: bool) -> Tensor:
        borders = find_borders(image.shape[1:3], self.square)
        kept = [(0, 0)] * (image.ndim - 3)
        added = [(max(before, 0), max(after, 0)) for before, after in borders]
        result = Pad([(0, 0), *added, *kept])(image)
        if is_image:
            lowest = image.amin(dim=(1, 2), keepdim=True)
            for axis, (before, after) in enumerate(added, 1):
                result.narrow(axis, 0, before).copy_(lowest)
                result.narrow(axis, result.shape[axis] - after, after).copy_(lowest)
        if any(min(pair) < 0 for pair in borders):
            first = [max(-before, 0) for before, _ in borders]
            last = [start + side for start, side in zip(first, self.square, strict=True)]
            result = SpatialCrop(roi_start=first, roi_end=last)(result).clone()  # a view would keep the whole image
        return result

    def _check_crop(self, whole: Tensor, cropped: Tensor) -> None:
        """Refuse a crop of labeled pixels: without them a test would look better than it is."""
        before, after = (int(((values > 0) & (values != IGNORED)).sum()) for values in (whole, cropped))
        if after < before:
            sides, square = _show(whole.shape[1:3]), _show(self.square)
            raise SpacingError(
                f"expected all labeled pixels inside {square} px of {_show(self.pixdim or ())} mm, got {sides} px, "
                f"of which {before - after} labeled ones would be cut away; give an --image_size of at least "
                f"{max(whole.shape[1:3])}, or a larger --spacing_mm"
            )


def _show(numbers: Sequence[float]) -> str:
    return " x ".join(f"{float(number):.6g}" for number in numbers)
