"""Build optimizers, schedule learning rates, and set them for groups of parameters."""

from medpos.optim.fused import adam
from medpos.optim.groups import parameter_groups

__all__ = ["adam", "parameter_groups"]
