"""The background of a network that doesn't give one."""

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer

NEVER = -1e4  # finite, so that differences are too; its probability is 0


class BackgroundInferer(Inferer):
    """Puts a background in front of the network's classes, so that everything behind it finds one channel a label.

    One channel is the logit z of the foreground, as a sigmoid takes it: it becomes [0, z], of which the softmax is
    [1 - sigmoid(z), sigmoid(z)]. Several are the classes 1, 2 ... of a network that knows no background, such as the
    eleven of CamVid: the background becomes impossible.

    Args:
        inferer: runs the network.
    """

    def __init__(self, inferer: Inferer) -> None:
        super().__init__()
        self.inferer = inferer

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Logits [N, 1 + C, X, Y(, Z)], where the network gives C channels."""
        logits = self.inferer(inputs, network, *args, **kwargs)
        background = torch.full_like(logits[:, :1], 0.0 if logits.shape[1] == 1 else NEVER)
        return torch.cat([background, logits], dim=1)
