"""Reestimate batch norm statistics from the whole training set.

References:
    S. Ioffe, C. Szegedy, "Batch Normalization", ICML 2015, algorithm 2, lines 8 to 12: the population's mean and
    variance are the averages of those of the training batches, the variance unbiased; https://arxiv.org/abs/1502.03167.
    V. Badrinarayanan et al., "SegNet", PAMI 2017, section 4, does so before every evaluation; the authors'
    ``compute_bn_statistics.py``: https://github.com/alexgkendall/SegNet-Tutorial.
"""

from collections.abc import Iterable
from typing import Any, TypeAlias

import torch
import torch.distributed
from ignite.engine import Engine, Events
from torch import nn

from medpos.core.device import has_fast_bf16, memory_format

BatchNorm: TypeAlias = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm


class ReestimateStatistics:
    """Set every batch normalization's mean and variance to those of the training images before an evaluation.

    In training they are moving averages, in which the last batches weigh most. Here every image weighs the same, also
    in a smaller last batch. Only the batch normalizations change; dropout is off, weights stay. Place it before every
    other handler that acts at the start of the evaluation, but after ``LoadModel``; ``Checkpoint`` then saves the
    statistics that the validation used.

    Args:
        network: the bare network, not its DistributedDataParallel wrapper; in a training with several processes each
            passes its own images, and all get the average.
        data_loader: batches of the training images, dicts with ``image`` [N, C, X, Y]; of the same size as in training,
            because differences between batches aren't part of the variance.
        device: device to compute on.
        amp: use bf16 where the device does it well, as in the training; False keeps float32.
    """

    def __init__(
        self,
        network: nn.Module,
        data_loader: Iterable[dict[str, Any]],
        device: torch.device | str,
        amp: bool = True,
    ) -> None:
        self.network = network
        self.data_loader = data_loader
        self.device = torch.device(device)
        self.amp = amp

    def attach(self, engine: Engine) -> None:
        """Estimate the statistics whenever the evaluator ``engine`` starts."""
        engine.add_event_handler(Events.STARTED, self.estimate)

    def estimate(self) -> None:
        """Estimate the statistics now."""
        layers = [layer for layer in self.network.modules() if isinstance(layer, BatchNorm)]
        layers = [layer for layer in layers if layer.track_running_stats]
        if not layers:
            return
        modes = {module: module.training for module in self.network.modules()}
        momenta = [layer.momentum for layer in layers]
        self.network.eval()
        for layer in layers:
            layer.train()
            layer.reset_running_stats()
        try:
            _average_over_processes(layers, self._pass_images(layers), self.device)
        finally:
            for module, training in modes.items():
                module.training = training
            for layer, momentum in zip(layers, momenta, strict=True):
                layer.momentum = momentum

    def _pass_images(self, layers: list[BatchNorm]) -> int:
        """Pass every image through the network once and return the number of images."""
        seen = 0
        amp, layout = self.amp and has_fast_bf16(self.device), memory_format(self.device)
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=amp):
            for batch in self.data_loader:
                images = batch["image"].to(self.device, memory_format=layout)
                seen += len(images)
                for layer in layers:
                    layer.momentum = len(images) / seen  # makes the moving average the average of all images
                self.network(images)
        return seen


def _average_over_processes(layers: list[BatchNorm], seen: int, device: torch.device) -> None:
    """Average the statistics of all processes, weighted by their numbers of images."""
    if not torch.distributed.is_initialized():
        return
    total = torch.tensor(float(seen), device=device)
    torch.distributed.all_reduce(total)
    for layer in layers:
        for statistic in (layer.running_mean, layer.running_var):
            statistic.mul_(seen / total)
            torch.distributed.all_reduce(statistic)
