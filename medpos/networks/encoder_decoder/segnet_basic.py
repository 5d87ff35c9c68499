"""Segment with SegNet-Basic and the decoder variants that its paper compares.

Reference:
    V. Badrinarayanan, A. Kendall, R. Cipolla, "SegNet", PAMI 2017, section 3.2, figure 3 and table 1;
    https://arxiv.org/abs/1511.00561. The authors' prototxt files: https://github.com/alexgkendall/SegNet-Tutorial.

Four encoders of a 7 x 7 convolution to 64 channels, batch normalization, ReLU and max-pooling; four decoders. The
receptive field of the deepest layer has 106 x 106 px. The table below is the paper's table 1, which counts weights
only. The authors published files of SegNet-Basic only; the variants follow the paper's description, and were checked by
their number of weights.

Resolved where the paper is silent or differs from the files:
    - The input passes the files' local response normalization, which the paper calls local contrast normalization. It
      is designed for intensities of 0 to 255 and changes standardized ones little.
    - Convolutions have no bias (paper) unless ``conv_bias`` (files); score layers have one.
    - Batch normalization starts with a shift of 0.001; pooling rounds sizes up.
    - The addition of SegNet uses the encoder's features before pooling, at the size of the decoder's output. That of
      the FCN family uses them after pooling, 180 x 240 px for 360 x 480 px in the first encoder; the paper computes
      the memory from this size. So its last upsampling has no addition.
    - Kernels of 8 x 8 px that upsample by 2 start as the bilinear kernel surrounded by zeros, on the diagonal of the
      channels. Their output is cropped where sizes were rounded up. They have neither bias nor batch normalization, as
      in FCN.
    - Bilinear-Interpolation is FCN-Basic-NoAddition with fixed interpolation: 612,224 weights, 0.625 M in the table.
      Without dimensionality reduction there are 1,660,800, 1.625 M in the table. The others agree with the table to
      its rounding, 0.025 M.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medpos.core.errors import InputError
from medpos.networks.layers.blocks import ConvBlock, check_size, initialize_he, scale_channels
from medpos.networks.layers.upsampling import initialize_bilinear, max_unpool

CHANNELS = 64
KERNEL = 7
UP_KERNEL = 8
BN_SHIFT = 0.001


@dataclass(frozen=True)
class Decoder:
    """Hold a row of table 1.

    Attributes:
        upsampling: kind of upsampling, ``"indices"``, ``"learned"`` or ``"fixed"``.
        addition: whether the encoders' features are added.
        reduced: whether features are reduced to classes before the upsampling.
        single_channel: whether each filter after the unpooling has one input channel only.
    """

    upsampling: str
    addition: bool = False
    reduced: bool = False
    single_channel: bool = False


DECODERS = {
    "bilinear": Decoder("fixed", reduced=True),  # Bilinear-Interpolation
    "max_unpooling": Decoder("indices"),  # SegNet-Basic
    "encoder_addition": Decoder("indices", addition=True),  # SegNet-Basic-EncoderAddition
    "single_channel": Decoder("indices", single_channel=True),  # SegNet-Basic-SingleChannelDecoder
    "fcn": Decoder("learned", addition=True, reduced=True),  # FCN-Basic
    "fcn_no_addition": Decoder("learned", reduced=True),  # FCN-Basic-NoAddition
    "fcn_no_reduction": Decoder("learned", addition=True),  # FCN-Basic-NoDimReduction
    "fcn_no_addition_no_reduction": Decoder("learned"),  # FCN-Basic-NoAddition-NoDimReduction
}


class _Unpool(nn.Module):
    """Apply unpooling, a 7 x 7 convolution and batch normalization, without ReLU."""

    def __init__(self, channels: int, variant: Decoder, conv_bias: bool) -> None:
        super().__init__()
        groups = channels if variant.single_channel else 1
        conv = nn.Conv2d(channels, channels, KERNEL, padding=KERNEL // 2, groups=groups, bias=conv_bias)
        self.conv = nn.Sequential(conv, nn.BatchNorm2d(channels))
        self.addition = variant.addition

    def forward(self, features: Tensor, indices: Tensor, encoded: Tensor, pooled: Tensor) -> Tensor:
        features = self.conv(max_unpool(features, indices, encoded.shape[2:]))
        return features + encoded if self.addition else features


class _Upsample(nn.Module):
    """Upsample by 2, crop to the encoder's size, and optionally add the encoder's features, reduced or not."""

    def __init__(self, channels: int, variant: Decoder, reduction: nn.Module | None) -> None:
        super().__init__()
        self.up: nn.Module = nn.Upsample(scale_factor=2, mode="bilinear")
        if variant.upsampling == "learned":
            self.up = nn.ConvTranspose2d(channels, channels, UP_KERNEL, stride=2, padding=3, bias=False)
            initialize_bilinear(self.up)
        self.reduction = reduction

    def forward(self, features: Tensor, indices: Tensor, encoded: Tensor, pooled: Tensor) -> Tensor:
        features = self.up(features)[:, :, : encoded.shape[2], : encoded.shape[3]]
        if self.reduction is not None:
            features = features + self.reduction(pooled)
        return features


def _decoder(place: int, variant: Decoder, channels: int, classes: int, conv_bias: bool) -> nn.Module:
    if variant.upsampling == "indices":
        return _Unpool(channels, variant, conv_bias)
    reduction = None
    if variant.addition and place > 1:
        reduction = nn.Conv2d(channels, classes, 1) if variant.reduced else nn.Identity()
    return _Upsample(classes if variant.reduced else channels, variant, reduction)


class SegNetBasic(nn.Module):
    """Segment with SegNet-Basic and a decoder of table 1, with the layer names of the authors' files.

    Args:
        in_channels: channels of the image.
        out_channels: classes.
        decoder: one of ``DECODERS``.
        conv_bias: whether the 7 x 7 convolutions have biases.
        width: factor of the channels inside, 1 for the paper's.

    Raises:
        InputError: unknown decoder; a width that isn't above 0; in ``forward``, an input that isn't [N, C, H, W].
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 11,
        decoder: str = "max_unpooling",
        conv_bias: bool = False,
        width: float = 1.0,
    ) -> None:
        super().__init__()
        if decoder not in DECODERS:
            raise InputError(f"decoder: expected one of {', '.join(DECODERS)}, got {decoder!r}")
        variant = DECODERS[decoder]
        self.in_channels = in_channels
        channels = scale_channels(CHANNELS, width)
        self.norm = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75)
        entering = [in_channels, channels, channels, channels]
        blocks = [ConvBlock(last, channels, conv_bias=conv_bias, kernel_size=KERNEL) for last in entering]
        self.conv = nn.ModuleDict({str(place): block for place, block in enumerate(blocks, 1)})
        self.pool = nn.MaxPool2d(2, ceil_mode=True, return_indices=True)
        self.reduce, self.conv_classifier = nn.Identity(), nn.Identity()
        if variant.reduced:
            self.reduce = nn.Conv2d(channels, out_channels, 1)
        else:
            self.conv_classifier = nn.Conv2d(channels, out_channels, 1)
        stages = {str(place): _decoder(place, variant, channels, out_channels, conv_bias) for place in (4, 3, 2, 1)}
        self.conv_decode = nn.ModuleDict(stages)
        initialize_he(self)
        for layer in self.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.constant_(layer.bias, BN_SHIFT)

    def forward(self, image: Tensor) -> Tensor:
        """Map an image [N, in_channels, H, W] of any size to logits [N, out_channels, H, W]."""
        if not torch.jit.is_scripting() and not torch.jit.is_tracing():
            check_size(image, 1, 1, "SegNetBasic")
        features = self.norm(image)
        encoded: list[Tensor] = []
        indices: list[Tensor] = []
        pooled: list[Tensor] = [features]
        for encoder in self.conv.values():
            encoded.append(encoder(features))
            features, places = self.pool(encoded[-1])
            indices.append(places)
            pooled.append(features)
        features = self.reduce(features)
        for i, decoder in enumerate(self.conv_decode.values()):
            features = decoder(features, indices[3 - i], encoded[3 - i], pooled[3 - i])
        return self.conv_classifier(features)
