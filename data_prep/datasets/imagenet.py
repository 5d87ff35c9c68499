"""Classified photographs: ImageNet 2012 (Russakovsky et al., IJCV 115(3), 2015), read where it lies.

``train`` has a folder for each class, named by its WordNet number. ``val`` has the same folders, or lies flat as it was
given out; then ``ILSVRC2012_validation_ground_truth.txt`` and ``meta.mat`` of the development kit tell the classes.
Those number the classes in an order of their own; here, as everywhere else, class 0 is the first WordNet number.
"""

from pathlib import Path

from data_prep.published import shortfall
from medpos.data.imagenet import COUNTS, find_images


def run(source: Path) -> str:
    """Look through the folders. Returns one line on what is there."""
    found = find_images(source)
    counts = {"classes": len(found.classes), "train": len(found.train), "val": len(found.val)}
    return f"{source}: " + ", ".join(f"{count} {what}" for what, count in counts.items()) + shortfall(counts, COUNTS)
