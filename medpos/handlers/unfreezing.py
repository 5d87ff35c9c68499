"""Free the layers of a pretrained network one after another, the last one first.

Reference:
    P. Kumar et al., "U-SegNet", ICIP 2018: "fine tuning one layer at a time starting from the last layer";
    https://arxiv.org/abs/1806.04429.
"""

import logging
from collections.abc import Sequence

from ignite.engine import Engine, Events
from torch import nn

from medpos.core.errors import InputError

logger = logging.getLogger(__name__)


class GradualUnfreezing:
    """Freeze the layers of some stages, and free one more of them every few epochs, from the last to the first.

    The layers that are free depend on the epoch alone, so a resumed training has the same. Freed layers stay free, and
    all other layers of the network learn from the beginning. The paper doesn't say whether a layer is frozen again.

    Args:
        network: network to be trained.
        stages: names of parts of the network whose children are the layers, in the order of the forward pass.
        interval: number of epochs from one freed layer to the next.

    Raises:
        InputError: the network has no such part.
    """

    def __init__(self, network: nn.Module, stages: Sequence[str], interval: int) -> None:
        parts = dict(network.named_children())
        if unknown := [name for name in stages if name not in parts]:
            raise InputError(
                f"stages: expected parts of {type(network).__name__} ({', '.join(parts)}), got {unknown[0]!r}; name "
                "some of those"
            )
        self.layers = [(f"{name}.{index}", layer) for name in stages for index, layer in parts[name].named_children()]
        self.interval = interval

    def attach(self, engine: Engine) -> None:
        """Free the layers of an epoch when it starts."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Free the layers of the trainer's epoch, and log which one is new."""
        freed = 1 + (engine.state.epoch - 1) // self.interval
        for place, (name, layer) in enumerate(reversed(self.layers), start=1):
            layer.requires_grad_(place <= freed)
            if place == freed and (engine.state.epoch - 1) % self.interval == 0:
                logger.info("epoch %d: layer %s is free", engine.state.epoch, name)
