"""Upsample feature maps in three ways, each as short as it can be written.

Reference:
    G. Boracchi, "Convolutional Neural Networks for Semantic Segmentation" (lecture), "How to perform upsampling?".

Resolved where the slides are wrong: a 3 x 3 transposed convolution of stride 2 and padding 1 turns 2 x 2 into 4 x 4 px
only with an output padding of 1.

The lecture's other two ways, max-unpooling and bilinear interpolation, are used by networks of this package:
:mod:`medpos.networks.layers.upsampling`.
"""

import torch
from torch import Tensor


def nearest(features: Tensor, factor: int) -> Tensor:
    """Repeat every pixel of features [N, C, H, W] ``factor`` times along both axes."""
    return features.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)


def bed_of_nails(features: Tensor, factor: int) -> Tensor:
    """Put every pixel of features [N, C, H, W] into the top left corner of ``factor`` x ``factor`` px of zeros."""
    n, channels, height, width = features.shape
    nails = features.new_zeros(n, channels, height * factor, width * factor)
    nails[:, :, ::factor, ::factor] = features
    return nails


def transposed_convolution(
    features: Tensor, kernel: Tensor, stride: int = 1, padding: int = 0, output_padding: int = 0
) -> Tensor:
    """Place a copy of the kernel, weighted by the pixel, at every pixel, and sum the copies where they overlap.

    Args:
        features: features [N, C, H, W].
        kernel: kernel [C, D, h, w].
        stride: distance between two copies in px.
        padding: px removed from every side of the result.
        output_padding: px of the padding that are kept at the bottom and on the right.

    Returns:
        [N, D, (H - 1) stride + h - 2 padding + output_padding, the same for W].
    """
    (n, _, height, width), (_, out_channels, *kernel_size) = features.shape, kernel.shape
    sizes = [(old - 1) * stride + tall for old, tall in zip((height, width), kernel_size, strict=True)]
    # The kernel may not reach the output padding, so it is added to the canvas.
    summed = features.new_zeros(n, out_channels, *(size + output_padding for size in sizes))
    for row in range(kernel_size[0]):
        for column in range(kernel_size[1]):
            weighted = torch.einsum("nchw,cd->ndhw", features, kernel[:, :, row, column])
            rows = slice(row, row + (height - 1) * stride + 1, stride)
            summed[:, :, rows, column : column + (width - 1) * stride + 1 : stride] += weighted
    bottom, right = (size - padding + output_padding for size in sizes)
    return summed[:, :, padding:bottom, padding:right]
