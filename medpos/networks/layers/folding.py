"""Fold batch norm layers into the convolutions before them, for inference.

With fixed statistics, batch normalization is a factor and an offset per channel, which the weights and biases of the
convolution can absorb.
"""

import copy
import itertools

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from medpos.core.device import child_names, has_forward_hooks
from medpos.networks.layers.blocks import ConvBlock


def fold_batch_norms(network: nn.Module, dtype: torch.dtype | None = None) -> nn.Module:
    """Copy a network and fold each batch norm layer that directly follows a convolution into that convolution.

    Pairs are found in :class:`ConvBlock` and in ``nn.Sequential``; batch norm layers elsewhere stay.

    Args:
        network: network in evaluation mode.
        dtype: type of the folded weights, such as ``torch.bfloat16`` under autocast; None keeps the type.

    Returns:
        The copy, in evaluation mode, with the same outputs up to rounding; the network itself if nothing can be folded.

    Raises:
        ValueError: the network is in training mode, where its statistics change.
    """
    if network.training:
        raise ValueError("expected a network in evaluation mode, got one in training mode; call eval() first")
    if not any(_pairs(module) for module in network.modules()):
        return network
    # Inference needs no gradients, and deepcopy of a leaf tensor drops its gradient anyway.
    folded = copy.deepcopy(network)
    for module in list(folded.modules()):
        for conv, norm in _pairs(module):
            fused = fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm))
            setattr(module, conv, fused.to(dtype=dtype))
            setattr(module, norm, nn.Identity())
    return folded.requires_grad_(False)


def _pairs(module: nn.Module) -> list[tuple[str, str]]:
    """Return the names of each convolution and the batch norm layer that follows it in this module."""
    if isinstance(module, ConvBlock):
        names = [("conv", "norm")]
    elif isinstance(module, nn.Sequential):
        names = list(itertools.pairwise(child_names(module)))
    else:
        return []
    return [pair for pair in names if _can_be_folded(*(getattr(module, name) for name in pair))]


def _can_be_folded(first: nn.Module, second: nn.Module) -> bool:
    is_pair = isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d)
    return is_pair and second.running_mean is not None and not has_forward_hooks(first)
