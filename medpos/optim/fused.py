"""Build optimizers in the form that is fastest on the device of the network."""

from collections.abc import Iterable
from typing import Any

import torch


def adam(params: Iterable[Any], **options: Any) -> torch.optim.Adam:
    """Build PyTorch's Adam; on a GPU all parameters are updated by one fused operation.

    Args:
        params: parameters of the network, or groups of them.
        **options: further arguments of ``torch.optim.Adam``.
    """
    given = list(params)
    tensors = [tensor for part in given for tensor in (part["params"] if isinstance(part, dict) else [part])]
    fused = {"fused": True} if tensors and all(tensor.is_cuda for tensor in tensors) else {}
    return torch.optim.Adam(given, **{**fused, **options})
