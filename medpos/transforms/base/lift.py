"""Lift a function of an image to a transform of MONAI items."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch import Tensor

Item = Mapping[Hashable, Any]


class Lifted(MapTransform):
    """Replace entries of an item by the results of ``apply``, without changing the item or its tensors.

    A subclass implements ``apply``, from a plain tensor to a plain tensor. A ``MetaTensor`` keeps its metadata.

    Args:
        keys: entries to replace.
        allow_missing_keys: whether keys that the item lacks are skipped, instead of raising KeyError.

    Attributes:
        by_slice: True if the slices of a volume are transformed apart, so that a batch of images may be transformed as
            one volume; see :mod:`medpos.transforms.base.batch`.
        by_condition: True if the result depends on the test condition of the item.
        on_host: True if the values are computed by NumPy on the host, whatever the device of the image.
    """

    by_slice = False
    by_condition = False
    on_host = False

    def __init__(self, keys: str | Sequence[str] = "image", allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def apply(self, image: Tensor, item: Item, key: Hashable) -> Tensor:
        """Transform one entry [C, X, Y] or [C, X, Y, Z] without changing it in place."""
        raise NotImplementedError

    def __call__(self, data: Item) -> dict[Hashable, Any]:
        """Return a new item with the entries replaced."""
        item = dict(data)
        for key in self.key_iterator(item):
            value = item[key]
            plain = value.as_tensor() if isinstance(value, MetaTensor) else torch.as_tensor(value)
            result = self.apply(plain, data, key)
            item[key] = MetaTensor(result).copy_meta_from(value) if isinstance(value, MetaTensor) else result
        return item
