"""Segment with the original U-Net, 23 convolutions without padding.

Reference:
    O. Ronneberger, P. Fischer, T. Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015,
    figure 1; https://arxiv.org/abs/1505.04597.

Resolved where the paper is silent:
    - Dropout 0.5 "at the end of the contracting path": after the 512 and the 1024 channels, so it also affects the skip
      of 512 channels.
    - No ReLU after the up-convolutions, and concatenation [skip, upsampled], as in figure 1. The network that the
      authors released (``phseg_v5``) differs in both and has 128 channels in the last up-convolution;
      ``released=True`` builds it.
    - Initialization: N(0, sqrt(2 / N)) with N = 9 x channels for a 3 x 3 convolution, as in section 3; an output of an
      up-convolution depends on one input pixel, so N = channels there. Biases 0.
"""

import torch
from torch import Tensor, nn

from medpos.networks.layers.blocks import check_size, initialize_he, scale_channels

# Channels of each stage of two 3 x 3 convolutions with ReLU.
ENCODER = {"conv1": 64, "conv2": 128, "conv3": 256, "conv4": 512, "conv5": 1024}  # 2 x 2 max-pooling between stages
DECODER = {"conv6": 512, "conv7": 256, "conv8": 128, "conv9": 64}  # before each: 2 x 2 up-convolution, concatenation
RELEASED_LAST_UP = 128  # 64 in the paper
DROPOUT = 0.5

# Without padding, 572 px become 388 px; every valid size 16 k + 60 px, k >= 8, shrinks by 184 px.
STRIDE, OFFSET, SMALLEST, BORDER = 16, 60, 188, 92


def _stage(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3),
        nn.ReLU(inplace=True),
        nn.Conv2d(out_channels, out_channels, 3),
        nn.ReLU(inplace=True),
    )


def _up(in_channels: int, out_channels: int, relu: bool) -> nn.Sequential:
    up = nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2)
    nn.init.normal_(up.weight, std=(2 / in_channels) ** 0.5)
    nn.init.zeros_(up.bias)
    return nn.Sequential(up, nn.ReLU(inplace=True) if relu else nn.Identity())


class UNet2015(nn.Module):
    """Segment with a U-Net that has no padding, so that its output is 92 px smaller on every side.

    Args:
        in_channels: channels of the image.
        out_channels: classes, including the background.
        released: whether to build the authors' released network instead of the paper's.
        width: factor of the channels inside, 1 for the paper's.

    Raises:
        InputError: a width that isn't above 0; in ``forward``, H or W that isn't 16 k + 60 with k >= 8, such as
            188, 204, 572.
    """

    def __init__(self, in_channels: int = 1, out_channels: int = 2, released: bool = False, width: float = 1.0) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.up_first = released
        last = in_channels
        skips = []
        for stage, paper_channels in ENCODER.items():
            channels = scale_channels(paper_channels, width)
            self.add_module(stage, _stage(last, channels))
            skips.append(channels)
            last = channels
        for stage, paper_channels in DECODER.items():
            channels = scale_channels(paper_channels, width)
            upsampled = scale_channels(RELEASED_LAST_UP, width) if released and stage == "conv9" else channels
            self.add_module(stage.replace("conv", "up"), _up(last, upsampled, relu=released))
            self.add_module(stage, _stage(skips[9 - int(stage[-1])] + upsampled, channels))
            last = channels
        self.score = nn.Conv2d(last, out_channels, 1)
        initialize_he(self)
        self.pool = nn.MaxPool2d(2)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, image: Tensor) -> Tensor:
        """Map an image [N, in_channels, H, W] to logits [N, out_channels, H - 184, W - 184] of its middle."""
        if not torch.jit.is_scripting() and not torch.jit.is_tracing():
            check_size(image, STRIDE, SMALLEST, "UNet2015", OFFSET)
        conv1 = self.conv1(image)
        conv2 = self.conv2(self.pool(conv1))
        conv3 = self.conv3(self.pool(conv2))
        conv4 = self.dropout(self.conv4(self.pool(conv3)))
        conv5 = self.dropout(self.conv5(self.pool(conv4)))
        conv6 = self.conv6(self._crop_and_concatenate(conv4, 4, self.up6(conv5)))
        conv7 = self.conv7(self._crop_and_concatenate(conv3, 16, self.up7(conv6)))
        conv8 = self.conv8(self._crop_and_concatenate(conv2, 40, self.up8(conv7)))
        conv9 = self.conv9(self._crop_and_concatenate(conv1, 88, self.up9(conv8)))
        return self.score(conv9)

    def _crop_and_concatenate(self, skip: Tensor, margin: int, up: Tensor) -> Tensor:
        """Crop ``margin`` px on each side of the skip, and concatenate it with the upsampled features."""
        skip = skip[:, :, margin:-margin, margin:-margin]
        return torch.cat([up, skip] if self.up_first else [skip, up], dim=1)
