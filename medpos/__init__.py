"""medpos: how good is a segmentation network on each organ, how much of it rests on position, what survives
degradation.

The way the data goes: ``data_prep`` -> ``bundles/*.json`` (wiring) -> ``medpos.transforms`` -> ``medpos.networks`` ->
MONAI trainer and evaluator -> ``medpos.metrics`` -> one CSV row per case, organ and condition. Each arrow is a file or
a plain call.
"""

from medpos.core.moved import find_moved

__version__ = "0.1.0"

find_moved()
