"""Start a bundle, write new ones, and run the entry points that need more than a MONAI evaluator."""

from medpos.bundle.evaluation import trained
from medpos.bundle.startup import hyper_parameters, resolved, set_determinism, start, try_data, try_image_size

__all__ = ["hyper_parameters", "resolved", "set_determinism", "start", "trained", "try_data", "try_image_size"]
