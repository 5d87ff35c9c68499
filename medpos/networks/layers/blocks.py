"""What more than one network is built from."""

import itertools
import math

import torch
from torch import Tensor, nn

from medpos.core.errors import InputError

PADDING_MODES = ("zeros", "reflect")


class ConvBlock(nn.Module):
    """Convolution, batch normalisation and ReLU, which keep the image size.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        padding_mode: ``"zeros"`` or ``"reflect"``, how the border is filled.
        conv_bias: whether the convolution has a bias, which the batch normalisation makes redundant.
        kernel_size: height and width of the kernel in px, odd.
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
            raise InputError(f"padding_mode is {padding_mode!r}, needed is one of {', '.join(PADDING_MODES)}")
        padding = kernel_size // 2
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, padding=padding, padding_mode=padding_mode, bias=conv_bias
        )
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
    _check_width(width)
    ends = [0, *(round(width * total) for total in itertools.accumulate(stages.values()))]
    return {name: max(end - start, 1) for name, start, end in zip(stages, ends, ends[1:], strict=False)}


def times(channels: int, width: float) -> int:
    """Channels times ``width``, rounded, at least 1; equal channels stay equal. Errors as in :func:`scaled`."""
    _check_width(width)
    return max(round(channels * width), 1)


def _check_width(width: float) -> None:
    if not (math.isfinite(width) and width > 0):
        raise InputError(f"width is {width}, needed is a factor above 0; 1 gives the paper's channels")


def initialize_he(network: nn.Module, mode: str = "fan_in") -> None:
    """Draws all convolutions anew as in K. He et al., ICCV 2015: N(0, sqrt(2 / fan)), biases 0.

    Args:
        network: is changed in place; transposed convolutions stay as they are.
        mode: ``"fan_in"`` or ``"fan_out"``, whether the fan is that of the inputs or of the outputs.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode=mode, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def check_size(image: Tensor, multiple: int, smallest: int, network: str, offset: int = 0) -> None:
    """Refuses an image whose size the network can't take.

    Args:
        image: [N, C, H, W].
        multiple: H and W must be multiples of it plus ``offset``, in px.
        smallest: the smallest H and W, in px, itself such a sum.
        network: name that the message begins with.
        offset: see ``multiple``, in px.

    Raises:
        InputError: the size, what is needed and the nearest sizes that are valid.
    """
    if torch.compiler.is_exporting():  # the sizes may be symbols
        return
    if image.dim() != 4:
        raise InputError(f"{network}: the input has shape {list(image.shape)}, needed is [N, C, H, W]")
    height, width = int(image.shape[2]), int(image.shape[3])
    sizes = (height, width)
    if all((size - offset) % multiple == 0 and size >= smallest for size in sizes):
        return
    below = [max((size - offset) // multiple * multiple + offset, smallest) for size in sizes]
    above = [max(-((offset - size) // multiple) * multiple + offset, smallest) for size in sizes]
    nearest = " or ".join(f"{h} x {w}" for h, w in dict.fromkeys([tuple(below), tuple(above)]))
    rule = f"{multiple} k + {offset}" if offset else f"multiples of {multiple}"
    raise InputError(
        f"{network}: the image is {height} x {width} px, both sides must be {rule} and at least "
        f"{smallest} px; nearest valid: {nearest} (set image_size, or pad)"
    )
