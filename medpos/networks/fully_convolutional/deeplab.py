"""Segment with DeepLab: VGG-16 and ResNet-101 with dilated convolutions and an output stride of 8 px.

References:
    L.-C. Chen et al., "Semantic Image Segmentation with Deep Convolutional Nets and Fully Connected CRFs", ICLR 2015
    (v1), table 2; https://arxiv.org/abs/1412.7062.
    L.-C. Chen et al., "DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous Convolution, and Fully
    Connected CRFs", PAMI 2018 (v2), sections 3.1, 3.2 and 4.1; https://arxiv.org/abs/1606.00915.
    The authors' prototxt files; https://github.com/kazuto1011/deeplab-pytorch.

Poolings are 3 x 3, so that a size of 8 k + 1 px (the authors' 8 k - 7: 321, 513) becomes k + 1 scores; their receptive
fields are centered on every 8th pixel, and the first and last score on the corners of the image. Training compares the
scores with the labels of these pixels; for the whole image, the scores are upsampled by 8 with aligned corners.

Resolved where papers and files are silent or differ:
    - The field of view in v1's table 2 is nominal: with LargeFOV the receptive field of fc6 has 435 x 435 px.
    - LargeFOV of VGG-16 averages after pool5 (pool5a); the pyramids start from pool5 (prototxt).
    - Images are scaled with aligned corners, so the paper's three scales need sizes of 32 k + 1 px (the authors'
      32 k - 31). Scores are fused at the size of the largest scale's scores (prototxt), not at the image's (text).
    - v2 doesn't give the last layer of ResNet-101 with neither LargeFOV nor ASPP (tables 4, 6, 9); here it is
      ``"1x1"``, ResNet's dense layer made convolutional.
    - The batch norm layers of ResNet-101 keep their weights and statistics from ImageNet.
    - VGG-16 has 4096 channels in fc6 and fc7; for smaller layers every 4th channel is kept, and of the 7 x 7 px every
      3rd for 3 x 3, every 2nd for 4 x 4 ("decimation", v1, section 3.2).
"""

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from medpos.core.errors import InputError
from medpos.networks.classification.resnet import resnet_layers
from medpos.networks.fully_convolutional.vgg import STAGES, TORCHVISION
from medpos.networks.layers.blocks import check_size, initialize_he, scale_channels
from medpos.networks.layers.published import load_layers

STRIDE = 8
POOL_STRIDES = {"pool1": 2, "pool2": 2, "pool3": 2, "pool4": 1, "pool5": 1}
CONV5_DILATION = 2
DENSE_SIDE = 7  # side of the input of VGG-16's fc6, in px of pool5
DROPOUT = 0.5
SCORE_STD = 0.01  # standard deviation of the last layers' initial weights
MULTI_SCALE = (0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Head:
    """Hold the configuration of the layers after the trunk.

    Attributes:
        kernel: side of fc6's kernel in px of the scores.
        rates: dilation of fc6 in px of the scores, one for each parallel head; the scores of the heads are summed.
        channels: channels of fc6 and fc7.
        average: whether an average pooling comes before fc6.
    """

    kernel: int
    rates: tuple[int, ...]
    channels: int = 1024
    average: bool = False


HEADS = {
    "1x1": Head(1, (1,)),
    "7x7": Head(7, (4,), 4096),
    "small_fov": Head(4, (4,), 4096),
    "4x4": Head(4, (8,), 4096),
    "large_fov": Head(3, (12,), average=True),
    "aspp_s": Head(3, (2, 4, 8, 12)),
    "aspp_l": Head(3, (6, 12, 18, 24)),
}
VGG_HEADS = tuple(name for name in HEADS if name != "1x1")
RESNET_HEADS = ("1x1", "large_fov", "aspp_s", "aspp_l")


class _DeepLab(nn.Module):
    """Sum the scores of heads on one trunk, and take their maximum over several scales of the image."""

    other_scales: list[tuple[int, int]]

    def __init__(self, trunk: nn.Module, heads: Sequence[nn.Module], in_channels: int, scales: Sequence[float]) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.trunk = trunk
        self.heads = nn.ModuleList(heads)
        if 1 not in scales or min(scales) <= 0:
            raise InputError(f"scales: expected factors above 0 and 1 among them, as {MULTI_SCALE}, got {list(scales)}")
        fractions = [Fraction(scale).limit_denominator(100) for scale in sorted(scales, reverse=True)]
        # Integers can be traced. Sizes minus one are scaled, because corners are aligned.
        self.other_scales = [(part.numerator, part.denominator) for part in fractions if part != 1]
        steps = [STRIDE * part.denominator // math.gcd(part.numerator, STRIDE) for part in fractions]
        self.multiple = math.lcm(*steps)

    def scores(self, image: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to scores [N, out_channels, (H - 1) / 8 + 1, (W - 1) / 8 + 1] at one scale."""
        features = self.trunk(image)
        return torch.stack([head(features) for head in self.heads]).sum(dim=0)

    # A list, because TorchScript has no tuples of variable length.
    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Map an image [N, in_channels, H, W] to logits [N, out_channels, H, W].

        In training, map it to the scores of every 8th pixel, [N, out_channels, (H - 1) / 8 + 1, (W - 1) / 8 + 1]. With
        several scales, map it to a list: the scores of the image, those of each other scale at its own size, and the
        maximum of all at the size of the first, for a loss on each (:class:`medpos.losses.ScoreCrossEntropy`).
        """
        if not torch.jit.is_scripting() and not torch.jit.is_tracing():
            check_size(image, self.multiple, 1, type(self).__name__, offset=1)
        scores = self.scores(image)
        outputs, best = [scores], scores
        for over, under in self.other_scales:
            height, width = [(size - 1) * over // under + 1 for size in image.shape[2:]]
            outputs.append(self.scores(_resize(image, height, width)))
            best = torch.maximum(best, _resize(outputs[-1], scores.shape[2], scores.shape[3]))
        if not self.training:
            return _resize(best, image.shape[2], image.shape[3])
        if len(outputs) == 1:
            return scores
        outputs.append(best)
        return outputs


def _resize(images: Tensor, height: int, width: int) -> Tensor:
    """Resize bilinearly, with aligned corners."""
    return F.interpolate(images, size=(height, width), mode="bilinear", align_corners=True)


class DeepLabVGG(_DeepLab):
    """Segment with DeepLab on VGG-16, with the authors' names of layers, ``trunk.conv1_1`` and ``heads.0.fc8``.

    The last layers ``fc8`` learn ten times as fast as the others, their biases twenty times.

    Args:
        in_channels: channels of the image.
        out_channels: classes.
        head: head of v1, ``"7x7"``, ``"small_fov"`` (4 x 4, dilation 4), ``"4x4"`` (dilation 8) or ``"large_fov"``, or
            of v2, ``"large_fov"``, ``"aspp_s"`` or ``"aspp_l"`` (the small and the large pyramid).
        scales: scales of the image, including 1; ``(0.5, 0.75, 1)`` are the paper's multi-scale inputs.
        dropout: dropout probability after fc6 and fc7.
        width: factor of the channels inside, 1 for the paper's.

    Raises:
        InputError: unknown head; scales without 1; a width that isn't above 0; in ``forward``, H or W that isn't
            8 k + 1 (with the paper's scales 32 k + 1).
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 21,
        head: str = "large_fov",
        scales: Sequence[float] = (1.0,),
        dropout: float = DROPOUT,
        width: float = 1.0,
    ) -> None:
        kind = _head(head, VGG_HEADS)
        last, channels = scale_channels(STAGES["conv5"][-1], width), scale_channels(kind.channels, width)
        heads = [_vgg_head(last, channels, out_channels, kind.kernel, rate, dropout) for rate in kind.rates]
        super().__init__(_vgg_trunk(in_channels, width, kind.average), heads, in_channels, scales)
        initialize_he(self)
        for one in heads:
            nn.init.normal_(one.fc8.weight, std=SCORE_STD)

    def load_published(self, weights: Mapping[str, Tensor]) -> list[str]:
        """Load published weights; the last layers only from a DeepLab with the same number of classes.

        Args:
            weights: state dict of VGG-16 with the names of torchvision, ``features.0.weight``, or of Caffe,
                ``conv1_1.weight``; dense layers that are too large are decimated. Or that of the authors' networks,
                ``fc6.weight``, ``fc8_voc12.weight``, with parallel heads ``fc6_1.weight`` and so on. Caffe's weights
                expect BGR images, 0 to 255, minus (104.008, 116.669, 122.675); torchvision's expect standardized RGB
                images.

        Returns:
            Names of the weights that aren't used, such as those of ImageNet's last layer.

        Raises:
            InputError: a layer is missing, or its shape can't be decimated.
        """
        names: dict[str, Sequence[str]] = {}
        names |= {f"trunk.{layer}": (layer, f"features.{number}") for layer, number in TORCHVISION.items()}
        given = dict(weights)
        for n, head in enumerate(self.heads):
            for layer, dense in (("fc6", "classifier.0"), ("fc7", "classifier.3")):
                published = (f"{layer}_{n + 1}", layer, dense)
                names[f"heads.{n}.{layer}"] = published
                conv = head.get_submodule(layer)
                given |= {
                    f"{name}.{kind}": _decimate(weights[f"{name}.{kind}"], target)
                    for name in published
                    for kind, target in conv.named_parameters()
                    if f"{name}.{kind}" in weights
                }
        suffixes = [""] if len(self.heads) == 1 else [f"_{n + 1}" for n in range(len(self.heads))]
        last = {f"heads.{n}.fc8": f"fc8_voc12{suffix}" for n, suffix in enumerate(suffixes)}
        return load_layers(self, given, names | _fitting_names(self, weights, last))


class DeepLabResNet(_DeepLab):
    """Segment with DeepLab v2 on ResNet-101, with torchvision's names of layers, ``trunk.conv1``, and ``heads.0``.

    The last layers ``heads`` learn ten times as fast as the others, their biases twenty times.

    Args:
        in_channels: channels of the image.
        out_channels: classes.
        head: convolutions to the classes, ``"large_fov"``, ``"aspp_s"`` or ``"aspp_l"`` of 3 x 3, or ``"1x1"``.
        scales: scales of the image, as in :class:`DeepLabVGG`.
        frozen_norms: whether batch norm layers keep weights and statistics, as published weights need it; without
            published weights they must be trained, or features grow without bounds.
        width: factor of the channels inside, 1 for the paper's.

    Raises:
        InputError: as in :class:`DeepLabVGG`.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 21,
        head: str = "aspp_l",
        scales: Sequence[float] = (1.0,),
        frozen_norms: bool = True,
        width: float = 1.0,
    ) -> None:
        kind = _head(head, RESNET_HEADS)
        trunk = nn.Sequential(resnet_layers(101, in_channels, STRIDE, caffe=True, width=width))
        last = trunk.layer4[-1].conv3.out_channels
        side = kind.kernel
        heads = [nn.Conv2d(last, out_channels, side, 1, rate * (side // 2), rate) for rate in kind.rates]
        super().__init__(trunk, heads, in_channels, scales)
        initialize_he(self, "fan_out")
        for one in heads:
            nn.init.normal_(one.weight, std=SCORE_STD)
        self.frozen_norms = frozen_norms
        if frozen_norms:
            for norm in self._norms():
                norm.requires_grad_(False)

    def _norms(self) -> list[nn.Module]:
        return [layer for layer in self.modules() if isinstance(layer, nn.BatchNorm2d)]

    def train(self, mode: bool = True) -> "DeepLabResNet":
        """Set training or evaluation mode, except for frozen batch norm layers."""
        super().train(mode)
        if self.frozen_norms:
            for norm in self._norms():
                norm.eval()
        return self

    def load_published(self, weights: Mapping[str, Tensor]) -> list[str]:
        """Load published weights; the last layers only from a DeepLab with the same number of classes.

        Args:
            weights: state dict of ResNet-101 with torchvision's names, ``layer1.0.conv1.weight``; that of a DeepLab
                also has ``fc1_voc12_c0.weight`` to ``fc1_voc12_c3.weight``, or ``fc1_voc12.weight``.

        Returns:
            Names of the weights that aren't used, such as those of ImageNet's last layer.

        Raises:
            InputError: a layer is missing or has another shape.
        """
        layers = {name.rpartition(".")[0] for name in self.trunk.state_dict()}
        names: dict[str, Sequence[str]] = {f"trunk.{layer}": (layer,) for layer in sorted(layers)}
        suffixes = [""] if len(self.heads) == 1 else [f"_c{n}" for n in range(len(self.heads))]
        last = {f"heads.{n}": f"fc1_voc12{suffix}" for n, suffix in enumerate(suffixes)}
        return load_layers(self, weights, names | _fitting_names(self, weights, last))


def _head(name: str, names: Sequence[str]) -> Head:
    if name not in names:
        raise InputError(f"head: expected one of {', '.join(names)}, got {name!r}")
    return HEADS[name]


def _vgg_trunk(in_channels: int, width: float, average: bool) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    last = in_channels
    for number, (stage, paper_channels) in enumerate(STAGES.items(), 1):
        dilation = CONV5_DILATION if stage == "conv5" else 1
        for index, channels in enumerate((scale_channels(wide, width) for wide in paper_channels), 1):
            layers[f"{stage}_{index}"] = nn.Conv2d(last, channels, 3, padding=dilation, dilation=dilation)
            layers[f"relu{number}_{index}"] = nn.ReLU(inplace=True)
            last = channels
        layers[f"pool{number}"] = nn.MaxPool2d(3, POOL_STRIDES[f"pool{number}"], padding=1)
    if average:
        layers["pool5a"] = nn.AvgPool2d(3, 1, padding=1)
    return nn.Sequential(layers)


def _vgg_head(last: int, channels: int, classes: int, kernel: int, rate: int, dropout: float) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        fc6=nn.Conv2d(last, channels, kernel, padding=rate * (kernel - 1) // 2, dilation=rate),
        relu6=nn.ReLU(inplace=True),
        drop6=nn.Dropout(dropout),
        fc7=nn.Conv2d(channels, channels, 1),
        relu7=nn.ReLU(inplace=True),
        drop7=nn.Dropout(dropout),
        fc8=nn.Conv2d(channels, classes, 1),
    )
    return nn.Sequential(layers)


def _decimate(values: Tensor, like: Tensor) -> Tensor:
    """Keep every k-th value along each axis, as many as ``like`` has, after reshaping dense layers to convolutions."""
    if values.dim() == 2 and like.dim() == 4:
        side = DENSE_SIDE if like.shape[2] > 1 else 1
        if values.shape[1] % side**2 == 0:
            values = values.reshape(len(values), -1, side, side)
    if values.dim() != like.dim():
        return values
    return values[tuple(slice(None, None, -(-n // m)) for n, m in zip(values.shape, like.shape, strict=True))]


def _fitting_names(
    network: nn.Module, weights: Mapping[str, Tensor], names: Mapping[str, str]
) -> dict[str, Sequence[str]]:
    """Map the last layers to their published names if the weights have the same number of classes; else return {}."""
    own, published = next(iter(names.items()))
    given = weights.get(f"{published}.weight")
    fits = given is not None and len(given) == len(network.get_submodule(own).weight)
    return {layer: (name,) for layer, name in names.items()} if fits else {}
