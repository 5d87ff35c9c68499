"""Pixels that nobody labeled: class 0, ``void``, of a data set without background."""

from collections.abc import Hashable

import torch
from torch import Tensor

from medpos.core.labels import IGNORED
from medpos.transforms.base.lift import Item, Lifted


class ClearUnlabeled(Lifted):
    """Takes the prediction away where the truth is void, class 0 of a data set without background.

    It belongs behind the argmax of an evaluation: what is predicted there would count as false.

    Args:
        keys: predictions, [1, X, Y].
        label_key: entry of the truth, of the same shape.
        allow_missing_keys: leave out keys that the item lacks.
    """

    def __init__(self, keys: str = "pred", label_key: str = "label", allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.label_key = label_key

    def apply(self, image: Tensor, item: Item, key: Hashable) -> Tensor:
        """Maps classes to classes, 0 where the truth is 0."""
        return image.where(item[self.label_key] > 0, 0)


class IgnoreVoid(Lifted):
    """Counts the classes from 0, as a network without background gives them; void becomes 255, which losses ignore.

    Args:
        keys: label maps, [1, X, Y], uint8.
        allow_missing_keys: leave out keys that the item lacks.
    """

    def __init__(self, keys: str = "label", allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def apply(self, image: Tensor, item: Item, key: Hashable) -> Tensor:
        """Maps class n to n - 1, and 0 to 255."""
        return torch.where(image > 0, image - 1, IGNORED)
