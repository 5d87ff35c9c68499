"""Add the border weight of U-Net 2015 to items."""

from collections.abc import Hashable
from typing import Any

import torch
from monai.transforms import MapTransform

from medpos.core.errors import InputError
from medpos.transforms.base.lift import Item
from medpos.transforms.labels.weight_map import SIGMA, W0, border_weight


class BorderWeight(MapTransform):
    """Add the border weight of U-Net 2015, computed from the item's instances.

    Use it while decoding, because decoded items are kept in memory: the map is then computed once per image.

    Args:
        keys: entry of the instances, [1, X, Y], integers: 0 background, else the number of the cell.
        weight_key: entry to write, [1, X, Y], float32.
        w0: weight where both distances are 0.
        sigma: width of the borders in px.
        allow_missing_keys: whether items without instances are left unchanged.

    Raises:
        InputError: the instances have another shape or type.
    """

    def __init__(
        self,
        keys: str = "instances",
        weight_key: str = "weight",
        w0: float = W0,
        sigma: float = SIGMA,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.weight_key, self.w0, self.sigma = weight_key, w0, sigma

    def __call__(self, data: Item) -> dict[Hashable, Any]:
        """Return a new item with the weight added."""
        item = dict(data)
        for key in self.key_iterator(item):
            instances = torch.as_tensor(item[key])
            if instances.ndim != 3 or len(instances) != 1:
                raise InputError(f"BorderWeight: {key}: expected [1, X, Y], got shape {tuple(instances.shape)}")
            item[self.weight_key] = border_weight(instances[0].numpy(force=True), self.w0, self.sigma)[None]
        return item
