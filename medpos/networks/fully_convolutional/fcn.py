"""Segment with fully convolutional VGG-16 networks with output strides of 32, 16 and 8 px.

Reference:
    J. Long, E. Shelhamer, T. Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, figure 3;
    https://arxiv.org/abs/1411.4038. The authors' prototxt files: https://github.com/shelhamer/fcn.berkeleyvision.org.
    G. Boracchi, "Convolutional Neural Networks for Semantic Segmentation" (lecture).

Every image is padded by 100 px, so that images of any size have scores; poolings round sizes up. The receptive field of
fc7 has 404 x 404 px. Upsampled scores are cropped at the offsets below, which put the centers of the scores' receptive
fields on the image. Layers have the names of the authors' files, so that weights are transplanted by name from one
stage into the next.

Resolved where paper and files differ:
    - The files freeze all upsampling kernels; the paper trains the intermediate ones and freezes the last; the lecture
      trains all. ``upsampling`` selects one of these. A trained kernel can mix the classes, but starts as a bilinear
      kernel on the diagonal of the classes.
    - Score layers start at zero, as in Caffe, so FCN-16s starts as an FCN-32s upsampled by 2, then 16.
    - Without published weights the trunk is initialized as in K. He et al., ICCV 2015; Caffe's zeros would never learn.
    - At-once (files only): pool4 and pool3 are multiplied by 0.01 and 0.0001 before their score layers.
"""

from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from medpos.core.errors import InputError
from medpos.networks.fully_convolutional.vgg import STAGES, TORCHVISION
from medpos.networks.layers.blocks import check_size, initialize_he, scale_channels
from medpos.networks.layers.published import load_layers
from medpos.networks.layers.upsampling import bilinear_kernel

PADDING = 100  # px around the input of the first convolution
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
    """Upsample scores by a transposed convolution without bias that starts as bilinear interpolation.

    Args:
        classes: channels of input and output.
        kernel_size: side of the kernel in px.
        stride: upsampling factor.
        learned: whether the kernel is a parameter, otherwise a buffer; the state dict is the same.
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
        """Map [N, classes, H, W] to [N, classes, (H - 1) stride + kernel_size, the same for W]."""
        return F.conv_transpose2d(scores, self.weight, stride=self.stride)


def crop(features: Tensor, offset: int, like: Tensor) -> Tensor:
    """Crop [N, C, H, W] to the height and width of ``like``, starting ``offset`` px from the top and left."""
    return features[:, :, offset : offset + like.shape[2], offset : offset + like.shape[3]]


def dense_block(in_channels: int, out_channels: int, kernel_size: int, dropout: float) -> nn.Sequential:
    """Build a classifier's dense layer as a convolution, with ReLU and dropout."""
    conv = nn.Conv2d(in_channels, out_channels, kernel_size)
    return nn.Sequential(OrderedDict(conv=conv, relu=nn.ReLU(inplace=True), dropout=nn.Dropout(dropout)))


def score_layer(in_channels: int, classes: int) -> nn.Conv2d:
    """Build a 1 x 1 convolution to the classes with zero weights; call it after ``initialize_he``."""
    layer = nn.Conv2d(in_channels, classes, 1)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def head_names(network: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, tuple[str, ...]]:
    """Map the layers after the classifier to their names in the weights of a published FCN, where it has them."""
    names = [name for name, _ in network.named_children() if name.startswith(("score_", "upscore", "scale_"))]
    return {name: (name,) for name in names if f"{name}.weight" in weights}


def check_upsampling(upsampling: str) -> None:
    """Refuse an upsampling that isn't in ``UPSAMPLINGS``.

    Raises:
        InputError: the upsampling is unknown.
    """
    if upsampling not in UPSAMPLINGS:
        raise InputError(f"upsampling: expected one of {', '.join(UPSAMPLINGS)}, got {upsampling!r}")


class FCN32s(nn.Module):
    """Upsample the scores of fc7 by 32 (FCN-32s).

    Args:
        in_channels: channels of the image.
        out_channels: classes.
        upsampling: trained upsampling layers: none (``"frozen"``), all but the last (``"intermediate"``) or all
            (``"learned"``).
        dropout: dropout probability after fc6 and fc7.
        width: factor of the channels inside, 1 for the paper's.

    Raises:
        InputError: unknown upsampling; a width that isn't above 0; in ``forward``, an input that isn't [N, C, H, W].
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
            for number, channels in enumerate((scale_channels(wide, width) for wide in paper_channels), 1):
                layers[f"{stage}_{number}"] = nn.Conv2d(last, channels, 3, padding=padding)
                layers[f"relu{stage[-1]}_{number}"] = nn.ReLU(inplace=True)
                last, padding = channels, 1
            self.add_module(stage, nn.Sequential(layers))
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        dense = scale_channels(DENSE, width)
        self.fc6 = dense_block(last, dense, 7, dropout)
        self.fc7 = dense_block(dense, dense, 1, dropout)
        initialize_he(self)
        self.score_fr = score_layer(dense, out_channels)
        self._add_upsampling(out_channels, upsampling, width)

    def _add_upsampling(self, classes: int, upsampling: str, width: float) -> None:
        self.upscore = Upsampling(classes, 64, 32, upsampling == "learned")

    def load_published(self, weights: Mapping[str, Tensor]) -> list[str]:
        """Load published weights of VGG-16 into the trunk, fc6 and fc7.

        Args:
            weights: state dict with the names of the authors' Caffe model, ``conv1_1.weight`` to ``fc7.bias``, or those
                of torchvision, ``features.0.weight`` to ``classifier.3.bias``; fc6 and fc7 may be dense layers. If it
                is that of a published FCN, score and upsampling layers are loaded too. Caffe's weights expect BGR
                images, 0 to 255, minus (104.00699, 116.66877, 122.67892); torchvision's expect standardized RGB images;
                see :data:`medpos.core.colors.PUBLISHED`.

        Returns:
            Names of the weights that aren't used, such as those of the classifier's last layer.

        Raises:
            InputError: a layer is missing or has another shape.
        """
        return load_layers(self, weights, VGG16 | head_names(self, weights))

    def _trunk(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute pool3, pool4 and the scores of fc7."""
        if not torch.jit.is_scripting() and not torch.jit.is_tracing():
            check_size(image, 1, 1, "FCN")
        pool1 = self.pool(self.conv1(image))
        pool2 = self.pool(self.conv2(pool1))
        pool3 = self.pool(self.conv3(pool2))
        pool4 = self.pool(self.conv4(pool3))
        pool5 = self.pool(self.conv5(pool4))
        return pool3, pool4, self.score_fr(self.fc7(self.fc6(pool5)))

    def forward(self, image: Tensor) -> Tensor:
        """Map an image [N, in_channels, H, W] of any size to logits [N, out_channels, H, W]."""
        return crop(self.upscore(self._trunk(image)[2]), 19, image)


class FCN16s(FCN32s):
    """Add the scores of fc7, upsampled by 2, to those of pool4, and upsample the sum by 16 (FCN-16s).

    The arguments are those of :class:`FCN32s`.
    """

    def _add_upsampling(self, classes: int, upsampling: str, width: float) -> None:
        self.upscore2 = Upsampling(classes, 4, 2, upsampling != "frozen")
        self.score_pool4 = score_layer(scale_channels(STAGES["conv4"][-1], width), classes)
        self.upscore16 = Upsampling(classes, 32, 16, upsampling == "learned")

    def forward(self, image: Tensor) -> Tensor:
        """Map an image [N, in_channels, H, W] of any size to logits [N, out_channels, H, W]."""
        _, pool4, scores = self._trunk(image)
        upscore2 = self.upscore2(scores)
        fuse_pool4 = upscore2 + crop(self.score_pool4(pool4), 5, upscore2)
        return crop(self.upscore16(fuse_pool4), 27, image)


class FCN8s(FCN32s):
    """Upsample the sum of FCN-16s by 2, add the scores of pool3, and upsample the result by 8 (FCN-8s).

    Args:
        in_channels: channels of the image.
        out_channels: classes.
        upsampling: trained upsampling layers, as in :class:`FCN32s`.
        dropout: dropout probability after fc6 and fc7.
        at_once: whether pool4 and pool3 are scaled, for a training that starts from VGG-16 instead of FCN-16s.
        width: factor of the channels inside, 1 for the paper's.

    Raises:
        InputError: as in :class:`FCN32s`.
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
        self.score_pool4 = score_layer(scale_channels(STAGES["conv4"][-1], width), classes)
        self.upscore_pool4 = Upsampling(classes, 4, 2, upsampling != "frozen")
        self.score_pool3 = score_layer(scale_channels(STAGES["conv3"][-1], width), classes)
        self.upscore8 = Upsampling(classes, 16, 8, upsampling == "learned")

    def forward(self, image: Tensor) -> Tensor:
        """Map an image [N, in_channels, H, W] of any size to logits [N, out_channels, H, W]."""
        pool3, pool4, scores = self._trunk(image)
        upscore2 = self.upscore2(scores)
        fuse_pool4 = upscore2 + crop(self.score_pool4(self.scale_pool4(pool4)), 5, upscore2)
        upscore_pool4 = self.upscore_pool4(fuse_pool4)
        fuse_pool3 = upscore_pool4 + crop(self.score_pool3(self.scale_pool3(pool3)), 9, upscore_pool4)
        return crop(self.upscore8(fuse_pool3), 31, image)


class FixedScale(nn.Module):
    """Multiply each channel by a fixed factor that is stored in the state dict.

    Args:
        channels: channels of the input.
        factor: factor of all channels.
    """

    def __init__(self, channels: int, factor: float) -> None:
        super().__init__()
        self.register_buffer("weight", torch.full((channels,), factor))

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, channels, H, W] to the same shape."""
        return features * self.weight[:, None, None]
