"""Freeze batch norm statistics, for fine-tuning with few images per batch, or all layers but some.

References:
    S. Shah et al., "Stacked U-Nets", 2018, section 6.2.2, "fine-tuned on the trainval set with batch-norm parameters
    frozen"; https://arxiv.org/abs/1804.10343.
    L.-C. Chen et al., "DeepLab", PAMI 2018, where ResNet-101 is trained in this way; https://arxiv.org/abs/1606.00915.
    J. Long et al., "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, table 2: FCN-32s-fixed, "where
    only the last layer is fine-tuned"; https://arxiv.org/abs/1411.4038.
"""

from collections.abc import Collection
from typing import TypeVar

from torch import nn

from medpos.core.errors import InputError

Network = TypeVar("Network", bound=nn.Module)


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """Normalize with fixed statistics: stay in evaluation mode when MONAI's trainer switches to training mode."""

    def train(self, mode: bool = True) -> "FrozenBatchNorm2d":
        """Ignore the mode and stay in evaluation mode."""
        super().train(False)
        return self


def freeze_statistics(network: Network, affine: bool = True) -> Network:
    """Freeze the statistics of all batch norm layers of a network.

    Args:
        network: network, changed in place before an optimizer or DistributedDataParallel is built from it; the keys of
            its state dict stay the same.
        affine: whether scale and shift are frozen too, as SUNet's authors do.

    Returns:
        The network.
    """
    for layer in network.modules():
        if type(layer) is nn.BatchNorm2d:
            layer.__class__ = FrozenBatchNorm2d  # a new layer would have to take over names, tensors and hooks
            layer.eval()
            layer.requires_grad_(not affine)
    return network


def freeze_all_but(network: Network, names: Collection[str]) -> Network:
    """Freeze all parameters of a network but those of some parts.

    Args:
        network: network, changed in place before an optimizer or DistributedDataParallel is built from it.
        names: names of the parts that learn, such as ``score_fr``.

    Returns:
        The network.

    Raises:
        InputError: the network has no such part, or one without parameters.
    """
    parts = {name: list(part.parameters()) for name, part in network.named_children()}
    if unknown := [name for name in names if not parts.get(name)]:
        known = ", ".join(name for name, parameters in parts.items() if parameters)
        raise InputError(
            f"freeze_all_but: expected parts of {type(network).__name__} with parameters ({known}), got "
            f"{unknown[0]!r}; name some of those"
        )
    network.requires_grad_(False)
    for name in names:
        for parameter in parts[name]:
            parameter.requires_grad_(True)
    return network
