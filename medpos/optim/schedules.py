"""Learning rates as pure functions of the iteration, for :class:`medpos.handlers.LearningRate`.

Each gives the rate from the base rate and the number of iterations that are done, 0 at the first. What else it takes is
fixed in the bundle: ``{"_target_": "medpos.optim.schedules.poly", "_mode_": "callable", "max_iterations": 40000}``.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence

from medpos.core.errors import InputError


def constant(base: float, iteration: int) -> float:
    """The base rate throughout."""
    return base


def step(base: float, iteration: int, at: int | Sequence[int], factor: float = 0.1) -> float:
    """The rate is multiplied by a factor now and again.

    Args:
        base: rate at iteration 0.
        iteration: iterations that are done.
        at: every so many iterations, or at these.
        factor: what it is multiplied by.

    Raises:
        InputError: ``at`` isn't above 0, or not in rising order.
    """
    steps = [at] if isinstance(at, int) else list(at)
    if not steps or min(steps) < 1 or steps != sorted(steps):
        raise InputError(f"at is {at!r}, needed is a number of iterations above 0, or several in rising order")
    times = iteration // at if isinstance(at, int) else bisect_right(steps, iteration)
    return base * factor**times


def poly(base: float, iteration: int, max_iterations: int, power: float = 0.9, floor: float = 0.0) -> float:
    """(base - floor) (1 - iteration / max_iterations)^power + floor.

    Args:
        base: rate at iteration 0.
        iteration: iterations that are done.
        max_iterations: length of the training, where the floor is reached; it stays there.
        power: 0.9 in DeepLab and MMSegmentation.
        floor: lowest rate; 1e-4 in MMSegmentation's U-Net.

    Raises:
        InputError: ``max_iterations`` isn't above 0.

    Reference:
        https://github.com/open-mmlab/mmcv, ``PolyLrUpdaterHook``; https://github.com/open-mmlab/mmsegmentation,
        ``schedule_40k``.
    """
    return (base - floor) * float((1 - _progress(iteration, max_iterations)) ** power) + floor


def cosine(base: float, iteration: int, max_iterations: int) -> float:
    """base / 2 (1 + cos(pi iteration / max_iterations)), as SUNet's; 0 from ``max_iterations`` on.

    Args:
        base: rate at iteration 0.
        iteration: iterations that are done.
        max_iterations: length of the training.

    Raises:
        InputError: ``max_iterations`` isn't above 0.
    """
    return base * 0.5 * (1 + math.cos(math.pi * _progress(iteration, max_iterations)))


def epochs(iterations: int, images: int, batch_size: int) -> int:
    """How many epochs a paper's training takes, which counts in iterations; the last one is whole.

    Args:
        iterations: batches of the training.
        images: of an epoch.
        batch_size: images of a batch; the last batch of an epoch may have fewer.

    Raises:
        InputError: a number below 1.
    """
    if min(iterations, images, batch_size) < 1:
        raise InputError(
            f"iterations is {iterations}, of {images} images in batches of {batch_size}; needed are numbers from 1 on"
        )
    return math.ceil(iterations / math.ceil(images / batch_size))


def _progress(iteration: int, max_iterations: int) -> float:
    if max_iterations < 1:
        raise InputError(f"max_iterations is {max_iterations}, needed is the training's length, at least 1")
    return min(iteration / max_iterations, 1.0)
