"""Segment slices by the majority vote of overlapping patches.

Reference:
    P. Kumar et al., "U-SegNet", ICIP 2018, section 3; https://arxiv.org/abs/1806.04429.

Resolved where the paper is silent:
    - At the ends of the volume, the first and the last slice are repeated.
    - Steps of 10 px don't end at the border of the paper's 256 x 128 px, so on each axis a last patch ends with the
      image.
    - Among classes with equal votes, the lowest label wins.
"""

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer

from medpos.core.errors import InputError
from medpos.data.patches import starts
from medpos.inferers.tiles import to_plain_images
from medpos.transforms.spatial.crops import mirror_indices
from medpos.transforms.spatial.neighbors import stack_neighbors

TIE = 1e-6  # added to the winner's share of a tie, small enough to change no other result


class VotingInferer(Inferer):
    """Classify each pixel by the vote of all overlapping patches of its slice.

    A patch votes for its most probable class; scores aren't averaged.

    Args:
        size: side of a patch in px.
        step: distance between patches in px.
        neighbours: number of slices above, and below, that the network gets with a slice.
        batch: number of patches in a batch, from one or several slices.

    Raises:
        InputError: a number below 1 (``neighbours`` below 0), or patches that leave gaps; in the call, an input that is
            neither image nor volume, or a network with one channel.
    """

    def __init__(self, size: int = 40, step: int = 10, neighbours: int = 1, batch: int = 64) -> None:
        super().__init__()
        if not (1 <= step <= size and neighbours >= 0 and batch >= 1):
            raise InputError(
                "VotingInferer: expected 1 <= step <= size, neighbours >= 0 and batch >= 1, got "
                f"size {size}, step {step}, neighbours {neighbours} and batch {batch}; the paper's are size 40, step "
                "10 and neighbours 1"
            )
        self.size, self.step, self.neighbours, self.batch = size, step, neighbours, batch

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Compute logarithms of the vote shares, [N, classes, X, Y(, Z)], float32, of ``inputs`` [N, C, X, Y(, Z)].

        Their softmax are the shares, and their argmax is the winner, also of a tie.
        """
        images = to_plain_images(inputs, type(self).__name__, dims=(4, 5))
        volumes = images if images.ndim == 5 else images[..., None]
        for axis in (2, 3):  # at least the size of a patch
            length = volumes.shape[axis]
            wide = mirror_indices(0, max(length, self.size), length).to(images.device)
            volumes = volumes.index_select(axis, wide)
        votes = self._votes(stack_neighbors(volumes, self.neighbours), network, *args, **kwargs)
        shares = _log_shares(votes[:, :, : images.shape[2], : images.shape[3]])
        return shares if images.ndim == 5 else shares[..., 0]

    def _votes(
        self, stacks: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Count the votes [N, classes, X, Y, Z], int32, of stacks [N, C', X, Y, Z]."""
        n, _, height, width, depth = stacks.shape
        pixels = torch.arange(n * height * width * depth, device=stacks.device).view(n, height, width, depth)
        patches, fields = self._unfolded(stacks), self._unfolded(pixels[:, None])[:, 0]
        axes = [range(n), starts(height, self.size, self.step), starts(width, self.size, self.step), range(depth)]
        # The slices at one position follow each other, as in memory.
        places = torch.cartesian_prod(*(torch.tensor(list(axis), device=stacks.device) for axis in axes))
        votes: torch.Tensor | None = None
        for batch in places.split(self.batch):
            i, x, y, z = batch.unbind(dim=1)
            logits = network(patches[i, :, x, y, z], *args, **kwargs)
            if votes is None:
                votes = _empty(logits, pixels.numel())
            ballots = logits.argmax(dim=1) * pixels.numel() + fields[i, x, y, z]
            votes.scatter_add_(0, ballots.flatten(), votes.new_ones(ballots.numel()))
        assert votes is not None
        return votes.view(-1, n, height, width, depth).transpose(0, 1)

    def _unfolded(self, volumes: torch.Tensor) -> torch.Tensor:
        """View [N, C, X, Y, Z] as the patches that start at each pixel, [N, C, X', Y', Z, size, size]."""
        return volumes.unfold(2, self.size, 1).unfold(3, self.size, 1)


def _empty(logits: torch.Tensor, pixels: int) -> torch.Tensor:
    if logits.shape[1] == 1:
        raise InputError("VotingInferer: expected a channel per class, background first, from the network, got one")
    return torch.zeros(logits.shape[1] * pixels, dtype=torch.int32, device=logits.device)


def _log_shares(votes: torch.Tensor) -> torch.Tensor:
    """Compute logarithms of the shares of votes [N, classes, ...], float32; the first class wins a tie."""
    winners = votes == votes.amax(dim=1, keepdim=True)
    first = winners & (winners.cumsum(dim=1) == 1)
    shares = votes / votes.sum(dim=1, keepdim=True)
    return (shares + TIE * first).clamp(min=TIE).log()
