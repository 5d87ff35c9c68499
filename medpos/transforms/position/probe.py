"""Changing the position channels at test time, to see how much a trained network leans on them.

The image and its label stay; only what the network is told about position becomes wrong or goes away. Beyond the paper.
"""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from medpos.core.errors import InputError
from medpos.transforms.base.lift import Item, Lifted

# Pixels by which the channels move, severity 1 to 4; the other probes have severity 1 alone.
DISTANCES = (8, 16, 32, 64)

PROBES: dict[str, int] = {
    "position_zeroed": 1,
    "position_swapped": 1,
    "position_mirrored_x": 1,
    "position_mirrored_y": 1,
    "position_shifted_x": len(DISTANCES),
    "position_shifted_y": len(DISTANCES),
}


def probe_position(channels: Tensor, probe: str, severity: int = 1) -> Tensor:
    """Gives the position channels as the probe has them.

    Args:
        channels: [C, X, Y] or [C, X, Y, Z], dimension 1 running along the columns.
        probe: a key of ``PROBES``. ``zeroed``: 0 everywhere; ``swapped``: what was said of the column is said of the
            row (square images only); ``mirrored_x``, ``mirrored_y``: left for right, top for bottom; ``shifted_x``,
            ``shifted_y``: moved to the right or down, the border's value filling what becomes free.
        severity: 1 to ``PROBES[probe]``; chooses the distance from ``DISTANCES`` (px) of the shifted ones.

    Returns:
        New channels, same shape.

    Raises:
        InputError: unknown probe or severity, or swapped channels of an image that isn't square.
    """
    if probe not in PROBES or not 1 <= severity <= PROBES[probe]:
        known = ", ".join(f"{name} (severity 1 to {most})" for name, most in PROBES.items())
        raise InputError(f"position probe {probe!r} of severity {severity} is unknown; there are: {known}")
    if probe == "position_zeroed":
        return torch.zeros_like(channels)
    if probe == "position_swapped":
        if channels.shape[1] != channels.shape[2]:
            raise InputError(f"position_swapped needs square images, found {tuple(channels.shape[1:3])}")
        return channels.transpose(1, 2).contiguous()
    dim = 1 if probe.endswith("_x") else 2
    if probe.startswith("position_mirrored"):
        return channels.flip(dim)
    size = channels.shape[dim]
    source = (torch.arange(size) - DISTANCES[severity - 1]).clamp(min=0)
    return channels.index_select(dim, source.to(channels.device))


class ProbedPosition(Lifted):
    """Applies the item's position probe, if its ``degradation`` names one, to all channels but the image's own.

    It comes after the position channels.

    Args:
        keys: entries to change, [image_channels + C, X, Y] or [image_channels + C, X, Y, Z].
        allow_missing_keys: leave out keys that the item lacks.
        image_channels: number of the image's own channels, which come first.

    Raises:
        InputError: the image has no position channels to probe.
    """

    def __init__(
        self, keys: str | Sequence[str] = "image", allow_missing_keys: bool = False, image_channels: int = 1
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.image_channels = image_channels

    def apply(self, image: Tensor, item: Item, key: Hashable) -> Tensor:
        """Probes one entry."""
        probe = item.get("degradation", "none")
        if probe not in PROBES:
            return image
        own = self.image_channels
        if image.shape[0] <= own:
            raise InputError(f"{probe}: the image has no position channels; take a bundle whose name ends in _pe")
        return torch.cat([image[:own], probe_position(image[own:], probe, int(item.get("severity", 1)))])
