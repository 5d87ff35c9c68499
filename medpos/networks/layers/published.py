"""Load published weights, or those of an earlier stage, into a network, and account for every tensor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medpos.core.errors import InputError

# Files of old PyTorch versions lack it, and it has no effect if the momentum of the statistics is set.
OPTIONAL = "num_batches_tracked"


def load_layers(network: nn.Module, weights: Mapping[str, Tensor], names: Mapping[str, Sequence[str]]) -> list[str]:
    """Load published weights into the named layers of a network.

    The weights [out, in] of a dense layer fit a convolution [out, channels, h, w] with the same number of values.

    Args:
        network: network, changed in place once all tensors are known to fit.
        weights: published state dict.
        names: for each layer to load, such as ``"conv1.conv1_1"``, its possible names in the published state dict, such
            as ``("conv1_1", "features.0")``. A tensor's name is the layer's name and its own: ``features.0.bias``.

    Returns:
        Names of the weights that the network doesn't use, in the order of the state dict.

    Raises:
        InputError: layers are missing from the weights or have another shape; the message counts all of them.
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
            f"{type(network).__name__}: these weights don't fit: {'; '.join(problems)}; give a state dict of a "
            "publisher that load_published names, and set in_channels as there and width 1"
        )
    _copy(own, {target: weights[source] for target, source in found.items()})
    used = set(found.values())
    return [name for name in weights if name not in used]


def transplant(network: nn.Module, weights: Mapping[str, Tensor]) -> tuple[list[str], list[str]]:
    """Load the weights of an earlier stage into all tensors of the same name, and keep the rest.

    Args:
        network: network, changed in place.
        weights: state dict of another network, such as that of an FCN-32s for an FCN-16s.

    Returns:
        Names of the network's tensors that were kept, and names of the weights that were not used.

    Raises:
        InputError: no tensor has the same name, or one has another shape.

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
            f"{type(network).__name__}: these weights can't be transplanted: {problem}; give the model.pt of an "
            "earlier stage with the same classes, in_channels and width"
        )
    _copy(own, shared)
    return [name for name in own if name not in shared], [name for name in weights if name not in shared]


@dataclass(frozen=True)
class Fitting:
    """Hold the layers of a network that weights fit.

    Args:
        tensors: the fitting weights by name.
        loaded: names of the layers that they fill.
        new: names of the network's other layers.
        unused: names of the layers of the weights that fit none.
    """

    tensors: dict[str, Tensor]
    loaded: list[str]
    new: list[str]
    unused: list[str]


def find_fitting_layers(network: nn.Module, weights: Mapping[str, Tensor]) -> Fitting:
    """Find the layers of a network that weights fit as a whole: each tensor of a layer by name and shape.

    Args:
        network: network, not changed.
        weights: state dict of another network, perhaps with other classes or channels.
    """
    own: dict[str, dict[str, Tensor]] = {}
    for name, tensor in network.state_dict().items():
        own.setdefault(_layer(name), {})[name] = tensor
    loaded = [layer for layer, tensors in own.items() if _fits_layer(tensors, weights)]
    tensors = {name: weights[name] for layer in loaded for name in own[layer] if name in weights}
    others = dict.fromkeys(_layer(name) for name in weights if name not in tensors)
    return Fitting(tensors, loaded, [layer for layer in own if layer not in loaded], list(others))


def load_tensors(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load tensors that fit into a network, and keep its other ones."""
    _copy(network.state_dict(keep_vars=True), tensors)


def _layer(name: str) -> str:
    return name.rpartition(".")[0] or name


def _fits_layer(tensors: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> bool:
    needed = {name: tensor for name, tensor in tensors.items() if not name.endswith(OPTIONAL)}
    return bool(needed) and all(
        isinstance(weights.get(name), Tensor) and weights[name].shape == tensor.shape and tensor.numel() > 0
        for name, tensor in needed.items()
    )


def transpose_kernels(network: nn.Module) -> None:
    """Transpose all kernels, so that weights published for images [N, C, rows, columns] fit images [N, C, X, Y].

    The transposed network maps a transposed image to the transposed output, because strides, paddings and dilations are
    the same along both axes. For kernels that are random or symmetric the orientation doesn't matter.

    Args:
        network: network with published weights, changed in place.
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
