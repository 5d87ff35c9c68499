"""Segment with SegNet: VGG-16 as encoder, and its reverse as decoder, which unpools to the positions of the maxima.

Reference:
    V. Badrinarayanan, A. Kendall, R. Cipolla, "SegNet: A Deep Convolutional Encoder-Decoder Architecture for Image
    Segmentation", PAMI 2017, figure 2; https://arxiv.org/abs/1511.00561. The authors' prototxt files:
    https://github.com/alexgkendall/SegNet-Tutorial.

Resolved where the paper is silent:
    - Pooling rounds sizes up, so 360 x 480 px become 23 x 30 after the fourth; the first of equal maxima counts. The
      size before each pooling is kept for the unpooling, so images of any size work.
    - Convolutions have biases; batch normalization starts with a shift of 0.001; the last convolution is 3 x 3
      (prototxt).
    - Dropout "at the end of the deeper layers" of the benchmark (table 3): after the stages 3 to 5 of encoder and
      decoder. It is off by default, as in the released model.
"""

from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from medpos.networks.fully_convolutional.vgg import STAGES as ENCODER
from medpos.networks.fully_convolutional.vgg import TORCHVISION
from medpos.networks.layers.blocks import ConvBlock, check_size, initialize_he, scale_channels
from medpos.networks.layers.published import load_layers
from medpos.networks.layers.upsampling import max_unpool

# Channels of conv5_3_D, conv5_2_D, conv5_1_D, ... to conv1_2_D; unpooling precedes each stage; conv1_1_D is the
# score layer.
DECODER = {
    "conv5_D": (512, 512, 512),
    "conv4_D": (512, 512, 256),
    "conv3_D": (256, 256, 128),
    "conv2_D": (128, 64),
    "conv1_D": (64,),
}
DEEP = ("conv3", "conv4", "conv5")
BN_SHIFT = 0.001


class SegNet(nn.Module):
    """Segment with SegNet, with the layer names of the authors' files.

    Args:
        in_channels: channels of the image.
        out_channels: classes.
        dropout: dropout probability after the deeper stages; 0.5 in the paper's benchmark.
        width: factor of the channels inside, 1 for the paper's.

    Raises:
        InputError: a width that isn't above 0; in ``forward``, an input that isn't [N, C, H, W].
    """

    def __init__(self, in_channels: int = 3, out_channels: int = 11, dropout: float = 0.0, width: float = 1.0) -> None:
        super().__init__()
        self.in_channels = in_channels
        last = in_channels
        for stage, paper_channels in (ENCODER | DECODER).items():
            layers: OrderedDict[str, nn.Module] = OrderedDict()
            for index, channels in enumerate(scale_channels(wide, width) for wide in paper_channels):
                name = f"{stage}_{index + 1}"
                if stage in DECODER:
                    name = f"{stage[:5]}_{len(ENCODER[stage[:5]]) - index}_D"
                layers[name] = ConvBlock(last, channels)
                last = channels
            if dropout and stage[:5] in DEEP:
                layers["dropout"] = nn.Dropout(dropout)
            self.add_module(stage, nn.Sequential(layers))
        self.conv1_1_D = nn.Conv2d(last, out_channels, 3, padding=1)
        self.pool = nn.MaxPool2d(2, ceil_mode=True, return_indices=True)
        initialize_he(self)
        for layer in self.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.constant_(layer.bias, BN_SHIFT)

    def load_published(self, weights: Mapping[str, Tensor]) -> list[str]:
        """Load published weights of VGG-16 into the encoder's convolutions.

        Args:
            weights: state dict with the names of VGG-16's Caffe model, ``conv1_1.weight``, for BGR images, 0 to 255,
                minus their means; or of torchvision, ``features.0.weight``, for standardized RGB images. The batch
                norm layers compensate for the scale.

        Returns:
            Names of the weights that aren't used, such as those of the dense layers.

        Raises:
            InputError: a layer is missing or has another shape, as it has if ``in_channels`` isn't 3.
        """
        names = {f"{layer[:5]}.{layer}.conv": (layer, f"features.{n}") for layer, n in TORCHVISION.items()}
        return load_layers(self, weights, names)

    def forward(self, image: Tensor) -> Tensor:
        """Map an image [N, in_channels, H, W] of any size to logits [N, out_channels, H, W]."""
        if not torch.jit.is_scripting() and not torch.jit.is_tracing():
            check_size(image, 1, 1, "SegNet")
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
        conv5_d = self.conv5_D(max_unpool(pool5, indices5, conv5.shape[2:]))
        conv4_d = self.conv4_D(max_unpool(conv5_d, indices4, conv4.shape[2:]))
        conv3_d = self.conv3_D(max_unpool(conv4_d, indices3, conv3.shape[2:]))
        conv2_d = self.conv2_D(max_unpool(conv3_d, indices2, conv2.shape[2:]))
        conv1_d = self.conv1_D(max_unpool(conv2_d, indices1, conv1.shape[2:]))
        return self.conv1_1_D(conv1_d)
