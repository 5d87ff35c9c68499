"""Five ways to upsample, as small as they can be written.

Reference:
    G. Boracchi, "Convolutional Neural Networks for Semantic Segmentation" (lecture), "How to perform upsampling?".

Resolved where the slides are wrong: the printed result of the max-unpooling is scrambled, the maxima go back to where
they were; a 3 x 3 transposed convolution of stride 2 and padding 1 makes 4 x 4 of 2 x 2 only with an output padding of
1.
"""

import torch
from torch import Tensor, nn


def nearest(features: Tensor, factor: int) -> Tensor:
    """Repeats every pixel of [N, C, H, W] ``factor`` times in both directions."""
    return features.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)


def bed_of_nails(features: Tensor, factor: int) -> Tensor:
    """Puts every pixel of [N, C, H, W] at the top left of a field of ``factor`` x ``factor`` px, the others are 0."""
    n, channels, height, width = features.shape
    nails = features.new_zeros(n, channels, height * factor, width * factor)
    nails[:, :, ::factor, ::factor] = features
    return nails


def max_unpool(features: Tensor, indices: Tensor, size: list[int]) -> Tensor:
    """Puts every pixel where the maximum was that the pooling took there, the others are 0.

    PyTorch's own does the same, but can't be exported.

    Args:
        features: [N, C, h, w].
        indices: [N, C, h, w], the places in the flat H x W px that ``nn.MaxPool2d(return_indices=True)`` gave.
        size: H and W of what was pooled, in px, which an odd size doesn't tell by itself.

    Returns:
        [N, C, H, W].
    """
    empty = features.new_zeros([features.shape[0], features.shape[1], size[0] * size[1]])
    filled = empty.scatter(2, indices.flatten(2), features.flatten(2))
    return filled.reshape(features.shape[0], features.shape[1], size[0], size[1])


def transposed_convolution(
    features: Tensor, kernel: Tensor, stride: int = 1, padding: int = 0, output_padding: int = 0
) -> Tensor:
    """Lets every pixel weigh a copy of the kernel, ``stride`` px from the last one, and sums where copies overlap.

    Args:
        features: [N, C, H, W].
        kernel: [C, D, h, w].
        stride: px in the output for each px of the input.
        padding: px that are cut off all around.
        output_padding: of these, px that are kept at the bottom and right.

    Returns:
        [N, D, (H - 1) stride + h - 2 padding + output_padding, likewise for W].
    """
    (n, _, height, width), (_, out_channels, *kernel_size) = features.shape, kernel.shape
    sizes = [(old - 1) * stride + tall for old, tall in zip((height, width), kernel_size, strict=True)]
    # One row and column more for each pixel of output padding, should the kernel not reach it.
    summed = features.new_zeros(n, out_channels, *(size + output_padding for size in sizes))
    for row in range(kernel_size[0]):
        for column in range(kernel_size[1]):
            weighed = torch.einsum("nchw,cd->ndhw", features, kernel[:, :, row, column])
            rows = slice(row, row + (height - 1) * stride + 1, stride)
            summed[:, :, rows, column : column + (width - 1) * stride + 1 : stride] += weighed
    bottom, right = (size - padding + output_padding for size in sizes)
    return summed[:, :, padding:bottom, padding:right]


def bilinear_kernel(size: int, factor: int) -> Tensor:
    """The kernel with which a transposed convolution interpolates bilinearly.

    Args:
        size: of the kernel, in px; 2 factor, or 2 factor - 1, holds all that isn't 0.
        factor: of the upsampling, which is the stride.

    Returns:
        [size, size]; it sums up to factor^2.
    """
    distance = (torch.arange(size) - (size - 1) / 2).abs()
    line = (1 - distance / factor).clamp(min=0)
    return line[:, None] * line


def initialize_bilinear(layer: nn.ConvTranspose2d) -> None:
    """Makes a transposed convolution interpolate each channel bilinearly by its stride, from where it may learn.

    Reference:
        J. Long et al., "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, section 4.
    """
    nn.init.zeros_(layer.weight)
    for channel in range(min(layer.in_channels, layer.out_channels)):
        with torch.no_grad():
            layer.weight[channel, channel] = bilinear_kernel(layer.kernel_size[0], layer.stride[0])
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
