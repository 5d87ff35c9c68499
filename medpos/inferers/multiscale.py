"""Average the predictions for several sizes of an image and its mirror image, in overlapping crops.

Reference:
    S. Shah et al., "Stacked U-Nets: A No-Frills Approach to Natural Image Segmentation", 2018, section 6.2.1 and
    table 5, https://arxiv.org/abs/1804.10343; the order of operations is that of the authors' ``test_multiscale.py``,
    https://github.com/shahsohil/sunets.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.inferers import Inferer
from torch.nn import functional

from medpos.core.errors import InputError
from medpos.data.patches import starts
from medpos.inferers.rotations import SMALLEST
from medpos.inferers.tiles import to_plain_images

SCALES = (0.5, 0.75, 1.0, 1.25)


class MultiScaleInferer(Inferer):
    """Average the probabilities of a network over several sizes of an image.

    At each scale the image is cut into overlapping crops; images smaller than a crop are padded on all sides. The
    logits of a crop and those of its mirror image, mirrored back, are summed; the softmax of the sum is averaged over
    the crops, interpolated to the size of the image, and averaged over the scales.

    Args:
        scales: factors of ``short_side``, above 0. For Cityscapes the paper adds 1.5, 1.75, 2, 2.25 and 2.5.
        short_side: shorter side of the image in px at scale 1; None keeps that of each image.
        crop: side of a crop in px.
        stride: distance between crops in px; two thirds of a crop by default, rounded up.
        flip: whether the image mirrored along X, the columns, is used too.
        fill: value of the padding, one or one for each channel: black in the standardized image.
        sw_batch_size: number of crops in a batch, each with its mirror image.

    Raises:
        InputError: no scale, or a scale that isn't above 0; a size below 1; strides that leave gaps; in the call, an
            image that isn't [N, C, X, Y], or a network with one channel.
    """

    def __init__(
        self,
        scales: Sequence[float] = SCALES,
        short_side: int | None = 512,
        crop: int = 512,
        stride: int | None = None,
        flip: bool = True,
        fill: float | Sequence[float] = 0.0,
        sw_batch_size: int = 1,
    ) -> None:
        super().__init__()
        self.scales, self.short_side, self.crop, self.flip = tuple(scales), short_side, crop, flip
        self.stride = math.ceil(2 * crop / 3) if stride is None else stride
        if not self.scales or min(self.scales) <= 0 or (short_side is not None and short_side < 1):
            raise InputError(
                "MultiScaleInferer: expected scales and short_side above 0, got "
                f"scales {list(scales)} and short_side {short_side}"
            )
        if not 1 <= self.stride <= crop or sw_batch_size < 1:
            raise InputError(
                "MultiScaleInferer: expected 1 <= stride <= crop and sw_batch_size >= 1, got "
                f"crop {crop}, stride {stride} and sw_batch_size {sw_batch_size}; the paper's are crop 512, stride 342"
            )
        self.fill = torch.tensor(fill, dtype=torch.float32).reshape(-1, 1, 1)
        self.roi_size = (crop, crop)
        self.sw_batch_size = sw_batch_size

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Compute logarithms of the mean probabilities, [N, classes, X, Y], float32."""
        images = to_plain_images(inputs, type(self).__name__)
        size = images.shape[2:]
        total = torch.zeros((), device=images.device)
        for scale in self.scales:
            scaled = functional.interpolate(images, self._scaled(size, scale), mode="bilinear", antialias=True)
            maps = self._probabilities(scaled, lambda crops: network(crops, *args, **kwargs))
            total = total + functional.interpolate(maps, size, mode="bilinear")
        return (total / len(self.scales)).clamp(min=SMALLEST).log()

    def _scaled(self, size: Sequence[int], scale: float) -> list[int]:
        short = min(size)
        side = max(int((self.short_side or short) * scale), 1)
        return [side * length // short for length in size]

    def _probabilities(self, images: torch.Tensor, network: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Average the probabilities [N, classes, X, Y] of images [N, C, X, Y] over the crops."""
        padded, (x0, y0) = self._padded(images)
        places = list(itertools.product(*(starts(length, self.crop, self.stride) for length in padded.shape[2:])))
        total, counts = torch.zeros((), device=images.device), padded.new_zeros(padded.shape[2:])
        for first in range(0, len(places), self.sw_batch_size):
            batch = places[first : first + self.sw_batch_size]
            fields = [(..., slice(x, x + self.crop), slice(y, y + self.crop)) for x, y in batch]
            maps = self._summed(torch.cat([padded[field] for field in fields]), network).softmax(dim=1)
            if not total.ndim:
                total = maps.new_zeros(len(images), maps.shape[1], *padded.shape[2:])
            for field, part in zip(fields, maps.split(len(images)), strict=True):
                total[field] += part
                counts[field] += 1
        return (total / counts)[:, :, x0 : x0 + images.shape[2], y0 : y0 + images.shape[3]]

    def _summed(self, crops: torch.Tensor, network: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Sum the logits of the crops, float32, and those of their mirror images, mirrored back."""
        logits = network(torch.cat([crops, crops.flip(2)]) if self.flip else crops).float()
        if logits.shape[1] == 1:
            raise InputError(
                "MultiScaleInferer: expected a channel per class, background first, got one channel from the network"
            )
        if not self.flip:
            return logits
        straight, mirrored = logits.chunk(2)
        return straight + mirrored.flip(2)

    def _padded(self, images: torch.Tensor) -> tuple[torch.Tensor, list[int]]:
        """Pad the images to at least one crop, and return their start in the padded ones."""
        size = images.shape[2:]
        canvas = [max(length, self.crop) for length in size]
        begins = [(wide - length) // 2 for wide, length in zip(canvas, size, strict=True)]
        if list(size) == canvas:
            return images, begins
        padded = self.fill.to(images).expand(*images.shape[:2], *canvas).clone()
        padded[:, :, begins[0] : begins[0] + size[0], begins[1] : begins[1] + size[1]] = images
        return padded, begins
