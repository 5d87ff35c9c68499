"""What a network gets to see of an image, which its inferer decides."""

from typing import Any

from medpos.inferers.tiles import OverlapTileInferer
from medpos.inferers.voting import VotingInferer

Sides = tuple[int, int]


def describe_network_input(inferer: Any, channels: int) -> tuple[int, Sides | None]:
    """Channels and size of the network's input.

    Args:
        inferer: any of MONAI's or of this package.
        channels: of the images.

    Returns:
        The channels; X and Y in px, or None where the network gets images as they are.
    """
    inner = getattr(inferer, "inferer", None)
    if inner is not None:
        return describe_network_input(inner, channels)
    if isinstance(inferer, OverlapTileInferer):
        return channels, (inferer.size, inferer.size)
    if isinstance(inferer, VotingInferer):
        return channels * (2 * inferer.neighbours + 1), (inferer.size, inferer.size)
    # A SliceInferer's own roi_size has a third side after its first volume.
    roi = getattr(inferer, "orig_roi_size", getattr(inferer, "roi_size", None))
    sides = (roi, roi) if isinstance(roi, int) else tuple(roi or ())
    known = len(sides) == 2 and all(isinstance(side, int) and side > 0 for side in sides)
    return channels, (sides[0], sides[1]) if known else None
