"""Build the networks of the papers, one paper per file, with the table of layers at its top.

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
| ``DeconvNet`` | Noh et al. 2015, table 2 | 251,805,653 (3 -> 21) | ``*_deconvnet`` |
| ``SegNetBasic`` | SegNet's paper, table 1 | 1,416,075 (3 -> 11), with biases 1,416,587 | ``camvid_segnet_basic`` |
| its ``decoder`` ``encoder_addition`` | table 1 | 1,416,075 | its ``--decoder`` |
| ``single_channel``, ``bilinear`` | table 1 | 625,803; 612,747 | |
| ``fcn``, ``fcn_no_addition`` | table 1 | 645,868; 643,723 | |
| ``fcn_no_reduction``, ``fcn_no_addition_no_reduction`` | table 1 | 1,661,323; 1,661,323 | |
| ``USegNet`` | Kumar et al. 2018, figure 1 | 3,483,652 (3 -> 4), no skip 3,475,396, two 3,516,548 | ``brain_usegnet`` |
| ``FuzzyCMeans`` of its module | the same, table 1, its baseline | 0 (one buffer) | ``brain_fuzzy_c_means`` |
| ``FCN32s`` | Long et al. 2015, figure 3 | 134,346,581 (3 -> 21), frozen upsampling 1,806,336 | ``voc_fcn32s`` |
| ``FCN16s`` | the same | 134,357,354, frozen 458,640 | ``voc_fcn16s`` |
| ``FCN8s`` | the same | 134,362,751, frozen 127,008, at-once 127,776 | ``voc_fcn8s``, ``voc_fcn8s_at_once`` |
| ``FCNAlexNet`` | the same, table 1 | 56,954,261 (3 -> 21), frozen 1,750,329 | ``voc_fcn_alexnet`` |
| ``FCNGoogLeNet`` | the same, table 1 | 5,995,077 (3 -> 21), frozen 1,750,329 | ``voc_fcn_googlenet`` |
| ``SUNet`` 64, 128, 7-128 | Shah 2018, table 1 | 5,906,773; 22,698,389; 36,857,237 (3 -> 21) | ``*_sunet*`` |
| its ``depth`` 3, 4; ``dense`` | section 3.1 | 64: 6,001,173; 6,089,045; 4,114,517 (3 -> 21) | |
| ``SUNetClassifier`` | the same | 6,910,248; 24,704,360; 39,113,832 (3 -> 1000) | ``imagenet_sunet*`` |
| ``ResNetClassifier`` | He et al. 2016, table 1 | 11,689,512; 25,557,032; 44,549,160 | ``imagenet_resnet`` |
| ``DilatedResNet`` | Shah 2018, table 3 | 42,543,189 (3 -> 21) | ``voc_dilated_resnet`` |
| ``DenseNetClassifier`` | Huang et al. 2017, table 1 | 28,681,000; 20,013,928 (3 -> 1000) | ``imagenet_densenet`` |
| ``DeepLabVGG`` | Chen et al. 2015, table 2, LargeFOV | 20,505,429 (3 -> 21) | ``*_deeplab_largefov`` |
| its ``head`` ``7x7``, ``4x4`` | table 2 | 134,346,581; 65,140,565 | its ``--head`` |
| ``aspp_s``, ``aspp_l`` | Chen et al. 2018, figure 7 | 37,877,652 | ``*_deeplab_aspp`` |
| ``DeepLabResNet`` | the same, table 4 | 44,048,532 (3 -> 21), LargeFOV 42,887,253 | ``*_deeplab_resnet101`` |
| ``AuxiliaryUNet`` | article on MMSegmentation's U-Net | 29,060,676 (3 -> 2) | ``retina_unet`` |

The position study's tables are those of its supplement. ``build_with_position`` builds a network for a position
encoding at the parameter budget of the three channels; the ``_pe`` bundles use it, and
``medpos.networks.position_study.position`` lists its parameter counts.

Every network maps images [N, C, H, W] to logits [N, classes, H, W]; ``UNet2015`` to [N, classes, H - 184, W - 184],
the classifiers to [N, classes]. All can be traced and scripted. In training, ``AuxiliaryUNet`` and
``UNetPlusPlus(deep_supervision=True)`` return the logits of several heads, [N, heads, classes, H, W], and DeepLab
returns the scores of every 8th pixel, or a list of such scores with several scales. ``docs/networks.md`` lists the
receptive fields.

``medpos.networks.lecture`` holds the constructions of a lecture; its ``PatchClassifier`` (64,948 parameters, 1 -> 4)
is that of the bundle ``jsrt_patch``.
"""

from functools import partial
from typing import TYPE_CHECKING

from medpos.core.moved import find_renamed
from medpos.networks.classification.densenet import DenseNetClassifier
from medpos.networks.classification.resnet import DilatedResNet, ResNetClassifier
from medpos.networks.encoder_decoder.deconvnet import DeconvNet
from medpos.networks.encoder_decoder.segnet import SegNet
from medpos.networks.encoder_decoder.segnet_basic import SegNetBasic
from medpos.networks.encoder_decoder.unet2015 import UNet2015
from medpos.networks.encoder_decoder.unet_auxiliary import AuxiliaryUNet
from medpos.networks.encoder_decoder.unetpp import PlainUNet, UNetPlusPlus
from medpos.networks.encoder_decoder.usegnet import USegNet
from medpos.networks.fully_convolutional.alexnet import FCNAlexNet
from medpos.networks.fully_convolutional.deeplab import DeepLabResNet, DeepLabVGG
from medpos.networks.fully_convolutional.fcn import FCN8s, FCN16s, FCN32s
from medpos.networks.fully_convolutional.googlenet import FCNGoogLeNet
from medpos.networks.layers.freezing import freeze_all_but, freeze_statistics
from medpos.networks.position_study.mean_mask import MeanMask, count_labels
from medpos.networks.position_study.position import (
    AppendPosition,
    CoordConv2d,
    LearnedPosition,
    add_coordinates,
    build_with_position,
    find_width,
)
from medpos.networks.position_study.small_cnn import SmallCNN
from medpos.networks.position_study.unet import UNet
from medpos.networks.sunet.network import SUNet, SUNetClassifier

__all__ = [
    "AppendPosition",
    "AuxiliaryUNet",
    "CoordConv2d",
    "DeconvNet",
    "DeepLabResNet",
    "DeepLabVGG",
    "DenseNetClassifier",
    "DilatedResNet",
    "FCN8s",
    "FCN16s",
    "FCN32s",
    "FCNAlexNet",
    "FCNGoogLeNet",
    "LearnedPosition",
    "MeanMask",
    "PlainUNet",
    "ResNetClassifier",
    "SUNet",
    "SUNetClassifier",
    "SegNet",
    "SegNetBasic",
    "SmallCNN",
    "UNet",
    "UNet2015",
    "UNetPlusPlus",
    "USegNet",
    "add_coordinates",
    "build_with_position",
    "count_labels",
    "find_width",
    "freeze_all_but",
    "freeze_statistics",
]

if not TYPE_CHECKING:  # former names, which files of users hold
    __getattr__ = partial(find_renamed, __name__)
