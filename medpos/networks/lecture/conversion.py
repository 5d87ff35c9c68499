"""From a classifier of patches to a network for whole images, and to one value a pixel.

Reference:
    G. Boracchi, "Convolutional Neural Networks for Semantic Segmentation" (lecture), "Fully Convolutional Neural
    Networks" and "The Shift and Stich"; J. Long et al., "Fully Convolutional Networks for Semantic Segmentation", CVPR
    2015, sections 3.1 and 3.2.

Resolved where the slides are brief: a dense layer is a convolution of 1 x 1 px only where its input is; over a map of
h x w px the kernel is h x w. Windows of a larger image are classified like patches only without padding.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from medpos.core.errors import InputError


def convolutional(network: nn.Sequential, size: tuple[int, int]) -> nn.Sequential:
    """Turns the dense layers of a classifier into convolutions with the same weights.

    Args:
        network: convolutions, ``nn.Flatten``, then dense layers, with others in between that keep a map's size.
        size: h and w of the map that is flattened, in px.

    Returns:
        A copy that maps [N, C, H, W] to [N, classes, H', W']; for the image size of the classifier H' = W' = 1, with
        its values. For a larger one, without padding, those of every window.

    Raises:
        InputError: a dense layer doesn't fit the map.
    """
    layers: list[nn.Module] = []
    for layer in network:
        if isinstance(layer, nn.Linear):
            layers.append(_as_convolution(layer, size))
            size = (1, 1)
        elif not isinstance(layer, nn.Flatten):
            layers.append(copy.deepcopy(layer))
    return nn.Sequential(*layers)


def _as_convolution(layer: nn.Linear, size: tuple[int, int]) -> nn.Conv2d:
    channels, rest = divmod(layer.in_features, size[0] * size[1])
    if rest:
        raise InputError(
            f"the dense layer takes {layer.in_features} values, needed is a multiple of {size[0]} x {size[1]}"
        )
    conv = nn.Conv2d(channels, layer.out_features, size, bias=layer.bias is not None).to(layer.weight)
    with torch.no_grad():
        conv.weight.copy_(layer.weight.view_as(conv.weight))
        if layer.bias is not None:
            conv.bias.copy_(layer.bias)
    return conv


def shift_and_stitch(network: nn.Module, image: Tensor, factor: int) -> Tensor:
    """One value a pixel from a network that gives one for each ``factor`` px, by all shifts of the image, interlaced.

    Args:
        network: without padding, of stride ``factor`` in all.
        image: [N, C, H, W].
        factor: the stride, in px.

    Returns:
        [N, classes, H - r + 1, W - r + 1] for a network that sees r x r px: the value of every window.
    """
    shifts = [(y, x) for y in range(factor) for x in range(factor)]
    outputs = {(y, x): network(F.pad(image, (x, 0, y, 0))) for y, x in shifts}
    height = sum(outputs[y, 0].shape[2] for y in range(factor))
    width = sum(outputs[0, x].shape[3] for x in range(factor))
    stitched = image.new_empty(*outputs[0, 0].shape[:2], height, width)
    for (y, x), output in outputs.items():
        stitched[:, :, factor - 1 - y :: factor, factor - 1 - x :: factor] = output
    return stitched[:, :, factor - 1 :, factor - 1 :]  # before that, windows reach into the padding


def rarefied(network: nn.Sequential) -> nn.Sequential:
    """Takes the strides out of a network and puts holes into all filters behind them instead (the a-trous algorithm).

    Args:
        network: convolutions and max-poolings without padding, and layers that work pixel by pixel.

    Returns:
        A copy with the same weights that gives at once what :func:`shift_and_stitch` gives.

    Raises:
        InputError: a layer has padding.
    """
    twin, holes = copy.deepcopy(network), 1
    for place, layer in enumerate(twin):
        if isinstance(layer, (nn.Conv2d, nn.MaxPool2d)):
            if layer.padding not in (0, (0, 0)):
                raise InputError(
                    f"layer {place} has padding {layer.padding}, needed is 0: shifts aren't equal with a border"
                )
            stride = layer.stride if isinstance(layer.stride, int) else layer.stride[0]
            layer.dilation = holes if isinstance(layer, nn.MaxPool2d) else (holes, holes)
            layer.stride = 1 if isinstance(layer, nn.MaxPool2d) else (1, 1)
            holes *= stride
    return twin
