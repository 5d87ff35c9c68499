"""Classify the pixel at the center of a patch, and whole images by the same network made convolutional.

Reference:
    G. Boracchi, "Convolutional Neural Networks for Semantic Segmentation" (lecture), "FCNN Training Options" and
    "Migration to FCNN of a pretrained model"; "Preprocessing for CNNs: mean subtraction".

The lecture gives no sizes. The layers below see 33 x 33 px, an odd number, so that a patch has a center pixel.

| layer | kernel, stride | channels | size |
|---|---|---|---|
| patch | | 1 | 33 |
| conv1, ReLU | 6 | 16 | 28 |
| max-pooling | 2, 2 | 16 | 14 |
| conv2, ReLU | 5 | 32 | 10 |
| max-pooling | 2, 2 | 32 | 5 |
| fc1, ReLU | dense | 64 | |
| score | dense | classes | |
"""

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from medpos.networks.layers.blocks import check_size
from medpos.networks.lecture.whole_images import convolutionalize

PATCH = 33  # px, the receptive field
STRIDE = 4  # px between the patches of neighboring scores
_FLATTENED = (5, 5)  # px of the map before the dense layers


class MeanImage(nn.Module):
    """Hold the mean of the training images, which is a part of the model as its weights are.

    Args:
        channels: channels of the images.
        size: side of the images in px; 1 for none, which subtracts nothing.
    """

    values: Tensor

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.register_buffer("values", torch.zeros(channels, size, size))
        self._host = self.values.clone()

    def fit(self, dataset: Any) -> None:
        """Compute the mean of a data set's images [C, X, Y]; nothing where the size is 1.

        Args:
            dataset: training images, transformed as for the network.
        """
        if self.values.shape[1:] != (1, 1):
            self.values.zero_()  # the transform of the images subtracts nothing now
            self._host = self.values.cpu().clone()
            total = torch.zeros_like(self._host, dtype=torch.float64)
            for index in range(len(dataset)):
                total += dataset[index]["image"]
            self.values.copy_(total / len(dataset))
            self._host = self.values.cpu().clone()

    def read(self) -> Tensor:
        """Return the mean image [C, X, Y] or [C, 1, 1] on the host, where processes without a GPU may use it too."""
        return self._host

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self._host = self.values.detach().cpu().clone()


class PatchClassifier(nn.Module):
    """Classify the center pixels of patches, or give the class scores of every fourth patch of a whole image.

    Args:
        in_channels: channels of the image.
        out_channels: classes.
        mean_size: side of the mean image in px; 1 for none.

    Attributes:
        layers: the classifier with dense layers, for patches alone.
        patch: side of a patch in px.
        stride: px between the patches of neighboring scores.
        mean_image: mean of the training images; :class:`medpos.transforms.SubtractMeanImage` subtracts it.

    Raises:
        InputError: in ``forward``, an image that isn't [N, C, H, W] or is smaller than a patch.
    """

    patch, stride = PATCH, STRIDE

    def __init__(self, in_channels: int = 1, out_channels: int = 4, mean_size: int = 1) -> None:
        super().__init__()
        self.in_channels = in_channels
        layers: list[tuple[str, nn.Module]] = [
            ("conv1", nn.Conv2d(in_channels, 16, 6)),
            ("relu1", nn.ReLU()),
            ("pool1", nn.MaxPool2d(2)),
            ("conv2", nn.Conv2d(16, 32, 5)),
            ("relu2", nn.ReLU()),
            ("pool2", nn.MaxPool2d(2)),
            ("flatten", nn.Flatten()),
            ("fc1", nn.Linear(32 * _FLATTENED[0] * _FLATTENED[1], 64)),
            ("relu3", nn.ReLU()),
            ("score", nn.Linear(64, out_channels)),
        ]
        self.layers = nn.Sequential(OrderedDict(layers))
        self.mean_image = MeanImage(in_channels, mean_size)

    def convolutional(self) -> nn.Sequential:
        """Return a copy whose dense layers are convolutions, which takes images of any size."""
        return convolutionalize(self.layers, _FLATTENED)

    def forward(self, image: Tensor) -> Tensor:
        """Map patches [N, C, 33, 33] to scores [N, classes, 1, 1].

        An image [N, C, H, W] gives those of every fourth patch, [N, classes, (H - 33) // 4 + 1, (W - 33) // 4 + 1].
        """
        if not torch.jit.is_tracing():
            check_size(image, 1, PATCH, type(self).__name__)
        maps, size = image, _FLATTENED
        for layer in self.layers:
            if isinstance(layer, nn.Linear):  # as in convolutionalize, without a copy of the weights
                maps = F.conv2d(maps, layer.weight.view(layer.out_features, -1, *size), layer.bias)
                size = (1, 1)
            elif not isinstance(layer, nn.Flatten):
                maps = layer(maps)
        return maps
