"""Build ResNet-101 as DeepLab uses it: with dilated convolutions instead of the last two strides.

References:
    K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, table 1.
    L.-C. Chen et al., "DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous Convolution, and Fully
    Connected CRFs", PAMI 2018; https://github.com/kazuto1011/deeplab-pytorch.

The layers have torchvision's names. torchvision's network has the same weights, but the stride of a stage is in its
first 3 x 3 convolution; in the original network, and here, it is in the first 1 x 1 convolution.
"""

from collections import OrderedDict

from torch import Tensor, nn

from medpos.networks.layers.blocks import scale_channels

# Channels inside the blocks, number of blocks, stride of the first block, dilation of the 3 x 3 convolutions.
STAGES = {"layer1": (64, 3, 1, 1), "layer2": (128, 4, 2, 1), "layer3": (256, 23, 1, 2), "layer4": (512, 3, 1, 4)}
STEM = 64
EXPANSION = 4


class Bottleneck(nn.Sequential):
    """Add the output of a 1 x 1, a 3 x 3 and a 1 x 1 convolution, each with batch normalization, to the input.

    It is a Sequential so that inference can fold the batch norm layers into the convolutions.

    Args:
        in_channels: channels of the input.
        channels: channels inside; the output has four times as many.
        stride: stride of the first convolution in px.
        dilation: dilation of the 3 x 3 convolution in px.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, dilation: int) -> None:
        super().__init__()
        out_channels = EXPANSION * channels
        self.conv1 = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or in_channels != out_channels:
            projection = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(out_channels))

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to [N, 4 * channels, H / stride, W / stride], rounded up."""
        inside = self.relu(self.bn1(self.conv1(features)))
        inside = self.relu(self.bn2(self.conv2(inside)))
        return self.relu(self.bn3(self.conv3(inside)) + self.downsample(features))


def resnet101(in_channels: int = 3, width: float = 1.0) -> nn.Sequential:
    """Build the convolutions of ResNet-101, which map [N, in_channels, H, W] to [N, 2048, H / 8, W / 8], rounded up.

    Args:
        in_channels: channels of the image.
        width: factor of the channels inside, 1 for the paper's.
    """
    last = scale_channels(STEM, width)
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(in_channels, last, 7, 2, padding=3, bias=False),
        bn1=nn.BatchNorm2d(last),
        relu=nn.ReLU(inplace=True),
        maxpool=nn.MaxPool2d(3, 2, padding=1, ceil_mode=True),
    )
    for stage, (paper_channels, count, stride, dilation) in STAGES.items():
        channels = scale_channels(paper_channels, width)
        blocks = [Bottleneck(last, channels, stride, dilation)]
        last = EXPANSION * channels
        blocks += [Bottleneck(last, channels, 1, dilation) for _ in range(count - 1)]
        layers[stage] = nn.Sequential(*blocks)
    return nn.Sequential(layers)
