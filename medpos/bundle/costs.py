"""Measure what the networks of bundles cost: parameters, storage and time of inference.

Reference:
    V. Badrinarayanan et al., "SegNet", PAMI 2017, tables 1 and 3: storage and inference time beside the scores.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from monai.bundle import ConfigParser
from monai.inferers import SimpleInferer
from torch import nn
from torch.nn import functional as F  # noqa: N812

from medpos.bundle.startup import try_image_size
from medpos.core.errors import InputError
from medpos.inferers import DenseCRF, FastInferer

_TRIES = 64  # pixels that a side is enlarged at most, to one that the network takes
_MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Cost:
    """Hold what a network costs.

    Attributes:
        bundle: name of the bundle.
        parameters: number of parameters.
        storage_mb: size of ``model.pt``'s tensors in MB of 1,000,000 bytes.
        size: X, Y of the image in pixels, the wanted one or the next larger that the network takes.
        seconds: median time of the network per image in seconds.
        crf_seconds: median time of the CRF after it; None for a bundle without one.
    """

    bundle: str
    parameters: int
    storage_mb: float
    size: tuple[int, int]
    seconds: float
    crf_seconds: float | None


def measure_cost(bundle: Path, size: tuple[int, int], repeats: int, device: torch.device) -> Cost:
    """Measure the network of a bundle, with random weights, on one smooth random image.

    Args:
        bundle: file of the bundle.
        size: X, Y of the image in pixels.
        repeats: number of timed passes, after one that warms up.
        device: device that computes.

    Raises:
        InputError: the network takes no size near the wanted one, or can't be built without data.
    """
    parser = ConfigParser()
    parser.read_config(str(bundle))
    network: nn.Module = parser.get_parsed_content("network_def").eval()
    if not hasattr(network, "in_channels"):
        raise InputError(f"{bundle.stem}: expected a network that segments by convolutions, got a mean mask")
    fitting = _fit(network, size[0]), _fit(network, size[1])
    # Smooth, because the CRF is slow on noise.
    image = F.interpolate(torch.rand(1, int(network.in_channels), 8, 8), fitting, mode="bilinear").to(device)
    inferer = FastInferer(SimpleInferer(), amp=bool(parser.get("amp", True)))
    network = network.to(device)
    with torch.inference_mode():
        logits = inferer(image, network)
        seconds = _time(lambda: inferer(image, network).cpu(), repeats)
        crf = _crf(parser)
        probabilities, plain = logits[0].softmax(0), image[0, :3]
        crf_seconds = None if crf is None else _time(lambda: crf(probabilities, plain), repeats)
    tensors = network.state_dict().values()
    storage = sum(tensor.numel() * tensor.element_size() for tensor in tensors) / _MEGABYTE
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Cost(bundle.stem, parameters, storage, fitting, seconds, crf_seconds)


def _fit(network: nn.Module, side: int) -> int:
    """Return the least side, at least the wanted one, of the squares that a network takes."""
    for larger in range(side, side + _TRIES):
        try:
            try_image_size(network, larger)
        except InputError:
            continue
        return larger
    raise InputError(f"--size: the network takes no side of {side} to {side + _TRIES - 1} px; give a larger one")


def _crf(parser: ConfigParser) -> DenseCRF | None:
    if "crf_name" not in parser:
        return None
    return DenseCRF.of_paper(parser["crf_name"], parser["crf_iterations"])


def _time(task: Callable[[], object], repeats: int) -> float:
    """Return the median time of a task in seconds; the first run warms up."""
    spent = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        task()
        spent.append(time.perf_counter() - started)
    return median(spent[1:])
