"""Segment with a fully convolutional GoogLeNet with an output stride of 32 px.

Reference:
    C. Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, table 1; J. Long et al., "Fully Convolutional
    Networks for Semantic Segmentation", CVPR 2015, section 4.1 and table 1.

The last average pooling is removed, and only the last classifier is kept, as in the paper. The paper's receptive field
of 907 px includes that 7 x 7 pooling; without it, the receptive field has 715 x 715 px.

Resolved where the paper is silent, because no file was published:
    - As in the authors' other networks, the first convolution is padded by 100 px, poolings round sizes up, the kernel
      of the upsampling has 63 x 63 px (with poolings of 3 x 3 px, centers fall on whole pixels), and the output is
      cropped where the centers of the scores' receptive fields are on the image.
    - Dropout of 0.4 before the score layer, as in the classifier.

There are two trunks, and each fits the weights of one publisher only:
    - ``"caffe"``, the paper's (BVLC's GoogLeNet): biases, local response normalization.
    - ``"torchvision"``: batch normalization, 3 x 3 instead of 5 x 5 convolutions, the last pooling 2 x 2 px.
"""

from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from medpos.networks.fully_convolutional.fcn import PADDING
from medpos.networks.fully_convolutional.trunks import TrunkFCN
from medpos.networks.layers.blocks import scale_channels

DROPOUT = 0.4
BN_EPS = 0.001

# Channels: 1 x 1; 3 x 3 reduction and 3 x 3; 5 x 5 reduction and 5 x 5; projection of the pooling (table 1).
INCEPTIONS = {
    "inception3a": (64, 96, 128, 16, 32, 32),
    "inception3b": (128, 128, 192, 32, 96, 64),
    "inception4a": (192, 96, 208, 16, 48, 64),
    "inception4b": (160, 112, 224, 24, 64, 64),
    "inception4c": (128, 128, 256, 24, 64, 64),
    "inception4d": (112, 144, 288, 32, 64, 64),
    "inception4e": (256, 160, 320, 32, 128, 128),
    "inception5a": (256, 160, 320, 32, 128, 128),
    "inception5b": (384, 192, 384, 48, 128, 128),
}
# Layers, with torchvision's names, and their names in Caffe's file.
STEM = {"conv1": "conv1/7x7_s2", "conv2": "conv2/3x3_reduce", "conv3": "conv2/3x3"}
BRANCHES = {
    "branch1": "1x1",
    "branch2.0": "3x3_reduce",
    "branch2.1": "3x3",
    "branch3.0": "5x5_reduce",
    "branch3.1": "5x5",
    "branch4.1": "pool_proj",
}
UNITS = STEM | {
    f"{module}.{branch}": f"inception_{module[-2:]}/{name}"
    for module in INCEPTIONS
    for branch, name in BRANCHES.items()
}


def _unit(in_channels: int, out_channels: int, size: int, trunk: str, stride: int = 1) -> nn.Sequential:
    """Build a convolution with a bias, or with batch normalization in torchvision's trunk, and ReLU."""
    normalized = trunk == "torchvision"
    conv = nn.Conv2d(in_channels, out_channels, size, stride, size // 2, bias=not normalized)
    layers: OrderedDict[str, nn.Module] = OrderedDict(conv=conv)
    if normalized:
        layers["norm"] = nn.BatchNorm2d(out_channels, eps=BN_EPS)
    layers["relu"] = nn.ReLU(inplace=True)
    return nn.Sequential(layers)


class Inception(nn.Module):
    """Concatenate four branches: 1 x 1, 3 x 3 and 5 x 5 convolutions, and max-pooling.

    Args:
        in_channels: channels of the input.
        channels: channels of the branches, a row of ``INCEPTIONS``.
        trunk: ``"caffe"`` or ``"torchvision"``, see :class:`FCNGoogLeNet`.
    """

    def __init__(self, in_channels: int, channels: tuple[int, ...], trunk: str) -> None:
        super().__init__()
        one, reduce3, three, reduce5, five, project = channels
        large = 5 if trunk == "caffe" else 3
        self.branch1 = _unit(in_channels, one, 1, trunk)
        self.branch2 = nn.Sequential(_unit(in_channels, reduce3, 1, trunk), _unit(reduce3, three, 3, trunk))
        self.branch3 = nn.Sequential(_unit(in_channels, reduce5, 1, trunk), _unit(reduce5, five, large, trunk))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), _unit(in_channels, project, 1, trunk))
        self.out_channels = one + three + five + project

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to [N, out_channels, H, W]."""
        branches = [self.branch1(features), self.branch2(features), self.branch3(features), self.branch4(features)]
        return torch.cat(branches, 1)


class FCNGoogLeNet(TrunkFCN):
    """Upsample the scores of GoogLeNet's last inception module by 32 (FCN-GoogLeNet).

    Args:
        in_channels: channels of the image.
        out_channels: classes.
        trunk: ``"caffe"`` or ``"torchvision"``.
        upsampling: trained upsampling layers, as in :class:`medpos.networks.FCN32s`.
        dropout: dropout probability before the score layer.
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
        self.offset = 98 if trunk == "caffe" else 106

    def _add_trunk(self, dropout: float, width: float) -> int:
        trunk, narrow, last = self.trunk, scale_channels(64, width), scale_channels(192, width)
        self.conv1 = _unit(self.in_channels, narrow, 7, trunk, stride=2)
        self.conv1.conv.padding = (PADDING, PADDING)
        self.conv2 = _unit(narrow, narrow, 1, trunk)
        self.conv3 = _unit(narrow, last, 3, trunk)
        for name, channels in INCEPTIONS.items():
            module = Inception(last, tuple(scale_channels(wide, width) for wide in channels), trunk)
            self.add_module(name, module)
            last = module.out_channels
        self.pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.pool4 = self.pool if trunk == "caffe" else nn.MaxPool2d(2, ceil_mode=True)
        self.norm = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75) if trunk == "caffe" else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        return last

    def load_published(self, weights: Mapping[str, Tensor]) -> list[str]:
        """Load published weights of GoogLeNet into the trunk.

        Args:
            weights: state dict with the names of Caffe's file, ``conv1/7x7_s2.weight`` to
                ``inception_5b/pool_proj.bias``, for the images described in
                :meth:`medpos.networks.FCN32s.load_published`; or for the trunk ``"torchvision"`` with its names,
                ``conv1.conv.weight`` to ``inception5b.branch4.1.bn.bias``, for RGB images in [0, 1], minus 0.5, divided
                by 0.5.

        Returns:
            Names of the weights that aren't used, such as those of the classifiers.

        Raises:
            InputError: a layer is missing or has another shape, as in the other trunk's weights.
        """
        names: dict[str, tuple[str, ...]] = {}
        for unit, caffe in UNITS.items():
            if self.trunk == "caffe":
                names[f"{unit}.conv"] = (caffe,)
            else:
                names |= {f"{unit}.conv": (f"{unit}.conv",), f"{unit}.norm": (f"{unit}.bn",)}
        return self._load(weights, names)

    def _features(self, image: Tensor) -> Tensor:
        pool1 = self.norm(self.pool(self.conv1(image)))
        pool2 = self.pool(self.norm(self.conv3(self.conv2(pool1))))
        pool3 = self.pool(self.inception3b(self.inception3a(pool2)))
        inception4c = self.inception4c(self.inception4b(self.inception4a(pool3)))
        pool4 = self.pool4(self.inception4e(self.inception4d(inception4c)))
        inception5b = self.inception5b(self.inception5a(pool4))
        return self.dropout(inception5b)
