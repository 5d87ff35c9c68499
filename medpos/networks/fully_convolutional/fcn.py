"""Fully convolutional networks of VGG-16, in strides of 32, 16 and 8 px.

Reference:
    J. Long, E. Shelhamer, T. Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, figure 3;
    https://arxiv.org/abs/1411.4038. The authors' prototxt files: https://github.com/shelhamer/fcn.berkeleyvision.org.
    G. Boracchi, "Convolutional Neural Networks for Semantic Segmentation" (lecture).

Every image is padded with 100 px, so that one of any size gives scores; poolings round sizes up. A unit of fc7 sees
404 x 404 px. What is upsampled is cut at the offsets below, where the middles of the scores' fields lie on the image.
Layers bear the names of the authors' files, so that a stage's weights are transplanted into the next by their names.

Resolved where paper and files differ:
    - The files freeze all upsampling kernels; the paper learns those between and freezes the last; the lecture learns
      them. ``upsampling`` chooses. A kernel mixes the classes once it learns, but begins as the bilinear one on the
      diagonal of the classes.
    - Score layers begin at zero, as Caffe fills them, so FCN-16s begins as an FCN-32s upsampled by 2, then 16.
    - Without published weights the trunk begins as in K. He et al., ICCV 2015; Caffe's zeros would never learn.
    - At-once (files only): pool4 and pool3 are multiplied by 0.01 and 0.0001 before they are scored.
"""

from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from medpos.core.errors import InputError
from medpos.networks.fully_convolutional.vgg import STAGES, TORCHVISION
from medpos.networks.layers.blocks import check_size, initialize_he, times
from medpos.networks.layers.published import place
from medpos.networks.layers.upsampling import bilinear_kernel

PADDING = 100  # of the first convolution, in px
DENSE = 4096
DROPOUT = 0.5
UPSAMPLINGS = ("frozen", "intermediate", "learned")
SCALE_POOL4, SCALE_POOL3 = 0.01, 0.0001

# Layers of the network, and their names in Caffe's and torchvision's files.
VGG16: dict[str, tuple[str, ...]] = {
    f"{layer[:5]}.{layer}": (layer, f"features.{number}") for layer, number in TORCHVISION.items()
}
VGG16 |= {"fc6.conv": ("fc6", "classifier.0"), "fc7.conv": ("fc7", "classifier.3")}


class Upsampling(nn.Module):
    """A transposed convolution between classes without bias, which begins bilinear.

    Args:
        classes: channels of input and output.
        kernel_size: in px.
        stride: factor of the upsampling.
        learned: whether the kernel is a parameter, or else a buffer; the state dict is the same.
    """

    def __init__(self, classes: int, kernel_size: int, stride: int, learned: bool) -> None:
        super().__init__()
        self.stride = stride
        kernel = torch.eye(classes)[:, :, None, None] * bilinear_kernel(kernel_size, stride)
        if learned:
            self.weight = nn.Parameter(kernel)
        else:
            self.register_buffer("weight", kernel)

    def forward(self, scores: Tensor) -> Tensor:
        """Maps [N, classes, H, W] to [N, classes, (H - 1) stride + kernel_size, likewise for W]."""
        return F.conv_transpose2d(scores, self.weight, stride=self.stride)


def crop(features: Tensor, offset: int, like: Tensor) -> Tensor:
    """Cuts [N, C, H, W] to the height and width of ``like``, ``offset`` px from the top and left."""
    return features[:, :, offset : offset + like.shape[2], offset : offset + like.shape[3]]


def dense_block(in_channels: int, out_channels: int, kernel_size: int, dropout: float) -> nn.Sequential:
    """A dense layer of a classifier as convolution, with ReLU and dropout."""
    conv = nn.Conv2d(in_channels, out_channels, kernel_size)
    return nn.Sequential(OrderedDict(conv=conv, relu=nn.ReLU(inplace=True), dropout=nn.Dropout(dropout)))


def score_layer(in_channels: int, classes: int) -> nn.Conv2d:
    """A 1 x 1 convolution to the classes, which begins at zero; ``initialize_he`` goes before it."""
    layer = nn.Conv2d(in_channels, classes, 1)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def heads(network: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, tuple[str, ...]]:
    """Layers behind the classifier that the weights of a published FCN hold under the same name."""
    names = [name for name, _ in network.named_children() if name.startswith(("score_", "upscore", "scale_"))]
    return {name: (name,) for name in names if f"{name}.weight" in weights}


def check_upsampling(upsampling: str) -> None:
    """Refuses what isn't in ``UPSAMPLINGS``, with an InputError."""
    if upsampling not in UPSAMPLINGS:
        raise InputError(f"upsampling is {upsampling!r}, needed is one of {', '.join(UPSAMPLINGS)}")


class FCN32s(nn.Module):
    """FCN-32s: the scores of fc7, upsampled by 32.

    Args:
        in_channels: channels of the image.
        out_channels: classes.
        upsampling: ``"frozen"``, ``"intermediate"`` (all but the last upsampling learn) or ``"learned"``.
        dropout: probability after fc6 and fc7.
        width: factor of the channels inside, 1 for the paper's.

    Raises:
        InputError: unknown upsampling; width that isn't above 0; in ``forward``, an input that isn't [N, C, H, W].
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 21,
        upsampling: str = "frozen",
        dropout: float = DROPOUT,
        width: float = 1.0,
    ) -> None:
        super().__init__()
        check_upsampling(upsampling)
        self.in_channels = in_channels
        last, padding = in_channels, PADDING
        for stage, paper_channels in STAGES.items():
            layers: OrderedDict[str, nn.Module] = OrderedDict()
            for number, channels in enumerate((times(wide, width) for wide in paper_channels), 1):
                layers[f"{stage}_{number}"] = nn.Conv2d(last, channels, 3, padding=padding)
                layers[f"relu{stage[-1]}_{number}"] = nn.ReLU(inplace=True)
                last, padding = channels, 1
            self.add_module(stage, nn.Sequential(layers))
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        dense = times(DENSE, width)
        self.fc6 = dense_block(last, dense, 7, dropout)
        self.fc7 = dense_block(dense, dense, 1, dropout)
        initialize_he(self)
        self.score_fr = score_layer(dense, out_channels)
        self._add_upsampling(out_channels, upsampling, width)

    def _add_upsampling(self, classes: int, upsampling: str, width: float) -> None:
        self.upscore = Upsampling(classes, 64, 32, upsampling == "learned")

    def load_published(self, weights: Mapping[str, Tensor]) -> list[str]:
        """Sets the trunk, fc6 and fc7 to published weights of VGG-16.

        Args:
            weights: state dict with the names of the authors' Caffe model, ``conv1_1.weight`` to ``fc7.bias``, or those
                of torchvision, ``features.0.weight`` to ``classifier.3.bias``; fc6 and fc7 may be dense layers. Of a
                published FCN the score and upsampling layers are taken as well. Caffe's weights want channels in the
                order BGR, 0 to 255, less (104.00699, 116.66877, 122.67892); torchvision's RGB, 0 to 1, standardised.

        Returns:
            Names of the weights that have no place, as of the classifier's last layer.

        Raises:
            InputError: a layer is missing or has another shape.
        """
        return place(self, weights, VGG16 | heads(self, weights))

    def _trunk(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gives pool3, pool4 and the scores of fc7."""
        if not torch.jit.is_scripting() and not torch.jit.is_tracing():
            check_size(image, 1, 1, "FCN")
        pool1 = self.pool(self.conv1(image))
        pool2 = self.pool(self.conv2(pool1))
        pool3 = self.pool(self.conv3(pool2))
        pool4 = self.pool(self.conv4(pool3))
        pool5 = self.pool(self.conv5(pool4))
        return pool3, pool4, self.score_fr(self.fc7(self.fc6(pool5)))

    def forward(self, image: Tensor) -> Tensor:
        """Maps an image [N, in_channels, H, W] of any size to logits [N, out_channels, H, W]."""
        return crop(self.upscore(self._trunk(image)[2]), 19, image)


class FCN16s(FCN32s):
    """FCN-16s: the scores of fc7, upsampled by 2, plus those of pool4, upsampled by 16; arguments as of FCN32s."""

    def _add_upsampling(self, classes: int, upsampling: str, width: float) -> None:
        self.upscore2 = Upsampling(classes, 4, 2, upsampling != "frozen")
        self.score_pool4 = score_layer(times(STAGES["conv4"][-1], width), classes)
        self.upscore16 = Upsampling(classes, 32, 16, upsampling == "learned")

    def forward(self, image: Tensor) -> Tensor:
        """Maps an image [N, in_channels, H, W] of any size to logits [N, out_channels, H, W]."""
        _, pool4, scores = self._trunk(image)
        upscore2 = self.upscore2(scores)
        fuse_pool4 = upscore2 + crop(self.score_pool4(pool4), 5, upscore2)
        return crop(self.upscore16(fuse_pool4), 27, image)


class FCN8s(FCN32s):
    """FCN-8s: as FCN-16s, but the sum is upsampled by 2, plus the scores of pool3, upsampled by 8.

    Args:
        in_channels: channels of the image.
        out_channels: classes.
        upsampling: as of FCN32s.
        dropout: probability after fc6 and fc7.
        at_once: whether pool4 and pool3 are scaled, for a training that begins with VGG-16 instead of FCN-16s.
        width: factor of the channels inside, 1 for the paper's.

    Raises:
        InputError: as of FCN32s.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 21,
        upsampling: str = "frozen",
        dropout: float = DROPOUT,
        at_once: bool = False,
        width: float = 1.0,
    ) -> None:
        super().__init__(in_channels, out_channels, upsampling, dropout, width)
        self.scale_pool4: nn.Module = nn.Identity()
        self.scale_pool3: nn.Module = nn.Identity()
        if at_once:
            self.scale_pool4 = FixedScale(self.score_pool4.in_channels, SCALE_POOL4)
            self.scale_pool3 = FixedScale(self.score_pool3.in_channels, SCALE_POOL3)

    def _add_upsampling(self, classes: int, upsampling: str, width: float) -> None:
        self.upscore2 = Upsampling(classes, 4, 2, upsampling != "frozen")
        self.score_pool4 = score_layer(times(STAGES["conv4"][-1], width), classes)
        self.upscore_pool4 = Upsampling(classes, 4, 2, upsampling != "frozen")
        self.score_pool3 = score_layer(times(STAGES["conv3"][-1], width), classes)
        self.upscore8 = Upsampling(classes, 16, 8, upsampling == "learned")

    def forward(self, image: Tensor) -> Tensor:
        """Maps an image [N, in_channels, H, W] of any size to logits [N, out_channels, H, W]."""
        pool3, pool4, scores = self._trunk(image)
        upscore2 = self.upscore2(scores)
        fuse_pool4 = upscore2 + crop(self.score_pool4(self.scale_pool4(pool4)), 5, upscore2)
        upscore_pool4 = self.upscore_pool4(fuse_pool4)
        fuse_pool3 = upscore_pool4 + crop(self.score_pool3(self.scale_pool3(pool3)), 9, upscore_pool4)
        return crop(self.upscore8(fuse_pool3), 31, image)


class FixedScale(nn.Module):
    """Multiplies by a fixed factor a channel, which is kept in the state dict.

    Args:
        channels: of the input.
        factor: of all channels.
    """

    def __init__(self, channels: int, factor: float) -> None:
        super().__init__()
        self.register_buffer("weight", torch.full((channels,), factor))

    def forward(self, features: Tensor) -> Tensor:
        """Maps [N, channels, H, W] to the same shape."""
        return features * self.weight[:, None, None]
