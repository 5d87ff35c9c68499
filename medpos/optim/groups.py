"""Set learning rates and weight decays of parts of a network by an optimizer's parameter groups."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from medpos.core.errors import InputError


def parameter_groups(
    network: nn.Module, lr: float, weight_decay: float, factors: Mapping[str, Sequence[float]]
) -> list[dict[str, Any]]:
    """Group the trainable parameters of a network by their names.

    Args:
        network: network to be trained.
        lr: learning rate for a factor of 1.
        weight_decay: weight decay for a factor of 1.
        factors: regular expressions, searched in the names of parameters, and two factors each: for the learning rate
            and for the weight decay. The first match counts; parameters without a match have both factors 1. Caffe's
            bias rule is ``{"bias$": [2, 0]}``; a head that learns ten times as fast, and its biases twenty times, is
            ``{"^head.*bias$": [20, 1], "^head": [10, 1]}``.

    Returns:
        Groups for ``params`` of an optimizer, in the order of ``factors``, unmatched parameters last.

    Raises:
        InputError: an expression has not exactly two factors, or matches no name that earlier ones don't match.
    """
    for pattern, pair in factors.items():
        if len(pair) != 2:
            raise InputError(f"factors of {pattern!r}: expected two, for learning rate and weight decay, got {pair!r}")
    patterns = [*factors, ""]  # the empty one matches every name
    members: dict[str, list[nn.Parameter]] = {pattern: [] for pattern in patterns}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            members[next(pattern for pattern in patterns if re.search(pattern, name))].append(parameter)
    for pattern in factors:
        if not members[pattern]:
            names = ", ".join(name for name, _ in list(network.named_parameters())[:3])
            raise InputError(
                f"factors: expected {pattern!r} to match a parameter of {type(network).__name__} that no earlier "
                f"expression matches, got no match; names are such as {names}"
            )
    pairs = {"": (1.0, 1.0), **factors}
    return [
        {"params": parameters, "lr": lr * pairs[pattern][0], "weight_decay": weight_decay * pairs[pattern][1]}
        for pattern, parameters in members.items()
        if parameters
    ]
