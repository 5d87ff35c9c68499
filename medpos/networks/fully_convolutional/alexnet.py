"""Segment with a fully convolutional AlexNet with an output stride of 32 px.

Reference:
    A. Krizhevsky et al., "ImageNet Classification with Deep Convolutional Neural Networks", NIPS 2012; J. Long et al.,
    "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, table 1, and the authors' prototxt file,
    https://github.com/shelhamer/fcn.berkeleyvision.org, ``voc-fcn-alexnet``.

The first convolution has 100 px of padding, poolings round sizes up; the receptive field of fc7 has 355 x 355 px.

There are two trunks, and each fits the weights of one publisher only:
    - ``"caffe"``, the paper's: convolutions 2, 4 and 5 in two groups, local response normalization after the first
      two poolings (as in BVLC's CaffeNet; BVLC's AlexNet, with the same names and shapes, has it before them).
    - ``"torchvision"``: fewer channels in one group, without normalization (A. Krizhevsky, "One weird trick for
      parallelizing convolutional neural networks", 2014).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medpos.core.errors import InputError
from medpos.networks.fully_convolutional.fcn import (
    DENSE,
    DROPOUT,
    PADDING,
    Upsampling,
    check_upsampling,
    crop,
    dense_block,
    head_names,
    score_layer,
)
from medpos.networks.layers.blocks import check_size, initialize_he, scale_channels
from medpos.networks.layers.published import load_layers

KERNELS = {"conv1": 11, "conv2": 5, "conv3": 3, "conv4": 3, "conv5": 3}


@dataclass(frozen=True)
class Trunk:
    """Hold the differences between the two trunks.

    Attributes:
        channels: channels of the five convolutions.
        groups: groups of the five convolutions.
        normalized: whether there is local response normalization.
        names: names of the layers conv1 to conv5, fc6 and fc7 in the published weights.
    """

    channels: tuple[int, ...]
    groups: tuple[int, ...]
    normalized: bool
    names: tuple[str, ...]


TRUNKS = {
    "caffe": Trunk((96, 256, 384, 384, 256), (1, 2, 1, 2, 2), True, (*KERNELS, "fc6", "fc7")),
    "torchvision": Trunk(
        (64, 192, 384, 256, 256),
        (1,) * 5,
        False,
        (*(f"features.{place}" for place in (0, 3, 6, 8, 10)), "classifier.1", "classifier.4"),
    ),
}


class FCNAlexNet(nn.Module):
    """Upsample the scores of AlexNet's fc7 by 32 (FCN-AlexNet).

    Args:
        in_channels: channels of the image.
        out_channels: classes.
        trunk: ``"caffe"`` or ``"torchvision"``.
        upsampling: trained upsampling layers, as in :class:`medpos.networks.FCN32s`.
        dropout: dropout probability after fc6 and fc7.
        width: factor of the channels inside, 1 for the paper's.

    Raises:
        InputError: unknown trunk or upsampling; a width that isn't above 0; in ``forward``, an input that isn't
            [N, C, H, W].
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 21,
        trunk: str = "caffe",
        upsampling: str = "frozen",
        dropout: float = DROPOUT,
        width: float = 1.0,
    ) -> None:
        super().__init__()
        check_upsampling(upsampling)
        check_trunk(trunk)
        self.in_channels, self.trunk = in_channels, trunk
        variant, last = TRUNKS[trunk], in_channels
        for (name, size), wide, groups in zip(KERNELS.items(), variant.channels, variant.groups, strict=True):
            channels = 2 * scale_channels(wide // 2, width)  # divisible by two groups
            stride, padding = (4, PADDING) if name == "conv1" else (1, size // 2)
            self.add_module(name, nn.Conv2d(last, channels, size, stride, padding, groups=groups))
            last = channels
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.norm = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75) if variant.normalized else nn.Identity()
        dense = scale_channels(DENSE, width)
        self.fc6 = dense_block(last, dense, 6, dropout)
        self.fc7 = dense_block(dense, dense, 1, dropout)
        initialize_he(self)
        self.score_fr = score_layer(dense, out_channels)
        self.upscore = Upsampling(out_channels, 63, 32, upsampling == "learned")

    def load_published(self, weights: Mapping[str, Tensor]) -> list[str]:
        """Load published weights of AlexNet into the trunk, fc6 and fc7.

        Args:
            weights: state dict with the names of Caffe's files, ``conv1.weight`` to ``fc7.bias``, or for the trunk
                ``"torchvision"`` with its names, ``features.0.weight`` to ``classifier.4.bias``; fc6 and fc7 may be
                dense layers. If it is that of a published FCN, score and upsampling layers are loaded too. See
                :meth:`medpos.networks.FCN32s.load_published` for the images that the weights expect.

        Returns:
            Names of the weights that aren't used, such as those of the classifier's last layer.

        Raises:
            InputError: a layer is missing or has another shape, as in the other trunk's weights.
        """
        layers = (*KERNELS, "fc6.conv", "fc7.conv")
        names = {layer: (name,) for layer, name in zip(layers, TRUNKS[self.trunk].names, strict=True)}
        return load_trunk(self, weights, names | head_names(self, weights), self.trunk)

    def forward(self, image: Tensor) -> Tensor:
        """Map an image [N, in_channels, H, W] of any size to logits [N, out_channels, H, W]."""
        if not torch.jit.is_scripting() and not torch.jit.is_tracing():
            check_size(image, 1, 1, "FCNAlexNet")
        norm1 = self.norm(self.pool(self.relu(self.conv1(image))))
        norm2 = self.norm(self.pool(self.relu(self.conv2(norm1))))
        conv3 = self.relu(self.conv3(norm2))
        conv4 = self.relu(self.conv4(conv3))
        pool5 = self.pool(self.relu(self.conv5(conv4)))
        return crop(self.upscore(self.score_fr(self.fc7(self.fc6(pool5)))), 18, image)


def check_trunk(trunk: str) -> None:
    """Refuse a trunk that isn't in ``TRUNKS``.

    Raises:
        InputError: the trunk is unknown.
    """
    if trunk not in TRUNKS:
        raise InputError(f"trunk: expected one of {', '.join(TRUNKS)}, got {trunk!r}")


def load_trunk(
    network: nn.Module, weights: Mapping[str, Tensor], names: Mapping[str, tuple[str, ...]], trunk: str
) -> list[str]:
    """Load layers as :func:`medpos.networks.layers.published.load_layers`, with an error that names the other trunk."""
    try:
        return load_layers(network, weights, names)
    except InputError as error:
        other = next(name for name in TRUNKS if name != trunk)
        raise InputError(f"{error}; trunk is {trunk!r}: for the weights of {other} set it to {other!r}") from error
