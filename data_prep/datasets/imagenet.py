"""Count the images of ImageNet 2012, which needs no preparation; see :mod:`medpos.data.imagenet`."""

from pathlib import Path

from data_prep.published import describe_shortfall
from medpos.data.imagenet import COUNTS, find_images


def prepare(source: Path) -> str:
    """Count classes and images, and return one line about them."""
    found = find_images(source)
    counts = {"classes": len(found.classes), "train": len(found.train), "val": len(found.val)}
    return (
        f"{source}: "
        + ", ".join(f"{count} {what}" for what, count in counts.items())
        + describe_shortfall(counts, COUNTS)
    )
