"""Networks, one paper a file, with the layer table on top.

| network | paper | parameters (1 / 3 input channels, 4 classes) | bundle |
|---|---|---|---|
| ``UNet`` | position study, supplementary table 1 | 13,394,372 / 13,395,524 | ``<data>``, ``_reflect``, ``_pe`` |
| ``SmallCNN`` | position study, supplementary table 2 | 75,140 / 76,292 | ``<data>_small``, ``_small_pe`` |
| ``MeanMask`` | position study, section 3.2 | 0 (one buffer) | ``<data>_mean_mask`` |

Every network takes [N, C, H, W] and gives [N, classes, H, W]; all can be traced and scripted.
"""

from medpos.networks.mean_mask import MeanMask, count_labels
from medpos.networks.small_cnn import SmallCNN
from medpos.networks.unet import UNet

__all__ = ["MeanMask", "SmallCNN", "UNet", "count_labels"]
