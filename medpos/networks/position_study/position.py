"""Position encodings that live in the network, and all encodings at the same number of parameters.

References:
    learned: A. Dosovitskiy et al., "An Image is Worth 16x16 Words" (ViT), ICLR 2021, section 3.1 and appendix D.4:
    learned absolute positions, resized to other image sizes; J. Gehring et al., ICML 2017, had them before for text.
    coordconv: R. Liu et al., "An intriguing failing of convolutional neural networks and the CoordConv solution",
    NeurIPS 2018, section 3.
    width: A. Howard et al., "MobileNets", 2017, section 3.3, one factor for the channels of all layers.

Equal budget: every encoding adds weights, and a network with more weights may be better for that alone. So what exceeds
the linear variant by more than 1 % gets narrower layers throughout, by the one factor that comes nearest to it:

| parameters (4 classes, zero or reflect padding) | ``UNet`` | width | ``SmallCNN`` | width |
|---|---|---|---|---|
| linear: the budget | 13,395,524 | 1 | 76,292 | 1 |
| radial | 13,396,100 | 1 | 76,868 | 1 |
| fourier, K = 4 | 13,403,588 | 1 | 76,403 | 0.9453 |
| learned | 13,396,036 | 1 | 76,804 | 1 |
| coordconv | 13,465,796 | 1 | 76,234 | 0.9863 |
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from medpos.core.errors import InputError
from medpos.networks.layers.blocks import check_size
from medpos.transforms.position.channels import BANDS, channel_count, check_position

TOLERANCE = 0.01
_STEPS = 1024  # the widths tried are multiples of 1 / 1024


def build_with_position(
    network: Callable[..., nn.Module],
    encoding: str = "linear",
    bands: int = BANDS,
    alpha: float = 3.0,
    range: str = "symmetric",
    in_channels: int = 3,
    out_channels: int = 4,
    padding_mode: str = "zeros",
    conv_bias: bool = True,
) -> nn.Module:
    """Builds a network for a position encoding, at the parameter budget of the linear one.

    Args:
        network: class of the project that takes ``in_channels``, ``out_channels`` and ``width``.
        encoding: one of ``medpos.transforms.ENCODINGS``; for ``"linear"`` the network comes as it is.
        bands: K of ``"fourier"``.
        alpha: magnitude of what the network itself encodes, > 0, in units of the standardised intensity.
        range: ``"symmetric"`` or ``"positive"``, of the coordinates of ``"coordconv"``.
        in_channels: of the linear variant: the image's channels, x and y.
        out_channels: classes, the background among them.
        padding_mode: ``"zeros"`` or ``"reflect"``.
        conv_bias: whether the 3 x 3 convolutions have biases.

    Returns:
        A network whose ``in_channels`` are those of the image and of ``PositionChannels`` with the same encoding and
        bands, and whose number of parameters is within 1 % of the linear variant's.

    Raises:
        InputError: bad encoding, bands, alpha, range or option; too few channels; no width meets the budget.
    """
    check_position(alpha, range, 1, encoding, bands)
    options = {"out_channels": out_channels, **_own(network, padding_mode=padding_mode, conv_bias=conv_bias)}
    if encoding == "linear":
        return network(in_channels=in_channels, **options)
    image_channels = in_channels - channel_count("linear")
    if image_channels < 1:
        raise InputError(f"in_channels is {in_channels}, needed are at least 3: the image, x and y")

    def build(width: float) -> nn.Module:
        if encoding == "learned":
            inner = network(in_channels=image_channels + LearnedPosition.CHANNELS, width=width, **options)
            return LearnedPosition(inner, alpha)
        channels = image_channels + channel_count(encoding, bands)
        model = network(in_channels=channels, width=width, **options)
        return add_coordinates(model, alpha, range) if encoding == "coordconv" else model

    with torch.device("meta"):
        budget = count_parameters(network(in_channels=in_channels, **options))
        width = find_width(build, budget)
    return build(width)


def _own(network: Callable[..., nn.Module], **options: Any) -> dict[str, Any]:
    """Those of the options that the network has; what it hasn't must be asked for as it is anyway."""
    known, usual = inspect.signature(network).parameters, {"padding_mode": "zeros", "conv_bias": True}
    for name, value in options.items():
        if name not in known and value != usual[name]:
            raise InputError(f"{name} is {value!r}, but {getattr(network, '__name__', network)} has no such option")
    return {name: value for name, value in options.items() if name in known}


def count_parameters(network: nn.Module) -> int:
    """The number of trained numbers."""
    return sum(parameter.numel() for parameter in network.parameters())


def find_width(build: Callable[[float], nn.Module], budget: int, tolerance: float = TOLERANCE) -> float:
    """Finds the factor of the channels with which a network has so many parameters.

    Args:
        build: gives the network of a width.
        budget: parameters wanted.
        tolerance: part of the budget by which the count may differ.

    Returns:
        1 where that is within the tolerance; else the width below 1, a multiple of 1 / 1024, with the nearest count.

    Raises:
        InputError: the nearest isn't within the tolerance, or the network is too small even at width 1.
    """

    def excess(steps: int) -> float:
        return count_parameters(build(steps / _STEPS)) / budget - 1

    if abs(excess(_STEPS)) <= tolerance:
        return 1.0
    low, high = 1, _STEPS
    while high - low > 1:  # the count grows with the width
        middle = (low + high) // 2
        low, high = (middle, high) if excess(middle) < 0 else (low, middle)
    best = min(low, high, key=lambda steps: abs(excess(steps)))
    if abs(excess(best)) > tolerance:
        raise InputError(
            f"no width gives {budget} parameters within {tolerance:.0%}; the nearest differs by {excess(best):+.1%}; "
            "take fewer encoding_bands or a larger network"
        )
    return best / _STEPS


class LearnedPosition(nn.Module):
    """A network whose position channels are parameters, trained with its weights: one map for all images.

    The map spans the image from corner pixel to corner pixel, as equation 1 does, and is resized to it bilinearly. It
    begins as noise of a standard deviation of 0.02, as in ViT, so it knows nothing about position, not even the
    order of the pixels. It is multiplied by alpha, so that a parameter of 1 has the magnitude at which the linear
    encoding ends, and the same step of the optimiser moves it as far in proportion.

    Args:
        network: takes the image's channels and two more.
        alpha: magnitude, > 0, in units of the standardised intensity.
        size: entries of the map a side; the default adds 512 parameters.

    Attributes:
        in_channels: those of the image alone.
        position: parameter [1, 2, size, size].
    """

    CHANNELS = 2

    def __init__(self, network: nn.Module, alpha: float, size: int = 16) -> None:
        super().__init__()
        self.in_channels = int(network.in_channels) - self.CHANNELS
        self.alpha = alpha
        self.network = network
        self.position = nn.Parameter(torch.empty(1, self.CHANNELS, size, size))
        nn.init.trunc_normal_(self.position, std=0.02)

    def forward(self, image: Tensor) -> Tensor:
        """Maps an image [N, in_channels, X, Y] to what the network makes of it, [N, out_channels, X, Y]."""
        if not torch.jit.is_scripting() and not torch.jit.is_tracing():
            check_size(image, 1, 1, "LearnedPosition")
        size = image.shape[-2:]
        channels = F.interpolate(self.alpha * self.position, size=size, mode="bilinear", align_corners=True)
        return self.network(_append(image, channels))


class CoordConv2d(nn.Conv2d):
    """A convolution that gets the coordinates x and y as two more input channels.

    They follow equation 1a or 1b on the grid of the features: the ends of every layer's grid are the ends of the
    range, at any resolution; a side of 1 px gets 0.

    Args:
        in_channels: channels of the features, without the coordinates.
        out_channels: channels of the output.
        kernel_size: of the convolution.
        alpha: magnitude, > 0.
        range: ``"symmetric"``, -alpha to alpha, or ``"positive"``, 0 to alpha.
        **options: further arguments of ``Conv2d``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        alpha: float,
        range: str = "symmetric",
        **options: Any,
    ) -> None:
        super().__init__(in_channels + 2, out_channels, kernel_size, **options)
        self.alpha = alpha
        self.symmetric = range == "symmetric"

    def coordinates(self, features: Tensor) -> Tensor:
        """The channels x, along dimension 2, and y, along dimension 3, of features [N, C, X, Y]: [1, 2, X, Y]."""
        # Counted on the tensor itself, so that a traced network can take other sizes.
        ones = torch.ones_like(features[:1, :1], dtype=torch.float32)
        channels = []
        for axis in (2, 3):
            index = ones.cumsum(axis) - 1
            last = index.amax(axis, keepdim=True)
            places = 2 * index - last if self.symmetric else index
            channels.append(self.alpha * (places / last.clamp(min=1)))
        return torch.cat(channels, dim=1)

    def forward(self, input: Tensor) -> Tensor:
        """Maps [N, in_channels, X, Y] to the convolution of it and its coordinates, [N, out_channels, X', Y']."""
        return self._conv_forward(_append(input, self.coordinates(input)), self.weight, self.bias)


def add_coordinates(network: nn.Module, alpha: float, range: str = "symmetric") -> nn.Module:
    """Gives the coordinates to every convolution of a network that looks at more than one pixel.

    Args:
        network: is changed in place; its convolutions are drawn anew. Names stay, so the state dict has the same keys.
        alpha: magnitude, > 0.
        range: ``"symmetric"`` or ``"positive"``.

    Returns:
        The network.
    """
    for module in list(network.modules()):
        for name, layer in list(module.named_children()):
            if type(layer) is nn.Conv2d and max(layer.kernel_size) > 1:
                setattr(module, name, _with_coordinates(layer, alpha, range))
    return network


def _with_coordinates(layer: nn.Conv2d, alpha: float, range: str) -> CoordConv2d:
    same = ("stride", "padding", "dilation", "padding_mode")
    options = {name: getattr(layer, name) for name in same} | {"bias": layer.bias is not None}
    return CoordConv2d(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        alpha,
        range,
        device=layer.weight.device,
        dtype=layer.weight.dtype,
        **options,
    )


def _append(features: Tensor, channels: Tensor) -> Tensor:
    """Features [N, C, X, Y] and channels [1, K, X, Y] to [N, C + K, X, Y], in the features' type and layout."""
    channels = channels.to(features.dtype).expand(features.shape[0], -1, -1, -1)
    # Concatenation keeps channels last only if all its inputs have it, and else gives PyTorch's own layout.
    return torch.cat([features, channels.contiguous(memory_format=torch.channels_last)], dim=1)
