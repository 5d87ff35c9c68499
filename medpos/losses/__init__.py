"""Compute losses that MONAI lacks, and the class weights for them.

Every loss is float32, whatever the type of the logits. SegNet needs no loss of its own:
``torch.nn.CrossEntropyLoss(weight=median_frequency(counts), ignore_index=255)``.
"""

from medpos.losses.balance import inverse_frequency, median_frequency
from medpos.losses.deep_supervision import AllPixelCrossEntropy, AuxiliaryLoss, BCEDice, DeepSupervision
from medpos.losses.dense import SummedCrossEntropy
from medpos.losses.pixel_weighted import PixelWeightedCrossEntropy
from medpos.losses.score_map import ScoreCrossEntropy

__all__ = [
    "AllPixelCrossEntropy",
    "AuxiliaryLoss",
    "BCEDice",
    "DeepSupervision",
    "PixelWeightedCrossEntropy",
    "ScoreCrossEntropy",
    "SummedCrossEntropy",
    "inverse_frequency",
    "median_frequency",
]
