"""Segment brain tissue with U-SegNet: a SegNet of three levels with a skip connection at the top.

Reference:
    P. Kumar, P. Nagar, C. Arora, A. Gupta, "U-SegNet: Fully Convolutional Neural Network based Automated Brain tissue
    segmentation Tool", ICIP 2018, figure 1 and table 1; https://arxiv.org/abs/1806.04429.

Resolved where the paper is silent:
    - Convolution, batch normalization, ReLU; the figure's legend has the ReLU before the normalization, as with
      ``relu_first``.
    - The 1 x 1 convolution that consolidates the skip has a bias, and neither normalization nor ReLU: the published
      counts of SegNet and U-SegNet differ by its 8,256 parameters.
    - Concatenation [skip, unpooled]. The second skip is the same at the second level.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from medpos.core.errors import InputError
from medpos.networks.layers.blocks import ConvBlock, check_size, initialize_he, scale_channels
from medpos.networks.layers.upsampling import max_unpool

# Channels of the 3 x 3 convolutions; max-pooling after each stage of the encoder, unpooling before each of the decoder.
ENCODER = {"conv1": (64, 64), "conv2": (128, 128), "conv3": (256, 256, 256)}
DECODER = {"conv3_D": (256, 256, 128), "conv2_D": (128, 64), "conv1_D": (64,)}
# Names of the layers of medpos.networks.SegNet, stage by stage
SEGNET_LAYERS = {
    **{stage: [f"{stage}_{n + 1}" for n in range(len(layers))] for stage, layers in ENCODER.items()},
    "conv3_D": ["conv3_3_D", "conv3_2_D", "conv3_1_D"],
    "conv2_D": ["conv2_2_D", "conv2_1_D"],
    "conv1_D": ["conv1_2_D"],
}


class _ReLUFirst(nn.Module):
    """Apply a convolution, ReLU and batch normalization.

    No ``nn.Sequential``: TorchScript takes one for another that has layers of the same names in another order.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to [N, out_channels, H, W]."""
        return self.norm(self.relu(self.conv(features)))


def _layer(in_channels: int, out_channels: int, relu_first: bool) -> nn.Module:
    return (_ReLUFirst if relu_first else ConvBlock)(in_channels, out_channels)


class USegNet(nn.Module):
    """Segment with one skip connection (U-SegNet), two (U-SegNet-2) or none (the paper's SegNet).

    Args:
        in_channels: channels of the input; 3 for a slice and its neighbors.
        out_channels: classes, including the background.
        skips: number of skip connections from the top, 0, 1 or 2.
        relu_first: whether the ReLU precedes the batch normalization.
        width: factor of the channels inside, 1 for the paper's.

    Raises:
        InputError: another number of skips; a width that isn't above 0; in ``forward``, an input that isn't
            [N, C, H, W].
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 4,
        skips: int = 1,
        relu_first: bool = False,
        width: float = 1.0,
    ) -> None:
        super().__init__()
        if skips not in (0, 1, 2):
            raise InputError(f"skips: expected 0, 1 or 2, got {skips}")
        self.in_channels = in_channels
        self.skips = skips
        last = in_channels
        for stage, paper_channels in (ENCODER | DECODER).items():
            layers = []
            for channels in (scale_channels(wide, width) for wide in paper_channels):
                layers.append(_layer(last, channels, relu_first))
                last = channels
            self.add_module(stage, nn.Sequential(*layers))
        top, second = (scale_channels(ENCODER[stage][-1], width) for stage in ("conv1", "conv2"))
        self.merge1 = nn.Conv2d(2 * top, top, 1) if skips > 0 else None
        self.merge2 = nn.Conv2d(2 * second, second, 1) if skips > 1 else None
        self.score = nn.Conv2d(last, out_channels, 3, padding=1)
        self.pool = nn.MaxPool2d(2, ceil_mode=True, return_indices=True)
        initialize_he(self)

    def rename_layers(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the layers of a SegNet of five levels that come before the first skip connection to this network's.

        Args:
            weights: state dict of :class:`medpos.networks.SegNet`; that of another network is returned as it is.
        """
        ends = {1: ("conv1_D",), 2: ("conv1_D", "conv2_D")}.get(self.skips, ())
        stages = [name for name in (ENCODER | DECODER) if name not in ends]
        names = {layer: f"{stage}.{index}" for stage in stages for index, layer in enumerate(SEGNET_LAYERS[stage])}
        renamed = {}
        for name, values in weights.items():
            _, _, rest = name.partition(".")
            layer, _, tensor = rest.partition(".")
            renamed[f"{names[layer]}.{tensor}" if layer in names else name] = values
        return renamed

    def forward(self, image: Tensor) -> Tensor:
        """Map an image [N, in_channels, H, W] of any size, 40 px in the paper, to logits [N, out_channels, H, W]."""
        if not torch.jit.is_scripting() and not torch.jit.is_tracing():
            check_size(image, 1, 1, "USegNet")
        conv1 = self.conv1(image)
        pool1, indices1 = self.pool(conv1)
        conv2 = self.conv2(pool1)
        pool2, indices2 = self.pool(conv2)
        conv3 = self.conv3(pool2)
        pool3, indices3 = self.pool(conv3)
        conv3_d = self.conv3_D(max_unpool(pool3, indices3, conv3.shape[2:]))
        up2 = max_unpool(conv3_d, indices2, conv2.shape[2:])
        if self.merge2 is not None:
            up2 = self.merge2(torch.cat([conv2, up2], dim=1))
        up1 = max_unpool(self.conv2_D(up2), indices1, conv1.shape[2:])
        if self.merge1 is not None:
            up1 = self.merge1(torch.cat([conv1, up1], dim=1))
        return self.score(self.conv1_D(up1))
