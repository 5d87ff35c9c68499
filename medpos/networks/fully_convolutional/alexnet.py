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

from torch import Tensor, nn

from medpos.networks.fully_convolutional.fcn import DENSE, DROPOUT, PADDING, dense_block
from medpos.networks.fully_convolutional.trunks import TrunkFCN
from medpos.networks.layers.blocks import scale_channels

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


VARIANTS = {
    "caffe": Trunk((96, 256, 384, 384, 256), (1, 2, 1, 2, 2), True, (*KERNELS, "fc6", "fc7")),
    "torchvision": Trunk(
        (64, 192, 384, 256, 256),
        (1,) * 5,
        False,
        (*(f"features.{index}" for index in (0, 3, 6, 8, 10)), "classifier.1", "classifier.4"),
    ),
}


class FCNAlexNet(TrunkFCN):
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
        super().__init__(in_channels, out_channels, trunk, upsampling, dropout, width)
        self.offset = 18

    def _add_trunk(self, dropout: float, width: float) -> int:
        variant, last = VARIANTS[self.trunk], self.in_channels
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
        return dense

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
        names = {layer: (name,) for layer, name in zip(layers, VARIANTS[self.trunk].names, strict=True)}
        return self._load(weights, names)

    def _features(self, image: Tensor) -> Tensor:
        norm1 = self.norm(self.pool(self.relu(self.conv1(image))))
        norm2 = self.norm(self.pool(self.relu(self.conv2(norm1))))
        conv3 = self.relu(self.conv3(norm2))
        conv4 = self.relu(self.conv4(conv3))
        pool5 = self.pool(self.relu(self.conv5(conv4)))
        return self.fc7(self.fc6(pool5))
