"""Describe the input that a network gets from its inferer."""

from typing import Any

from medpos.inferers.tiles import OverlapTileInferer
from medpos.inferers.voting import VotingInferer

Sides = tuple[int, int]


def describe_network_input(inferer: Any, channels: int) -> tuple[int, Sides | None]:
    """Return channels and size of the network's input.

    Args:
        inferer: inferer of MONAI or of this package.
        channels: channels of the images.

    Returns:
        The number of channels, and the size X, Y in px, or None if the network gets whole images.
    """
    inner = getattr(inferer, "inferer", None)
    if inner is not None:
        return describe_network_input(inner, channels)
    if isinstance(inferer, OverlapTileInferer):
        return channels, (inferer.size, inferer.size)
    if isinstance(inferer, VotingInferer):
        return channels * (2 * inferer.neighbours + 1), (inferer.size, inferer.size)
    # A SliceInferer adds a third side to its roi_size at its first volume.
    roi = getattr(inferer, "orig_roi_size", getattr(inferer, "roi_size", None))
    sides = (roi, roi) if isinstance(roi, int) else tuple(roi or ())
    known = len(sides) == 2 and all(isinstance(side, int) and side > 0 for side in sides)
    return channels, (sides[0], sides[1]) if known else None
