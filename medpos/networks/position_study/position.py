"""Encode position inside a network, and give every encoding the same number of parameters.

References:
    learned: A. Dosovitskiy et al., "An Image is Worth 16x16 Words" (ViT), ICLR 2021, section 3.1 and appendix D.4:
    learned absolute positions, resized to other image sizes; J. Gehring et al., ICML 2017, used them earlier for text.
    coordconv: R. Liu et al., "An intriguing failing of convolutional neural networks and the CoordConv solution",
    NeurIPS 2018, section 3.
    width: A. Howard et al., "MobileNets", 2017, section 3.3, one factor for the channels of all layers.

Equal budget: every encoding adds weights, and more weights alone may make a network better. So a network that exceeds
the linear variant by more than 1 % gets narrower layers, all by the one factor that comes nearest to the budget:

| parameters (4 classes, zero or reflect padding) | ``UNet`` | width | ``SmallCNN`` | width |
|---|---|---|---|---|
| linear: the budget | 13,395,524 | 1 | 76,292 | 1 |
| radial | 13,396,100 | 1 | 76,868 | 1 |
| fourier, K = 4 | 13,403,588 | 1 | 76,403 | 0.9453 |
| learned | 13,396,036 | 1 | 76,804 | 1 |
| coordconv | 13,465,796 | 1 | 76,234 | 0.9863 |
"""

import inspect
from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from medpos.core.device import ExtendableConv2d
from medpos.core.errors import InputError
from medpos.networks.layers.blocks import check_size
from medpos.transforms.position.channels import (
    BANDS,
    IN_NETWORK,
    PositionChannels,
    channel_count,
    check_position,
    count_pixels,
)

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
    dropout: float = 0.0,
) -> nn.Module:
    """Build a network for a position encoding with the number of parameters of the linear one.

    Args:
        network: network class of this package with the arguments ``in_channels``, ``out_channels`` and ``width``.
        encoding: one of ``medpos.transforms.ENCODINGS``; ``"linear"`` and ``"placebo"`` leave the network unchanged.
        bands: number of bands K of ``"fourier"``.
        alpha: magnitude of an encoding inside the network, above 0, in units of the standardized intensity.
        range: range of the coordinates of ``"coordconv"``, ``"symmetric"`` or ``"positive"``.
        in_channels: input channels of the linear variant: the image's channels, x and y.
        out_channels: classes, including the background.
        padding_mode: padding: ``"zeros"``, ``"reflect"``, ``"replicate"`` or ``"circular"``.
        conv_bias: whether the 3 x 3 convolutions have biases.
        dropout: share of the training's batches in which the position channels are zero, at least 0 and below 1; see
            :class:`PositionDropout`.

    Returns:
        A network with a number of parameters within 1 % of the linear variant's. Its ``in_channels`` are those of the
        image and of ``PositionChannels`` with the same encoding and bands.

    Raises:
        InputError: an argument is out of range; too few channels; no width meets the budget.
    """
    check_position(alpha, range, 1, encoding, bands)
    options = {"out_channels": out_channels, **_select_options(network, padding_mode=padding_mode, conv_bias=conv_bias)}
    image_channels = in_channels - channel_count("linear")
    if image_channels < 1:
        raise InputError(f"in_channels: expected at least 3, for the image, x and y, got {in_channels}")
    if dropout:
        if encoding in IN_NETWORK:
            raise InputError(
                f"dropout (position_dropout): expected 0 for the encoding {encoding}, which has no channels, got "
                f"{dropout}; use another encoding"
            )
        plain = build_with_position(
            network, encoding, bands, alpha, range, in_channels, out_channels, padding_mode, conv_bias
        )
        return PositionDropout(plain, dropout, image_channels)
    if encoding in ("linear", "placebo"):
        return network(in_channels=in_channels, **options)

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


def _select_options(network: Callable[..., nn.Module], **options: Any) -> dict[str, Any]:
    """Select the options that the network has; others must have their default value."""
    known, defaults = inspect.signature(network).parameters, {"padding_mode": "zeros", "conv_bias": True}
    for name, value in options.items():
        if name not in known and value != defaults[name]:
            raise InputError(
                f"{getattr(network, '__name__', network)}: expected no {name}, got {value!r}; it has no such option"
            )
    return {name: value for name, value in options.items() if name in known}


def count_parameters(network: nn.Module) -> int:
    """Count the numbers in all parameters of a network."""
    return sum(parameter.numel() for parameter in network.parameters())


def find_width(build: Callable[[float], nn.Module], budget: int, tolerance: float = TOLERANCE) -> float:
    """Find the width at which a network has a given number of parameters.

    Args:
        build: function that builds the network of a width.
        budget: wanted number of parameters.
        tolerance: allowed relative difference.

    Returns:
        1 if its count is within the tolerance; else the multiple of 1 / 1024 below 1 with the nearest count.

    Raises:
        InputError: the nearest count isn't within the tolerance, or the network is too small even at width 1.
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
    """Append position channels that are parameters, trained with the network: one map for all images.

    The map spans the image from corner pixel to corner pixel, as in equation 1, and is resized to it bilinearly. It is
    initialized with noise of standard deviation 0.02, as in ViT, so it holds no information about position, not even
    the order of the pixels. It is multiplied by alpha, so that a parameter of 1 has the largest magnitude of the linear
    encoding, and an optimizer step changes it by as much in proportion.

    Args:
        network: network with two more input channels than the image.
        alpha: magnitude, above 0, in units of the standardized intensity.
        size: entries along each side of the map; the default adds 512 parameters.

    Attributes:
        in_channels: channels of the image.
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
        """Map an image [N, in_channels, X, Y] to the network's output, [N, out_channels, X, Y]."""
        if not torch.jit.is_scripting() and not torch.jit.is_tracing():
            check_size(image, 1, 1, "LearnedPosition")
        size = image.shape[-2:]
        channels = F.interpolate(self.alpha * self.position, size=size, mode="bilinear", align_corners=True)
        return self.network(_append(image, channels))


class AppendPosition(nn.Module):
    """Append position channels to the image for a network that was trained with them, as an exported network does.

    An image that has its position channels already is passed on as it is. The state dict is that of the network
    alone, so the same weights load with and without this layer.

    Args:
        network: network that takes the channels of the image and of its position.
        position: transform that appends the channels.
        in_channels: channels of the image.
    """

    def __init__(self, network: nn.Module, position: PositionChannels, in_channels: int = 1) -> None:
        super().__init__()
        self.network = network
        self.position = position
        self.in_channels = in_channels
        self.register_state_dict_post_hook(_remove_prefix)
        self.register_load_state_dict_pre_hook(_add_prefix)

    def forward(self, image: Tensor) -> Tensor:
        """Map images [N, C, X, Y] to the network's output; C is ``in_channels``, or what the network itself takes."""
        result: Tensor = self.network(self.append(image))
        return result

    def append(self, image: Tensor) -> Tensor:
        """Append the position channels to images [N, C, X, Y] that lack them."""
        return _append(image, self.position.compute(image)) if image.shape[1] == self.in_channels else image

    def append_to_item(self, item: dict[Hashable, Any]) -> dict[Hashable, Any]:
        """Append the position channels to the ``image`` [C, X, Y] or [C, X, Y, Z] of an item if it lacks them."""
        return self.position(item) if item["image"].shape[0] == self.in_channels else item


def _remove_prefix(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    _rename(state, f"{prefix}network.", prefix)


def _add_prefix(module: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    _rename(state, prefix, f"{prefix}network.")


def _rename(state: dict[str, Any], old: str, new: str) -> None:
    for key in [key for key in state if key.startswith(old)]:
        state[f"{new}{key.removeprefix(old)}"] = state.pop(key)


class PositionDropout(nn.Module):
    """Set the position channels to zero in a share of the training's batches, so that a network knows such images.

    It does nothing in evaluation mode. The state dict is that of the network alone, so the same weights load with and
    without this layer.

    Args:
        network: network that takes the channels of the image and of its position.
        share: share of the batches, 0 to below 1.
        image_channels: channels of the image, which precede those of its position.

    Raises:
        InputError: the share is out of range.
    """

    def __init__(self, network: nn.Module, share: float, image_channels: int = 1) -> None:
        super().__init__()
        if not 0 <= share < 1:
            raise InputError(f"share (position_dropout): expected at least 0 and below 1, got {share}; correct it")
        self.network = network
        self.share = share
        self.image_channels = image_channels
        self.in_channels = int(network.in_channels)
        self.register_state_dict_post_hook(_remove_prefix)
        self.register_load_state_dict_pre_hook(_add_prefix)

    def forward(self, image: Tensor) -> Tensor:
        """Map images [N, C, X, Y] to the network's output."""
        # One number for the batch, from the generator that the training seeds before each epoch.
        if self.training and float(torch.rand(1)) < self.share:
            image = torch.cat(
                [image[:, : self.image_channels], torch.zeros_like(image[:, self.image_channels :])], dim=1
            )
        result: Tensor = self.network(image)
        return result


class CoordConv2d(ExtendableConv2d):
    """Convolve features with the coordinates x and y as two more input channels.

    The coordinates follow equation 1a or 1b on the grid of the features: the first and last positions of every layer's
    grid have the ends of the range, at any resolution; a side of 1 px has the coordinate 0.

    Args:
        in_channels: channels of the features, without the coordinates.
        out_channels: channels of the output.
        kernel_size: kernel size in px.
        alpha: magnitude, above 0.
        range: range of the coordinates, ``"symmetric"``, -alpha to alpha, or ``"positive"``, 0 to alpha.
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
        """Compute x, along dimension 2, and y, along dimension 3, [1, 2, X, Y], for features [N, C, X, Y]."""
        channels = []
        for axis in (2, 3):
            index, last = count_pixels(features, axis)
            places = 2 * index - last if self.symmetric else index
            channels.append(self.alpha * (places / last.clamp(min=1)))
        return torch.cat(channels, dim=1)

    def forward(self, input: Tensor) -> Tensor:
        """Map [N, in_channels, X, Y] to the convolution of features and coordinates, [N, out_channels, X', Y']."""
        return self.convolve(_append(input, self.coordinates(input)))


def add_coordinates(network: nn.Module, alpha: float, range: str = "symmetric") -> nn.Module:
    """Replace every convolution larger than 1 x 1 by one that gets the coordinates.

    Args:
        network: network, changed in place; its convolutions get new random weights, and the keys of the state dict stay
            the same.
        alpha: magnitude of the coordinates, above 0.
        range: range of the coordinates, ``"symmetric"`` or ``"positive"``.

    Returns:
        The network.
    """
    for module in list(network.modules()):
        for name, layer in list(module.named_children()):
            if type(layer) is nn.Conv2d and max(layer.kernel_size) > 1:
                setattr(module, name, _to_coord_conv(layer, alpha, range))
    return network


def _to_coord_conv(layer: nn.Conv2d, alpha: float, range: str) -> CoordConv2d:
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
    """Append channels [1, K, X, Y] to features [N, C, X, Y], in the features' type and layout."""
    channels = channels.to(features.dtype).expand(features.shape[0], -1, -1, -1)
    # Concatenation keeps channels last only if all inputs have it; otherwise the result has PyTorch's default layout.
    return torch.cat([features, channels.contiguous(memory_format=torch.channels_last)], dim=1)
