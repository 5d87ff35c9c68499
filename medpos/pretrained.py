"""Where a bundle's training begins: with published weights, or with those of an earlier stage."""

import logging
from pathlib import Path

from torch import nn

from medpos.errors import InputError
from medpos.handlers.checkpoint import load
from medpos.networks.published import transplant as transplanted

logger = logging.getLogger(__name__)


def begin(network: nn.Module, weights: str = "", transplant: str = "") -> None:
    """Loads the weights from which a training begins, and logs what stays as it was and what is left over.

    Args:
        network: is changed in place; for ``weights`` it needs a method ``load_published``, which maps a state dict to
            the names that have no place.
        weights: file of published weights, as of torchvision's VGG-16; "" for none.
        transplant: ``model.pt`` of an earlier stage, as of FCN-32s for an FCN-16s; "" for none.

    Raises:
        InputError: both are given; a file can't be read; it doesn't fit the network.
    """
    if weights and transplant:
        raise InputError(f"both weights ({weights}) and transplant ({transplant}) are given; needed is one of them")
    path = Path(weights or transplant)
    try:
        if weights:
            if not hasattr(network, "load_published"):
                raise InputError(f"{type(network).__name__} has no published weights; leave out --weights")
            unused = network.load_published(load(path))
            logger.info("%s: %s", path, _listed("loaded; left over", unused))
        elif transplant:
            new, unused = transplanted(network, load(path))
            logger.info("%s: %s; %s", path, _listed("transplanted; new", new), _listed("left over", unused))
    except InputError as error:
        raise error if str(path) in str(error) else InputError(f"{path}: {error}") from error


def _listed(what: str, names: list[str]) -> str:
    return f"{what}: {', '.join(names) or 'nothing'}"
