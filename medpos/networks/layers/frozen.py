"""Batch normalisations whose statistics no longer move, for fine-tuning with few images a batch.

References:
    Paper 001, section 6.2.2, "fine-tuned on the trainval set with batch-norm parameters frozen"; L.-C. Chen et al.,
    "DeepLab", PAMI 2018, whose ResNet-101 is trained so; https://arxiv.org/abs/1606.00915.
"""

from typing import TypeVar

from torch import nn

Network = TypeVar("Network", bound=nn.Module)


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """A batch normalisation that stays in evaluation mode; MONAI's trainer asks for training before every iteration."""

    def train(self, mode: bool = True) -> "FrozenBatchNorm2d":
        """Changes nothing."""
        super().train(False)
        return self


def freeze_statistics(network: Network, affine: bool = True) -> Network:
    """Freezes all batch normalisations of a network.

    Args:
        network: is changed in place; its state dict stays as it is. Comes before the optimiser and
            DistributedDataParallel are made of it.
        affine: freeze scale and shift too, as SUNet's authors do.

    Returns:
        The network.
    """
    for layer in network.modules():
        if type(layer) is nn.BatchNorm2d:
            layer.__class__ = FrozenBatchNorm2d  # a new layer would have to take over names, tensors and hooks
            layer.eval()
            layer.requires_grad_(not affine)
    return network
