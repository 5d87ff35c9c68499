"""Batch normalisation folded into the convolution before it, for inference.

With its statistics fixed, a batch normalisation is a factor and an offset for each channel, which the weights and
biases of the convolution can carry (paper 003, "Batch Normalization").
"""

import copy
import itertools

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from medpos.networks.layers.blocks import ConvBlock


def folded(network: nn.Module, dtype: torch.dtype | None = None) -> nn.Module:
    """Copies a network for inference, with each batch normalisation that directly follows a convolution folded into it.

    Pairs are found in :class:`ConvBlock` and in ``nn.Sequential``; a normalisation elsewhere stays as it is.

    Args:
        network: in evaluation mode, or its statistics would still move.
        dtype: what the folded weights are rounded to, ``torch.bfloat16`` under autocast; None keeps theirs.

    Returns:
        The copy, in evaluation mode; the same values but for rounding. The network itself where nothing can be folded.

    Raises:
        ValueError: the network is in training mode.
    """
    if network.training:
        raise ValueError("the network is in training mode, needed is evaluation mode; call eval() first")
    if not any(_pairs(module) for module in network.modules()):
        return network
    # Gradients have no use here, and a leaf's copy keeps none.
    twin = copy.deepcopy(network)
    for module in list(twin.modules()):
        for conv, norm in _pairs(module):
            fused = fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm))
            setattr(module, conv, fused.to(dtype=dtype))
            setattr(module, norm, nn.Identity())
    return twin.requires_grad_(False)


def _pairs(module: nn.Module) -> list[tuple[str, str]]:
    """The names of convolution and batch normalisation that follow one another in this module."""
    if isinstance(module, ConvBlock):
        names = [("conv", "norm")]
    elif isinstance(module, nn.Sequential):
        children = list(module._modules)
        names = list(itertools.pairwise(children))
    else:
        return []
    return [pair for pair in names if _can_be_folded(*(getattr(module, name) for name in pair))]


def _can_be_folded(first: nn.Module, second: nn.Module) -> bool:
    is_pair = isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d)
    return is_pair and second.running_mean is not None and not first._forward_hooks
