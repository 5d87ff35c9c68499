"""Build convolution blocks, scale their channels, draw their weights and check image sizes."""

import itertools
import math

import torch
from torch import Tensor, nn

from medpos.core.errors import InputError

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")  # those of PyTorch


class ConvBlock(nn.Module):
    """Apply a convolution, batch normalization and ReLU without changing the image size.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        padding_mode: one of ``PADDING_MODES``, the fill of the border.
        conv_bias: whether the convolution has a bias; batch normalization makes it redundant.
        kernel_size: side of the kernel in px, odd.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        padding_mode: str = "zeros",
        conv_bias: bool = True,
        kernel_size: int = 3,
    ) -> None:
        super().__init__()
        if padding_mode not in PADDING_MODES:
            raise InputError(f"padding_mode: expected one of {', '.join(PADDING_MODES)}, got {padding_mode!r}")
        padding = kernel_size // 2
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, padding=padding, padding_mode=padding_mode, bias=conv_bias
        )
        self.norm = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to [N, out_channels, H, W]."""
        return self.relu(self.norm(self.conv(features)))


def scale_stages(stages: dict[str, int], width: float) -> dict[str, int]:
    """Multiply the channels of all stages by a factor and round their running sum.

    Because the running sum is rounded, equal stages may differ by one channel, the number of parameters can be set
    finely, and the total number of channels is the scaled total, rounded.

    Args:
        stages: channels of the stages by name, in order.
        width: factor, above 0; 1 changes nothing.

    Returns:
        Channels by name, at least 1 each, even if their sum then exceeds the scaled one.

    Raises:
        InputError: the factor isn't positive and finite.
    """
    _check_width(width)
    ends = [0, *(round(width * total) for total in itertools.accumulate(stages.values()))]
    return {name: max(end - start, 1) for name, start, end in zip(stages, ends, ends[1:], strict=False)}


def scale_channels(channels: int, width: float) -> int:
    """Multiply channels by a factor, rounded, at least 1; equal channels stay equal.

    Args:
        channels: number of channels.
        width: factor, above 0; 1 changes nothing.

    Raises:
        InputError: the factor isn't positive and finite.
    """
    _check_width(width)
    return max(round(channels * width), 1)


def _check_width(width: float) -> None:
    if not (math.isfinite(width) and width > 0):
        raise InputError(f"width: expected a factor above 0, got {width}; 1 gives the paper's channels")


def initialize_he(network: nn.Module, mode: str = "fan_in") -> None:
    """Draw the weights of all convolutions as in K. He et al., ICCV 2015: N(0, sqrt(2 / fan)), biases 0.

    Args:
        network: network, changed in place; transposed convolutions keep their weights.
        mode: ``"fan_in"`` or ``"fan_out"``, whether the fan counts inputs or outputs.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode=mode, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def check_size(image: Tensor, multiple: int, smallest: int, network: str, offset: int = 0) -> None:
    """Refuse an image of a size that the network can't process.

    Args:
        image: images [N, C, H, W].
        multiple: step in px between valid values of H and W, which are ``multiple`` k + ``offset``.
        smallest: smallest valid H and W in px.
        network: name of the network, the start of the message.
        offset: remainder in px, see ``multiple``.

    Raises:
        InputError: the image isn't [N, C, H, W], or H or W isn't valid; the message has the nearest valid sizes.
    """
    if torch.compiler.is_exporting():  # sizes may be symbols then
        return
    if image.dim() != 4:
        raise InputError(f"{network}: expected an input [N, C, H, W], got shape {list(image.shape)}")
    height, width = int(image.shape[2]), int(image.shape[3])
    sizes = (height, width)
    if all((size - offset) % multiple == 0 and size >= smallest for size in sizes):
        return
    below = [max((size - offset) // multiple * multiple + offset, smallest) for size in sizes]
    above = [max(-((offset - size) // multiple) * multiple + offset, smallest) for size in sizes]
    nearest = " or ".join(f"{h} x {w}" for h, w in dict.fromkeys([tuple(below), tuple(above)]))
    rule = f"{multiple} k + {offset}" if offset else f"multiples of {multiple}"
    raise InputError(
        f"{network}: expected sides that are {rule} and at least {smallest} px, got {height} x {width} px; nearest "
        f"valid: {nearest} (set image_size, or pad)"
    )
