"""Learning rates and weight decays for parts of a network, as an optimiser's parameter groups."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from medpos.core.errors import InputError


def parameter_groups(
    network: nn.Module, lr: float, weight_decay: float, factors: Mapping[str, Sequence[float]]
) -> list[dict[str, Any]]:
    """Groups the parameters by their names; those that aren't trained are in none.

    Args:
        network: the network.
        lr: learning rate of a factor of 1.
        weight_decay: that of a factor of 1.
        factors: for regular expressions, searched in a parameter's name, two factors: of the learning rate and of the
            weight decay. The first expression that is found counts; parameters in which none is have both factors 1.
            Caffe's bias rule is ``{"bias$": [2, 0]}``; a head that learns ten times as fast, and its biases twenty,
            ``{"^head.*bias$": [20, 1], "^head": [10, 1]}``.

    Returns:
        Groups for ``params`` of an optimiser, in the order of ``factors``, the rest last.

    Raises:
        InputError: an expression is found in no name that an earlier one leaves; factors that aren't two.
    """
    for pattern, pair in factors.items():
        if len(pair) != 2:
            raise InputError(f"factors of {pattern!r} are {pair!r}, needed are two: of learning rate and weight decay")
    patterns = [*factors, ""]  # the empty one is found in every name
    members: dict[str, list[nn.Parameter]] = {pattern: [] for pattern in patterns}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            members[next(pattern for pattern in patterns if re.search(pattern, name))].append(parameter)
    for pattern in factors:
        if not members[pattern]:
            names = ", ".join(name for name, _ in list(network.named_parameters())[:3])
            raise InputError(
                f"{pattern!r} is found in no parameter's name of this {type(network).__name__} that an earlier "
                f"expression leaves; the names are such as {names}"
            )
    pairs = {"": (1.0, 1.0), **factors}
    return [
        {"params": parameters, "lr": lr * pairs[pattern][0], "weight_decay": weight_decay * pairs[pattern][1]}
        for pattern, parameters in members.items()
        if parameters
    ]
