"""Correct probabilities by temperature scaling: one temperature for all classes, or one for each.

The probabilities p become softmax(log(p) / T). One T above 0 keeps the most probable class of every pixel; with a T for
each class it can change.

Reference:
    C. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017 (temperature scaling; with a T for each class,
    vector scaling without offsets).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import nll_loss

KINDS = ("one", "class")  # of temperatures: for all classes, for each
HOTTEST = 20.0  # greatest temperature, and the inverse of the smallest
_SMALLEST = 1e-30  # probability


def scale(probabilities: Tensor, temperatures: Sequence[float]) -> Tensor:
    """Apply temperatures to probabilities.

    Args:
        probabilities: probabilities [C, ...].
        temperatures: one temperature, or one for each class.

    Returns:
        Probabilities [C, ...], float32.
    """
    divisors = torch.tensor(temperatures, device=probabilities.device).view(-1, *[1] * (probabilities.ndim - 1))
    return (probabilities.float().clamp_min(_SMALLEST).log() / divisors).softmax(0)


def fit_temperatures(probabilities: Tensor, truth: Tensor, kind: str) -> list[float]:
    """Find the temperatures of the greatest likelihood, by L-BFGS.

    Args:
        probabilities: probabilities [pixels, C].
        truth: true classes [pixels], 0 to C - 1.
        kind: one of ``KINDS``.

    Returns:
        One temperature, or one for each class, from 1 / ``HOTTEST`` to ``HOTTEST``.
    """
    logs, true = probabilities.double().clamp_min(_SMALLEST).log(), truth.long()
    # The likelihood is concave in the inverse temperatures, whose logarithms keep them above 0.
    inverse = torch.zeros(logs.shape[1] if kind == "class" else 1, dtype=torch.double, requires_grad=True)
    bound = math.log(HOTTEST)
    optimizer = torch.optim.LBFGS([inverse], max_iter=100, tolerance_change=1e-9, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nll_loss((logs * inverse.clamp(-bound, bound).exp()).log_softmax(1), true)
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    return [float(t) for t in (-inverse.detach()).clamp(-bound, bound).exp()]
