"""Classify with ResNet, and segment with its dilated form: the networks that SUNet's tables 2 and 3 compare with.

References:
    K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, table 1.
    S. Shah et al., "Stacked U-Nets", 2018, tables 2 and 3; https://arxiv.org/abs/1804.10343.
    L.-C. Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017, section 3.1.
    https://github.com/pytorch/vision, ``torchvision/models/resnet.py``: names of the layers, and the errors of table 2.
    https://github.com/kazuto1011/deeplab-pytorch: the trunk of DeepLab v2.

torchvision's networks have the stride of a stage in its first 3 x 3 convolution and round the size of the pooling down;
the original ones, and DeepLab's, have it in the first 1 x 1 convolution and round up. The weights are the same.

Dilated networks compute the same features as the classifier at the positions that the classifier keeps: where a stride
is left out, the convolutions behind it, and none before it, are dilated. In torchvision's layout this spares the first
3 x 3 convolution of a stage.

Numbers of parameters: ResNet-18 11,689,512, ResNet-50 25,557,032, ResNet-101 44,549,160, as published. Table 3 gives
44.5M for the segmenting ResNet-101 too; without the classifier, with scores of 21 classes, it has 42,543,189.
"""

from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from medpos.core.errors import InputError
from medpos.networks.layers.blocks import check_size, initialize_he, scale_channels
from medpos.networks.layers.freezing import freeze_statistics
from medpos.networks.layers.published import load_layers

STEM = 64
CHANNELS = (64, 128, 256, 512)  # inside the blocks of each stage


class _Block(nn.Sequential):
    """Add the output of a few convolutions to the input, or to its projection where sizes differ.

    It is a Sequential so that inference can fold the batch norm layers into the convolutions.

    Args:
        in_channels: channels of the input.
        channels: channels inside; the output has ``expansion`` times as many.
        stride: stride in px.
        dilations: dilation before and behind the stride in px.
        stride_first: whether the stride is in the first convolution, in any case.
    """

    expansion: int

    def __init__(
        self, in_channels: int, channels: int, stride: int, dilations: tuple[int, int], stride_first: bool
    ) -> None:
        super().__init__()
        self._add_convolutions(in_channels, channels, stride, dilations, stride_first)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module = nn.Identity()
        out_channels = self.expansion * channels
        if stride > 1 or in_channels != out_channels:
            projection = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(out_channels))

    def _add_convolutions(
        self, in_channels: int, channels: int, stride: int, dilations: tuple[int, int], stride_first: bool
    ) -> None:
        raise NotImplementedError


class BasicBlock(_Block):
    """Add two 3 x 3 convolutions, each with batch normalization, to the input, as in ResNet-18."""

    expansion = 1

    def _add_convolutions(
        self, in_channels: int, channels: int, stride: int, dilations: tuple[int, int], stride_first: bool
    ) -> None:
        before, behind = dilations
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, before, before, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, behind, behind, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to [N, channels, H / stride, W / stride], rounded up."""
        inside = self.relu(self.bn1(self.conv1(features)))
        return self.relu(self.bn2(self.conv2(inside)) + self.downsample(features))


class Bottleneck(_Block):
    """Add a 1 x 1, a 3 x 3 and a 1 x 1 convolution, each with batch normalization, to the input."""

    expansion = 4

    def _add_convolutions(
        self, in_channels: int, channels: int, stride: int, dilations: tuple[int, int], stride_first: bool
    ) -> None:
        strides, dilation = ((stride, 1), dilations[1]) if stride_first else ((1, stride), dilations[0])
        out_channels = self.expansion * channels
        self.conv1 = nn.Conv2d(in_channels, channels, 1, strides[0], bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, strides[1], dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to [N, 4 * channels, H / stride, W / stride], rounded up."""
        inside = self.relu(self.bn1(self.conv1(features)))
        inside = self.relu(self.bn2(self.conv2(inside)))
        return self.relu(self.bn3(self.conv3(inside)) + self.downsample(features))


# Block and number of blocks in each stage.
DEPTHS: dict[int, tuple[type[_Block], tuple[int, ...]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
}
STRIDES = (32, 16, 8)


def resnet_layers(
    depth: int, in_channels: int = 3, output_stride: int = 32, caffe: bool = False, width: float = 1.0
) -> "OrderedDict[str, nn.Module]":
    """Build the convolutions of a ResNet, from ``conv1`` to ``layer4``.

    Args:
        depth: 18, 50 or 101.
        in_channels: channels of the image.
        output_stride: px of the image per px of the features, 32, 16 or 8.
        caffe: whether strides are in the first convolution of a block, and the pooling rounds sizes up, as in the
            original networks and DeepLab's; otherwise as in torchvision's.
        width: factor of the channels inside, 1 for the paper's.

    Raises:
        InputError: unknown depth or output stride; a width that isn't above 0.
    """
    for name, value, known in (("depth", depth, DEPTHS), ("output_stride", output_stride, STRIDES)):
        if value not in known:
            raise InputError(f"{name}: expected one of {', '.join(map(str, known))}, got {value!r}")
    (block, counts), last = DEPTHS[depth], scale_channels(STEM, width)
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(in_channels, last, 7, 2, padding=3, bias=False),
        bn1=nn.BatchNorm2d(last),
        relu=nn.ReLU(inplace=True),
        maxpool=nn.MaxPool2d(3, 2, padding=1, ceil_mode=caffe),
    )
    reached, dilation = 4, 1
    for stage, (paper_channels, count) in enumerate(zip(CHANNELS, counts, strict=True), 1):
        channels, before, stride = scale_channels(paper_channels, width), dilation, 1 if stage == 1 else 2
        if stride > 1 and reached == output_stride:
            stride, dilation = 1, 2 * dilation
        reached *= stride
        blocks = [block(last, channels, stride, (before, dilation), caffe)]
        last = block.expansion * channels
        blocks += [block(last, channels, 1, (dilation, dilation), caffe) for _ in range(count - 1)]
        layers[f"layer{stage}"] = nn.Sequential(*blocks)
    return layers


class ResNetClassifier(nn.Sequential):
    """Classify images with ResNet, with torchvision's names of layers.

    Args:
        in_channels: channels of the image.
        out_channels: classes.
        depth: 18, 50 or 101 layers.
        width: factor of the channels inside, 1 for the paper's.

    Raises:
        InputError: unknown depth; a width that isn't above 0; in ``forward``, an image that isn't [N, C, H, W].
    """

    def __init__(self, in_channels: int = 3, out_channels: int = 1000, depth: int = 50, width: float = 1.0) -> None:
        layers = resnet_layers(depth, in_channels, width=width)
        layers["avgpool"] = nn.AdaptiveAvgPool2d(1)
        layers["flatten"] = nn.Flatten()
        expansion = DEPTHS[depth][0].expansion
        layers["fc"] = nn.Linear(expansion * scale_channels(CHANNELS[-1], width), out_channels)
        super().__init__(layers)
        self.in_channels = in_channels
        initialize_he(self, "fan_out")

    def forward(self, image: Tensor) -> Tensor:
        """Map an image [N, in_channels, H, W] to logits [N, out_channels]."""
        if not torch.jit.is_scripting() and not torch.jit.is_tracing():
            check_size(image, 1, 1, "ResNetClassifier")
        for layer in self:
            image = layer(image)
        return image

    @torch.jit.ignore  # type: ignore[untyped-decorator]
    def load_published(self, weights: Mapping[str, Tensor]) -> list[str]:
        """Load torchvision's weights; return the names of those that aren't used.

        Raises:
            InputError: a layer is missing or has another shape.
        """
        return load_layers(self, weights, _own_names(self))


class DilatedResNet(nn.Sequential):
    """Segment with a dilated ResNet: its features, a 1 x 1 convolution to the classes, and bilinear upsampling.

    Args:
        in_channels: channels of the image.
        out_channels: classes, including the background.
        depth: 18, 50 or 101 layers.
        output_stride: px of the image per px of the logits, 32, 16 or 8; the weights are the same for all.
        freeze_bn: whether batch norm statistics, scales and shifts are frozen.
        bn_momentum: momentum of the batch norm statistics.
        width: factor of the channels inside, 1 for the paper's.

    Raises:
        InputError: unknown depth or output stride; a width that isn't above 0; in ``forward``, an image that isn't
            [N, C, H, W].
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 21,
        depth: int = 101,
        output_stride: int = 16,
        freeze_bn: bool = False,
        bn_momentum: float = 0.01,
        width: float = 1.0,
    ) -> None:
        layers = resnet_layers(depth, in_channels, output_stride, width=width)
        last = DEPTHS[depth][0].expansion * scale_channels(CHANNELS[-1], width)
        layers["final"] = nn.Sequential(OrderedDict(conv1=nn.Conv2d(last, out_channels, 1)))
        super().__init__(layers)
        self.in_channels = in_channels
        initialize_he(self, "fan_out")
        for layer in self.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = bn_momentum
        if freeze_bn:
            freeze_statistics(self)

    def forward(self, image: Tensor) -> Tensor:
        """Map an image [N, in_channels, H, W] of any size to logits [N, out_channels, H, W]."""
        if not torch.jit.is_scripting() and not torch.jit.is_tracing():
            check_size(image, 1, 1, "DilatedResNet")
        logits = image
        for layer in self:
            logits = layer(logits)
        return F.interpolate(logits, size=image.shape[2:], mode="bilinear", align_corners=False)

    @torch.jit.ignore  # type: ignore[untyped-decorator]
    def load_published(self, weights: Mapping[str, Tensor]) -> list[str]:
        """Load all layers but the last from the weights of :class:`ResNetClassifier`; return the unused names.

        Raises:
            InputError: a layer is missing or has another shape.
        """
        names = _own_names(self)
        return load_layers(self, weights, {layer: name for layer, name in names.items() if layer != "final.conv1"})


def _own_names(network: nn.Module) -> dict[str, tuple[str]]:
    return {layer: (layer,) for layer in dict.fromkeys(name.rpartition(".")[0] for name in network.state_dict())}
