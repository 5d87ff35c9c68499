"""Networks, one paper a file, with the layer table on top.

| network | paper | parameters (channels -> classes) | bundle |
|---|---|---|---|
| ``UNet`` | position study, table 1 | 13,394,372 (1 -> 4), 13,395,524 (3 -> 4) | ``<data>``, ``_reflect``, ``_pe`` |
| ``SmallCNN`` | position study, table 2 | 75,140 (1 -> 4), 76,292 (3 -> 4) | ``<data>_small``, ``_small_pe`` |
| ``MeanMask`` | position study, section 3.2 | 0 (one buffer) | ``<data>_mean_mask`` |
| ``UNet2015`` | Ronneberger et al. 2015, figure 1 | 31,030,658 (1 -> 2); released 31,100,354 | ``*_unet2015`` |
| ``UNetPlusPlus`` | Zhou et al. 2018, figure 1 | 9,041,601 (1 -> 1), four heads 9,041,700 | ``nuclei_unetpp*`` |
| its ``pruned(1)`` to ``(4)`` | L^1 to L^4 | 100,961; 511,105; 2,204,961; 9,041,601 | its entry ``prune`` |
| ``PlainUNet`` | Zhou et al. 2018, table 3 | 7,759,521 (1 -> 1), wide 9,282,246 | ``nuclei_*unet``, ``brain_unet`` |
| ``SegNet`` | Badrinarayanan et al. 2017, figure 2 | 29,449,355 (3 -> 11) | ``*_segnet`` |
| ``SegNetBasic`` | the same, table 1 | 1,416,075 (3 -> 11), with biases 1,416,587 | ``camvid_segnet_basic`` |
| its ``decoder`` ``encoder_addition`` | table 1 | 1,416,075 | its ``--decoder`` |
| ``single_channel``, ``bilinear`` | table 1 | 625,803; 612,747 | |
| ``fcn``, ``fcn_no_addition`` | table 1 | 645,868; 643,723 | |
| ``fcn_no_reduction``, ``fcn_no_addition_no_reduction`` | table 1 | 1,661,323; 1,661,323 | |
| ``USegNet`` | Kumar et al. 2018, figure 1 | 3,483,652 (3 -> 4), no skip 3,475,396, two 3,516,548 | ``brain_usegnet`` |
| ``AuxiliaryUNet`` | article on MMSegmentation's U-Net | 29,060,676 (3 -> 2) | ``retina_unet`` |

The position study's tables are those of its supplement. ``positioned`` builds a network for a position encoding at the
parameter budget of the three channels; the ``_pe`` bundles use it, and its counts stand in
``medpos.networks.position``.

Every network takes [N, C, H, W] and gives logits [N, classes, H, W], ``UNet2015`` [N, classes, H - 184, W - 184]; all
can be traced and scripted. ``UNetPlusPlus(deep_supervision=True)`` and ``AuxiliaryUNet`` have several heads and give
[N, heads, classes, H, W] in training. How much of the image each sees stands in ``docs/networks.md``.
"""

from medpos.networks.mean_mask import MeanMask, count_labels
from medpos.networks.position import CoordConv2d, LearnedPosition, fitting_width, positioned, with_coordinates
from medpos.networks.segnet import SegNet
from medpos.networks.segnet_basic import SegNetBasic
from medpos.networks.small_cnn import SmallCNN
from medpos.networks.unet import UNet
from medpos.networks.unet2015 import UNet2015
from medpos.networks.unet_auxiliary import AuxiliaryUNet
from medpos.networks.unetpp import PlainUNet, UNetPlusPlus
from medpos.networks.usegnet import USegNet

__all__ = [
    "AuxiliaryUNet",
    "CoordConv2d",
    "LearnedPosition",
    "MeanMask",
    "PlainUNet",
    "SegNet",
    "SegNetBasic",
    "SmallCNN",
    "UNet",
    "UNet2015",
    "UNetPlusPlus",
    "USegNet",
    "count_labels",
    "fitting_width",
    "positioned",
    "with_coordinates",
]
