"""Segment with DeconvNet: VGG-16 with its dense layers, and its mirror image, which unpools to the maxima.

References:
    H. Noh, S. Hong, B. Han, "Learning Deconvolution Network for Semantic Segmentation", ICCV 2015, table 2;
    https://arxiv.org/abs/1505.04366. The authors' prototxt files: https://github.com/HyeonwooNoh/DeconvNet.
    V. Badrinarayanan, A. Kendall, R. Cipolla, "SegNet", PAMI 2017, table 3, which compares SegNet with it.

Batch normalization and ReLU follow every layer but the last. The dense layer fc6 sees 7 x 7 px of pool5, without
padding, and fc6_deconv undoes it, so that any size from 193 px fits; the authors' 224 x 224 px give one vector.

Resolved where the papers are silent:
    - Pooling rounds sizes up, as in Caffe, and the size before each pooling is kept for the unpooling.
    - Batch normalization starts with a shift of 0.001, deconvolutions with N(0, 0.01) and no bias (prototxt).
    - Dropout "at the end of the deeper layers" of SegNet's benchmark: after the stages 3 to 5 of both halves, and fc6
      and fc7. It is off by default, as in the authors' files.
    - The paper's object proposals are no part of the network; as in SegNet's benchmark, whole images are segmented.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from medpos.networks.fully_convolutional.vgg import LAYERS, STAGES, TORCHVISION
from medpos.networks.layers.blocks import check_size, initialize_he, scale_channels
from medpos.networks.layers.published import load_layers
from medpos.networks.layers.upsampling import max_unpool

# Channels of deconv5_1 to deconv1_2; unpooling precedes each stage.
DECONVOLUTIONS = {
    "deconv5": (512, 512, 512),
    "deconv4": (512, 512, 256),
    "deconv3": (256, 256, 128),
    "deconv2": (128, 64),
    "deconv1": (64, 64),
}
DENSE, DENSE_SIDE = 4096, 7
DEEP = ("3", "4", "5")  # stages with dropout
SMALLEST = 193  # px; pool5 then has 7 x 7
BN_SHIFT, DECONVOLUTION_STD = 0.001, 0.01


def _block(conv: nn.Module, channels: int) -> nn.Sequential:
    """Build a convolution or deconvolution with batch normalization and ReLU."""
    return nn.Sequential(OrderedDict(conv=conv, norm=nn.BatchNorm2d(channels), relu=nn.ReLU(inplace=True)))


def _stage(name: str, last: int, wide: Sequence[int], dropout: float) -> nn.Sequential:
    """Build the 3 x 3 convolutions, or deconvolutions, of one resolution."""
    kind = nn.ConvTranspose2d if name.startswith("de") else nn.Conv2d
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for index, channels in enumerate(wide, 1):
        layers[f"{name}_{index}"] = _block(kind(last, channels, 3, padding=1), channels)
        last = channels
    if dropout and name.endswith(DEEP):
        layers["dropout"] = nn.Dropout(dropout)
    return nn.Sequential(layers)


class DeconvNet(nn.Module):
    """Segment with DeconvNet, with the layer names of the authors' files (``fc6_deconv``, ``seg_score`` for theirs).

    Args:
        in_channels: channels of the image.
        out_channels: classes.
        dropout: dropout probability after the deeper stages; 0.5 in SegNet's benchmark.
        width: factor of the channels inside, 1 for the paper's.

    Raises:
        InputError: a width that isn't above 0; in ``forward``, H or W below 193 px.
    """

    def __init__(self, in_channels: int = 3, out_channels: int = 21, dropout: float = 0.0, width: float = 1.0) -> None:
        super().__init__()
        self.in_channels = in_channels
        last = in_channels
        for name, paper_channels in STAGES.items():
            wide = [scale_channels(channels, width) for channels in paper_channels]
            self.add_module(name, _stage(name, last, wide, dropout))
            last = wide[-1]
        dense, middle = scale_channels(DENSE, width), last
        self.fc6 = _block(nn.Conv2d(middle, dense, DENSE_SIDE), dense)
        self.fc7 = _block(nn.Conv2d(dense, dense, 1), dense)
        self.fc6_deconv = _block(nn.ConvTranspose2d(dense, middle, DENSE_SIDE), middle)
        self.dropout = nn.Dropout(dropout)
        for name, paper_channels in DECONVOLUTIONS.items():
            wide = [scale_channels(channels, width) for channels in paper_channels]
            self.add_module(name, _stage(name, last, wide, dropout))
            last = wide[-1]
        self.seg_score = nn.Conv2d(last, out_channels, 1)
        self.pool = nn.MaxPool2d(2, ceil_mode=True, return_indices=True)
        self._initialize()

    def _initialize(self) -> None:
        initialize_he(self)
        for layer in self.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.constant_(layer.bias, BN_SHIFT)
            elif isinstance(layer, nn.ConvTranspose2d):
                nn.init.normal_(layer.weight, std=DECONVOLUTION_STD)
                nn.init.zeros_(layer.bias)

    def load_published(self, weights: Mapping[str, Tensor]) -> list[str]:
        """Load published weights of VGG-16 into the first half, or those of a DeconvNet into the whole network.

        Args:
            weights: state dict of VGG-16 with the names of Caffe, ``conv1_1.weight`` to ``fc7.bias``, or of
                torchvision, ``features.0.weight`` to ``classifier.3.bias``; fc6 and fc7 may be dense layers. Or that of
                the authors' DeconvNet, with its batch norm layers, ``bn1_1.weight``, ``bnfc6.weight``,
                ``fc6-deconv-bn.weight``, ``debn5_1.weight`` and so on. The images that the weights expect are those of
                :meth:`medpos.networks.FCN32s.load_published`.

        Returns:
            Names of the weights that aren't used, such as those of ImageNet's last layer.

        Raises:
            InputError: a layer is missing or has another shape.
        """
        names: dict[str, Sequence[str]] = {
            f"{layer[:5]}.{layer}.conv": (layer, f"features.{TORCHVISION[layer]}") for layer in LAYERS
        }
        names |= {"fc6.conv": ("fc6", "classifier.0"), "fc7.conv": ("fc7", "classifier.3")}
        return load_layers(self, weights, names | (_names_of_deconvnet() if "fc6-deconv.weight" in weights else {}))

    def _classify(self, pool5: Tensor) -> Tensor:
        """Compute fc6_deconv, of the size of pool5."""
        fc7 = self.dropout(self.fc7(self.dropout(self.fc6(pool5))))
        return self.fc6_deconv(fc7)

    def forward(self, image: Tensor) -> Tensor:
        """Map an image [N, in_channels, H, W] of at least 193 px to logits [N, out_channels, H, W]."""
        if not torch.jit.is_scripting() and not torch.jit.is_tracing():
            check_size(image, 1, SMALLEST, "DeconvNet")
        conv1 = self.conv1(image)
        pool1, indices1 = self.pool(conv1)
        conv2 = self.conv2(pool1)
        pool2, indices2 = self.pool(conv2)
        conv3 = self.conv3(pool2)
        pool3, indices3 = self.pool(conv3)
        conv4 = self.conv4(pool3)
        pool4, indices4 = self.pool(conv4)
        conv5 = self.conv5(pool4)
        pool5, indices5 = self.pool(conv5)
        deconv5 = self.deconv5(max_unpool(self._classify(pool5), indices5, conv5.shape[2:]))
        deconv4 = self.deconv4(max_unpool(deconv5, indices4, conv4.shape[2:]))
        deconv3 = self.deconv3(max_unpool(deconv4, indices3, conv3.shape[2:]))
        deconv2 = self.deconv2(max_unpool(deconv3, indices2, conv2.shape[2:]))
        deconv1 = self.deconv1(max_unpool(deconv2, indices1, conv1.shape[2:]))
        return self.seg_score(deconv1)


def _names_of_deconvnet() -> dict[str, Sequence[str]]:
    """Map the layers that only a DeconvNet has, batch norm layers among them, to the authors' names."""
    names: dict[str, Sequence[str]] = {f"{layer[:5]}.{layer}.norm": (f"bn{layer[4:]}",) for layer in LAYERS}
    names |= {f"{layer}.norm": (f"bn{layer}",) for layer in ("fc6", "fc7")}
    names |= {"fc6_deconv.conv": ("fc6-deconv",), "fc6_deconv.norm": ("fc6-deconv-bn",)}
    names["seg_score"] = ("seg-score-voc",)
    for stage, channels in DECONVOLUTIONS.items():
        for layer in (f"{stage}_{number}" for number in range(1, len(channels) + 1)):
            names |= {f"{stage}.{layer}.conv": (layer,), f"{stage}.{layer}.norm": (f"debn{layer[6:]}",)}
    return names
