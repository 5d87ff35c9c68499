"""Run networks over whole images: the fast path, and the test-time procedures of the papers.

| inferer | paper | function |
|---|---|---|
| ``FastInferer`` | | runs another inferer in bf16, channels last, with batch normalization folded |
| ``OverlapTileInferer`` | Ronneberger et al. 2015 | tiles with mirrored borders, equal to one large pass |
| ``RotationMeanInferer`` | Ronneberger et al. 2015 | mean over rotated versions of the image |
| ``VotingInferer`` | Kumar et al. 2018 | majority vote of overlapping patches of a slice and its neighbors |
| ``BackgroundInferer`` | Zhou et al. 2018; Badrinarayanan et al. 2017 | adds a background class to the output |
| ``MultiScaleInferer`` | SUNet, 2018 | mean over sizes and mirror images, in overlapping crops |
| ``CRFInferer`` | Chen et al. 2015, 2018 | refines the probabilities by a fully connected CRF |
| ``HeatMapInferer`` | lecture | scores of a classifier of patches, upsampled or by shift and stitch |
| MONAI's ``SlidingWindowInferer`` | article on MMSegmentation's U-Net | mean logits of overlapping windows |

For the last one, ``roi_size=[64, 64]`` and ``overlap=1 - 42 / 64`` are MMSegmentation's crop of 64 and stride of 42.
Inferers can be nested: ``FastInferer(RotationMeanInferer(OverlapTileInferer()))``. ``measure_pruning`` compares the
pruning levels of a UNet++.
"""

from functools import partial
from typing import TYPE_CHECKING

from medpos.core.device import has_fast_bf16, memory_format
from medpos.core.moved import find_renamed
from medpos.inferers.background import BackgroundInferer
from medpos.inferers.crf import CRFInferer, DenseCRF
from medpos.inferers.crf_search import CRFRow, crf_cases, search_crf
from medpos.inferers.fast import FastInferer
from medpos.inferers.heat_maps import HeatMapInferer
from medpos.inferers.multiscale import MultiScaleInferer
from medpos.inferers.network_input import describe_network_input
from medpos.inferers.pruning import PruningLevel, measure_pruning
from medpos.inferers.rotations import RotationMeanInferer
from medpos.inferers.tiles import OverlapTileInferer
from medpos.inferers.voting import VotingInferer

__all__ = [
    "BackgroundInferer",
    "CRFInferer",
    "CRFRow",
    "DenseCRF",
    "FastInferer",
    "HeatMapInferer",
    "MultiScaleInferer",
    "OverlapTileInferer",
    "PruningLevel",
    "RotationMeanInferer",
    "VotingInferer",
    "crf_cases",
    "describe_network_input",
    "has_fast_bf16",
    "measure_pruning",
    "memory_format",
    "search_crf",
]

if not TYPE_CHECKING:  # former names, which files of users hold
    __getattr__ = partial(find_renamed, __name__)
