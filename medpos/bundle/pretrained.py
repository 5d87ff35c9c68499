"""Load the weights that a bundle's training begins with: published ones, or those of an earlier stage."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from medpos.core.colors import PUBLISHED as PUBLISHED
from medpos.core.errors import InputError
from medpos.networks.layers.published import transplant as transplanted
from medpos.networks.layers.published import transpose_kernels
from medpos.runs.checkpoints import load
from medpos.runs.files import Run

_VGG16 = {"caffe": "conv1_1.weight", "torchvision": "features.0.weight"}  # names of the first filters
logger = logging.getLogger(__name__)


def begin(network: nn.Module, weights: str = "", transplant: str = "", publisher: str = "") -> None:
    """Load the weights that a training begins with, and log the new tensors of the network and the unused ones.

    Published networks read images as rows and columns, medpos as [N, C, X, Y], so the kernels of published weights are
    transposed. Those of a ``model.pt`` of medpos are not.

    Args:
        network: network, changed in place; for ``weights`` it needs a method ``load_published``, which takes a state
            dict and returns the names of the tensors that it didn't use.
        weights: file of published weights, such as torchvision's VGG-16; "" for none.
        transplant: ``model.pt`` of an earlier stage, such as FCN-32s for an FCN-16s; "" for none.
        publisher: key of ``PUBLISHED``, the colors that the bundle makes; "" where they don't matter.

    Raises:
        InputError: both files are given, a file can't be read, or it doesn't match the network or the colors.
    """
    if weights and transplant:
        raise InputError(
            f"expected --weights or --transplant, got both ({weights}, {transplant}); leave out one of them"
        )
    path = Path(weights or transplant)
    try:
        if weights:
            if not hasattr(network, "load_published"):
                raise InputError(f"{type(network).__name__} can't load published weights; leave out --weights")
            given = _load_published(path)
            _check_colors(given, publisher)
            unused = network.load_published(given)
            transpose_kernels(network)
            logger.info("%s: %s", path, _format("loaded; unused", unused))
        elif transplant:
            _check_stage(path, publisher)
            new, unused = transplanted(network, load(path))
            logger.info("%s: %s; %s", path, _format("transplanted; new", new), _format("unused", unused))
    except InputError as error:
        raise error if str(path) in str(error) else InputError(f"{path}: {error}") from error


def _check_stage(path: Path, publisher: str) -> None:
    """Check that the earlier stage had the same colors, by the configuration beside its model, if there is one."""
    run = Run(path.parent)
    earlier = run.config.get("publisher") if run.is_recorded else None
    if publisher and earlier and earlier != publisher:
        raise InputError(
            f"expected a stage trained with the colors of {publisher}, got one with those of {earlier}; add "
            f"--publisher {earlier}"
        )


def _load_published(path: Path) -> Mapping[str, Any]:
    """Load a state dict, or that of a checkpoint of PyTorch's ImageNet example, as SUNet's authors publish it."""
    state = load(path)
    inner = state.get("state_dict")
    return inner if isinstance(inner, Mapping) else state


def _check_colors(weights: Mapping[str, Any], publisher: str) -> None:
    """Check the colors by the names of VGG-16's tensors; those of ResNet-101 are the same for every publisher."""
    if publisher and publisher not in PUBLISHED:
        raise InputError(f"--publisher: expected {', '.join(PUBLISHED)}, got {publisher!r}; choose one of them")
    for name, layer in _VGG16.items():
        if publisher and publisher != name and layer in weights:
            raise InputError(
                f"expected weights of {publisher}, for which the images are colored, got those of {name}; "
                f"add --publisher {name}"
            )


def _format(what: str, names: list[str]) -> str:
    return f"{what}: {', '.join(names) or 'nothing'}"
