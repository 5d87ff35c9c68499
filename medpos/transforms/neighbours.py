"""Slices of a volume with those beside them, as channels."""

import torch
from torch import Tensor


def neighbouring(volume: Tensor, z: int, count: int) -> Tensor:
    """A slice with its neighbours.

    Args:
        volume: [C, X, Y, Z].
        z: index of the slice.
        count: neighbours on either side; beyond the first and last slice these are repeated.

    Returns:
        [C * (2 * count + 1), X, Y], the slices z - count to z + count in this order.

    Reference:
        P. Kumar et al., "U-SegNet", ICIP 2018: three adjacent slices make the input; the ends are not spoken of.
    """
    if not count:
        return volume[..., z]
    places = [min(max(place, 0), volume.shape[3] - 1) for place in range(z - count, z + count + 1)]
    return torch.cat([volume[..., place] for place in places])
