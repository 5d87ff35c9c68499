"""What the random transforms share: all numbers of an item are drawn first, then every entry is replaced.

The random state is MONAI's, ``self.R``; ``Compose.set_random_state`` reaches it. What MONAI has for the recipes of the
papers isn't written again. These do it (the amounts of U-Net 2015 aren't published):

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
- flips: ``{"_target_": "RandFlipd", "keys": ["image", "label"], "prob": 0.5, "spatial_axis": 0}``, the columns' axis

``RandAffined`` and ``RandZoomd`` give label maps back as float32, whose values are still whole numbers.
"""

from collections.abc import Hashable, Sequence
from typing import Any

from monai.transforms import RandomizableTransform

from medpos.core.errors import InputError
from medpos.transforms.base.lift import Item, Lifted


class RandLifted(RandomizableTransform, Lifted):
    """Replaces some entries of an item by what ``apply`` makes of them, with what ``randomize`` drew for the item.

    Args:
        keys: entries to replace, [C, X, Y].
        prob: of changing an item at all.
        allow_missing_keys: leave out keys that the item lacks.
    """

    def __init__(self, keys: str | Sequence[str], prob: float = 1.0, allow_missing_keys: bool = False) -> None:
        Lifted.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)

    def randomize(self, data: Item) -> None:
        """Draws whether the item is changed; a subclass goes on with what it needs."""
        super().randomize(None)

    def __call__(self, data: Item) -> dict[Hashable, Any]:
        """Returns a new item; its tensors stay as they were."""
        self.randomize(data)
        return Lifted.__call__(self, data) if self._do_transform else dict(data)

    def plane(self, data: Item) -> tuple[int, int]:
        """X and Y, in px, of the entries.

        Raises:
            InputError: an entry isn't [C, X, Y], or two differ in size.
        """
        shapes = {str(key): tuple(data[key].shape) for key in self.key_iterator(data)}
        if any(len(shape) != 3 for shape in shapes.values()) or len({shape[1:] for shape in shapes.values()}) != 1:
            found = ", ".join(f"{key} {shape}" for key, shape in shapes.items())
            raise InputError(
                f"{type(self).__name__}: {found}: needed is [C, X, Y] of one size; put it before what cuts them apart"
            )
        _, x, y = next(iter(shapes.values()))
        return x, y


def one_per_key(what: str, values: Any, keys: Sequence[Hashable]) -> dict[Hashable, Any]:
    """One value for each key, from one for all or a sequence of as many.

    Raises:
        InputError: as many values as keys are needed.
    """
    listed = list(values) if isinstance(values, Sequence) and not isinstance(values, str) else [values] * len(keys)
    if len(listed) != len(keys):
        raise InputError(f"{len(listed)} values of {what} for {len(keys)} keys; give one for each key")
    return dict(zip(keys, listed, strict=True))
