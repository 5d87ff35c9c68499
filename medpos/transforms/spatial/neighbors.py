"""Stack slices of a volume with their neighbors as channels."""

import torch
from torch import Tensor


def stack_neighbors(volume: Tensor, count: int = 1) -> Tensor:
    """Stack each slice with its neighbors, as in training and inference.

    Args:
        volume: volume [C, X, Y, Z], or volumes [N, C, X, Y, Z].
        count: number of neighbors on each side; the first and the last slice are repeated at the ends.

    Returns:
        [(2 count + 1) C, X, Y, Z], or [N, ...]: with one neighbor the slices z - 1 (above), z and z + 1 (below). All C
        channels of a slice are adjacent.

    Reference:
        P. Kumar et al., "U-SegNet", ICIP 2018: the input is three adjacent slices; the ends aren't described.
    """
    depth = volume.shape[-1]
    slices = torch.arange(depth, device=volume.device)
    near = [(slices + step).clamp(0, depth - 1) for step in range(-count, count + 1)]
    return torch.cat([volume.index_select(-1, places) for places in near], dim=-4)


def slice_with_neighbors(volume: Tensor, z: int, count: int) -> Tensor:
    """Stack slice z of a volume [C, X, Y, Z] with its neighbors to [(2 count + 1) C, X, Y]."""
    part = volume[..., max(z - count, 0) : z + count + 1]
    return stack_neighbors(part, count)[..., min(z, count)] if count else volume[..., z]
