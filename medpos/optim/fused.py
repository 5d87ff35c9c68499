"""Build optimizers in the form that is fastest on the device of the network."""

from collections.abc import Iterable
from typing import Any

import torch

from medpos.core.device import is_computing_apart


def adam(params: Iterable[Any], **options: Any) -> torch.optim.Adam:
    """Build PyTorch's Adam; on a GPU all parameters are updated by one fused operation.

    Args:
        params: parameters of the network, or groups of them.
        **options: further arguments of ``torch.optim.Adam``.
    """
    given = [dict(part) if isinstance(part, dict) else part for part in params]  # PyTorch changes groups in place
    tensors = [tensor for part in given for tensor in (part["params"] if isinstance(part, dict) else [part])]
    fused = {"fused": True} if tensors and all(map(is_computing_apart, tensors)) else {}
    return torch.optim.Adam(given, **{**fused, **options})
