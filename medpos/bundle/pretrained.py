"""Where a bundle's training begins: with published weights, or with those of an earlier stage."""

import json
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

VGG16 = {"caffe": "conv1_1.weight", "torchvision": "features.0.weight"}  # names of the first filters
logger = logging.getLogger(__name__)


def begin(network: nn.Module, weights: str = "", transplant: str = "", publisher: str = "") -> None:
    """Loads the weights from which a training begins, and logs what stays as it was and what is left over.

    Published networks see rows before columns, the images of medpos' bundles are [N, C, X, Y]: their kernels are
    transposed. A ``model.pt`` of medpos has them so already.

    Args:
        network: is changed in place; for ``weights`` it needs a method ``load_published``, which maps a state dict to
            the names that have no place.
        weights: file of published weights, as of torchvision's VGG-16; "" for none.
        transplant: ``model.pt`` of an earlier stage, as of FCN-32s for an FCN-16s; "" for none.
        publisher: whose ``PUBLISHED`` the bundle makes; "" where that is all one.

    Raises:
        InputError: both are given; a file can't be read; it doesn't fit the network, or wants other colours.
    """
    if weights and transplant:
        raise InputError(f"both weights ({weights}) and transplant ({transplant}) are given; needed is one of them")
    path = Path(weights or transplant)
    try:
        if weights:
            if not hasattr(network, "load_published"):
                raise InputError(f"{type(network).__name__} has no published weights; leave out --weights")
            given = _published(path)
            _check_colours(given, publisher)
            unused = network.load_published(given)
            transpose_kernels(network)
            logger.info("%s: %s", path, _listed("loaded; left over", unused))
        elif transplant:
            _check_stage(path, publisher)
            new, unused = transplanted(network, load(path))
            logger.info("%s: %s; %s", path, _listed("transplanted; new", new), _listed("left over", unused))
    except InputError as error:
        raise error if str(path) in str(error) else InputError(f"{path}: {error}") from error


def _check_stage(path: Path, publisher: str) -> None:
    """The run's configuration, where it lies beside its model, says which colours the earlier stage got."""
    config = path.with_name("config.json")
    earlier = json.loads(config.read_text(encoding="utf-8")).get("publisher") if config.is_file() else None
    if publisher and earlier and earlier != publisher:
        raise InputError(
            f"that stage was trained with the colours of {earlier}, this one would get those of {publisher}; add "
            f"--publisher {earlier}"
        )


def _published(path: Path) -> Mapping[str, Any]:
    """A state dict, or that of a checkpoint of PyTorch's ImageNet example, as SUNet's authors publish it."""
    state = load(path)
    inner = state.get("state_dict")
    return inner if isinstance(inner, Mapping) else state


def _check_colours(weights: Mapping[str, Any], publisher: str) -> None:
    """VGG-16's names tell whose weights they are; ResNet-101 bears the same everywhere."""
    if publisher and publisher not in PUBLISHED:
        raise InputError(f"publisher is {publisher!r}, needed is one of {', '.join(PUBLISHED)}")
    for name, layer in VGG16.items():
        if publisher and publisher != name and layer in weights:
            raise InputError(
                f"these are {name}'s weights, and the images get the colours of {publisher}'s; add --publisher {name}"
            )


def _listed(what: str, names: list[str]) -> str:
    return f"{what}: {', '.join(names) or 'nothing'}"
