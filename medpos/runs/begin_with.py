"""Begin a training with the layers of another model that fit."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import nn

from medpos.core.errors import InputError
from medpos.networks.layers.published import Fitting, find_fitting_layers, load_tensors, transpose_kernels
from medpos.runs import files
from medpos.runs.checkpoints import find_non_finite, load


@runtime_checkable
class Renaming(Protocol):
    """A network that begins with layers of another one under its own names."""

    def rename_layers(self, weights: Mapping[str, Any]) -> dict[str, Any]:
        """Rename the layers of another network's state dict that this network has too."""


_PLACES = (files.MODEL, f"models/{files.MODEL}")  # of a run, and of an exported bundle
_INNER = ("state_dict", "network", "model")  # keys of the weights in other programs' checkpoints
_WRAPPER = "module."  # of a network that was trained on several GPUs


def check_beginning(network: nn.Module, where: str) -> None:
    """Check that a training can begin with the weights, without loading them.

    Args:
        network: network to be trained.
        where: run folder, exported bundle or file of weights.

    Raises:
        InputError: the weights are missing, not finite, hold more than tensors, or no layer fits.
    """
    _find(network, find_weights(where))


def begin_with(network: nn.Module, where: str) -> str:
    """Load the layers that fit: those with the same name and shapes.

    Args:
        network: network, changed in place; its other layers stay as they are.
        where: run folder, exported bundle or file of weights. Weights that a network's ``load_published`` knows by
            their published names are loaded by it.

    Returns:
        The names of the layers that were loaded, that are new, and that were not used.

    Raises:
        InputError: as for :func:`check_beginning`.
    """
    path = find_weights(where)
    fitting = _find(network, path)
    if fitting is None:
        unused = network.load_published(_read(path))
        transpose_kernels(network)
        return f"begins with the published weights of {path}; not used: {', '.join(unused) or 'nothing'}"
    load_tensors(network, fitting.tensors)
    new, unused = ", ".join(fitting.new) or "nothing", ", ".join(fitting.unused) or "nothing"
    loaded = f"{len(fitting.loaded)} layers of {path}: {', '.join(fitting.loaded)}"
    return f"begins with {loaded}; new: {new}; unused: {unused}"


def find_weights(where: str) -> Path:
    """Return the file of the weights in a run folder or an exported bundle, or the file itself.

    Raises:
        InputError: there is none.
    """
    place = Path(where)
    for path in (place, *(place / name for name in _PLACES)):
        if path.is_file():
            return path
    raise InputError(
        f"--begin_with: expected the folder of a run or of an exported bundle, or a file of weights, got {where}; give "
        f"one that holds a {files.MODEL}"
    )


def _find(network: nn.Module, path: Path) -> Fitting | None:
    """Return what fits; None for published weights."""
    weights = _read(path)
    if names := find_non_finite(weights):
        raise InputError(f"{path}: expected finite weights, got NaN or infinity in {names[0]}; begin with others")
    renamed = network.rename_layers(weights) if isinstance(network, Renaming) else weights
    fitting = find_fitting_layers(network, renamed)
    if fitting.loaded:
        return fitting
    if hasattr(network, "load_published"):
        copy.deepcopy(network).load_published(weights)
        return None
    raise InputError(
        f"{path}: expected weights for {type(network).__name__}, but none of its layers ({', '.join(fitting.new[:2])} "
        f"and so on) is there with the same name and shapes, only {', '.join(fitting.unused[:2]) or 'nothing'}; give a "
        "model of the same kind"
    )


def _read(path: Path) -> dict[str, Any]:
    """Read a state dict of tensors by name, plain or inside another program's checkpoint."""
    state = load(path)
    inner = next((state[key] for key in _INNER if isinstance(state.get(key), dict)), state)
    if all(name.startswith(_WRAPPER) for name in inner):
        return {name.removeprefix(_WRAPPER): values for name, values in inner.items()}
    return inner
