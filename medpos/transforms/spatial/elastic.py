"""Deform images elastically as in U-Net 2015.

Reference:
    O. Ronneberger, P. Fischer, T. Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015,
    section 3.1: random displacement vectors on a coarse 3 x 3 grid, normal with a standard deviation of 10 px;
    bicubic interpolation to the pixels.
"""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from medpos.core.errors import InputError
from medpos.transforms.base.lift import Item
from medpos.transforms.base.randomized import RandLifted, one_per_key

GRID = 3
SIGMA = 10.0


def elastic_field(vectors: Tensor, size: Sequence[int]) -> Tensor:
    """Interpolate the displacements of a coarse grid, which spans the image from corner to corner, to all pixels.

    Args:
        vectors: displacements along X and along Y in px, [2, grid, grid].
        size: size X, Y of the image in px.

    Returns:
        Displacements [2, X, Y] in px, by bicubic interpolation (cubic convolution), exact at the points of the grid.
    """
    return F.interpolate(vectors[None], size=tuple(size), mode="bicubic", align_corners=True)[0]


def warp(image: Tensor, field: Tensor, mode: str = "bilinear") -> Tensor:
    """Sample an image at displaced positions; outside, the image is mirrored without repeating the border pixel.

    Args:
        image: image [C, X, Y].
        field: displacements [2, X, Y] in px; pixel p of the result is the image at p + field(p).
        mode: interpolation, ``"bilinear"``, ``"nearest"`` or ``"bicubic"``, which overshoots slightly at edges.

    Returns:
        The warped image [C, X, Y] of the same type.
    """
    positions = []
    for axis, displacement in enumerate(field):
        size = image.shape[axis + 1]
        own = torch.arange(size, dtype=field.dtype, device=field.device).reshape((-1, 1) if axis == 0 else (1, -1))
        positions.append(2 * (own + displacement) / max(size - 1, 1) - 1)
    grid = torch.stack(positions[::-1], dim=-1)  # grid_sample expects the last axis first
    moved = F.grid_sample(image[None].to(field.dtype), grid[None], mode, padding_mode="reflection", align_corners=True)
    return moved[0].to(image.dtype)


class RandElastic(RandLifted):
    """Deform image, label and weight equally by a random field of :func:`elastic_field`.

    MONAI's ``Rand2DElasticd`` is a different deformation. Its control points have a fixed distance (``spacing``) and
    extend beyond the border: 200 px at a spacing of 100 have 6 x 6 of them. Normal vectors are multiplied by one
    uniformly drawn magnitude per image. It interpolates positions instead of displacements, and since PyTorch's bicubic
    kernel doesn't reproduce straight lines, it moves pixels even for zero vectors, by up to 4.8 px at that spacing.

    The network that the authors released uses cubic B-splines at a distance of 150 px, which smooth the vectors; this
    transform follows the paper.

    Args:
        keys: entries to deform, [C, X, Y].
        mode: interpolation, one for all keys or one for each, see :func:`warp`.
        sigma: standard deviation of both components of the vectors in px; 0 changes nothing.
        grid: number of points along each side, at least 2.
        prob: probability of deforming an item.
        allow_missing_keys: whether keys that the item lacks are skipped.

    Raises:
        InputError: sigma below 0, a grid below 2, or a number of modes that isn't that of the keys; when called,
            entries of different sizes.
    """

    def __init__(
        self,
        keys: str | Sequence[str] = ("image", "label", "weight"),
        mode: str | Sequence[str] = ("bilinear", "nearest", "bilinear"),
        sigma: float = SIGMA,
        grid: int = GRID,
        prob: float = 1.0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, prob, allow_missing_keys)
        if not (sigma >= 0 and grid >= 2):
            raise InputError(f"RandElastic: expected sigma >= 0 px and grid >= 2, got sigma {sigma} and grid {grid}")
        self.mode = one_per_key("mode", mode, self.keys)
        self.sigma, self.grid = sigma, grid
        self._field = torch.zeros(2, 1, 1)

    def randomize(self, data: Item) -> None:
        """Draw the vectors."""
        super().randomize(data)
        vectors = self.R.normal(0, self.sigma, (2, self.grid, self.grid))
        self._field = elastic_field(torch.from_numpy(vectors).float(), self.plane(data))

    def apply(self, image: Tensor, item: Item, key: Hashable) -> Tensor:
        """Deform one entry."""
        return warp(image, self._field.to(image.device), self.mode[key]) if self.sigma else image
