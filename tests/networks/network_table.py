"""List every network of the project for test_networks.py, one line each."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from medpos.networks import (
    AuxiliaryUNet,
    DeconvNet,
    DeepLabResNet,
    DeepLabVGG,
    DilatedResNet,
    FCN8s,
    FCN16s,
    FCN32s,
    FCNAlexNet,
    FCNGoogLeNet,
    LearnedPosition,
    MeanMask,
    PlainUNet,
    SegNet,
    SegNetBasic,
    SmallCNN,
    SUNet,
    UNet,
    UNet2015,
    UNetPlusPlus,
    USegNet,
    add_coordinates,
    build_with_position,
)

NARROW = 1 / 8  # of the channels, where a network has to run


@dataclass(frozen=True)
class Network:
    """State the properties of a network.

    Attributes:
        build: makes it from the width.
        parameters: their number at width 1.
        native: C, H, W of the paper's image.
        stages: shape C, H, W by the name of a module, for the native image; that of ``""`` is the output's.
        sizes: two small H, W to run on.
        golden: mean and standard deviation of the logits for :func:`filled` weights, of the first small size.
        wrong: H, W that is refused, and words of the error.
        heads: outputs in training where there are several.
        unfolded: batch normalizations that stay in evaluation, because no convolution alone precedes them.
    """

    build: Callable[[float], nn.Module]
    parameters: int
    native: tuple[int, int, int]
    stages: dict[str, tuple[int, int, int]]
    sizes: tuple[tuple[int, int], tuple[int, int]] = ((32, 32), (32, 48))
    golden: tuple[float, float] | None = None
    wrong: tuple[tuple[int, int], list[str]] | None = None
    heads: int = 0
    unfolded: int = 0


def _mean_mask(_):
    return MeanMask(3).fit([torch.tensor([[0, 1], [2, 2]]), torch.tensor([[[0, 1], [1, 2]]])])


ANY = ((21, 30), (32, 24))
VALID = ((188, 188), (188, 204))
BY_16 = ((30, 48), ["30 x 48", "multiples of 16", "nearest valid: 16 x 48 or 32 x 48"])
REFLECT = ((16, 40), ["UNet", "at least 32 px", "32 x 32 or 32 x 48"])


def stages(names, channels, sizes):
    """Name the shapes of stages; ``sizes`` are the image's side, or (H, W)."""
    sides = [size if isinstance(size, tuple) else (size, size) for size in sizes]
    return {name: (c, *side) for name, c, side in zip(names.split(), channels, sides, strict=True)}


UNET = stages(
    "conv1_2 conv2_2 conv3_2 conv4_2 conv5_2 conv6_2 conv7_2 conv8_2 conv9_2 score",
    (64, 128, 256, 512, 512, 256, 128, 64, 64, 4),
    (256, 128, 64, 32, 16, 32, 64, 128, 256, 256),
)
SMALL = stages("conv1 conv2 conv3 score", (64, 64, 64, 4), (256,) * 4)
UNET2015 = stages(
    "conv1 conv2 conv3 conv4 conv5 up6 conv6 up7 conv7 up8 conv8 conv9 score",
    (64, 128, 256, 512, 1024, 512, 512, 256, 256, 128, 128, 64, 2),
    (568, 280, 136, 64, 28, 56, 52, 104, 100, 200, 196, 388, 388),
)
ENCODER = "nodes.x00 nodes.x10 nodes.x20 nodes.x30 nodes.x40"
PLAIN = f"{ENCODER} nodes.x31 nodes.x22 nodes.x13 nodes.x04"
NESTED = f"{PLAIN} nodes.x01 nodes.x02 nodes.x03 nodes.x11 nodes.x12 nodes.x21"
SIDES = (512, 256, 128, 64, 32, 64, 128, 256, 512)
NESTED_SHAPES = (
    (32, 64, 128, 256, 512, 256, 128, 64, 32, 32, 32, 32, 64, 64, 128),
    (*SIDES, 512, 512, 512, 256, 256, 128),
)
CAMVID = [(360, 480), (180, 240), (90, 120), (45, 60), (23, 30)]
SEGNET = stages(
    "conv1 conv2 conv3 conv4 conv5 conv5_D conv4_D conv3_D conv2_D conv1_D",
    (64, 128, 256, 512, 512, 512, 256, 128, 64, 64),
    (*CAMVID, *CAMVID[::-1]),
)
DECONVNET = stages(
    "conv1 conv2 conv3 conv4 conv5 fc6 fc7 fc6_deconv deconv5 deconv4 deconv3 deconv2 deconv1 seg_score",
    (64, 128, 256, 512, 512, 4096, 4096, 512, 512, 256, 128, 64, 64, 11),
    (*CAMVID, (6, 9), (6, 9), (12, 15), *CAMVID[::-1], CAMVID[0]),
)
BASIC = stages("conv.1 conv.2 conv.3 conv.4", (64,) * 4, CAMVID[:4])
DECODED = "conv_decode.4 conv_decode.3 conv_decode.2 conv_decode.1"
WIDE_DECODER = BASIC | stages(DECODED, (64,) * 4, CAMVID[3::-1])
CLASS_DECODER = BASIC | stages(DECODED, (11,) * 4, CAMVID[3::-1])
USEGNET = stages("conv1 conv2 conv3 conv3_D conv2_D conv1_D", (64, 128, 256, 128, 64, 64), (40, 20, 10, 10, 20, 40))
AUXILIARY = stages(
    "encoder1 encoder2 encoder3 encoder4 encoder5 upsample4 decoder4 "
    "upsample3 decoder3 upsample2 decoder2 upsample1 decoder1",
    (64, 128, 256, 512, 1024, 512, 512, 256, 256, 128, 128, 64, 64),
    (480, 240, 120, 60, 30, 60, 60, 120, 120, 240, 240, 480, 480),
)
AUXILIARY = {f"backbone.{name}": shape for name, shape in AUXILIARY.items()}


def sunet(parameters, golden, wrong=None, modules=(2, 4, 4), channels=(256, 512, 768, 1024), small=True, **options):
    def build(width):
        return SUNet(variant="64", width=width, **options)

    sizes = {16: (128, 128, 64, 32, 32, 32), 8: (128, 128, 64, 64, 64, 64)}[options.get("output_stride", 16)]
    blocks = enumerate((*modules, 1), 1)
    names = ("residual1", *(f"unet{block}_{number - 1}" for block, number in blocks))
    shapes = stages(" ".join(f"features.{name}" for name in names), (128, *channels), sizes[:5])
    shapes |= stages("final", (21,), sizes[5:])
    # Those of the skips and behind deconvolutions: 3 of each level of the u-nets, 3 of the u-net+, 2 of stem and end.
    unfolded = 3 * sum(modules) * options.get("depth", 2) + 3 + 2
    sides = ((57, 64), (70, 49)) if small else ((113, 128), (128, 121))
    return Network(build, parameters, (3, 512, 512), shapes, sides, golden, wrong, unfolded=unfolded)


BY_8 = ((33, 40), ["DeepLabVGG", "33 x 40", "8 k + 1", "nearest valid: 33 x 33 or 33 x 41"])
DEEPLAB = stages(
    "conv1_2 pool1 conv2_2 pool2 conv3_3 pool3 conv4_3 pool4 conv5_3 pool5",
    (64, 64, 128, 128, 256, 256, 512, 512, 512, 512),
    (321, 161, 161, 81, 81, 41, 41, 41, 41, 41),
)
DEEPLAB = {f"trunk.{name}": shape for name, shape in DEEPLAB.items()}
LARGE_FOV = stages("fc6 fc7 fc8", (1024, 1024, 21), (41,) * 3)
LARGE_FOV = DEEPLAB | {f"heads.0.{name}": shape for name, shape in LARGE_FOV.items()} | {"": (21, 321, 321)}
RESNET = stages(
    "conv1 maxpool layer1 layer2 layer3 layer4",
    (64, 64, 256, 512, 1024, 2048),
    (161, 81, 81, 41, 41, 41),
)
RESNET = {f"trunk.{name}": shape for name, shape in RESNET.items()} | {"heads.3": (21, 41, 41), "": (21, 321, 321)}
CORNERS = ((33, 33), (33, 41))
DILATED = stages(
    "conv1 maxpool layer1 layer2 layer3 layer4 final", (64, 64, 64, 128, 256, 512, 21), (256, 128, 128, 64, 32, 32, 32)
)
DILATED |= {"": (21, 512, 512)}


def basic(decoder, parameters, shapes, golden, **options):
    def build(width):
        return SegNetBasic(decoder=decoder, width=width, **options)

    return Network(build, parameters, (3, 360, 480), shapes, ANY, golden)


FCN = stages(
    "conv1 conv2 conv3 conv4 conv5 fc6 fc7 score_fr",
    (64, 128, 256, 512, 512, 4096, 4096, 21),
    (698, 349, 175, 88, 44, 16, 16, 16),
)
FCN32S = FCN | stages("upscore", (21,), (544,))
FCN16S = FCN | stages("upscore2 score_pool4 upscore16", (21,) * 3, (34, 44, 560))
FCN8S = FCN | stages("upscore2 score_pool4 upscore_pool4 score_pool3 upscore8", (21,) * 5, (34, 44, 70, 88, 568))
ALEXNET = stages(
    "conv1 conv2 conv3 conv4 conv5 fc6 fc7 upscore",
    (96, 256, 384, 384, 256, 4096, 4096, 21),
    (173, 86, 43, 43, 43, 16, 16, 543),
)
GOOGLENET = stages(
    "conv1 conv3 inception3a inception3b inception4a inception4e inception5a inception5b upscore",
    (64, 192, 256, 480, 512, 832, 832, 1024, 21),
    (347, 173, 86, 86, 43, 43, 21, 21, 703),
)


def scored(build):
    """Draw the score layers at random, because zeros would hide the layers before them."""

    def build_scored(width):
        model = build(width)
        for name, layer in model.named_children():
            if name.startswith("score_"):
                nn.init.normal_(layer.weight)
        return model

    return build_scored


def fcn(build, parameters, shapes, golden):
    return Network(scored(build), parameters, (3, 500, 500), shapes, ((3, 4), (9, 2)), golden)


NETWORKS = {
    "UNet": Network(lambda w: UNet(1, 4, width=w), 13_394_372, (1, 256, 256), UNET, wrong=BY_16),
    "UNet, no bias": Network(lambda w: UNet(1, conv_bias=False, width=w), 13_390_404, (1, 256, 256), UNET),
    "UNet, 3 channels": Network(lambda w: UNet(3, width=w), 13_395_524, (3, 256, 256), UNET),
    "UNet, 3 channels, no bias": Network(lambda w: UNet(3, conv_bias=False, width=w), 13_391_556, (3, 256, 256), UNET),
    "UNet, reflect": Network(
        lambda w: UNet(1, padding_mode="reflect", width=w), 13_394_372, (1, 256, 256), UNET, wrong=REFLECT
    ),
    "UNet, learned": Network(lambda w: LearnedPosition(UNet(3, width=w), 3.0), 13_396_036, (1, 256, 256), {}),
    "UNet, coordconv": Network(lambda w: add_coordinates(UNet(1, width=w), 3.0), 13_465_796, (1, 256, 256), UNET),
    "SmallCNN": Network(lambda w: SmallCNN(1, width=w), 75_140, (1, 256, 256), SMALL, ANY),
    "SmallCNN, no bias": Network(lambda w: SmallCNN(1, conv_bias=False, width=w), 74_948, (1, 256, 256), SMALL, ANY),
    "SmallCNN, 3 channels": Network(lambda w: SmallCNN(3, width=w), 76_292, (3, 256, 256), SMALL, ANY),
    "SmallCNN, 3 channels, no bias": Network(
        lambda w: SmallCNN(3, conv_bias=False, width=w), 76_100, (3, 256, 256), SMALL, ANY
    ),
    "SmallCNN, reflect": Network(
        lambda w: SmallCNN(1, padding_mode="reflect", width=w),
        75_140,
        (1, 256, 256),
        SMALL,
        ANY,
        wrong=((1, 5), ["SmallCNN", "1 x 5", "nearest valid: 2 x 5"]),
    ),
    **{
        f"SmallCNN, {mode}": Network(
            lambda w, mode=mode: SmallCNN(1, padding_mode=mode, width=w), 75_140, (1, 256, 256), SMALL, ANY
        )
        for mode in ("replicate", "circular")
    },
    "UNet, replicate": Network(
        lambda w: UNet(1, padding_mode="replicate", width=w), 13_394_372, (1, 256, 256), UNET, wrong=BY_16
    ),
    "SmallCNN, learned": Network(lambda _: build_with_position(SmallCNN, "learned"), 76_804, (1, 256, 256), {}, ANY),
    "SmallCNN, coordconv": Network(
        lambda _: build_with_position(SmallCNN, "coordconv"), 76_234, (1, 256, 256), {}, ANY
    ),
    "MeanMask": Network(_mean_mask, 0, (1, 2, 2), {"": (3, 2, 2)}, ((2, 2), (2, 2)), wrong=((4, 2), ["4 x 2 px"])),
    "UNet2015": Network(
        lambda w: UNet2015(width=w),
        31_030_658,
        (1, 572, 572),
        UNET2015,
        VALID,
        wrong=((572, 512), ["UNet2015", "572 x 512", "16 k + 60", "at least 188", "572 x 508 or 572 x 524"]),
        golden=(-0.036553, 0.53165),
    ),
    "UNet2015, released": Network(
        lambda w: UNet2015(released=True, width=w),
        31_100_354,
        (1, 572, 572),
        UNET2015 | {"up9": (128, 392, 392)},
        VALID,
        wrong=((64, 64), ["nearest valid: 188 x 188"]),
        golden=(-0.33749, 0.44443),
    ),
    "UNet++": Network(
        lambda w: UNetPlusPlus(width=w),
        9_041_601,
        (1, 512, 512),
        stages(NESTED, *NESTED_SHAPES),
        wrong=BY_16,
        golden=(0.55735, 0.26808),
    ),
    "UNet++, deep supervision": Network(
        lambda w: UNetPlusPlus(deep_supervision=True, width=w),
        9_041_700,
        (1, 512, 512),
        stages(NESTED, *NESTED_SHAPES),
        heads=4,
        golden=(-0.02522, 0.16578),
    ),
    "UNet++, L1": Network(
        lambda w: UNetPlusPlus(deep_supervision=True, width=w).pruned(1),
        100_961,
        (1, 512, 512),
        stages("nodes.x00 nodes.x10 nodes.x01", (32, 64, 32), (512, 256, 512)),
        wrong=((31, 32), ["UNetPlusPlus", "multiples of 2 and", "30 x 32 or 32 x 32"]),
    ),
    "UNet++, L2": Network(
        lambda w: UNetPlusPlus(deep_supervision=True, width=w).pruned(2), 511_105, (1, 512, 512), {"": (1, 512, 512)}
    ),
    "UNet++, L3": Network(
        lambda w: UNetPlusPlus(deep_supervision=True, width=w).pruned(3), 2_204_961, (1, 512, 512), {"": (1, 512, 512)}
    ),
    "UNet++, L4": Network(
        lambda w: UNetPlusPlus(deep_supervision=True, width=w).pruned(4), 9_041_601, (1, 512, 512), {"": (1, 512, 512)}
    ),
    "PlainUNet": Network(
        lambda w: PlainUNet(width=w),
        7_759_521,
        (1, 512, 512),
        stages(PLAIN, (32, 64, 128, 256, 512, 256, 128, 64, 32), SIDES),
        wrong=BY_16,
        golden=(-1.4467, 1.0427),
    ),
    "PlainUNet, wide": Network(
        lambda w: PlainUNet(wide=True, width=w),
        9_282_246,
        (1, 512, 512),
        stages(PLAIN, (35, 70, 140, 280, 560, 280, 140, 70, 35), SIDES),
        golden=(1.3621, 0.73283),
    ),
    "SegNet": Network(
        lambda w: SegNet(width=w), 29_449_355, (3, 360, 480), SEGNET, ((45, 60), (32, 33)), golden=(0.027994, 0.089667)
    ),
    "DeconvNet": Network(
        lambda w: DeconvNet(3, 11, width=w),
        251_805_003,
        (3, 360, 480),
        DECONVNET,
        ((193, 193), (193, 210)),
        golden=(0.046293, 0.20537),
        wrong=((192, 240), ["DeconvNet", "192 x 240", "at least 193 px", "193 x 240"]),
        unfolded=14,  # those behind deconvolutions
    ),
    "SegNetBasic": basic("max_unpooling", 1_416_075, WIDE_DECODER, (0.010538, 0.07183)),
    "SegNetBasic, bias": basic("max_unpooling", 1_416_587, WIDE_DECODER, (-0.017903, 0.071635), conv_bias=True),
    "SegNetBasic, bilinear": basic("bilinear", 612_747, CLASS_DECODER, (0.049897, 0.39415)),
    "SegNetBasic, encoder_addition": basic("encoder_addition", 1_416_075, WIDE_DECODER, (0.052597, 0.40032)),
    "SegNetBasic, single_channel": basic("single_channel", 625_803, WIDE_DECODER, (0.0358, 0.070027)),
    "SegNetBasic, fcn": basic("fcn", 645_868, CLASS_DECODER, (0.012169, 0.46689)),
    "SegNetBasic, fcn_no_addition": basic("fcn_no_addition", 643_723, CLASS_DECODER, (-0.00023667, 0.026776)),
    "SegNetBasic, fcn_no_reduction": basic("fcn_no_reduction", 1_661_323, WIDE_DECODER, (-0.023552, 0.45668)),
    "SegNetBasic, fcn_no_addition_no_reduction": basic(
        "fcn_no_addition_no_reduction", 1_661_323, WIDE_DECODER, (0.013209, 0.065604)
    ),
    "SUNet": sunet(5_906_773, (-0.0077485, 0.055885), ((12, 99), ["SUNet", "12 x 99 px", "at least 13 px", "13 x 99"])),
    "SUNet, strided": sunet(12_976_981, (0.014893, 0.073043), output_stride=8, strided=True, degridding=True),
    # Large enough that the lowest level has more than one pixel.
    "SUNet, three levels, dense": sunet(
        4_253_845,
        (0.010766, 0.098329),
        modules=(1, 3, 3),
        channels=(192, 384, 576, 640),
        small=False,
        output_stride=8,
        depth=3,
        dense=True,
    ),
    "USegNet": Network(lambda w: USegNet(width=w), 3_483_652, (3, 40, 40), USEGNET, ANY, golden=(0.013297, 0.28958)),
    "USegNet, no skip": Network(lambda w: USegNet(skips=0, width=w), 3_475_396, (3, 40, 40), USEGNET, ANY),
    "USegNet, two skips": Network(
        lambda w: USegNet(skips=2, width=w), 3_516_548, (3, 40, 40), USEGNET, ANY, golden=(-0.11215, 0.36157)
    ),
    "USegNet, ReLU first": Network(
        lambda w: USegNet(relu_first=True, width=w), 3_483_652, (3, 40, 40), USEGNET, ANY, golden=(-0.0028039, 0.27517)
    ),
    "AuxiliaryUNet": Network(
        lambda w: AuxiliaryUNet(width=w),
        29_060_676,
        (3, 480, 480),
        AUXILIARY,
        wrong=BY_16,
        heads=2,
        golden=(0.17484, 0.32364),
    ),
    "FCN32s": fcn(lambda w: FCN32s(width=w), 134_346_581, FCN32S, (0.032257, 0.18005)),
    "FCN16s": fcn(lambda w: FCN16s(width=w), 134_357_354, FCN16S, (-0.078388, 0.30349)),
    "FCN8s": fcn(lambda w: FCN8s(width=w), 134_362_751, FCN8S, (0.050612, 0.43949)),
    "FCN8s, at once": fcn(lambda w: FCN8s(at_once=True, width=w), 134_362_751, FCN8S, (0.031087, 0.19514)),
    # the kernels' 21 x 21 x (4 x 4 + 4 x 4 + 16 x 16) values
    "FCN8s, learned": fcn(
        lambda w: FCN8s(upsampling="learned", width=w), 134_362_751 + 127_008, FCN8S, (-0.0034218, 0.088767)
    ),
    "FCNAlexNet": fcn(lambda w: FCNAlexNet(width=w), 56_954_261, ALEXNET, (0.0076885, 0.067827)),
    "FCNGoogLeNet": fcn(lambda w: FCNGoogLeNet(width=w), 5_995_077, GOOGLENET, (-0.098379, 0.18729)),
    # 5 x 5 become 3 x 3; biases become a factor and an offset
    "FCNGoogLeNet, torchvision": fcn(
        lambda w: FCNGoogLeNet(trunk="torchvision", width=w), 5_621_429, {}, (-0.04886, 0.17125)
    ),
    "DeepLabVGG": Network(
        lambda w: DeepLabVGG(width=w), 20_505_429, (3, 321, 321), LARGE_FOV, CORNERS, (0.054561, 0.33992), wrong=BY_8
    ),
    "DeepLabVGG, ASPP-L": Network(
        lambda w: DeepLabVGG(head="aspp_l", width=w), 37_877_652, (3, 321, 321), DEEPLAB, CORNERS, (-0.091682, 0.72972)
    ),
    "DilatedResNet": Network(
        lambda w: DilatedResNet(depth=18, width=w),
        11_187_285,
        (3, 512, 512),
        DILATED,
        ((33, 40), (40, 33)),
        (-0.058308, 0.118895),
    ),
    "DeepLabResNet": Network(
        lambda w: DeepLabResNet(frozen_norms=False, width=w),
        44_048_532,
        (3, 321, 321),
        RESNET,
        CORNERS,
        (-0.052632, 0.12018),
    ),
}
