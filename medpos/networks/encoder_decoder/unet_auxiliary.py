"""Segment with MMSegmentation's U-Net with an auxiliary head.

References:
    "U-Net: Convolutional Networks for Biomedical Images Segmentation" (article), "Implementation details analysis",
    with a printout of the model; https://github.com/open-mmlab/mmsegmentation, ``fcn_unet_s5-d16``.

Resolved where the article is silent:
    - Concatenation [skip, upsampled]; upsampling is bilinear by 2 with ``align_corners=False``.
    - Convolutions are initialized as by MMSegmentation's ``Kaiming``, N(0, sqrt(2 / fan_out)); ``conv_seg`` as
      N(0, 0.01); biases 0.
    - The auxiliary logits have half the size and are upsampled bilinearly here; the article does this before its loss.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from medpos.networks.layers.blocks import ConvBlock, check_size, initialize_he, scale_channels

# Channels of each stage of two 3 x 3 convolutions with batch normalization and ReLU.
ENCODER = {"encoder1": 64, "encoder2": 128, "encoder3": 256, "encoder4": 512, "encoder5": 1024}  # pooling in between
DECODER = {"decoder4": 512, "decoder3": 256, "decoder2": 128, "decoder1": 64}  # before each: upsampling, concatenation
STRIDE = 2 ** (len(ENCODER) - 1)
HEAD_CHANNELS = 64
DROPOUT = 0.1


def _stage(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        ConvBlock(in_channels, out_channels, conv_bias=False), ConvBlock(out_channels, out_channels, conv_bias=False)
    )


class Backbone(nn.Module):
    """Compute the features of encoder and decoder.

    Args:
        in_channels: channels of the image.
        width: factor of the channels, 1 for the article's.
    """

    def __init__(self, in_channels: int, width: float = 1.0) -> None:
        super().__init__()
        last = in_channels
        for stage, paper_channels in ENCODER.items():
            channels = scale_channels(paper_channels, width)
            self.add_module(stage, _stage(last, channels))
            last = channels
        for stage, paper_channels in DECODER.items():
            channels = scale_channels(paper_channels, width)
            up = nn.Sequential(
                nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
                ConvBlock(last, channels, conv_bias=False, kernel_size=1),
            )
            self.add_module(stage.replace("decoder", "upsample"), up)
            self.add_module(stage, _stage(2 * channels, channels))
            last = channels
        self.pool = nn.MaxPool2d(2)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map an image [N, in_channels, H, W] to the article's list of five outputs.

        For 480 px they are [N, 1024, 30, 30], [N, 512, 60, 60], [N, 256, 120, 120], [N, 128, 240, 240] and
        [N, 64, 480, 480]: the encoder's last stage, then the decoder's four.
        """
        encoder1 = self.encoder1(image)
        encoder2 = self.encoder2(self.pool(encoder1))
        encoder3 = self.encoder3(self.pool(encoder2))
        encoder4 = self.encoder4(self.pool(encoder3))
        encoder5 = self.encoder5(self.pool(encoder4))
        decoder4 = self.decoder4(torch.cat([encoder4, self.upsample4(encoder5)], dim=1))
        decoder3 = self.decoder3(torch.cat([encoder3, self.upsample3(decoder4)], dim=1))
        decoder2 = self.decoder2(torch.cat([encoder2, self.upsample2(decoder3)], dim=1))
        decoder1 = self.decoder1(torch.cat([encoder1, self.upsample1(decoder2)], dim=1))
        return [encoder5, decoder4, decoder3, decoder2, decoder1]


class FCNHead(nn.Module):
    """Compute logits by a 3 x 3 convolution, dropout of whole channels and a 1 x 1 convolution.

    Args:
        in_channels: channels of the features.
        channels: channels in between.
        out_channels: classes.
    """

    def __init__(self, in_channels: int, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = ConvBlock(in_channels, channels, conv_bias=False)
        self.dropout = nn.Dropout2d(DROPOUT)
        self.conv_seg = nn.Conv2d(channels, out_channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to logits [N, out_channels, H, W]."""
        return self.conv_seg(self.dropout(self.conv(features)))


class AuxiliaryUNet(nn.Module):
    """Segment with a U-Net that has a second head on its last but one decoder stage in training.

    Args:
        in_channels: channels of the image.
        out_channels: classes, including the background.
        width: factor of the channels inside, 1 for the article's.

    Raises:
        InputError: a width that isn't above 0; in ``forward``, H or W that isn't a multiple of 16.
    """

    def __init__(self, in_channels: int = 3, out_channels: int = 2, width: float = 1.0) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.backbone = Backbone(in_channels, width)
        main, auxiliary, inside = (scale_channels(channels, width) for channels in (64, 128, HEAD_CHANNELS))
        self.decode_head = FCNHead(main, inside, out_channels)
        self.auxiliary_head = FCNHead(auxiliary, inside, out_channels)
        initialize_he(self, "fan_out")
        for head in (self.decode_head, self.auxiliary_head):
            nn.init.normal_(head.conv_seg.weight, std=0.01)

    def forward(self, image: Tensor) -> Tensor:
        """Map an image [N, in_channels, H, W] to logits [N, out_channels, H, W].

        In training, map it to [N, 2, out_channels, H, W], the logits of the main head and of the auxiliary head; the
        article gives the auxiliary loss a smaller weight (0.4 in MMSegmentation's configuration).
        """
        if not torch.jit.is_scripting() and not torch.jit.is_tracing():
            check_size(image, STRIDE, STRIDE, "AuxiliaryUNet")
        outputs = self.backbone(image)
        logits = self.decode_head(outputs[4])
        if not self.training:
            return logits
        auxiliary = F.interpolate(self.auxiliary_head(outputs[3]), scale_factor=2.0, mode="bilinear")
        return torch.stack([logits, auxiliary], dim=1)
