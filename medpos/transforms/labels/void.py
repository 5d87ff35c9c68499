"""Exclude unlabeled pixels: class 0, ``void``, of a data set without background."""

from collections.abc import Hashable

import torch
from torch import Tensor

from medpos.core.labels import IGNORED
from medpos.transforms.base.lift import Item, Lifted


class ClearUnlabeled(Lifted):
    """Set the prediction to 0 where the ground truth is void, class 0 of a data set without background.

    Use it after the argmax of an evaluation; otherwise predictions at these pixels would count as false positives.

    Args:
        keys: entries of predictions, [1, X, Y].
        label_key: entry of the ground truth, of the same shape.
        allow_missing_keys: whether keys that the item lacks are skipped.
    """

    by_slice = True

    def __init__(self, keys: str = "pred", label_key: str = "label", allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.label_key = label_key

    def apply(self, image: Tensor, item: Item, key: Hashable) -> Tensor:
        """Set classes to 0 where the ground truth is 0."""
        return image.where(item[self.label_key] > 0, 0)


class IgnoreVoid(Lifted):
    """Number the classes from 0, as in a network without background, and set void to 255, which losses ignore.

    Args:
        keys: entries of label maps, [1, X, Y], uint8.
        allow_missing_keys: whether keys that the item lacks are skipped.
    """

    by_slice = True

    def __init__(self, keys: str = "label", allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def apply(self, image: Tensor, item: Item, key: Hashable) -> Tensor:
        """Map class n to n - 1, and 0 to 255."""
        return torch.where(image > 0, image - 1, IGNORED)
