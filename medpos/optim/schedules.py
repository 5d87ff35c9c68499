"""Compute learning rates as pure functions of the iteration, for :class:`medpos.handlers.LearningRate`.

Each function computes the rate from the base rate and the number of finished iterations, 0 at the first one. A bundle
sets the other arguments:
``{"_target_": "medpos.optim.schedules.poly", "_mode_": "callable", "max_iterations": 40000}``.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence

from medpos.core.errors import InputError


def constant(base: float, iteration: int) -> float:
    """Return the base rate at every iteration."""
    return base


def step(base: float, iteration: int, at: int | Sequence[int], factor: float = 0.1) -> float:
    """Multiply the rate by a factor at every n-th iteration, or at given ones.

    Args:
        base: rate at iteration 0.
        iteration: number of finished iterations.
        at: number of iterations between two steps, or the iterations of the steps in increasing order.
        factor: factor of each step.

    Raises:
        InputError: ``at`` isn't above 0, or not in increasing order.
    """
    steps = [at] if isinstance(at, int) else list(at)
    if not steps or min(steps) < 1 or steps != sorted(steps):
        raise InputError(f"at: expected a number of iterations above 0, or several in increasing order, got {at!r}")
    times = iteration // at if isinstance(at, int) else bisect_right(steps, iteration)
    return base * factor**times


def poly(base: float, iteration: int, max_iterations: int, power: float = 0.9, floor: float = 0.0) -> float:
    """Compute (base - floor) (1 - iteration / max_iterations)^power + floor.

    Args:
        base: rate at iteration 0.
        iteration: number of finished iterations.
        max_iterations: iteration from which the rate is the floor, usually the length of the training.
        power: exponent; 0.9 in DeepLab and MMSegmentation.
        floor: lowest rate; 1e-4 in MMSegmentation's U-Net.

    Raises:
        InputError: ``max_iterations`` isn't above 0.

    Reference:
        https://github.com/open-mmlab/mmcv, ``PolyLrUpdaterHook``; https://github.com/open-mmlab/mmsegmentation,
        ``schedule_40k``.
    """
    return (base - floor) * float((1 - _progress(iteration, max_iterations)) ** power) + floor


def cosine(base: float, iteration: int, max_iterations: int) -> float:
    """Compute base / 2 (1 + cos(pi iteration / max_iterations)), SUNet's rate; it is 0 from ``max_iterations`` on.

    Args:
        base: rate at iteration 0.
        iteration: number of finished iterations.
        max_iterations: length of the training in iterations.

    Raises:
        InputError: ``max_iterations`` isn't above 0.
    """
    return base * 0.5 * (1 + math.cos(math.pi * _progress(iteration, max_iterations)))


def epochs(iterations: int, images: int, batch_size: int) -> int:
    """Convert a paper's number of iterations to epochs, rounded up.

    Args:
        iterations: number of batches in the training.
        images: number of images in an epoch.
        batch_size: number of images in a batch; the last batch of an epoch may have fewer.

    Raises:
        InputError: a number is below 1.
    """
    if min(iterations, images, batch_size) < 1:
        raise InputError(
            f"expected numbers of 1 or more, got iterations {iterations}, images {images}, batch_size {batch_size}"
        )
    return math.ceil(iterations / math.ceil(images / batch_size))


def _progress(iteration: int, max_iterations: int) -> float:
    if max_iterations < 1:
        raise InputError(f"max_iterations: expected the length of the training, at least 1, got {max_iterations}")
    return min(iteration / max_iterations, 1.0)
