"""Turn a classifier of patches into a network for whole images, and get one value per pixel.

Reference:
    G. Boracchi, "Convolutional Neural Networks for Semantic Segmentation" (lecture), "Fully Convolutional Neural
    Networks" and "The Shift and Stich"; J. Long et al., "Fully Convolutional Networks for Semantic Segmentation", CVPR
    2015, sections 3.1 and 3.2.

Resolved where the slides are brief: a dense layer becomes a 1 x 1 convolution only where its input has 1 x 1 px; behind
a map of h x w px the kernel has h x w px. A patch inside a larger image gets the same scores as the patch alone only
without padding.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from medpos.core.errors import InputError


def convolutionalize(network: nn.Sequential, size: tuple[int, int]) -> nn.Sequential:
    """Turn the dense layers of a classifier into convolutions with the same weights.

    Args:
        network: classifier: convolutions, ``nn.Flatten``, then dense layers; layers in between keep the map's size.
        size: height and width in px of the map that is flattened.

    Returns:
        A copy that maps [N, C, H, W] to [N, classes, H', W']. An image of the classifier's own size gives H' = W' = 1
        and the classifier's scores; a larger one gives the scores of every patch, if there is no padding.

    Raises:
        InputError: a dense layer doesn't fit the map.
    """
    layers: list[nn.Module] = []
    for layer in network:
        if isinstance(layer, nn.Linear):
            layers.append(_to_convolution(layer, size))
            size = (1, 1)
        elif not isinstance(layer, nn.Flatten):
            layers.append(copy.deepcopy(layer))
    return nn.Sequential(*layers)


def _to_convolution(layer: nn.Linear, size: tuple[int, int]) -> nn.Conv2d:
    channels, rest = divmod(layer.in_features, size[0] * size[1])
    if rest:
        raise InputError(
            f"expected a dense layer of a multiple of {size[0]} x {size[1]} inputs, got {layer.in_features}; set size "
            "to that of the map before nn.Flatten"
        )
    conv = nn.Conv2d(channels, layer.out_features, size, bias=layer.bias is not None).to(layer.weight)
    with torch.no_grad():
        conv.weight.copy_(layer.weight.view_as(conv.weight))
        if layer.bias is not None:
            conv.bias.copy_(layer.bias)
    return conv


def shift_and_stitch(network: nn.Module, image: Tensor, factor: int) -> Tensor:
    """Compute one value per pixel with a strided network: run it on all shifts of the image, and interlace the outputs.

    Args:
        network: network without padding, of stride ``factor`` in total.
        image: images [N, C, H, W].
        factor: stride of the network in px.

    Returns:
        The value of every patch, [N, classes, H - r + 1, W - r + 1], for a network with a receptive field of r x r px.
    """
    shifts = [(y, x) for y in range(factor) for x in range(factor)]
    outputs = {(y, x): network(F.pad(image, (x, 0, y, 0))) for y, x in shifts}
    height = sum(outputs[y, 0].shape[2] for y in range(factor))
    width = sum(outputs[0, x].shape[3] for x in range(factor))
    stitched = image.new_empty(*outputs[0, 0].shape[:2], height, width)
    for (y, x), output in outputs.items():
        stitched[:, :, factor - 1 - y :: factor, factor - 1 - x :: factor] = output
    return stitched[:, :, factor - 1 :, factor - 1 :]  # patches before that contain padding


def make_atrous(network: nn.Sequential) -> nn.Sequential:
    """Remove the strides of a network and dilate all later filters instead (the algorithme à trous).

    Args:
        network: convolutions and max-poolings without padding, and layers that work pixel by pixel.

    Returns:
        A copy with the same weights; one pass gives the same values as :func:`shift_and_stitch`.

    Raises:
        InputError: a layer has padding.
    """
    atrous, dilation = copy.deepcopy(network), 1
    for index, layer in enumerate(atrous):
        if isinstance(layer, (nn.Conv2d, nn.MaxPool2d)):
            if layer.padding not in (0, (0, 0)):
                raise InputError(
                    f"layer {index}: expected padding 0, got {layer.padding}; remove the padding, which makes shifted "
                    "images differ at the border"
                )
            stride = layer.stride if isinstance(layer.stride, int) else layer.stride[0]
            layer.dilation = dilation if isinstance(layer, nn.MaxPool2d) else (dilation, dilation)
            layer.stride = 1 if isinstance(layer, nn.MaxPool2d) else (1, 1)
            dilation *= stride
    return atrous
