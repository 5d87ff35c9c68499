"""Losses that MONAI lacks."""

from medpos.losses.deep_supervision import AuxiliaryLoss, BCEDice, DeepSupervision

__all__ = ["AuxiliaryLoss", "BCEDice", "DeepSupervision"]
