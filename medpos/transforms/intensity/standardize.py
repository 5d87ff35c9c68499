"""Scale the intensities of each slice separately.

For the rest use MONAI: ``NormalizeIntensityd(subtrahend=mean, divisor=std)`` standardizes with the statistics of a data
set, ``ScaleIntensityRanged(a_min=low, a_max=high, b_min=0, b_max=1, clip=True)`` scales from a known range. MONAI's
scaling per image uses the statistics of a whole volume, not of each slice.

Reference:
    "How Can CNNs Use Image Position for Segmentation?", section 2.2: each slice of ACDC has mean 0 and variance 1.
"""

from collections.abc import Hashable

import torch
from torch import Tensor

from medpos.transforms.base.lift import Item, Lifted

_PLANE = (1, 2)


class StandardizePerSlice(Lifted):
    """Shift and scale every slice to mean 0 and (population) standard deviation 1; a constant slice becomes 0.

    Args:
        keys: entries to scale, [C, X, Y] or [C, X, Y, Z].
        allow_missing_keys: whether keys that the item lacks are skipped.
    """

    by_slice = True

    def apply(self, image: Tensor, item: Item, key: Hashable) -> Tensor:
        """Map [C, X, Y(, Z)] to float32 of the same shape."""
        values = image.float()
        varies = values.amax(_PLANE, True) > values.amin(_PLANE, True)  # rounding gives a constant slice a std > 0
        centered = values - values.mean(_PLANE, True)
        std = centered.square().mean(_PLANE, True).sqrt()
        return torch.where(varies, centered / std, 0.0)


class ScaleToUnit(Lifted):
    """Scale every slice from its minimum and maximum to [0, 1]; a constant slice becomes 0.

    Args:
        keys: entries to scale, [C, X, Y] or [C, X, Y, Z].
        allow_missing_keys: whether keys that the item lacks are skipped.
    """

    by_slice = True

    def apply(self, image: Tensor, item: Item, key: Hashable) -> Tensor:
        """Map [C, X, Y(, Z)] to float32 of the same shape."""
        values = image.float()
        low, high = values.amin(_PLANE, True), values.amax(_PLANE, True)
        return torch.where(high > low, (values - low) / (high - low), 0.0)
