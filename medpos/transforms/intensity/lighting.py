"""Vary colors and lighting of photographs, as in the trainings of ResNet, DenseNet and SUNet on ImageNet.

References:
    A. Krizhevsky, I. Sutskever, G. E. Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", NIPS
    2012, section 4.1: lighting along the principal components of ImageNet's colors.
    https://github.com/facebook/fb.resnet.torch, ``datasets/transforms.lua`` and ``datasets/imagenet.lua``: its
    implementation with eigenvalues and eigenvectors, and the variation of brightness, contrast and saturation. ResNet's
    paper, section 3.4, names the first, DenseNet's authors trained with both, and so do SUNet's.

As there, nothing is clipped.
"""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from medpos.core.errors import InputError
from medpos.transforms.base.lift import Item
from medpos.transforms.base.randomized import RandLifted

# Of red, green and blue in [0, 1] over ImageNet's training images; eigenvectors are columns.
EIGENVALUES = (0.2175, 0.0188, 0.0045)
EIGENVECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))
LIGHTING_STD = 0.1
COLOR_AMOUNT = 0.4
LUMA = (0.299, 0.587, 0.114)  # shares of red, green and blue in the gray value
CHANGES = ("brightness", "contrast", "saturation")


def light(image: Tensor, strengths: Sequence[float]) -> Tensor:
    """Add multiples of the principal components of ImageNet's colors to all pixels.

    Args:
        image: image [3, X, Y], red, green and blue in [0, 1].
        strengths: factor of each component, in units of its eigenvalue; 0 changes nothing.
    """
    amounts = torch.tensor(strengths) * torch.tensor(EIGENVALUES)
    return image + (torch.tensor(EIGENVECTORS) @ amounts).to(image)[:, None, None]


def vary_colors(image: Tensor, factors: Sequence[tuple[str, float]]) -> Tensor:
    """Change brightness, contrast and saturation, one after the other.

    Args:
        image: image [3, X, Y], red, green and blue in [0, 1].
        factors: names from ``CHANGES``, in order, each with its factor. The factor is that of the difference to black,
            to the mean gray value of the image, or to the gray value of each pixel; 1 changes nothing.
    """
    for name, factor in factors:
        gray = torch.tensordot(torch.tensor(LUMA).to(image), image, dims=1)
        neutral = {"brightness": torch.zeros_like(gray), "contrast": gray.mean().expand_as(gray), "saturation": gray}
        image = neutral[name] + factor * (image - neutral[name])
    return image


def _check_colors(name: str, key: Hashable, image: Tensor) -> None:
    if len(image) != 3:
        raise InputError(f"{name}: {key}: expected red, green and blue channels, got {len(image)}; leave out the step")


class RandLighting(RandLifted):
    """Change the lighting of a color image by :func:`light`, with strengths from a normal distribution.

    Args:
        std: standard deviation of the strengths; 0 changes nothing.
        keys: entries to change, [3, X, Y], red, green and blue in [0, 1].
        allow_missing_keys: whether keys that the item lacks are skipped.

    Raises:
        InputError: a negative standard deviation; when called, an image without exactly three channels.
    """

    def __init__(
        self, std: float = LIGHTING_STD, keys: str | Sequence[str] = "image", allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, 1.0, allow_missing_keys)
        if not std >= 0:
            raise InputError(f"RandLighting: expected a standard deviation of at least 0, got {std}; 0 changes nothing")
        self.std = std
        self._strengths = (0.0, 0.0, 0.0)

    def randomize(self, data: Item) -> None:
        """Draw the strength of each component."""
        super().randomize(data)
        first, second, third = (float(self.R.normal(0, self.std)) for _ in EIGENVALUES)
        self._strengths = (first, second, third)

    def apply(self, image: Tensor, item: Item, key: Hashable) -> Tensor:
        """Change one entry."""
        _check_colors("RandLighting", key, image)
        return light(image, self._strengths)


class RandColorJitter(RandLifted):
    """Change brightness, contrast and saturation of a color image by :func:`vary_colors`, in random order.

    Args:
        amount: largest deviation of the factors from 1, 0 to 1; 0 changes nothing.
        keys: entries to change, [3, X, Y], red, green and blue in [0, 1].
        allow_missing_keys: whether keys that the item lacks are skipped.

    Raises:
        InputError: an amount outside 0 to 1; when called, an image without exactly three channels.
    """

    def __init__(
        self, amount: float = COLOR_AMOUNT, keys: str | Sequence[str] = "image", allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, 1.0, allow_missing_keys)
        if not 0 <= amount <= 1:
            raise InputError(f"RandColorJitter: expected an amount of 0 to 1, got {amount}; 0 changes nothing")
        self.amount = amount
        self._factors: list[tuple[str, float]] = []

    def randomize(self, data: Item) -> None:
        """Draw the order and the factors."""
        super().randomize(data)
        order = self.R.permutation(len(CHANGES))
        self._factors = [(CHANGES[n], float(1 + self.R.uniform(-self.amount, self.amount))) for n in order]

    def apply(self, image: Tensor, item: Item, key: Hashable) -> Tensor:
        """Change one entry."""
        _check_colors("RandColorJitter", key, image)
        return vary_colors(image, self._factors) if self.amount else image
