"""Subtract the mean image of a training set.

Reference:
    G. Boracchi, "Convolutional Neural Networks for Semantic Segmentation" (lecture), "Preprocessing for CNNs: mean
    subtraction": the mean image as in AlexNet, one mean for each channel as in VGG, with the standard deviation as in
    ResNet. The last two are MONAI's ``NormalizeIntensityd``.
"""

from collections.abc import Callable, Hashable, Sequence

from torch import Tensor

from medpos.core.errors import InputError
from medpos.transforms.base.lift import Item, Lifted


class SubtractMeanImage(Lifted):
    """Subtract an image that is the same for all.

    Args:
        mean: function that returns the mean image [C, X, Y], or [C, 1, 1] for a mean of each channel; it is called for
            each image, because a model's mean image changes when its weights are loaded.
        keys: entries to change, [C, X, Y] or [C, X, Y, Z].
        allow_missing_keys: whether keys that the item lacks are skipped.

    Raises:
        InputError: when called, an image of another size than the mean image.
    """

    by_slice = True

    def __init__(
        self, mean: Callable[[], Tensor], keys: str | Sequence[str] = "image", allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.mean = mean

    def apply(self, image: Tensor, item: Item, key: Hashable) -> Tensor:
        """Subtract it from every slice."""
        mean = self.mean().to(image)
        if mean.shape[1:] not in ((1, 1), image.shape[1:3]):
            sizes = [f"{shape[1]} x {shape[2]}" for shape in (mean.shape, image.shape)]
            raise InputError(
                f"{key}: expected images of {sizes[0]} px, as the mean image has, got {sizes[1]} px; resize them"
            )
        return image - (mean if image.ndim == mean.ndim else mean[..., None])
