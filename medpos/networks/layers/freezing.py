"""Freeze batch norm statistics, for fine-tuning with few images per batch.

References:
    S. Shah et al., "Stacked U-Nets", 2018, section 6.2.2, "fine-tuned on the trainval set with batch-norm parameters
    frozen"; https://arxiv.org/abs/1804.10343.
    L.-C. Chen et al., "DeepLab", PAMI 2018, where ResNet-101 is trained in this way; https://arxiv.org/abs/1606.00915.
"""

from typing import TypeVar

from torch import nn

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
