"""Alter the position channels at test time, to measure how much a trained network depends on them.

The image and its label stay; only the position channels become wrong or zero. This isn't in the paper.
"""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from medpos.core.errors import InputError
from medpos.transforms.base.lift import Item, Lifted

# Distances of the shifts in px for severity 1 to 4; the other probes have only severity 1.
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
    """Alter position channels by a probe.

    Args:
        channels: position channels [C, X, Y] or [C, X, Y, Z].
        probe: name of the probe, a key of ``PROBES``. ``zeroed``: 0 everywhere; ``swapped``: columns and rows exchanged
            (square images only); ``mirrored_x``, ``mirrored_y``: left and right, or top and bottom exchanged;
            ``shifted_x``, ``shifted_y``: moved to the right or down, with free pixels filled by the border's value.
        severity: severity, 1 to ``PROBES[probe]``; selects a distance of ``DISTANCES`` for shifts.

    Returns:
        New channels of the same shape.

    Raises:
        InputError: unknown probe or severity, or swapped channels of an image that isn't square.
    """
    if probe not in PROBES or not 1 <= severity <= PROBES[probe]:
        known = ", ".join(f"{name} (severity 1 to {most})" for name, most in PROBES.items())
        raise InputError(f"position probe: expected one of {known}, got {probe!r} of severity {severity}")
    if probe == "position_zeroed":
        return torch.zeros_like(channels)
    if probe == "position_swapped":
        if channels.shape[1] != channels.shape[2]:
            raise InputError(f"position_swapped: expected a square image, got {tuple(channels.shape[1:3])} px")
        return channels.transpose(1, 2).contiguous()
    dim = 1 if probe.endswith("_x") else 2
    if probe.startswith("position_mirrored"):
        return channels.flip(dim)
    size = channels.shape[dim]
    source = (torch.arange(size) - DISTANCES[severity - 1]).clamp(min=0)
    return channels.index_select(dim, source.to(channels.device))


class ProbedPosition(Lifted):
    """Alter the position channels by the probe in the item's ``degradation``, if it names one.

    Use it after :class:`PositionChannels`.

    Args:
        keys: entries to change, [image_channels + C, X, Y] or [image_channels + C, X, Y, Z].
        allow_missing_keys: whether keys that the item lacks are skipped.
        image_channels: number of channels of the image, which precede the position channels.

    Raises:
        InputError: when called, an image without position channels.
    """

    by_slice = by_condition = True

    def __init__(
        self, keys: str | Sequence[str] = "image", allow_missing_keys: bool = False, image_channels: int = 1
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.image_channels = image_channels

    def apply(self, image: Tensor, item: Item, key: Hashable) -> Tensor:
        """Alter the position channels of one entry."""
        probe = item.get("degradation", "none")
        if probe not in PROBES:
            return image
        own = self.image_channels
        if image.shape[0] <= own:
            raise InputError(f"{probe}: expected an image with position channels, got none; use a _pe bundle")
        return torch.cat([image[:own], probe_position(image[own:], probe, int(item.get("severity", 1)))])
