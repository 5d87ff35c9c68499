"""Build optimizers in the form that is fastest on the device of the network."""

from collections.abc import Iterable
from typing import Any

import torch

from medpos.core.device import is_computing_apart


def adam(
    params: Iterable[Any],
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    amsgrad: bool = False,
    fused: bool | None = None,
) -> torch.optim.Adam:
    """Build PyTorch's Adam; on a GPU all parameters are updated by one fused operation.

    Args:
        params: parameters of the network, or groups of them.
        lr: learning rate.
        betas: coefficients of the running averages of the gradient and of its square.
        eps: term added to the denominator.
        weight_decay: factor of the weights that is added to their gradients.
        amsgrad: whether the AMSGrad variant is used.
        fused: whether the operations are fused; None fuses them on a GPU alone.
    """
    given = [dict(part) if isinstance(part, dict) else part for part in params]  # PyTorch changes groups in place
    tensors = [tensor for part in given for tensor in (part["params"] if isinstance(part, dict) else [part])]
    if fused is None and tensors and all(map(is_computing_apart, tensors)):
        fused = True
    return torch.optim.Adam(given, lr, betas, eps, weight_decay, amsgrad, fused=fused)
