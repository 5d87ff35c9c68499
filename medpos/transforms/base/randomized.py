"""Draw the random numbers of an item once, then transform all its entries with them.

The random state is MONAI's ``self.R``, which ``Compose.set_random_state`` sets. For the following parts of the papers'
recipes use MONAI's transforms (U-Net 2015 published no amounts):

- shift and rotation (U-Net 2015):
  ``{"_target_": "RandAffined", "keys": ["image", "label", "weight"], "prob": 1.0, "rotate_range": 3.14159,
  "translate_range": 20, "mode": ["bilinear", "nearest", "bilinear"], "padding_mode": "reflection"}``
- gray values of an image in [0, 1] (U-Net 2015), as contrast, brightness and gamma:
  ``{"_target_": "RandScaleIntensityd", "keys": "image", "prob": 0.5, "factors": 0.25}``,
  ``{"_target_": "RandShiftIntensityd", "keys": "image", "prob": 0.5, "offsets": 0.1}``,
  ``{"_target_": "RandAdjustContrastd", "keys": "image", "prob": 0.5, "gamma": [0.7, 1.5]}``
- random size with one factor for both axes (MMSegmentation, SUNet):
  ``{"_target_": "RandZoomd", "keys": ["image", "label"], "prob": 1.0, "min_zoom": 0.5, "max_zoom": 2.0,
  "mode": ["bilinear", "nearest-exact"], "keep_size": false}``
- flips along the columns: ``{"_target_": "RandFlipd", "keys": ["image", "label"], "prob": 0.5, "spatial_axis": 0}``

``RandAffined`` and ``RandZoomd`` return label maps as float32 with integer values.
"""

from collections.abc import Hashable, Sequence
from typing import Any

from monai.transforms import RandomizableTransform

from medpos.core.errors import InputError
from medpos.transforms.base.lift import Item, Lifted


class RandLifted(RandomizableTransform, Lifted):
    """Replace entries of an item by the results of ``apply``, with random numbers that ``randomize`` draws per item.

    Args:
        keys: entries to replace, [C, X, Y].
        prob: probability of changing an item.
        allow_missing_keys: whether keys that the item lacks are skipped.
    """

    def __init__(self, keys: str | Sequence[str], prob: float = 1.0, allow_missing_keys: bool = False) -> None:
        Lifted.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)

    def randomize(self, data: Item) -> None:
        """Draw whether the item is changed; a subclass also draws its own random numbers."""
        super().randomize(None)

    def __call__(self, data: Item) -> dict[Hashable, Any]:
        """Return a new item; the tensors of the old one stay unchanged."""
        self.randomize(data)
        return Lifted.__call__(self, data) if self._do_transform else dict(data)

    def plane(self, data: Item) -> tuple[int, int]:
        """Return the common size X, Y of the entries in px.

        Raises:
            InputError: an entry isn't [C, X, Y], or two entries differ in size.
        """
        shapes = {str(key): tuple(data[key].shape) for key in self.key_iterator(data)}
        if any(len(shape) != 3 for shape in shapes.values()) or len({shape[1:] for shape in shapes.values()}) != 1:
            found = ", ".join(f"{key} {shape}" for key, shape in shapes.items())
            raise InputError(
                f"{type(self).__name__}: expected entries [C, X, Y] of one size, got {found}; move this transform "
                "before the one that makes the sizes differ"
            )
        _, x, y = next(iter(shapes.values()))
        return x, y


def one_per_key(what: str, values: Any, keys: Sequence[Hashable]) -> dict[Hashable, Any]:
    """Map each key to its value, given one value for all keys or a sequence with one for each.

    Args:
        what: name of the values in the error message.
        values: one value, or a sequence of values; a string is one value.
        keys: keys of the mapping.

    Raises:
        InputError: the number of values isn't that of the keys.
    """
    listed = list(values) if isinstance(values, Sequence) and not isinstance(values, str) else [values] * len(keys)
    if len(listed) != len(keys):
        raise InputError(f"{what}: expected one value, or {len(keys)}, one for each key, got {len(listed)}")
    return dict(zip(keys, listed, strict=True))
