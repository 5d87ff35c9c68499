"""Classify and segment with SUNet: stacked u-nets, trained to classify images first, then to segment them.

Reference:
    S. Shah et al., "Stacked U-Nets: A No-Frills Approach to Natural Image Segmentation", 2018, table 1 and figure 2;
    https://arxiv.org/abs/1804.10343. The authors' code: https://github.com/shahsohil/sunets.

Resolved where paper and code disagree or are silent:
    - Numbers of parameters are those of the authors' code, with all biases: 6,910,248, 24,704,360 and 39,113,832 for
      ImageNet. Table 1 has 6.9M, 24.6M (correct for the weights alone, 24,618,176) and 37.7M, which its own
      configuration can't have. Section 6.2.2 has 35.4M for the 7-128 for segmentation; it has 36,857,237. One module
      less in block 1 would give both numbers, but 160 layers instead of table 1's 170. Section 6.2.1's 6.7M for
      SUNet-64 fits neither network.
    - Layers are counted as in table 1, 110, 110 and 170: without the 1 x 1 convolutions of shortcuts. Table 2 counts
      one more each.
    - Transitions have no convolution. Images of any size work; the authors' code needs even sizes and fails at 224 px.
    - Table 4's strided network keeps the strides inside the modules and dilates every filter by its block's factor.
    - Section 3.1 compares modules of two, three and four levels at about the same number of parameters, without numbers
      of modules. Here blocks 2 and 3 have equally many, as in table 1, and the nearest number of parameters is taken:
      ImageNet's 64 has 7,004,648 and 7,092,520, the 128 has 25,089,768 and 25,445,736, the 7-128 has 38,733,032 and
      40,368,232. As block 4 has one level, because E2's input would be too small, block 3 never has more than three: at
      224 px the input of its E4 would have 2 x 2 px.
    - Dense connections of section 3.1 append the N maps of each module to those of all before it. Table 1's outputs of
      a block are about as many ("approximately equates to the total number of feature maps"); the last block has fewer.
    - Levels of figure 5: stem, the four blocks, prediction.

Published training on ImageNet: stochastic gradient descent, Nesterov momentum 0.9 without damping, rate 0.01, divided
by 10 every 30 of 100 epochs, weight decay 5e-4, batches of 256 (212 for the 7-128), 224 px. For segmentation: momentum
0.95, weight decay 1e-4, rate 2e-4 with :func:`medpos.optim.schedules.cosine` over 45,000 iterations (90,000 for
Cityscapes), batches of 22, 512 px. The layers of ``final`` learn ten times as fast, the biases of its convolutions
twenty times. The loss is PyTorch's mean cross-entropy over the pixels that aren't 255.
"""

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from medpos.core.errors import InputError
from medpos.networks.layers.blocks import check_size, initialize_he, scale_channels
from medpos.networks.layers.freezing import freeze_statistics
from medpos.networks.sunet.module import LEVELS, ResidualBlock, UNetModule


@dataclass(frozen=True)
class Variant:
    """Hold a column of table 1.

    Attributes:
        filters: N, channels inside the modules.
        modules: number of modules in each block, by their depth, which is the number of their levels; those of block 4
            are u-net+.
        outputs: output channels of each block.
    """

    filters: int
    modules: dict[int, tuple[int, ...]]
    outputs: tuple[int, ...]


VARIANTS = {
    "64": Variant(64, {2: (2, 4, 4, 1), 3: (1, 3, 3, 1), 4: (2, 2, 2, 1)}, (256, 512, 768, 1024)),
    "128": Variant(128, {2: (2, 4, 4, 1), 3: (1, 3, 3, 1), 4: (2, 2, 2, 1)}, (512, 1024, 1536, 2048)),
    "7-128": Variant(128, {2: (2, 7, 7, 1), 3: (1, 5, 5, 1), 4: (2, 4, 4, 1)}, (512, 1280, 2048, 2304)),
}
DEEPEST = (4, 4, 3, 1)  # levels of each block's modules at most
STEM = (64, 128)  # 7 x 7 convolution and residual block, both of stride 2
# Dilation of each block by output stride, without the poolings before dilated blocks; and the smallest image side in px
# that leaves a pixel for block 4.
DILATIONS = {32: (1, 1, 1, 1), 16: (1, 1, 1, 2), 8: (1, 1, 2, 4)}
SMALLEST = {32: 29, 16: 13, 8: 5}
DEGRIDDING = 512  # channels of both filters; their dilations are 2 and 1
# Names of the head's layers in the authors' first files.
FORMER_NAMES = {"0": "conv1", "1": "bn1", "3": "conv2", "4": "bn2", "6": "conv3"}


def _features(
    in_channels: int,
    variant: str,
    output_stride: int,
    strided: bool = False,
    depth: int = LEVELS,
    dense: bool = False,
    width: float = 1.0,
) -> nn.Sequential:
    """Build the layers up to the last batch normalization, with the same state dict for all output strides."""
    _check("variant", variant, VARIANTS)
    _check("output_stride", output_stride, DILATIONS)
    table = VARIANTS[variant]
    _check("depth", depth, table.modules)
    filters = scale_channels(table.filters, width)
    stem, last = (scale_channels(channels, width) for channels in STEM)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv1"] = nn.Conv2d(in_channels, stem, 7, stride=2, padding=3)
    layers["residual1"] = ResidualBlock(stem, last)
    blocks = zip(table.modules[depth], table.outputs, DILATIONS[output_stride], DEEPEST, strict=True)
    for block, (modules, channels, dilation, deepest) in enumerate(blocks, 1):
        if block > 1 and dilation == 1:
            layers[f"avgpool{block - 1}"] = nn.AvgPool2d(2)
        output = filters if dense else scale_channels(channels, width)
        for index in range(modules):
            module = UNetModule(last, filters, output, dilation, strided, min(depth, deepest), dense)
            layers[f"unet{block}_{index}"] = module
            last = last + filters if dense else output
    layers["bn2"] = nn.BatchNorm2d(last)
    return nn.Sequential(layers)


def _check(name: str, value: object, allowed: Collection[object]) -> None:
    if value not in allowed:
        raise InputError(f"{name}: expected one of {', '.join(map(str, allowed))}, got {value!r}")


def _initialize(network: nn.Module) -> None:
    initialize_he(network, "fan_out")
    for layer in network.modules():
        if isinstance(layer, nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)


class SUNet(nn.Module):
    """Segment with SUNet, and interpolate the logits from the output stride to the image's size.

    Args:
        in_channels: channels of the image.
        out_channels: classes, including the background.
        variant: size of the network, one of ``VARIANTS``: ``"64"``, ``"128"``, ``"7-128"``.
        output_stride: px of the image per px of the logits, 32, 16 or 8; the weights are the same for all.
        strided: whether to keep the strides inside dilated modules, as in the comparison of table 4, instead of
            multigrid.
        degridding: whether two filters precede the prediction, for output stride 8.
        freeze_bn: whether batch norm statistics, scales and shifts are frozen, as in the last fine-tuning.
        bn_momentum: momentum of the batch norm statistics; 0.01 is the paper's decay of 0.99.
        depth: levels of the u-nets, 2, 3 or 4, at about the same number of parameters.
        dense: whether dense connections replace those that add.
        width: factor of the channels inside, 1 for the paper's.

    Raises:
        InputError: unknown variant, output stride or depth; a width that isn't above 0; in ``forward``, an image that
            isn't [N, C, H, W], or is too small to leave a pixel for the last block.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 21,
        variant: str = "7-128",
        output_stride: int = 16,
        strided: bool = False,
        degridding: bool = False,
        freeze_bn: bool = False,
        bn_momentum: float = 0.01,
        depth: int = LEVELS,
        dense: bool = False,
        width: float = 1.0,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.features = _features(in_channels, variant, output_stride, strided, depth, dense, width)
        last = self.features.bn2.num_features
        self.final = _head(last, scale_channels(DEGRIDDING, width) if degridding else None, out_channels)
        self.smallest = SMALLEST[output_stride]
        _initialize(self)
        for layer in self.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = bn_momentum
        if freeze_bn:
            freeze_statistics(self)

    def forward(self, image: Tensor) -> Tensor:
        """Map an image [N, in_channels, H, W] of any size to logits [N, out_channels, H, W]."""
        if not torch.jit.is_scripting() and not torch.jit.is_tracing():
            check_size(image, 1, self.smallest, "SUNet")
        logits = self.final(F.relu(self.features(image)))
        return F.interpolate(logits, size=image.shape[2:], mode="bilinear", align_corners=False)

    @torch.jit.ignore  # type: ignore[untyped-decorator]
    def levels(self, image: Tensor) -> list[Tensor]:
        """Compute the features at the end of each level, which figure 5 shows.

        Args:
            image: images [N, in_channels, H, W].

        Returns:
            Six tensors [N, C, h, w]: those of the stem and the four blocks, before pooling, and the prediction before
            interpolation. The figure shows :func:`select_strongest` of each.
        """
        features, ends = image, {}
        for name, layer in self.features.named_children():
            features = layer(features)
            if name.startswith(("residual", "unet")):
                ends[name.partition("_")[0]] = features  # the last module of a block remains
        return [*ends.values(), self.final(F.relu(features))]

    @torch.jit.ignore  # type: ignore[untyped-decorator]
    def load_published(self, weights: dict[str, Tensor]) -> list[str]:
        """Load weights of a network trained for classification or segmentation with any output stride.

        Args:
            weights: state dict with the authors' names, with or without the prefix ``module.``; that of a classifier
                doesn't change the head.

        Returns:
            Names of the weights that aren't used, such as ``linear.weight``.

        Raises:
            InputError: a tensor is missing or has another shape.
        """
        return _load_published(self, weights, optional=("final.",))


def _head(channels: int, between: int | None, classes: int) -> nn.Sequential:
    if between is None:
        return nn.Sequential(OrderedDict(conv1=nn.Conv2d(channels, classes, 1)))
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, dilation in enumerate((2, 1), 1):
        layers[f"conv{number}"] = nn.Conv2d(channels, between, 3, padding=dilation, dilation=dilation)
        layers[f"bn{number}"] = nn.BatchNorm2d(between)
        layers[f"relu{number}"] = nn.ReLU(inplace=True)
        channels = between
    layers["conv3"] = nn.Conv2d(channels, classes, 1)
    return nn.Sequential(layers)


class SUNetClassifier(nn.Module):
    """Classify images with SUNet, global average pooling and a fully connected layer.

    Args:
        in_channels: channels of the image.
        out_channels: classes.
        variant: size of the network, see :class:`SUNet`.
        output_stride: px of the image per px of the features, 32, 16 or 8; 32 in the paper, 7 x 7 px for 224 px.
        depth: levels of the u-nets, see :class:`SUNet`.
        dense: whether connections are dense, see :class:`SUNet`.
        width: factor of the channels inside, 1 for the paper's.

    Raises:
        InputError: as in :class:`SUNet`.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1000,
        variant: str = "7-128",
        output_stride: int = 32,
        depth: int = LEVELS,
        dense: bool = False,
        width: float = 1.0,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.features = _features(in_channels, variant, output_stride, False, depth, dense, width)
        self.linear = nn.Linear(self.features.bn2.num_features, out_channels)
        self.smallest = SMALLEST[output_stride]
        _initialize(self)
        nn.init.zeros_(self.linear.bias)

    def forward(self, image: Tensor) -> Tensor:
        """Map an image [N, in_channels, H, W] to logits [N, out_channels]."""
        if not torch.jit.is_scripting() and not torch.jit.is_tracing():
            check_size(image, 1, self.smallest, "SUNetClassifier")
        return self.linear(F.relu(self.features(image)).mean((2, 3)))

    @torch.jit.ignore  # type: ignore[untyped-decorator]
    def load_published(self, weights: dict[str, Tensor]) -> list[str]:
        """Load weights as :meth:`SUNet.load_published` does; ``linear`` is required too."""
        return _load_published(self, weights)


def _load_published(network: nn.Module, weights: dict[str, Tensor], optional: tuple[str, ...] = ()) -> list[str]:
    own, given = network.state_dict(), {}
    for name, tensor in weights.items():
        first, _, rest = name.removeprefix("module.").partition(".")
        number, _, kind = rest.partition(".")
        given[f"{first}.{FORMER_NAMES.get(number, number)}.{kind}" if first == "final" else f"{first}.{rest}"] = tensor
    # PyTorch before 0.4.1 didn't count batches.
    missing = [n for n in own.keys() - given.keys() if not n.startswith(optional) and "num_batches" not in n]
    wrong = [n for n in own.keys() & given.keys() if own[n].shape != given[n].shape]
    if missing or wrong:
        name = min(missing + wrong)
        found = list(given[name].shape) if name in given else "no such tensor"
        raise InputError(
            f"SUNet: {name}: expected shape {list(own[name].shape)}, got {found}; use the weights of this variant"
        )
    network.load_state_dict({name: tensor for name, tensor in given.items() if name in own}, strict=False)
    return sorted(given.keys() - own.keys())


def select_strongest(features: Tensor) -> Tensor:
    """Select the channel with the largest sum of magnitudes.

    Args:
        features: features [N, C, h, w].

    Returns:
        The channel of each image, [N, h, w].

    Reference:
        S. Shah et al., "Stacked U-Nets", 2018, figure 5.
    """
    channel = features.abs().sum((2, 3)).argmax(1)
    return features[torch.arange(len(features), device=features.device), channel]
