"""Segment with the U-Net of the position study, 19 convolutions.

Reference:
    "How Can CNNs Use Image Position for Segmentation?", supplementary material, first table.
    It follows O. Ronneberger et al., "U-Net", MICCAI 2015, with batch normalization.

Resolved where the table is silent or wrong:
    - pool4 is listed with 64 channels; conv4_2 gives 512, so pool4 has 512.
    - ReLU after each batch normalization, convolution biases on, concatenation [skip, upsampled] and bilinear
      interpolation with aligned corners, as in the PyTorch U-Net that was common then and has the same channels.
    - Reflect padding (section 3.4) is in all eighteen 3 x 3 convolutions.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from medpos.networks.layers.blocks import ConvBlock, check_size, scale_stages

# Channels of each stage of two 3 x 3 convolutions (conv1_1, conv1_2, ...).
ENCODER = {"conv1": 64, "conv2": 128, "conv3": 256, "conv4": 512, "conv5": 512}  # 2 x 2 max-pooling between stages
DECODER = {"conv6": 256, "conv7": 128, "conv8": 64, "conv9": 64}  # before each: up x 2, concatenate the encoder's stage
STRIDE = 2 ** (len(ENCODER) - 1)


def _up_and_concatenate(features: Tensor, skip: Tensor) -> Tensor:
    up = F.interpolate(features, scale_factor=2.0, mode="bilinear", align_corners=True)
    return torch.cat([skip, up], dim=1)


class UNet(nn.Module):
    """Segment with the position study's U-Net, with the layer names of the paper's table.

    Args:
        in_channels: channels of the input: 1 for the image, 3 with the position channels.
        out_channels: classes, including the background.
        padding_mode: padding in every 3 x 3 convolution: ``"zeros"``, ``"reflect"``, ``"replicate"`` or ``"circular"``.
        conv_bias: whether the 3 x 3 convolutions have biases (``score`` always has).
        width: factor of the channels inside, 1 for the paper's.

    Raises:
        InputError: unknown padding mode; a width that isn't above 0; in ``forward``, H or W that isn't a multiple of 16
            (with reflect padding at least 32).
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 4,
        padding_mode: str = "zeros",
        conv_bias: bool = True,
        width: float = 1.0,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        # Reflection by one pixel needs at least two pixels, also at stride 16.
        self.smallest = 2 * STRIDE if padding_mode == "reflect" else STRIDE
        last = in_channels
        stages = scale_stages(ENCODER | DECODER, width)
        skips = [stages[stage] for stage in list(ENCODER)[-2::-1]]
        for depth, (stage, channels) in enumerate(stages.items()):
            if stage in DECODER:
                last += skips[depth - len(ENCODER)]
            self.add_module(f"{stage}_1", ConvBlock(last, channels, padding_mode, conv_bias))
            self.add_module(f"{stage}_2", ConvBlock(channels, channels, padding_mode, conv_bias))
            last = channels
        self.score = nn.Conv2d(last, out_channels, 1)
        self.pool = nn.MaxPool2d(2)

    def forward(self, image: Tensor) -> Tensor:
        """Map an image [N, in_channels, H, W] to logits [N, out_channels, H, W]."""
        if not torch.jit.is_scripting() and not torch.jit.is_tracing():
            check_size(image, STRIDE, self.smallest, "UNet")
        conv1 = self.conv1_2(self.conv1_1(image))
        conv2 = self.conv2_2(self.conv2_1(self.pool(conv1)))
        conv3 = self.conv3_2(self.conv3_1(self.pool(conv2)))
        conv4 = self.conv4_2(self.conv4_1(self.pool(conv3)))
        conv5 = self.conv5_2(self.conv5_1(self.pool(conv4)))
        conv6 = self.conv6_2(self.conv6_1(_up_and_concatenate(conv5, conv4)))
        conv7 = self.conv7_2(self.conv7_1(_up_and_concatenate(conv6, conv3)))
        conv8 = self.conv8_2(self.conv8_1(_up_and_concatenate(conv7, conv2)))
        conv9 = self.conv9_2(self.conv9_1(_up_and_concatenate(conv8, conv1)))
        return self.score(conv9)
