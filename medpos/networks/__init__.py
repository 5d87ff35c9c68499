"""Networks, one paper a file, with the layer table on top.

| network | paper | parameters (1 / 3 input channels, 4 classes) | bundle |
|---|---|---|---|
| ``UNet`` | position study, supplementary table 1 | 13,394,372 / 13,395,524 | ``<data>``, ``_reflect``, ``_pe`` |
| ``SmallCNN`` | position study, supplementary table 2 | 75,140 / 76,292 | ``<data>_small``, ``_small_pe`` |
| ``MeanMask`` | position study, section 3.2 | 0 (one buffer) | ``<data>_mean_mask`` |

``positioned`` builds ``UNet`` and ``SmallCNN`` for a position encoding at the parameter budget of the three channels;
the ``_pe`` bundles use it, and its counts stand in ``medpos.networks.position``.

Every network takes [N, C, H, W] and gives [N, classes, H, W]; all can be traced and scripted.
"""

from medpos.networks.mean_mask import MeanMask, count_labels
from medpos.networks.position import CoordConv2d, LearnedPosition, fitting_width, positioned, with_coordinates
from medpos.networks.small_cnn import SmallCNN
from medpos.networks.unet import UNet

__all__ = [
    "CoordConv2d",
    "LearnedPosition",
    "MeanMask",
    "SmallCNN",
    "UNet",
    "count_labels",
    "fitting_width",
    "positioned",
    "with_coordinates",
]
