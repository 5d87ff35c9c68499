"""The elastic deformation of U-Net 2015.

Reference:
    O. Ronneberger, P. Fischer, T. Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015,
    section 3.1: random displacement vectors on a coarse 3 x 3 grid, normal with a standard deviation of 10 px; those of
    the pixels by bicubic interpolation.
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
    """Displacements of all pixels from those of a coarse grid, which spans the image from corner to corner.

    Args:
        vectors: [2, grid, grid], displacement along X and along Y, px.
        size: X and Y, px.

    Returns:
        [2, X, Y], px, by bicubic interpolation (cubic convolution); at the grid's points it is the given vector.
    """
    return F.interpolate(vectors[None], size=tuple(size), mode="bicubic", align_corners=True)[0]


def warp(image: Tensor, field: Tensor, mode: str = "bilinear") -> Tensor:
    """Fetches every pixel from where the field points; outside the image it is mirrored, the border pixel once.

    Args:
        image: [C, X, Y].
        field: [2, X, Y], px: pixel p of the result is the image at p + field(p).
        mode: ``"bilinear"``, ``"nearest"`` or ``"bicubic"``, which overshoots a little at edges.

    Returns:
        [C, X, Y], type of the image.
    """
    positions = []
    for axis, displacement in enumerate(field):
        size = image.shape[axis + 1]
        own = torch.arange(size, dtype=field.dtype, device=field.device).reshape((-1, 1) if axis == 0 else (1, -1))
        positions.append(2 * (own + displacement) / max(size - 1, 1) - 1)
    grid = torch.stack(positions[::-1], dim=-1)  # grid_sample counts its axes from the last
    moved = F.grid_sample(image[None].to(field.dtype), grid[None], mode, padding_mode="reflection", align_corners=True)
    return moved[0].to(image.dtype)


class RandElastic(RandLifted):
    """Deforms image, label and weight alike, by the field of :func:`elastic_field`.

    MONAI's ``Rand2DElasticd`` is another deformation. Its control points are so many pixels apart (``spacing``) and go
    on beyond the border: 200 px at a spacing of 100 have 6 x 6 of them. Normal vectors are multiplied by one magnitude
    an image, drawn uniformly. It interpolates positions instead of displacements, and since PyTorch's bicubic kernel
    doesn't keep a straight line straight, it moves pixels without any vectors, by up to 4.8 px at that spacing.

    The network that the authors released has cubic B-splines, 150 px apart, which smooth the vectors; here the paper is
    followed.

    Args:
        keys: entries to deform, [C, X, Y].
        mode: of interpolation, one for all keys or one for each, as :func:`warp` takes it.
        sigma: standard deviation of either component of the vectors, px; 0 changes nothing.
        grid: points along each side, at least 2.
        prob: of deforming an item at all.
        allow_missing_keys: leave out keys that the item lacks.

    Raises:
        InputError: sigma below 0, a grid below 2, not as many modes as keys; when called, entries of several sizes.
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
            raise InputError(f"RandElastic: sigma is {sigma} and grid {grid}, needed are 0 px or more and at least 2")
        self.mode = one_per_key("mode", mode, self.keys)
        self.sigma, self.grid = sigma, grid
        self._field = torch.zeros(2, 1, 1)

    def randomize(self, data: Item) -> None:
        """Draws the vectors."""
        super().randomize(data)
        vectors = self.R.normal(0, self.sigma, (2, self.grid, self.grid))
        self._field = elastic_field(torch.from_numpy(vectors).float(), self.plane(data))

    def apply(self, image: Tensor, item: Item, key: Hashable) -> Tensor:
        """Deforms one entry."""
        return warp(image, self._field.to(image.device), self.mode[key]) if self.sigma else image
