"""The convolutions of VGG-16, and its published weights.

Reference:
    K. Simonyan, A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015, table 1,
    column D.
"""

from torch import Tensor

from medpos.errors import InputError

# 3 x 3 convolutions of each stage, and 2 x 2 max-pooling after it.
STAGES = {"conv1": (64, 64), "conv2": (128, 128), "conv3": (256,) * 3, "conv4": (512,) * 3, "conv5": (512,) * 3}
LAYERS = tuple(f"{stage}_{layer}" for stage, channels in STAGES.items() for layer in range(1, len(channels) + 1))
# torchvision counts convolutions, ReLUs and pools.
TORCHVISION = dict(zip(LAYERS, (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28), strict=True))


def vgg16_convolutions(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Finds the 13 convolutions among the weights of VGG-16.

    Args:
        weights: state dict with the names of the authors' Caffe model, ``conv1_1.weight``, or those of torchvision,
            ``features.0.weight``; others in it, as the fully connected ones, are left out. The authors' want channels
            in the order BGR, 0 to 255, less their means; torchvision's RGB, 0 to 1, standardised.

    Returns:
        ``conv1_1.weight`` and ``conv1_1.bias`` to those of ``conv5_3``.

    Raises:
        InputError: one of them is missing.
    """
    found = {}
    for layer, place in TORCHVISION.items():
        for kind in ("weight", "bias"):
            names = (f"{layer}.{kind}", f"features.{place}.{kind}")
            present = [name for name in names if name in weights]
            if not present:
                raise InputError(
                    f"VGG-16: the weights hold neither {names[0]} nor {names[1]}; needed are all 13 layers"
                )
            found[names[0]] = weights[present[0]]
    return found
