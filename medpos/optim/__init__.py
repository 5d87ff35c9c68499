"""Set learning rates over a training and over groups of parameters."""

from medpos.optim.groups import parameter_groups

__all__ = ["parameter_groups"]
