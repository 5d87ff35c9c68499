"""Weight the losses of batches that share a step of the optimizer."""

from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import IterationEvents
from monai.utils import CommonKeys


class AccumulatedLoss:
    """Weight the loss of each batch so that gradients of several batches add up to those of one larger batch.

    MONAI's trainer divides each loss by ``accumulation_steps``. That is right for full batches of a loss that is the
    mean over images; here the smaller last batch of an epoch, a last step with fewer batches, and a loss that sums over
    images (with ``reduction`` "sum") get their weights too. The loss that other handlers see stays.
    """

    def __init__(self) -> None:
        self._loss = torch.empty(0)

    def attach(self, engine: Engine) -> None:
        """Weight the losses of the trainer ``engine`` if it accumulates gradients."""
        engine.add_event_handler(Events.STARTED, self._begin)

    def _begin(self, engine: Engine) -> None:
        if getattr(engine, "accumulation_steps", 1) > 1:
            engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self._weight)
            engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self._restore)

    def _weight(self, engine: Engine) -> None:
        output: dict[str, Any] = engine.state.output
        self._loss = output[CommonKeys.LOSS]
        if getattr(engine.loss_function, "reduction", "mean") == "sum":
            factor = float(engine.accumulation_steps)
        else:
            factor = engine.accumulation_steps * len(output[CommonKeys.IMAGE]) / _count_images(engine)
        if factor != 1:
            output[CommonKeys.LOSS] = self._loss * factor

    def _restore(self, engine: Engine) -> None:
        engine.state.output[CommonKeys.LOSS] = self._loss


def _count_images(engine: Engine) -> int:
    """Return the number of images of all batches in the present step of the optimizer."""
    steps, place = engine.accumulation_steps, (engine.state.iteration - 1) % engine.state.epoch_length
    first = place - place % steps
    loader = engine.state.dataloader
    end = min((first + steps) * loader.batch_size, engine.state.epoch_length * loader.batch_size, len(loader.sampler))
    return int(end - first * loader.batch_size)
