"""Build the parts of SUNet: the u-net module with its multigrid of dilations, and the stem's residual block.

Reference:
    S. Shah et al., "Stacked U-Nets: A No-Frills Approach to Natural Image Segmentation", 2018, figures 1 and 2,
    sections 3.1 and 5.2; https://arxiv.org/abs/1804.10343. Names of layers, and all that the paper doesn't specify,
    follow the authors' code, https://github.com/shahsohil/sunets.

Every convolution follows a batch normalization and a ReLU, and has a bias. The authors' dropout of probability 1e-7
after each, which drops one value in ten million, is left out.
"""

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn

LEVELS = 2  # E1 and E2 of the paper's u-net; its u-net+ has only E1


@dataclass(frozen=True)
class Grid:
    """Hold stride and dilations of a level's encoder, which its decoder has in reverse.

    Attributes:
        stride: stride of the first convolution and of the transposed convolution, 1 or 2.
        first: dilation of the first convolution, and of the last one in the decoder.
        second: dilation of the second convolution, and of the transposed convolution.
    """

    stride: int
    first: int
    second: int


def choose_grids(dilation: int, levels: int = LEVELS, strided: bool = False) -> list[Grid]:
    """Choose strides and dilations for the levels of a module.

    Args:
        dilation: dilation of the block, 1, 2 or 4: the resolution of its input relative to that in the classifier.
        levels: number of levels.
        strided: whether to keep the strides and dilate all filters equally, as in the strided column of table 4,
            instead of multigrid.

    Returns:
        The grids of E1, E2 and so on. Multigrid at dilation 2 has the dilations 2, 4 and 4, 8; with the decoder these
        are 1, 2, 4, 4, 8, 8, 4, 4, 2, 1 of figure 2.
    """
    if dilation == 1 or strided:
        return [Grid(2, dilation, dilation)] * levels
    return [Grid(1, dilation * 2**level, 2 * dilation * 2**level) for level in range(levels)]


def _conv3x3(in_channels: int, out_channels: int, dilation: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=dilation, dilation=dilation)


def _activation(number: int, channels: int) -> dict[str, nn.Module]:
    return {f"bn{number}": nn.BatchNorm2d(channels), f"relu{number}": nn.ReLU(inplace=True)}


def encoder(in_channels: int, filters: int, grid: Grid, bottleneck: bool = False, activated: bool = False) -> nn.Module:
    """Build E1 or E2: two 3 x 3 convolutions, the first one with the stride.

    Args:
        in_channels: channels of the input; equal to ``filters`` without a bottleneck.
        filters: channels of all layers.
        grid: stride and dilations of the level.
        bottleneck: whether a 1 x 1 convolution comes first.
        activated: whether batch normalization and ReLU were already applied to the input of the bottleneck.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if bottleneck:
        layers.update({} if activated else _activation(0, in_channels))
        layers["conv0"] = nn.Conv2d(in_channels, filters, 1)
    layers.update(_activation(1, filters))
    layers["conv1"] = _conv3x3(filters, filters, grid.first, grid.stride)
    layers.update(_activation(2, filters))
    layers["conv2"] = _conv3x3(filters, filters, grid.second)
    return nn.Sequential(layers)


class Decoder(nn.Sequential):
    """Upsample by a 3 x 3 transposed convolution that undoes the stride, and a 3 x 3 convolution: D1 or D2.

    Args:
        in_channels: channels of the input.
        filters: channels of all layers.
        grid: stride and dilations of the level.
        out_channels: channels of a 1 x 1 convolution at the end; None for no such convolution.
    """

    def __init__(self, in_channels: int, filters: int, grid: Grid, out_channels: int | None = None) -> None:
        deconv = nn.ConvTranspose2d(
            in_channels,
            filters,
            3,
            stride=grid.stride,
            padding=grid.second,
            output_padding=grid.stride - 1,
            dilation=grid.second,
        )
        layers = OrderedDict({**_activation(0, in_channels), "deconv0": deconv, **_activation(1, filters)})
        layers["deconv1"] = _conv3x3(filters, filters, grid.first)  # the authors' name of a convolution
        last = {"bn2": nn.Identity(), "relu2": nn.Identity(), "conv2": nn.Identity()}
        if out_channels is not None:
            last = {**_activation(2, filters), "conv2": nn.Conv2d(filters, out_channels, 1)}
        super().__init__(OrderedDict({**layers, **last}))

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        """Map [N, in_channels, h, w] to [N, filters or out_channels, H, W], the size of ``skip``.

        An odd H or W needs no output padding, an even one needs 1. Here the padding is always added and then cropped,
        which gives the same values and lets a traced network process any size.
        """
        raised = self.deconv0(self.relu0(self.bn0(features)))[:, :, : skip.shape[2], : skip.shape[3]]
        raised = self.deconv1(self.relu1(self.bn1(raised)))
        return self.conv2(self.relu2(self.bn2(raised)))


class UNetModule(nn.Module):
    """Apply a bottleneck, a u-net and an expansion, and connect the input to the output around them.

    The usual connection adds the input. Where the number of channels changes, the input is first convolved by 1 x 1,
    and this shortcut and the bottleneck share one batch normalization with ReLU. A dense connection appends the output.

    Args:
        in_channels: channels of the input.
        filters: channels inside, N of figure 1.
        out_channels: channels of the output; of a dense connection those that follow the channels of the input.
        dilation: dilation of the block, 1, 2 or 4.
        strided: whether strides are kept, see :func:`choose_grids`.
        levels: levels of the u-net, 1 for the u-net+ of block 4.
        dense: whether the connection is dense.
    """

    def __init__(
        self,
        in_channels: int,
        filters: int,
        out_channels: int,
        dilation: int = 1,
        strided: bool = False,
        levels: int = LEVELS,
        dense: bool = False,
    ) -> None:
        super().__init__()
        self.levels, self.dense = levels, dense
        expands = in_channels != out_channels and not dense
        self.bn: nn.Module = nn.Identity()
        self.upsample: nn.Module = nn.Identity()
        if expands:
            self.bn = nn.Sequential(OrderedDict(_activation(0, in_channels)))
            self.upsample = nn.Sequential(OrderedDict(conv0=nn.Conv2d(in_channels, out_channels, 1)))
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, grid in enumerate(choose_grids(dilation, levels, strided)):
            outer, inner = level == 0, level == levels - 1
            self.down.append(encoder(in_channels if outer else filters, filters, grid, outer, expands))
            self.up.append(Decoder(filters if inner else 2 * filters, filters, grid, out_channels if outer else None))

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to [N, out_channels, H, W], if dense to [N, in_channels + out_channels, H, W]."""
        features = self.bn(features)
        inside = self.inside(self.down[0](features))
        output = self.up[0](inside, features)
        return torch.cat([features, output], dim=1) if self.dense else output + self.upsample(features)

    def inside(self, e1: Tensor) -> Tensor:
        """Compute the input of D1 from E1's output: the concatenation of D2 and E1; of one level E1's output itself."""
        encoded = [e1]
        for level, down in enumerate(self.down):
            if level > 0:
                encoded.append(down(encoded[-1]))
        inside = encoded[-1]
        # TorchScript can't go backward through a list of modules, so each step looks for its level.
        for step in range(1, self.levels):
            for level, up in enumerate(self.up):
                if level == self.levels - step:
                    skip = encoded[level - 1]
                    inside = torch.cat([up(inside, skip), skip], dim=1)
        return inside


class ResidualBlock(nn.Module):
    """Apply two 3 x 3 convolutions, the first of stride 2, instead of the usual max-pooling of the stem.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.bn = nn.Sequential(nn.BatchNorm2d(in_channels), nn.ReLU(inplace=True))
        # Numbers 1 and 5 were the authors' dropout.
        layers = {
            "0": _conv3x3(in_channels, out_channels, 1, stride=2),
            "2": nn.BatchNorm2d(out_channels),
            "3": nn.ReLU(inplace=True),
            "4": _conv3x3(out_channels, out_channels, 1),
        }
        self.conv = nn.Sequential(OrderedDict(layers))
        self.shortcut = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride=2))

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to [N, out_channels, H / 2, W / 2], rounded up."""
        activated = self.bn(features)
        return self.conv(activated) + self.shortcut(activated)
