"""Add a background class to the output of a network."""

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer

IMPOSSIBLE = -1e4  # logit with probability 0, finite so that differences of logits are finite


class BackgroundInferer(Inferer):
    """Insert a background channel before the network's classes, so that there is one channel per label.

    A single channel is the logit z of the foreground, for a sigmoid: it becomes [0, z] with the softmax
    [1 - sigmoid(z), sigmoid(z)]. Several channels are the classes 1, 2 ... of a network without background, such as the
    eleven of CamVid: the background gets probability 0.

    Args:
        inferer: inferer that runs the network.
    """

    def __init__(self, inferer: Inferer) -> None:
        super().__init__()
        self.inferer = inferer

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Compute logits [N, 1 + C, X, Y(, Z)] with a network that returns C channels."""
        logits = self.inferer(inputs, network, *args, **kwargs)
        background = torch.full_like(logits[:, :1], 0.0 if logits.shape[1] == 1 else IMPOSSIBLE)
        return torch.cat([background, logits], dim=1)
