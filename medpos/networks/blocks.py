"""What more than one network is built from."""

import itertools
import math

import torch
from torch import Tensor, nn

from medpos.errors import InputError

PADDING_MODES = ("zeros", "reflect")


class ConvBlock(nn.Module):
    """3 x 3 convolution, batch normalisation and ReLU, which keep the image size.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        padding_mode: ``"zeros"`` or ``"reflect"``, how the 1-px border is filled.
        conv_bias: whether the convolution has a bias, which the batch normalisation makes redundant.
    """

    def __init__(self, in_channels: int, out_channels: int, padding_mode: str, conv_bias: bool) -> None:
        super().__init__()
        if padding_mode not in PADDING_MODES:
            raise InputError(f"padding_mode is {padding_mode!r}, needed is one of {', '.join(PADDING_MODES)}")
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, padding_mode=padding_mode, bias=conv_bias)
        self.norm = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """Maps [N, in_channels, H, W] to [N, out_channels, H, W]."""
        return self.relu(self.norm(self.conv(features)))


def scaled(stages: dict[str, int], width: float) -> dict[str, int]:
    """Channels of the stages times ``width``.

    The running sum is what is rounded, so equal stages may differ by one channel, the number of parameters can be set
    finely, and the channels of all stages together are the scaled ones to the nearest whole.

    Args:
        stages: channels by name, in order.
        width: factor, > 0; 1 changes nothing.

    Returns:
        Channels by name, one at least, even where that is more than the scaled sum.

    Raises:
        InputError: the factor isn't positive and finite.
    """
    if not (math.isfinite(width) and width > 0):
        raise InputError(f"width is {width}, needed is a factor above 0; 1 gives the paper's channels")
    ends = [0, *(round(width * total) for total in itertools.accumulate(stages.values()))]
    return {name: max(end - start, 1) for name, start, end in zip(stages, ends, ends[1:], strict=False)}


def check_size(image: Tensor, multiple: int, smallest: int, network: str) -> None:
    """Refuses an image whose size the network can't take.

    Args:
        image: [N, C, H, W].
        multiple: what H and W must be multiples of, in px.
        smallest: the smallest H and W, in px, itself such a multiple.
        network: name that the message begins with.

    Raises:
        InputError: the size, what is needed and the nearest sizes that are valid.
    """
    if torch.compiler.is_exporting():  # the sizes may be symbols
        return
    if image.dim() != 4:
        raise InputError(f"{network}: the input has shape {list(image.shape)}, needed is [N, C, H, W]")
    height, width = int(image.shape[2]), int(image.shape[3])
    if all(size % multiple == 0 and size >= smallest for size in (height, width)):
        return
    below = [max(size // multiple * multiple, smallest) for size in (height, width)]
    above = [max(-(-size // multiple) * multiple, smallest) for size in (height, width)]
    nearest = " or ".join(f"{h} x {w}" for h, w in dict.fromkeys([tuple(below), tuple(above)]))
    raise InputError(
        f"{network}: the image is {height} x {width} px, both sides must be multiples of {multiple} and at least "
        f"{smallest} px; nearest valid: {nearest} (set image_size, or pad)"
    )
