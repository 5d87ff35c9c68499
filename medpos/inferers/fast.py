"""Run inferers on the fast path: channels-last memory and bf16 autocast where the device supports them well."""

import logging
from collections.abc import Callable
from typing import Any, cast

import torch
import torch.distributed
from monai.inferers import Inferer, SliceInferer, SlidingWindowInferer
from monai.utils import BlendMode
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from medpos.core.device import find_compile_fault, has_fast_bf16, memory_format, tensor_version
from medpos.networks.layers.folding import fold_batch_norms, update_folded

Forward = Callable[..., torch.Tensor]
logger = logging.getLogger(__name__)


class FastInferer(Inferer):
    """Run any MONAI inferer on the fast path, and return float32 logits.

    A network in evaluation mode runs with its batch norm layers folded into its convolutions, in bf16 with
    channels-last memory if :func:`has_fast_bf16`, else in float32. If every image or slice is one window, the network
    gets it without MONAI's cutting and weighting, which wouldn't change any value.

    Args:
        inferer: MONAI inferer that selects the windows, such as ``SlidingWindowInferer``.
        amp: whether bf16 is allowed; False keeps float32 everywhere.
        compile: whether the network is compiled by ``torch.compile`` at its first use; where there is no compiler, it
            runs as it is, and the log says why.
    """

    def __init__(self, inferer: Inferer, amp: bool = True, compile: bool = False) -> None:
        super().__init__()
        self.inferer = inferer
        self.amp = amp
        self.compile = compile
        self._folded: tuple[Any, ...] = (None, None, None)
        self._compiled: tuple[Any, ...] = (None, None)

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Compute the network's output for ``inputs`` [N, C, X, Y] or [N, C, X, Y, Z].

        Returns:
            float32 logits of the same spatial shape, or [N, classes] of a classifier.
        """
        layout, amp = memory_format(inputs.device), self.amp and has_fast_bf16(inputs.device)
        network = self._compile(self._without_norms(network, torch.bfloat16 if amp else None), inputs.device)

        def forward(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            return network(x.contiguous(memory_format=layout), *args, **kwargs)

        kind = inputs.device.type
        # One context around all windows, so that the weights are cast once per call, not once per window.
        with torch.autocast(kind, torch.bfloat16, enabled=amp):
            if _is_one_window(self.inferer, inputs) and not (args or kwargs):
                return _without_windows(self.inferer, inputs, forward)
            logits: torch.Tensor = self.inferer(inputs, forward, *args, **kwargs)
        if isinstance(logits, list):  # outputs of several sizes, in training
            return [output.float() for output in logits]
        if logits.ndim == 2:  # classes of whole images
            return logits.float()
        # Channels last, independent of the inferer's layout: the argmax over the classes is six times as fast.
        last = torch.channels_last if logits.ndim == 4 else torch.channels_last_3d
        return logits.to(torch.float32, memory_format=last)

    def _without_norms(self, network: Callable[..., torch.Tensor], dtype: torch.dtype | None) -> Forward:
        """Return the network with its batch norm layers folded, or unchanged while it is being trained."""
        if not isinstance(network, nn.Module) or network.training or torch.is_grad_enabled():
            return network
        is_shared = isinstance(network, DistributedDataParallel)
        own: nn.Module = network.module if is_shared else network
        source, version, folded = self._folded
        if source is not own or version != (_versions(own), dtype):
            if is_shared:  # processes have statistics of different images; those of the first one are saved
                for statistic in own.buffers():
                    torch.distributed.broadcast(statistic, 0)
            is_known = source is own and version[1] == dtype and folded is not own
            if not (is_known and update_folded(folded, own)):
                folded = fold_batch_norms(own, dtype, joins_relu=not self.compile)  # torch.compile does it itself
            self._folded = (own, (_versions(own), dtype), folded)
        return cast(Forward, folded)

    def _compile(self, network: Forward, device: torch.device) -> Forward:
        """Return the network compiled, once for each network; unchanged where that isn't wanted or can't be done."""
        if not self.compile or not isinstance(network, nn.Module):
            return network
        source, compiled = self._compiled
        if source is not network:
            if fault := find_compile_fault(device):
                logger.warning("torch.compile doesn't work on %s (%s): the network runs as it is", device, fault)
                compiled = network
            else:
                logger.info("torch.compile: the first batches take up to a minute longer")
                compiled = torch.compile(network)
            self._compiled = (network, compiled)
        return cast(Forward, compiled)


def _versions(network: nn.Module) -> list[tuple[int, int]]:
    """Return the versions of all tensors, which change at optimizer steps and when a checkpoint is loaded."""
    return [tensor_version(tensor) for tensor in (*network.parameters(), *network.buffers())]


def _is_one_window(inferer: Any, inputs: torch.Tensor) -> bool:
    """Tell whether a plain MONAI inferer takes every image, or every slice of a volume, as one window of weight 1."""
    size = list(inputs.shape[2:])
    if type(inferer) is SliceInferer and len(size) == 3 and inferer.spatial_dim in (0, 1, 2):
        roi = inferer.orig_roi_size
        del size[inferer.spatial_dim]
    elif type(inferer) is SlidingWindowInferer:
        roi = inferer.roi_size
    else:
        return False
    special = ("sw_device", "device", "cpu_thresh", "buffer_steps", "with_coord", "progress", "roi_weight_map")
    plain = inferer.mode == BlendMode.CONSTANT and not any(getattr(inferer, name) for name in special)
    return plain and isinstance(roi, list | tuple) and list(roi) == size


def _without_windows(inferer: Any, inputs: torch.Tensor, forward: Forward) -> torch.Tensor:
    """Compute the inferer's output in its batches, without windows, as float32 in channels-last memory."""
    axis = inferer.spatial_dim + 2 if isinstance(inferer, SliceInferer) else None
    images = inputs if axis is None else inputs.movedim(axis, 1).flatten(0, 1)
    parts = [forward(part) for part in images.split(inferer.sw_batch_size)]
    layout = torch.channels_last if images.ndim == 4 else torch.channels_last_3d
    logits = (parts[0] if len(parts) == 1 else torch.cat(parts)).to(torch.float32, memory_format=layout)
    return logits if axis is None else logits.unflatten(0, (len(inputs), -1)).movedim(1, axis)
