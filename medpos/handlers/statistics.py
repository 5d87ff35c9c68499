"""The statistics of batch normalisations, estimated anew from the whole training set.

References:
    S. Ioffe, C. Szegedy, "Batch Normalization", ICML 2015, algorithm 2, lines 8 to 12: the population's mean and
    variance are the averages of those of the training batches, the variance unbiased; https://arxiv.org/abs/1502.03167.
    V. Badrinarayanan et al., "SegNet", PAMI 2017, section 4, does so before every evaluation; the authors'
    ``compute_bn_statistics.py``: https://github.com/alexgkendall/SegNet-Tutorial.
"""

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed
from ignite.engine import Engine, Events
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from medpos.core.device import has_fast_bf16, memory_format


class ReestimateStatistics:
    """Before an evaluation, sets every batch normalisation's mean and variance to those of the training images.

    In training they are moving averages, in which the last batches weigh most. Here every image weighs the same, in a
    last smaller batch too. Only the batch normalisations learn; dropout is off, weights stay. Goes in front of whatever
    else begins with the evaluation, but behind ``LoadModel``; ``Checkpoint`` then saves what the validation has used.

    Args:
        network: the bare network, not its DistributedDataParallel shell; of several processes each passes its own
            images, and all get the average.
        data_loader: batches of the training images, dicts with ``image`` [N, C, X, Y]; as large as those of the
            training, whose differences from batch to batch aren't part of the variance.
        device: to compute on.
        amp: bf16 where the device does it well, as in the training; False keeps float32.
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
        """Estimate whenever this evaluator starts."""
        engine.add_event_handler(Events.STARTED, self.estimate)

    def estimate(self) -> None:
        """Estimate now."""
        layers = [layer for layer in self.network.modules() if isinstance(layer, _BatchNorm)]
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
            _gather(layers, self._pass(layers), self.device)
        finally:
            for module, training in modes.items():
                module.training = training
            for layer, momentum in zip(layers, momenta, strict=True):
                layer.momentum = momentum

    def _pass(self, layers: list[_BatchNorm]) -> int:
        """Shows the network every image once; how many there were."""
        seen = 0
        amp, layout = self.amp and has_fast_bf16(self.device), memory_format(self.device)
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=amp):
            for batch in self.data_loader:
                images = batch["image"].to(self.device, memory_format=layout)
                seen += len(images)
                for layer in layers:
                    layer.momentum = len(images) / seen  # the moving average becomes that of all images
                self.network(images)
        return seen


def _gather(layers: list[_BatchNorm], seen: int, device: torch.device) -> None:
    """Averages the statistics of all processes, by their numbers of images."""
    if not torch.distributed.is_initialized():
        return
    total = torch.tensor(float(seen), device=device)
    torch.distributed.all_reduce(total)
    for layer in layers:
        for statistic in (layer.running_mean, layer.running_var):
            statistic.mul_(seen / total)
            torch.distributed.all_reduce(statistic)
