"""Correct probabilities by temperature scaling: one temperature for all classes, or one for each.

The probabilities p become softmax(log(p) / T). One T above 0 keeps the most probable class of every pixel; with a T for
each class it can change.

Reference:
    C. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017 (temperature scaling; with a T for each class,
    vector scaling without offsets).
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from scipy import optimize
from torch import Tensor
from torch.nn.functional import nll_loss

Floats = npt.NDArray[np.float64]
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
    """Find the temperatures of the greatest likelihood within their bounds, by L-BFGS-B.

    Args:
        probabilities: probabilities [pixels, C].
        truth: true classes [pixels], 0 to C - 1.
        kind: one of ``KINDS``.

    Returns:
        One temperature, or one for each class, from 1 / ``HOTTEST`` to ``HOTTEST``.
    """
    logs, true = probabilities.double().clamp_min(_SMALLEST).log(), truth.long()
    count, bound = logs.shape[1] if kind == "class" else 1, math.log(HOTTEST)

    def measure(exponents: Floats) -> tuple[float, Floats]:
        """Return the negative log likelihood and its gradient at logarithms of inverse temperatures."""
        inverse = torch.tensor(exponents, requires_grad=True)
        loss = nll_loss((logs * inverse.exp()).log_softmax(1), true)
        loss.backward()
        assert inverse.grad is not None
        return float(loss.detach()), inverse.grad.numpy()

    with torch.enable_grad():
        found = optimize.minimize(
            measure,
            np.zeros(count),
            jac=True,
            method="L-BFGS-B",
            bounds=[(-bound, bound)] * count,
            options={"ftol": 1e-15, "gtol": 1e-9},
        )
    return [math.exp(-exponent) for exponent in found.x]
