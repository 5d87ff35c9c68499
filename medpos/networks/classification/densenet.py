"""Classify with DenseNet, in which every layer takes the outputs of all layers before it in its block.

References:
    G. Huang, Z. Liu, L. van der Maaten, K. Q. Weinberger, "Densely Connected Convolutional Networks", CVPR 2017,
    table 1; https://arxiv.org/abs/1608.06993.
    S. Shah et al., "Stacked U-Nets", 2018, table 2; https://arxiv.org/abs/1804.10343.
    https://github.com/pytorch/vision, ``torchvision/models/densenet.py``: names of layers, and the errors of table 2.

Numbers of parameters: DenseNet-161 28,681,000, DenseNet-201 20,013,928, as published. Table 2 gives 28.5M for the
DenseNet-161.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from medpos.core.errors import InputError
from medpos.networks.layers.blocks import check_size, initialize_he, scale_channels
from medpos.networks.layers.published import load_layers

BOTTLENECK = 4  # channels of a layer's 1 x 1 convolution, in growth rates


@dataclass(frozen=True)
class Table:
    """Hold a column of table 1.

    Attributes:
        growth: channels that each layer adds.
        stem: channels of the first convolution.
        layers: number of layers in each block.
    """

    growth: int
    stem: int
    layers: tuple[int, ...]


DEPTHS = {161: Table(48, 96, (6, 12, 36, 24)), 201: Table(32, 64, (6, 12, 48, 32))}


class DenseLayer(nn.Sequential):
    """Append the output of a 1 x 1 and a 3 x 3 convolution, each after batch normalization and ReLU, to the input.

    Args:
        in_channels: channels of the input.
        growth: channels to append.
    """

    def __init__(self, in_channels: int, growth: int) -> None:
        between = BOTTLENECK * growth
        super().__init__(
            OrderedDict(
                norm1=nn.BatchNorm2d(in_channels),
                relu1=nn.ReLU(inplace=True),
                conv1=nn.Conv2d(in_channels, between, 1, bias=False),
                norm2=nn.BatchNorm2d(between),
                relu2=nn.ReLU(inplace=True),
                conv2=nn.Conv2d(between, growth, 3, padding=1, bias=False),
            )
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to [N, in_channels + growth, H, W]."""
        new = features
        for layer in self:
            new = layer(new)
        return torch.cat([features, new], dim=1)


def _transition(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            norm=nn.BatchNorm2d(in_channels),
            relu=nn.ReLU(inplace=True),
            conv=nn.Conv2d(in_channels, out_channels, 1, bias=False),
            pool=nn.AvgPool2d(2),
        )
    )


class DenseNetClassifier(nn.Module):
    """Classify images with DenseNet, with torchvision's names of layers.

    Args:
        in_channels: channels of the image.
        out_channels: classes.
        depth: 161 or 201 layers.
        width: factor of the channels inside, 1 for the paper's.

    Raises:
        InputError: unknown depth; a width that isn't above 0; in ``forward``, an image that isn't [N, C, H, W], or is
            smaller than 29 px.
    """

    smallest = 29  # px that leave a pixel for the last block

    def __init__(self, in_channels: int = 3, out_channels: int = 1000, depth: int = 161, width: float = 1.0) -> None:
        super().__init__()
        if depth not in DEPTHS:
            raise InputError(f"depth: expected one of {', '.join(map(str, DEPTHS))}, got {depth!r}")
        table, self.in_channels = DEPTHS[depth], in_channels
        growth, last = scale_channels(table.growth, width), scale_channels(table.stem, width)
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            conv0=nn.Conv2d(in_channels, last, 7, 2, padding=3, bias=False),
            norm0=nn.BatchNorm2d(last),
            relu0=nn.ReLU(inplace=True),
            pool0=nn.MaxPool2d(3, 2, padding=1),
        )
        for block, count in enumerate(table.layers, 1):
            dense = {f"denselayer{n + 1}": DenseLayer(last + n * growth, growth) for n in range(count)}
            layers[f"denseblock{block}"] = nn.Sequential(OrderedDict(dense))
            last += count * growth
            if block < len(table.layers):
                layers[f"transition{block}"] = _transition(last, last // 2)
                last //= 2
        layers["norm5"] = nn.BatchNorm2d(last)
        self.features = nn.Sequential(layers)
        self.classifier = nn.Linear(last, out_channels)
        initialize_he(self)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, image: Tensor) -> Tensor:
        """Map an image [N, in_channels, H, W] to logits [N, out_channels]."""
        if not torch.jit.is_scripting() and not torch.jit.is_tracing():
            check_size(image, 1, self.smallest, "DenseNetClassifier")
        return self.classifier(F.relu(self.features(image)).mean((2, 3)))

    @torch.jit.ignore  # type: ignore[untyped-decorator]
    def load_published(self, weights: Mapping[str, Tensor]) -> list[str]:
        """Load torchvision's weights; return the names of those that aren't used.

        Args:
            weights: state dict; the published files have ``norm.1`` and ``conv.2`` for ``norm1`` and ``conv2``.

        Raises:
            InputError: a layer is missing or has another shape.
        """
        layers = dict.fromkeys(name.rpartition(".")[0] for name in self.state_dict())
        former = {layer: f"{layer[:-1]}.{layer[-1]}" if ".denselayer" in layer else layer for layer in layers}
        return load_layers(self, weights, {layer: (layer, former[layer]) for layer in layers})
