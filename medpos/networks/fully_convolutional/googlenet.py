"""Fully convolutional network of GoogLeNet, in a stride of 32 px.

Reference:
    C. Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, table 1; J. Long et al., "Fully Convolutional
    Networks for Semantic Segmentation", CVPR 2015, section 4.1 and table 1.

The last average pooling is left out, and only the last classifier is kept, as the paper says. Its receptive field of
907 px counts that pooling of 7 x 7; without it a unit sees 715 x 715 px.

Resolved where the paper is silent, for there is no published file:
    - As in the authors' other networks 100 px pad the first convolution, poolings round sizes up, the kernel of the
      upsampling is 63 x 63 px (with poolings of 3 x 3 px, middles fall on whole pixels), and the output is cut where
      the middles of the scores' fields lie on the image.
    - Dropout of 0.4 before the score layer, as in the classifier.

There are two trunks, and each takes the weights of its publisher alone:
    - ``"caffe"``, of the paper (BVLC's GoogLeNet): biases, local response normalisation.
    - ``"torchvision"``: batch normalisation, 3 x 3 instead of 5 x 5 convolutions, the last pooling 2 x 2 px.
"""

from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from medpos.networks.fully_convolutional.alexnet import check_trunk, place_trunk
from medpos.networks.fully_convolutional.fcn import PADDING, Upsampling, check_upsampling, crop, heads, score_layer
from medpos.networks.layers.blocks import check_size, initialize_he, times

DROPOUT = 0.4
BN_EPS = 0.001

# 1 x 1; 3 x 3 reduction and 3 x 3; 5 x 5 reduction and 5 x 5; projection of the pooling (table 1).
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
# Layers, which torchvision names alike, and their names in Caffe's file.
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
    """Convolution, for torchvision's trunk batch normalisation instead of a bias, and ReLU."""
    normalised = trunk == "torchvision"
    conv = nn.Conv2d(in_channels, out_channels, size, stride, size // 2, bias=not normalised)
    layers: OrderedDict[str, nn.Module] = OrderedDict(conv=conv)
    if normalised:
        layers["norm"] = nn.BatchNorm2d(out_channels, eps=BN_EPS)
    layers["relu"] = nn.ReLU(inplace=True)
    return nn.Sequential(layers)


class Inception(nn.Module):
    """Four branches side by side, of 1 x 1, 3 x 3 and 5 x 5 convolutions and of max-pooling.

    Args:
        in_channels: channels of the input.
        channels: a row of ``INCEPTIONS``.
        trunk: as of :class:`FCNGoogLeNet`.
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
        """Maps [N, in_channels, H, W] to [N, out_channels, H, W]."""
        branches = [self.branch1(features), self.branch2(features), self.branch3(features), self.branch4(features)]
        return torch.cat(branches, 1)


class FCNGoogLeNet(nn.Module):
    """FCN-GoogLeNet: the scores of the last inception module, upsampled by 32.

    Args:
        in_channels: channels of the image.
        out_channels: classes.
        trunk: ``"caffe"`` or ``"torchvision"``.
        upsampling: as of :class:`medpos.networks.FCN32s`.
        dropout: probability before the score layer.
        width: factor of the channels inside, 1 for the paper's.

    Raises:
        InputError: unknown trunk or upsampling; width that isn't above 0; in ``forward``, an input that isn't
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
        narrow, last = times(64, width), times(192, width)
        self.conv1 = _unit(in_channels, narrow, 7, trunk, stride=2)
        self.conv1.conv.padding = (PADDING, PADDING)
        self.conv2 = _unit(narrow, narrow, 1, trunk)
        self.conv3 = _unit(narrow, last, 3, trunk)
        for name, channels in INCEPTIONS.items():
            module = Inception(last, tuple(times(wide, width) for wide in channels), trunk)
            self.add_module(name, module)
            last = module.out_channels
        self.pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.pool4 = self.pool if trunk == "caffe" else nn.MaxPool2d(2, ceil_mode=True)
        self.norm = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75) if trunk == "caffe" else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        initialize_he(self)
        self.score_fr = score_layer(last, out_channels)
        self.upscore = Upsampling(out_channels, 63, 32, upsampling == "learned")
        self.offset = 98 if trunk == "caffe" else 106

    def load_published(self, weights: Mapping[str, Tensor]) -> list[str]:
        """Sets the trunk to published weights of GoogLeNet.

        Args:
            weights: state dict with the names of Caffe's file, ``conv1/7x7_s2.weight`` to
                ``inception_5b/pool_proj.bias``, for images as told in
                :meth:`medpos.networks.FCN32s.load_published`; or for that trunk of torchvision's,
                ``conv1.conv.weight`` to ``inception5b.branch4.1.bn.bias``, for RGB, 0 to 1, less 0.5, divided by 0.5.

        Returns:
            Names of the weights that have no place, as of the classifiers.

        Raises:
            InputError: a layer is missing or has another shape, as with the other trunk's weights.
        """
        names: dict[str, tuple[str, ...]] = {}
        for unit, caffe in UNITS.items():
            if self.trunk == "caffe":
                names[f"{unit}.conv"] = (caffe,)
            else:
                names |= {f"{unit}.conv": (f"{unit}.conv",), f"{unit}.norm": (f"{unit}.bn",)}
        return place_trunk(self, weights, names | heads(self, weights), self.trunk)

    def forward(self, image: Tensor) -> Tensor:
        """Maps an image [N, in_channels, H, W] of any size to logits [N, out_channels, H, W]."""
        if not torch.jit.is_scripting() and not torch.jit.is_tracing():
            check_size(image, 1, 1, "FCNGoogLeNet")
        pool1 = self.norm(self.pool(self.conv1(image)))
        pool2 = self.pool(self.norm(self.conv3(self.conv2(pool1))))
        pool3 = self.pool(self.inception3b(self.inception3a(pool2)))
        inception4c = self.inception4c(self.inception4b(self.inception4a(pool3)))
        pool4 = self.pool4(self.inception4e(self.inception4d(inception4c)))
        inception5b = self.inception5b(self.inception5a(pool4))
        return crop(self.upscore(self.score_fr(self.dropout(inception5b))), self.offset, image)
