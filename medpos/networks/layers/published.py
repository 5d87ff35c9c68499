"""Putting published weights, or those of an earlier stage, into a network, with every tensor accounted for."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from medpos.core.errors import InputError

# Older files of PyTorch lack it, and nothing depends on it where the momentum of the statistics is given.
OPTIONAL = "num_batches_tracked"


def place(network: nn.Module, weights: Mapping[str, Tensor], names: Mapping[str, Sequence[str]]) -> list[str]:
    """Sets layers of a network to published weights.

    The weights [out, in] of a dense layer fit a convolution [out, channels, h, w] of as many values.

    Args:
        network: is changed in place, once everything has been found to fit.
        weights: a published state dict.
        names: for each layer to be set, as ``"conv1.conv1_1"``, the names that its publishers gave it, as
            ``("conv1_1", "features.0")``. Tensors bear the layer's name and their own, as ``features.0.bias``.

    Returns:
        Names of the weights that have no place in the network, in the order of the file.

    Raises:
        InputError: a layer is missing from the weights or has another shape; the message counts them all.
    """
    own = network.state_dict(keep_vars=True)
    found: dict[str, str] = {}
    missing, misfits = [], []
    for layer, published in names.items():
        for target in (name for name in own if name.rpartition(".")[0] == layer):
            kind = target.rpartition(".")[2]
            candidates = [f"{name}.{kind}" for name in published]
            source = next((name for name in candidates if name in weights), None)
            if source is None:
                missing += [] if kind == OPTIONAL else [" or ".join(candidates)]
            elif not _fits(weights[source], own[target]):
                misfits.append(f"{source} {list(weights[source].shape)} instead of {list(own[target].shape)}")
            else:
                found[target] = source
    if missing or misfits:
        problems = [f"{len(missing)} tensors missing (first {missing[0]})"] if missing else []
        problems += [f"{len(misfits)} of another shape (first {misfits[0]})"] if misfits else []
        raise InputError(
            f"{type(network).__name__}: these weights don't fit: {'; '.join(problems)}; needed is a state dict of "
            "one of the publishers that the network's file names, in_channels as there, and width 1"
        )
    _copy(own, {target: weights[source] for target, source in found.items()})
    used = set(found.values())
    return [name for name in weights if name not in used]


def transplant(network: nn.Module, weights: Mapping[str, Tensor]) -> tuple[list[str], list[str]]:
    """Sets to the weights of an earlier stage whatever bears the same name; the rest stays as it is.

    Args:
        network: is changed in place.
        weights: the state dict of another network, as that of FCN-32s for an FCN-16s.

    Returns:
        Names of the network's tensors that stay, and names of the weights that have no place.

    Raises:
        InputError: nothing bears the same name, or it has another shape.

    Reference:
        https://github.com/shelhamer/fcn.berkeleyvision.org, ``surgery.py``.
    """
    own = network.state_dict(keep_vars=True)
    shared = {name: values for name, values in weights.items() if name in own}
    misfits = [
        f"{name} {list(values.shape)} instead of {list(own[name].shape)}"
        for name, values in shared.items()
        if values.shape != own[name].shape
    ]
    if misfits or not shared:
        problem = f"{len(misfits)} of another shape (first {misfits[0]})" if misfits else "no tensor of the same name"
        raise InputError(
            f"{type(network).__name__}: these weights can't be transplanted: {problem}; needed is the model.pt of an "
            "earlier stage, with the same classes, in_channels and width"
        )
    _copy(own, shared)
    return [name for name in own if name not in shared], [name for name in weights if name not in shared]


def transpose_kernels(network: nn.Module) -> None:
    """Transposes all kernels, in place, for images [N, C, X, Y] in place of the publishers' [N, C, rows, columns].

    The transposed network makes of a transposed image the transposed output, as strides, paddings and dilations are the
    same along both axes. Kernels that are drawn, or symmetric, are as good one way as the other.

    Args:
        network: with published weights.
    """
    with torch.no_grad():
        for values in network.state_dict(keep_vars=True).values():
            if values.dim() == 4:
                values.copy_(values.transpose(2, 3).clone())


def _fits(values: Tensor, target: Tensor) -> bool:
    if values.dim() == 2 and target.dim() == 4:
        return bool(values.shape[0] == target.shape[0] and values.numel() == target.numel())
    return bool(values.shape == target.shape)


def _copy(own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, values in weights.items():
            own[name].copy_(values.reshape(own[name].shape))
