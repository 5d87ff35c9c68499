"""DeepLab: VGG-16 and ResNet-101 with holes in their filters, so that one score stands for 8 x 8 px.

References:
    L.-C. Chen et al., "Semantic Image Segmentation with Deep Convolutional Nets and Fully Connected CRFs", ICLR 2015
    (v1), table 2; https://arxiv.org/abs/1412.7062.
    L.-C. Chen et al., "DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous Convolution, and Fully
    Connected CRFs", PAMI 2018 (v2), sections 3.1, 3.2 and 4.1; https://arxiv.org/abs/1606.00915.
    The authors' prototxt files; https://github.com/kazuto1011/deeplab-pytorch.

Poolings are 3 x 3, so that sizes 8 k + 1 (the authors' 8 k - 7: 321, 513) become k + 1 with the middles of the fields
on every 8th pixel, and the scores of the corners belong to the corners of the image. The labels of the training are
those pixels; for the whole image the scores are enlarged by 8, aligned at the corners.

Resolved where papers and files are silent or differ:
    - The field of view of v1's table 2 is nominal: with LargeFOV a unit of fc6 sees 435 x 435 px.
    - LargeFOV of VGG-16 averages after pool5 (pool5a); the pyramids begin at pool5 (prototxt).
    - Image scales are taken with aligned corners, so all three of the paper's need sizes 32 k + 1 (the authors'
      32 k - 31). Scores are fused at the size of the largest scale's scores (prototxt), not at the image's (text).
    - The batch normalisation of ResNet-101 stays as it was on ImageNet, weights and statistics.
    - VGG-16 has 4096 channels in fc6 and fc7; for the smaller ones every 4th is kept, and of 7 x 7 px every 3rd for 3 x
      3, every 2nd for 4 x 4 ("decimation", v1, section 3.2).
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
from medpos.networks.fully_convolutional.resnet import resnet101
from medpos.networks.fully_convolutional.vgg import STAGES, TORCHVISION
from medpos.networks.layers.blocks import check_size, initialize_he, times
from medpos.networks.layers.published import place

STRIDE = 8
POOL_STRIDES = {"pool1": 2, "pool2": 2, "pool3": 2, "pool4": 1, "pool5": 1}
CONV5_DILATION = 2
DENSE_SIDE = 7  # of VGG-16's fc6, in px of pool5
DROPOUT = 0.5
SCORE_STD = 0.01  # of the last layers' first weights
MULTI_SCALE = (0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Head:
    """What follows the trunk.

    Attributes:
        kernel: height and width of fc6, in px of the scores.
        rates: its dilation, in px of the scores; several stand for parallel heads, whose scores are summed.
        channels: of fc6 and fc7.
        average: whether pool5 is averaged before.
    """

    kernel: int
    rates: tuple[int, ...]
    channels: int = 1024
    average: bool = False


HEADS = {
    "7x7": Head(7, (4,), 4096),
    "small_fov": Head(4, (4,), 4096),
    "4x4": Head(4, (8,), 4096),
    "large_fov": Head(3, (12,), average=True),
    "aspp_s": Head(3, (2, 4, 8, 12)),
    "aspp_l": Head(3, (6, 12, 18, 24)),
}
RESNET_HEADS = ("large_fov", "aspp_s", "aspp_l")


class _DeepLab(nn.Module):
    """A trunk, heads whose scores are summed, and the scales at which they see the image."""

    others: list[tuple[int, int]]

    def __init__(self, trunk: nn.Module, heads: Sequence[nn.Module], in_channels: int, scales: Sequence[float]) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.trunk = trunk
        self.heads = nn.ModuleList(heads)
        if 1 not in scales or min(scales) <= 0:
            raise InputError(f"scales are {list(scales)}, needed are factors above 0, 1 among them, as {MULTI_SCALE}")
        fractions = [Fraction(scale).limit_denominator(100) for scale in sorted(scales, reverse=True)]
        # Whole numbers can be traced; sizes less one are what is scaled, as corners stay corners.
        self.others = [(part.numerator, part.denominator) for part in fractions if part != 1]
        steps = [STRIDE * part.denominator // math.gcd(part.numerator, STRIDE) for part in fractions]
        self.multiple = math.lcm(*steps)

    def scores(self, image: Tensor) -> Tensor:
        """Maps [N, in_channels, H, W] to scores [N, out_channels, (H - 1) / 8 + 1, (W - 1) / 8 + 1]."""
        features = self.trunk(image)
        return torch.stack([head(features) for head in self.heads]).sum(dim=0)

    # TorchScript knows no tuple of any length, hence the list.
    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Maps an image [N, in_channels, H, W] to logits [N, out_channels, H, W].

        In training to the scores of every 8th pixel, [N, out_channels, (H - 1) / 8 + 1, (W - 1) / 8 + 1]; with several
        scales to a list: those of the image, those of each other scale, at its own size, and the maximum of all at the
        size of the image's, for a loss on each, see :class:`medpos.losses.ScoreCrossEntropy`.
        """
        if not torch.jit.is_scripting() and not torch.jit.is_tracing():
            check_size(image, self.multiple, 1, type(self).__name__, offset=1)
        scores = self.scores(image)
        outputs, best = [scores], scores
        for over, under in self.others:
            height, width = [(size - 1) * over // under + 1 for size in image.shape[2:]]
            outputs.append(self.scores(_resized(image, height, width)))
            best = torch.maximum(best, _resized(outputs[-1], scores.shape[2], scores.shape[3]))
        if not self.training:
            return _resized(best, image.shape[2], image.shape[3])
        if len(outputs) == 1:
            return scores
        outputs.append(best)
        return outputs


def _resized(images: Tensor, height: int, width: int) -> Tensor:
    """Bilinear, corners on corners."""
    return F.interpolate(images, size=(height, width), mode="bilinear", align_corners=True)


class DeepLabVGG(_DeepLab):
    """DeepLab of VGG-16; its layers bear the names of the authors' files, ``trunk.conv1_1`` and ``heads.0.fc8``.

    ``fc8`` are the last layers, which learn ten times as fast as the others, and their biases twenty times.

    Args:
        in_channels: channels of the image.
        out_channels: classes.
        head: of v1 ``"7x7"``, ``"small_fov"`` (4 x 4 with holes of 4), ``"4x4"`` (of 8) and ``"large_fov"``; of v2
            ``"large_fov"``, ``"aspp_s"`` and ``"aspp_l"``, the small and the large pyramid.
        scales: of the image, 1 among them; ``(0.5, 0.75, 1)`` are the paper's multi-scale inputs.
        dropout: probability after fc6 and fc7.
        width: factor of the channels inside, 1 for the paper's.

    Raises:
        InputError: unknown head; scales without 1; width that isn't above 0; in ``forward``, H or W that isn't 8 k + 1
            (with the paper's scales 32 k + 1).
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
        kind = _head(head, tuple(HEADS))
        last, channels = times(STAGES["conv5"][-1], width), times(kind.channels, width)
        heads = [_vgg_head(last, channels, out_channels, kind.kernel, rate, dropout) for rate in kind.rates]
        super().__init__(_vgg_trunk(in_channels, width, kind.average), heads, in_channels, scales)
        initialize_he(self)
        for one in heads:
            nn.init.normal_(one.fc8.weight, std=SCORE_STD)

    def load_published(self, weights: Mapping[str, Tensor]) -> list[str]:
        """Sets the layers to published weights, the last ones only to those of a DeepLab of as many classes.

        Args:
            weights: state dict of VGG-16 with the names of torchvision, ``features.0.weight``, or of Caffe,
                ``conv1_1.weight``, whose dense layers are decimated where they are larger; or of the authors' networks,
                ``fc6.weight``, ``fc8_voc12.weight``, with parallel heads ``fc6_1.weight`` and on. Caffe's want channels
                in the order BGR, 0 to 255, less (104.008, 116.669, 122.675); torchvision's RGB, 0 to 1, standardised.

        Returns:
            Names of the weights that have no place, as of ImageNet's last layer.

        Raises:
            InputError: a layer is missing, or has a shape that can't be decimated.
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
                    f"{name}.{kind}": _decimated(weights[f"{name}.{kind}"], target)
                    for name in published
                    for kind, target in conv.named_parameters()
                    if f"{name}.{kind}" in weights
                }
        suffixes = [""] if len(self.heads) == 1 else [f"_{n + 1}" for n in range(len(self.heads))]
        last = {f"heads.{n}.fc8": f"fc8_voc12{suffix}" for n, suffix in enumerate(suffixes)}
        return place(self, given, names | _fitting(self, weights, last))


class DeepLabResNet(_DeepLab):
    """DeepLab v2 of ResNet-101; its layers bear torchvision's names, ``trunk.conv1``, and ``heads.0`` and on.

    ``heads`` are the last layers, which learn ten times as fast as the others, and their biases twenty times.

    Args:
        in_channels: channels of the image.
        out_channels: classes.
        head: ``"large_fov"``, ``"aspp_s"`` or ``"aspp_l"``: 3 x 3 convolutions to the classes.
        scales: as of :class:`DeepLabVGG`.
        frozen_norms: batch normalisations keep weights and statistics, as the published ones want it; without published
            weights they must learn, or nothing keeps the features in bounds.
        width: factor of the channels inside, 1 for the paper's.

    Raises:
        InputError: as of :class:`DeepLabVGG`.
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
        kind, trunk = _head(head, RESNET_HEADS), resnet101(in_channels, width)
        last = trunk.layer4[-1].conv3.out_channels
        heads = [nn.Conv2d(last, out_channels, 3, padding=rate, dilation=rate) for rate in kind.rates]
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
        """Sets training or evaluation mode, but for frozen batch normalisations."""
        super().train(mode)
        if self.frozen_norms:
            for norm in self._norms():
                norm.eval()
        return self

    def load_published(self, weights: Mapping[str, Tensor]) -> list[str]:
        """Sets the layers to published weights, the last ones only to those of a DeepLab of as many classes.

        Args:
            weights: state dict of ResNet-101 with torchvision's names, ``layer1.0.conv1.weight``; of a DeepLab also
                ``fc1_voc12_c0.weight`` to ``fc1_voc12_c3.weight``, or ``fc1_voc12.weight``.

        Returns:
            Names of the weights that have no place, as of ImageNet's last layer.

        Raises:
            InputError: a layer is missing or has another shape.
        """
        layers = {name.rpartition(".")[0] for name in self.trunk.state_dict()}
        names: dict[str, Sequence[str]] = {f"trunk.{layer}": (layer,) for layer in sorted(layers)}
        suffixes = [""] if len(self.heads) == 1 else [f"_c{n}" for n in range(len(self.heads))]
        last = {f"heads.{n}": f"fc1_voc12{suffix}" for n, suffix in enumerate(suffixes)}
        return place(self, weights, names | _fitting(self, weights, last))


def _head(name: str, names: Sequence[str]) -> Head:
    if name not in names:
        raise InputError(f"head is {name!r}, needed is one of {', '.join(names)}")
    return HEADS[name]


def _vgg_trunk(in_channels: int, width: float, average: bool) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    last = in_channels
    for number, (stage, paper_channels) in enumerate(STAGES.items(), 1):
        dilation = CONV5_DILATION if stage == "conv5" else 1
        for index, channels in enumerate((times(wide, width) for wide in paper_channels), 1):
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


def _decimated(values: Tensor, like: Tensor) -> Tensor:
    """Keeps every k-th value along each axis, as few as ``like`` has; a dense layer is seen as a convolution first."""
    if values.dim() == 2 and like.dim() == 4:
        side = DENSE_SIDE if like.shape[2] > 1 else 1
        if values.shape[1] % side**2 == 0:
            values = values.reshape(len(values), -1, side, side)
    if values.dim() != like.dim():
        return values
    return values[tuple(slice(None, None, -(-n // m)) for n, m in zip(values.shape, like.shape, strict=True))]


def _fitting(network: nn.Module, weights: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Sequence[str]]:
    """The last layers and their published names, where the weights hold them for as many classes; else none."""
    own, published = next(iter(names.items()))
    given = weights.get(f"{published}.weight")
    fits = given is not None and len(given) == len(network.get_submodule(own).weight)
    return {layer: (name,) for layer, name in names.items()} if fits else {}
