"""Compare networks by columns that tables of papers have: parameters, receptive field, stride, time of a forward pass.

Reference:
    J. Long, E. Shelhamer, T. Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, table 1.
"""

import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medpos.explain.field_rules import UnknownOperationError
from medpos.explain.field_table import trace_large_image
from medpos.explain.layers import find_score_layer, without_values


@dataclass(frozen=True)
class NetworkFacts:
    """Hold the columns of the table for one network.

    Args:
        name: name of the network.
        parameters: number of trained parameters.
        storage_mb: size of parameters and buffers in 10^6 bytes.
        convolutions: number of convolutions.
        field: side of the receptive field of the scores in px; None where the image's edge cuts all, or it is unknown.
        stride: px of the image between two neighboring scores; None likewise.
        forward_ms: mean time of a forward pass in ms.
    """

    name: str
    parameters: int
    storage_mb: float
    convolutions: int
    field: int | None
    stride: int | None
    forward_ms: float


def find_facts(
    name: str, network: nn.Module, channels: int, size: int, trials: int, device: str | torch.device = "cpu"
) -> NetworkFacts:
    """Find the columns of the table for one network.

    Args:
        name: name of the network.
        network: network from [N, channels, H, W] to logits; put into evaluation mode and moved to the device.
        channels: channels of the image.
        size: side of the image of the forward passes in px.
        trials: number of forward passes whose time is averaged.
        device: device of the forward passes.

    Raises:
        InputError: the network doesn't accept images of this size.
    """
    network.eval()
    empty = without_values(network)
    field = stride = None
    try:
        scores = find_score_layer(empty, trace_large_image(empty, channels, size)[1])
        field, stride = scores.receptive_field, scores.stride
    except UnknownOperationError:  # such as circular padding, whose fields are no squares
        pass
    storage = sum(tensor.nbytes for tensor in (*network.parameters(), *network.buffers()))
    return NetworkFacts(
        name,
        sum(parameter.numel() for parameter in network.parameters()),
        storage / 1e6,
        sum(isinstance(module, nn.Conv2d) for module in network.modules()),
        field,
        stride,
        1000 * time_forward(network.to(device), torch.zeros(1, channels, size, size, device=device), trials),
    )


def time_forward(network: nn.Module, image: Tensor, trials: int) -> float:
    """Return the mean time of a forward pass in s, after one that isn't counted.

    Args:
        network: network in evaluation mode, on the device of the image.
        image: image [N, C, H, W].
        trials: number of forward passes, at least 1.
    """
    with torch.inference_mode():
        for trial in range(trials + 1):
            if trial == 1:
                begin = _now(image.device)
            network(image)
    return (_now(image.device) - begin) / trials


def _now(device: torch.device) -> float:
    """Return the time in s once the device has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
