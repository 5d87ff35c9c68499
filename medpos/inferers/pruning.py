"""Measure the time and the IoU of a UNet++ at each pruning level.

Reference:
    Z. Zhou et al., "UNet++", DLMIA 2018, section 3.2 and figure 3; https://arxiv.org/abs/1807.10165.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from monai.inferers import Inferer
from torch import nn

from medpos.networks.encoder_decoder.unetpp import UNetPlusPlus

LEVELS = (1, 2, 3, 4)


@dataclass(frozen=True)
class PruningLevel:
    """Hold the measurements of a UNet++ pruned to one level.

    Attributes:
        level: level k of L^k, 1 to 4.
        parameters: number of parameters of the pruned network.
        seconds: median time per image in seconds.
        ratio: time relative to L^4, median over the repeats.
        iou: IoU from the evaluation, NaN without one.
    """

    level: int
    parameters: int
    seconds: float
    ratio: float
    iou: float


def measure_pruning(
    network: UNetPlusPlus,
    images: torch.Tensor,
    inferer: Inferer,
    evaluate: Callable[[nn.Module], float] | None = None,
    repeats: int = 5,
) -> list[PruningLevel]:
    """Prune a trained UNet++ to each level, and measure time and IoU.

    Args:
        network: network trained with deep supervision.
        images: images [N, C, X, Y] for the time measurement, on the network's device.
        inferer: inferer that runs the pruned networks.
        evaluate: function that computes the IoU of a network in evaluation mode; None for no IoU.
        repeats: number of runs over all levels; levels alternate because a machine's speed varies.

    Returns:
        One row per level, L^1 to L^4.

    Raises:
        InputError: the network has no deep supervision, so only its last head is trained.
    """
    pruned = {level: network.pruned(level).eval() for level in LEVELS}
    spent: dict[int, list[float]] = {level: [] for level in LEVELS}
    for turn in range(repeats + 1):  # the first run is a warm-up
        for level, one in pruned.items():
            seconds = _seconds(one, images, inferer) / len(images)
            if turn:
                spent[level].append(seconds)
    return [
        PruningLevel(
            level,
            sum(parameter.numel() for parameter in one.parameters()),
            median(spent[level]),
            median(mine / whole for mine, whole in zip(spent[level], spent[LEVELS[-1]], strict=True)),
            float("nan") if evaluate is None else evaluate(one),
        )
        for level, one in pruned.items()
    ]


def _seconds(network: nn.Module, images: torch.Tensor, inferer: Inferer) -> float:
    started = time.perf_counter()
    with torch.inference_mode():
        # The copy to the CPU waits for the result.
        inferer(images, network).cpu()
    return time.perf_counter() - started
