"""List the layers of a network in the order in which they run, with their receptive fields."""

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medpos.core.errors import InputError
from medpos.explain.receptive_field import ReceptiveFields
from medpos.explain.tracing import ReceptiveFieldTracer

OUTPUT = "output"


@dataclass(frozen=True, eq=False)
class Layer:
    """Describe one call of a module of a network.

    Args:
        name: name of the module, with ``:1``, ``:2`` ... appended where it is called more than once; ``output`` for
            the whole network.
        shape: shape C, X, Y of the output.
        row_fields: receptive field of each row of the output; None where it doesn't depend on the image.
    """

    name: str
    shape: tuple[int, int, int]
    row_fields: ReceptiveFields | None

    @property
    def complete_rows(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Numbers of the rows with a receptive field that no edge of the image cuts."""
        if self.row_fields is None:
            return np.empty(0, np.int64)
        return np.flatnonzero((self.row_fields.last >= 0) & ~self.row_fields.cut)

    @property
    def field_sizes(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Size of the receptive field of each row, in pixels."""
        assert self.row_fields is not None
        return self.row_fields.last - self.row_fields.first + 1

    @property
    def receptive_field(self) -> int | None:
        """Size in pixels of the largest receptive field that isn't cut; 0: there is none, None: all are cut.

        Behind an upsampling the sizes differ a little, because not every pixel has the same neighbors there.
        """
        if self.row_fields is None:
            return 0
        return int(self.field_sizes[self.complete_rows].max()) if self.complete_rows.size else None

    @property
    def stride(self) -> int | None:
        """Distance of the receptive fields of neighboring pixels, in pixels of the image; None: unknown."""
        if self.row_fields is None or self.complete_rows.size < 2:
            return None
        centers = (self.row_fields.first + self.row_fields.last)[self.complete_rows] / 2
        return round(float(np.polyfit(self.complete_rows, centers, 1)[0]))


def without_values(network: nn.Module) -> nn.Module:
    """Return a copy of a network on the ``meta`` device, without values; the network itself if it is there."""
    tensors = [*network.parameters(), *network.buffers()]
    if all(tensor.is_meta for tensor in tensors):
        return network
    return copy.deepcopy(network, {id(tensor): tensor.to("meta") for tensor in tensors})


def trace_layers(network: nn.Module, shape: tuple[int, int, int]) -> list[Layer]:
    """Run a network without computing values, and list its layers.

    Args:
        network: network in evaluation mode.
        shape: shape C, X, Y of an image.

    Returns:
        The layers with an output [N, C, X, Y], in the order in which they finish; the last is ``output``.

    Raises:
        InputError: the network doesn't accept the size.
        UnknownOperationError: the network has an operation without a rule in :mod:`medpos.explain.field_rules`.
    """
    empty = without_values(network)
    image = torch.zeros(1, *shape, device="meta")
    found: list[tuple[str, Tensor, ReceptiveFields | None]] = []
    tracer = ReceptiveFieldTracer(image)
    watched = _each_output(empty, lambda name, output: found.append((name, output, tracer.fields_of(output))))
    with watched, torch.no_grad(), tracer:
        empty(image)
    names = _numbered([name for name, _, _ in found])
    sizes = [(int(output.shape[1]), int(output.shape[2]), int(output.shape[3])) for _, output, _ in found]
    return [Layer(n, s, w) for n, s, (_, _, w) in zip(names, sizes, found, strict=True)]


def find_deepest(layers: list[Layer]) -> Layer:
    """Return the layer on the coarsest grid; of several the one of the largest receptive field, then the outermost."""
    # The last operation may be that of an inner module, which then has the fields of the output.
    inner = [layer for layer in layers if layer.row_fields is not layers[-1].row_fields] or layers
    return min(_coarsest(inner), key=lambda layer: layer.name.count("."))


def _coarsest(layers: list[Layer]) -> list[Layer]:
    """Return the layers on the coarsest grid with the largest receptive field."""
    most = [(layer.stride or 0, layer.receptive_field or 0) for layer in layers]
    return [layer for layer, what in zip(layers, most, strict=True) if what == max(most)]


def find_convolutions(network: nn.Module, layers: list[Layer]) -> list[Layer]:
    """Return the layers that are convolutions."""
    names = {name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)}
    return [layer for layer in layers if layer.name.partition(":")[0] in names]


def find_score_layer(network: nn.Module, layers: list[Layer]) -> Layer:
    """Return the convolution with as many channels as classes; of several the first on the coarsest grid."""
    inner = [layer for layer in find_convolutions(network, layers) if layer.shape[0] == layers[-1].shape[0]]
    return _coarsest(inner or layers[-1:])[0]


class _Reached(Exception):  # noqa: N818 (no error: it ends a forward pass early)
    pass


def compute_features(network: nn.Module, layer: str, image: Tensor) -> Tensor:
    """Compute the output of a layer, and nothing that runs after it.

    Args:
        network: network in evaluation mode.
        layer: name of the layer, as :func:`trace_layers` gives it.
        image: images [N, C, X, Y].

    Returns:
        Features [N, C', X', Y'], with gradients where they are enabled.

    Raises:
        InputError: there is no such layer; the message lists all layers.
    """
    name, _, turn = layer.partition(":")
    found: list[Tensor] = []
    seen: Counter[str] = Counter()

    def stop(given: str, output: Tensor) -> None:
        seen[given] += 1
        if given == name and seen[given] == int(turn or 1):
            found.append(output.clone())  # the next layer may work in place
            raise _Reached

    with _each_output(network, stop):
        try:
            network(image)
        except _Reached:
            return found[0]
    raise _unknown_layer(layer, _numbered(list(seen.elements())))


def _unknown_layer(name: str, known: list[str]) -> InputError:
    return InputError(f"--layer: expected one of {', '.join(known)}, got {name!r}; give the name of a layer")


def choose_layer(layers: list[Layer], name: str) -> Layer:
    """Return the layer of a name; the deepest for an empty name.

    Raises:
        InputError: there is no such layer; the message lists all layers.
    """
    for layer in layers:
        if layer.name == name:
            return layer
    if name:
        raise _unknown_layer(name, [layer.name for layer in layers])
    return find_deepest(layers)


@contextmanager
def _each_output(network: nn.Module, watch: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Call ``watch`` with the name and output [N, C, X, Y] of each module; of a tuple the first item counts."""

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def call(module: nn.Module, inputs: Any, output: Any) -> None:
            features = output[0] if isinstance(output, tuple) else output
            if isinstance(features, Tensor) and features.dim() == 4:
                watch(name, features)

        return call

    handles = [module.register_forward_hook(hook(name or OUTPUT)) for name, module in network.named_modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _numbered(names: list[str]) -> list[str]:
    counts, seen = Counter(names), Counter[str]()
    numbered = []
    for name in names:
        seen[name] += 1
        numbered.append(f"{name}:{seen[name]}" if counts[name] > 1 else name)
    return numbered
