"""Segment whole images by a classifier of patches: from its class heat maps, or by shift and stitch.

Reference:
    G. Boracchi, "Convolutional Neural Networks for Semantic Segmentation" (lecture), "Direct Heatmap Predictions" and
    "The Shift and Stich"; J. Long et al., "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015,
    section 3.2.

Resolved where the slides are silent: at the border of the image its pixels are repeated outward, so that every pixel is
the center of a patch.
"""

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer
from torch.nn import functional as F  # noqa: N812

from medpos.core.errors import InputError
from medpos.inferers.tiles import to_plain_images
from medpos.networks.lecture import shift_and_stitch

MODES = ("upsampled", "stitched")


class HeatMapInferer(Inferer):
    """Compute a score for each pixel from a network that gives one for every ``stride``-th patch.

    Args:
        field: side of a patch in px, odd: the receptive field of the network.
        stride: px between the patches of neighboring scores.
        mode: ``"upsampled"``: heat maps are interpolated between the centers of the patches; ``"stitched"``: the
            network runs on all ``stride`` x ``stride`` shifts of the image, and each pixel gets the score of its patch.

    Raises:
        InputError: unknown mode, an even field or a stride below 1; in the call, an input that is no image.
    """

    def __init__(self, field: int = 33, stride: int = 4, mode: str = "stitched") -> None:
        super().__init__()
        if mode not in MODES or field % 2 == 0 or stride < 1:
            raise InputError(
                f"HeatMapInferer: expected a mode of {', '.join(MODES)}, an odd field and a stride of at least 1, got "
                f"mode {mode!r}, field {field} and stride {stride}; correct them"
            )
        self.field, self.stride, self.mode = field, stride, mode

    def pad(self, images: torch.Tensor) -> torch.Tensor:
        """Repeat the border of images [N, C, X, Y], so that every pixel is the center of a patch."""
        return F.pad(images, [self.field // 2] * 4, mode="replicate")

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Compute the scores [N, classes, X, Y] of images [N, C, X, Y]."""
        images = to_plain_images(inputs, type(self).__name__, dims=(4,))
        padded = self.pad(images)
        if self.mode == "stitched":
            return shift_and_stitch(lambda image: network(image, *args, **kwargs), padded, self.stride)
        return upsample(network(padded, *args, **kwargs), self.stride, (images.shape[2], images.shape[3]))


def upsample(maps: torch.Tensor, stride: int, size: tuple[int, int]) -> torch.Tensor:
    """Interpolate heat maps between the pixels that they belong to, every ``stride``-th from the first.

    Args:
        maps: heat maps [N, classes, X', Y'].
        stride: px between the pixels of neighboring values.
        size: columns and rows X, Y of the image; beyond the last value it is repeated.

    Returns:
        Values [N, classes, X, Y].
    """
    spans = [(length - 1) * stride + 1 for length in maps.shape[2:]]
    between = F.interpolate(maps.float(), size=spans, mode="bilinear", align_corners=True)
    rest = [length - span for length, span in zip(size, spans, strict=True)]
    return F.pad(between, (0, rest[1], 0, rest[0]), mode="replicate")
