"""Segment with the four-layer CNN of the position study, with a receptive field too small to learn position: 7 x 7 px.

Reference:
    "How Can CNNs Use Image Position for Segmentation?", supplementary material, second table.

Resolved where the table is silent: ReLU after each batch normalization, convolution biases on.
"""

import torch
from torch import Tensor, nn

from medpos.networks.layers.blocks import ConvBlock, check_size, scale_stages

STAGES = {"conv1": 64, "conv2": 64, "conv3": 64}


class SmallCNN(nn.Module):
    """Segment by three 3 x 3 convolutions and a 1 x 1 one, with the layer names of the paper's table.

    Args:
        in_channels: channels of the input: 1 for the image, 3 with the position channels.
        out_channels: classes, including the background.
        padding_mode: padding in every 3 x 3 convolution: ``"zeros"``, ``"reflect"``, ``"replicate"`` or ``"circular"``.
        conv_bias: whether the 3 x 3 convolutions have biases (``score`` always has).
        width: factor of the channels inside, 1 for the paper's.

    Raises:
        InputError: unknown padding mode; a width that isn't above 0; in ``forward``, 1 px with reflect padding.
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
        self.smallest = 2 if padding_mode == "reflect" else 1
        last = in_channels
        for stage, channels in scale_stages(STAGES, width).items():
            self.add_module(stage, ConvBlock(last, channels, padding_mode, conv_bias))
            last = channels
        self.score = nn.Conv2d(last, out_channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Map an image [N, in_channels, H, W] to logits [N, out_channels, H, W]."""
        if not torch.jit.is_scripting() and not torch.jit.is_tracing():
            check_size(image, 1, self.smallest, "SmallCNN")
        return self.score(self.conv3(self.conv2(self.conv1(image))))
