"""Fold batch norm layers into the convolutions before them, for inference.

With fixed statistics, batch normalization is a factor and an offset per channel, which the weights and biases of the
convolution can absorb. In bf16 on a CPU the ReLU that follows joins it too, which saves a pass over memory.
"""

import copy
import itertools

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from medpos.core.device import child_names, has_forward_hooks
from medpos.networks.layers.blocks import ConvBlock


class ConvReLU(nn.Module):
    """Apply a convolution and ReLU at once, in bf16 on a CPU, to the same bits as one after the other.

    Args:
        conv: convolution in bf16, padded with zeros.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self._options = conv.padding, conv.stride, conv.dilation, conv.groups

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to bf16 [N, out_channels, H, W]."""
        features = features.to(self.weight.dtype)
        result: Tensor = torch.ops.mkldnn._convolution_pointwise(
            features, self.weight, self.bias, *self._options, "relu", [], ""
        )
        return result


def fold_batch_norms(network: nn.Module, dtype: torch.dtype | None = None, joins_relu: bool = True) -> nn.Module:
    """Copy a network and fold each batch norm layer that directly follows a convolution into that convolution.

    Pairs are found in :class:`ConvBlock` and in ``nn.Sequential``; batch norm layers elsewhere stay.

    Args:
        network: network in evaluation mode.
        dtype: type of the folded weights, such as ``torch.bfloat16`` under autocast; None keeps the type.
        joins_relu: whether a :class:`ConvReLU` may replace a convolution and the ReLU of its block.

    Returns:
        The copy, in evaluation mode, with the same outputs up to rounding; the network itself if nothing can be folded.

    Raises:
        ValueError: the network is in training mode, where its statistics change.
    """
    if network.training:
        raise ValueError("expected a network in evaluation mode, got one in training mode; call eval() first")
    if not (pairs := _named_pairs(network)):
        return network
    # Inference needs no gradients, and deepcopy of a leaf tensor drops its gradient anyway.
    folded = copy.deepcopy(network).requires_grad_(False)
    for name, conv, norm in pairs:
        module = folded.get_submodule(name)
        target = getattr(module, conv)
        target.weight, target.bias = _fuse(target, getattr(module, norm), dtype)
        setattr(module, norm, nn.Identity())
        if joins_relu and isinstance(module, ConvBlock) and _can_join(module):
            module.conv, module.relu = ConvReLU(module.conv), nn.Identity()
    return folded.requires_grad_(False)


def update_folded(folded: nn.Module, network: nn.Module) -> bool:
    """Copy the weights of a network that was trained on into the copy that :func:`fold_batch_norms` made of it.

    This takes a fraction of the time of folding anew, and keeps the module, which may be compiled.

    Args:
        folded: the folded copy, changed in place.
        network: the network in evaluation mode.

    Returns:
        False, and nothing is copied, if other layers would be folded today.
    """
    pairs = _named_pairs(network)
    norms = {f"{name}.{norm}".lstrip(".") for name, _, norm in pairs}
    joined = {f"{name}.relu".lstrip(".") for name, module in folded.named_modules() if isinstance(module, ConvBlock)}
    if (_identities(folded) - _identities(network)) - joined != norms:
        return False
    with torch.no_grad():
        own = dict(itertools.chain(network.named_parameters(), network.named_buffers()))
        for name, conv, norm in pairs:
            module, prefix = network.get_submodule(name), f"{name}.{conv}".lstrip(".")
            fused = _fuse(getattr(module, conv), getattr(module, norm))
            own |= {f"{prefix}.weight": fused[0], f"{prefix}.bias": fused[1]}
        for name, tensor in itertools.chain(folded.named_parameters(), folded.named_buffers()):
            tensor.copy_(own[name])
    return True


def _fuse(conv: nn.Module, norm: nn.Module, dtype: torch.dtype | None = None) -> tuple[nn.Parameter, nn.Parameter]:
    """Return weight and bias of a convolution that does the work of both."""
    statistics = norm.running_mean, norm.running_var, norm.eps
    weight, bias = fuse_conv_bn_weights(conv.weight, conv.bias, *statistics, norm.weight, norm.bias)
    kind = dtype or weight.dtype
    return nn.Parameter(weight.to(kind), weight.requires_grad), nn.Parameter(bias.to(kind), bias.requires_grad)


def _identities(network: nn.Module) -> set[str]:
    return {name for name, module in network.named_modules() if isinstance(module, nn.Identity)}


def _named_pairs(network: nn.Module) -> list[tuple[str, str, str]]:
    """Return the name of each module with a pair, and the names of the pair in it."""
    return [(name, *pair) for name, module in network.named_modules() for pair in _pairs(module)]


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


def _can_join(block: ConvBlock) -> bool:
    """Tell whether the convolution of a folded block and its ReLU can run as :class:`ConvReLU`."""
    conv = block.conv
    is_plain = type(conv) is nn.Conv2d and conv.padding_mode == "zeros" and type(block.relu) is nn.ReLU
    is_bf16 = conv.weight.dtype is torch.bfloat16 and conv.weight.is_cpu
    knows_the_pair = hasattr(torch.ops.mkldnn, "_convolution_pointwise")  # no public operation of PyTorch
    return is_plain and is_bf16 and knows_the_pair and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
