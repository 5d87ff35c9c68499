"""What pruning a UNet++ costs and saves.

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
    """A UNet++ pruned to one level.

    Attributes:
        level: k of L^k, 1 to 4.
        parameters: of the pruned network.
        seconds: per image, the median.
        ratio: of the time to that of L^4, the median over turns.
        iou: what the evaluator gave, NaN without one.
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
    """Prunes a trained UNet++ to each level, and measures time and IoU.

    Args:
        network: with deep supervision.
        images: [N, C, X, Y] to measure the time on, on the network's device.
        inferer: runs the pruned networks.
        evaluate: gives the IoU of a network in evaluation mode; None measures none.
        repeats: turns, each of which runs all levels, because a machine's speed changes.

    Returns:
        A row a level, L^1 to L^4.

    Raises:
        InputError: the network has no deep supervision, so only its last head has learned to give logits.
    """
    pruned = {level: network.pruned(level).eval() for level in LEVELS}
    spent: dict[int, list[float]] = {level: [] for level in LEVELS}
    for turn in range(repeats + 1):  # the first one warms up
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
        # Copied to the processor, the result is there.
        inferer(images, network).cpu()
    return time.perf_counter() - started
