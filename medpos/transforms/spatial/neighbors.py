"""Slices of a volume with those beside them, as channels."""

import torch
from torch import Tensor


def stack_neighbors(volume: Tensor, count: int = 1) -> Tensor:
    """Stacks each slice with its neighbours, as training and inference see it.

    Args:
        volume: [C, X, Y, Z], or [N, C, X, Y, Z].
        count: neighbours on either side; beyond the first and the last slice that one is repeated.

    Returns:
        [(2 count + 1) C, X, Y, Z]: the slice above, which is the one before it, z - 1; itself; the slice below, z + 1.
        Of several channels all C of a slice stand together.

    Reference:
        P. Kumar et al., "U-SegNet", ICIP 2018: three adjacent slices make the input; the ends are not spoken of.
    """
    depth = volume.shape[-1]
    slices = torch.arange(depth, device=volume.device)
    near = [(slices + step).clamp(0, depth - 1) for step in range(-count, count + 1)]
    return torch.cat([volume.index_select(-1, places) for places in near], dim=-4)


def slice_with_neighbors(volume: Tensor, z: int, count: int) -> Tensor:
    """Slice z of :func:`stack_neighbors`, [(2 count + 1) C, X, Y], of a volume [C, X, Y, Z]."""
    part = volume[..., max(z - count, 0) : z + count + 1]
    return stack_neighbors(part, count)[..., min(z, count)] if count else volume[..., z]
