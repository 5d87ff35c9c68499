"""The weight map of a data set's items."""

from collections.abc import Hashable
from typing import Any

import torch
from monai.transforms import MapTransform

from medpos.core.errors import InputError
from medpos.transforms.base.lift import Item
from medpos.transforms.labels.weight_map import SIGMA, W0, border_weight


class BorderWeight(MapTransform):
    """Writes the border weight of U-Net 2015 for the item's instances.

    It belongs into the decoding, whose results are kept in memory: the map is computed once for each image.

    Args:
        keys: entry of the instances, [1, X, Y], integers; 0 the background, one number a cell.
        weight_key: entry to write, [1, X, Y], float32.
        w0: weight where both distances vanish.
        sigma: width, px.
        allow_missing_keys: leave an item without instances as it is.

    Raises:
        InputError: instances of another shape or type.
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
        """Returns a new item with the weight added."""
        item = dict(data)
        for key in self.key_iterator(item):
            instances = torch.as_tensor(item[key])
            if instances.ndim != 3 or len(instances) != 1:
                raise InputError(f"{key} have the shape {tuple(instances.shape)}, needed is [1, X, Y]")
            item[self.weight_key] = border_weight(instances[0].numpy(force=True), self.w0, self.sigma)[None]
        return item
