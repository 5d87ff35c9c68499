"""Measure segmentation networks per organ, the role of image position, and robustness to degradation.

Flow of the data: ``data_prep`` -> ``bundles/*.json`` (wiring) -> ``medpos.transforms`` -> ``medpos.networks`` ->
MONAI trainer and evaluator -> ``medpos.metrics`` -> one CSV row per case, organ and condition. Each arrow is a file or
a plain call.
"""

from medpos.core.moved import find_moved

__version__ = "0.1.0"

find_moved()
