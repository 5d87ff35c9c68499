"""Schedule learning rates, and set them for groups of parameters."""

from medpos.optim.groups import parameter_groups

__all__ = ["parameter_groups"]
