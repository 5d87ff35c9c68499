"""Undo poolings and strides: max-unpooling, and transposed convolutions that start as bilinear interpolation.

Reference:
    G. Boracchi, "Convolutional Neural Networks for Semantic Segmentation" (lecture), "How to perform upsampling?". The
    printed result of its max-unpooling is scrambled; here the maxima return to their positions.
"""

import torch
from torch import Tensor, nn


def max_unpool(features: Tensor, indices: Tensor, size: list[int]) -> Tensor:
    """Put every pixel back to the position of the maximum that the pooling took, and fill the rest with 0.

    ``F.max_unpool2d`` does the same but can't be exported.

    Args:
        features: pooled features [N, C, h, w].
        indices: positions in the flattened H x W px, [N, C, h, w], from ``nn.MaxPool2d(return_indices=True)``.
        size: height H and width W in px before the pooling; they can't be derived from h and w if they are odd.

    Returns:
        [N, C, H, W].
    """
    empty = features.new_zeros([features.shape[0], features.shape[1], size[0] * size[1]])
    filled = empty.scatter(2, indices.flatten(2), features.flatten(2))
    return filled.reshape(features.shape[0], features.shape[1], size[0], size[1])


def bilinear_kernel(size: int, factor: int) -> Tensor:
    """Compute the kernel of a transposed convolution that interpolates bilinearly.

    Args:
        size: side of the kernel in px; all values outside of 2 factor (or 2 factor - 1) px are 0.
        factor: upsampling factor, which is the stride of the transposed convolution.

    Returns:
        [size, size]; the sum is factor^2.
    """
    distance = (torch.arange(size) - (size - 1) / 2).abs()
    line = (1 - distance / factor).clamp(min=0)
    return line[:, None] * line


def initialize_bilinear(layer: nn.ConvTranspose2d) -> None:
    """Initialize a transposed convolution so that it upsamples each channel bilinearly by its stride.

    Args:
        layer: transposed convolution, changed in place; its weights stay trainable.

    Reference:
        J. Long et al., "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, section 4.
    """
    nn.init.zeros_(layer.weight)
    for channel in range(min(layer.in_channels, layer.out_channels)):
        with torch.no_grad():
            layer.weight[channel, channel] = bilinear_kernel(layer.kernel_size[0], layer.stride[0])
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
