"""The layers of a network in the order in which they run, and what each of them sees of the image."""

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
from medpos.explain.windows import Follower, Windows

OUTPUT = "output"


@dataclass(frozen=True, eq=False)
class Layer:
    """One run of a module of a network.

    Args:
        name: of the module; one that runs more than once has ``:1``, ``:2`` ... behind it, the whole network is
            ``output``.
        shape: C, X, Y of its output.
        windows: what its rows see; None: nothing of the image.
    """

    name: str
    shape: tuple[int, int, int]
    windows: Windows | None

    @property
    def complete(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The rows whose window the image's edge doesn't cut."""
        if self.windows is None:
            return np.empty(0, np.int64)
        return np.flatnonzero((self.windows.last >= 0) & ~self.windows.cut)

    @property
    def sizes(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Of the window of each row, px."""
        assert self.windows is not None
        return self.windows.last - self.windows.first + 1

    @property
    def field(self) -> int | None:
        """The receptive field in px: the largest window that isn't cut; 0: it sees nothing, None: all are cut.

        Windows differ a little where features were upsampled, because not every pixel has the same neighbours there.
        """
        if self.windows is None:
            return 0
        return int(self.sizes[self.complete].max()) if self.complete.size else None

    @property
    def stride(self) -> int | None:
        """By how many px of the image the windows of neighbouring pixels differ."""
        if self.windows is None or self.complete.size < 2:
            return None
        centres = (self.windows.first + self.windows.last)[self.complete] / 2
        return round(float(np.polyfit(self.complete, centres, 1)[0]))


def shadow_of(network: nn.Module) -> nn.Module:
    """The network without its values, which :func:`layers_of` doesn't need; itself where it is one already."""
    tensors = [*network.parameters(), *network.buffers()]
    if all(tensor.is_meta for tensor in tensors):
        return network
    return copy.deepcopy(network, {id(tensor): tensor.to("meta") for tensor in tensors})


def layers_of(network: nn.Module, shape: tuple[int, int, int]) -> list[Layer]:
    """Runs a network without computing a value.

    Args:
        network: in evaluation mode.
        shape: C, X, Y of an image.

    Returns:
        Its layers that give [N, C, X, Y], in the order in which they are done; the last is ``output``.

    Raises:
        InputError: the network doesn't take the size.
        UnknownOperationError: it has an operation that can't be followed.
    """
    shadow = shadow_of(network)
    image = torch.zeros(1, *shape, device="meta")
    found: list[tuple[str, Tensor, Windows | None]] = []
    follower = Follower(image)
    look = _each_output(shadow, lambda name, output: found.append((name, output, follower.of(output))))
    with look, torch.no_grad(), follower:
        shadow(image)
    names = _numbered([name for name, _, _ in found])
    sizes = [(int(output.shape[1]), int(output.shape[2]), int(output.shape[3])) for _, output, _ in found]
    return [Layer(n, s, w) for n, s, (_, _, w) in zip(names, sizes, found, strict=True)]


def deepest(layers: list[Layer]) -> Layer:
    """The features on the coarsest grid, of them those that see most; of these the outermost module that is first."""
    # The layer that gives the output may stand in modules of its own.
    inner = [layer for layer in layers if layer.windows is not layers[-1].windows] or layers
    return min(_coarsest(inner), key=lambda layer: layer.name.count("."))


def _coarsest(layers: list[Layer]) -> list[Layer]:
    """Those on the coarsest grid that see most."""
    most = [(layer.stride or 0, layer.field or 0) for layer in layers]
    return [layer for layer, what in zip(layers, most, strict=True) if what == max(most)]


def convolutions(network: nn.Module, layers: list[Layer]) -> list[Layer]:
    """Those of the layers that are a convolution."""
    names = {name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)}
    return [layer for layer in layers if layer.name.partition(":")[0] in names]


def scores(network: nn.Module, layers: list[Layer]) -> Layer:
    """The convolution that gives the classes; of several the first of those that ``deepest`` would take."""
    inner = [layer for layer in convolutions(network, layers) if layer.shape[0] == layers[-1].shape[0]]
    return _coarsest(inner or layers[-1:])[0]


class _Reached(Exception):  # noqa: N818 (no error: it ends a run early)
    pass


def features_of(network: nn.Module, layer: str, image: Tensor) -> Tensor:
    """The output of a layer; what comes behind it isn't computed.

    Args:
        network: in evaluation mode.
        layer: a name of :func:`layers_of`.
        image: [N, C, X, Y].

    Returns:
        [N, C', X', Y'], with gradients where they are on.

    Raises:
        InputError: there is no such layer; the message names all.
    """
    name, _, turn = layer.partition(":")
    found: list[Tensor] = []
    seen: Counter[str] = Counter()

    def look(given: str, output: Tensor) -> None:
        seen[given] += 1
        if given == name and seen[given] == int(turn or 1):
            found.append(output.clone())  # the next layer may write over it
            raise _Reached

    with _each_output(network, look):
        try:
            network(image)
        except _Reached:
            return found[0]
    raise InputError(f"--layer is {layer!r}, needed is one of {', '.join(_numbered(list(seen.elements())))}")


def choose(layers: list[Layer], name: str) -> Layer:
    """The layer of this name; the deepest for an empty one.

    Raises:
        InputError: there is none; the message names all.
    """
    for layer in layers:
        if layer.name == name:
            return layer
    if name:
        raise InputError(f"--layer is {name!r}, needed is one of {', '.join(layer.name for layer in layers)}")
    return deepest(layers)


@contextmanager
def _each_output(network: nn.Module, look: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Shows the name of each module that gives [N, C, X, Y], alone or before places of maxima, and what it gave."""

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def watch(module: nn.Module, inputs: Any, output: Any) -> None:
            features = output[0] if isinstance(output, tuple) else output
            if isinstance(features, Tensor) and features.dim() == 4:
                look(name, features)

        return watch

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
