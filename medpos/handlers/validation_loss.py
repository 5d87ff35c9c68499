"""Measure the training's loss on the validation images, from the outputs that the metrics are measured on."""

import logging
from collections.abc import Callable

import torch
import torch.distributed
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from torch import Tensor

from medpos.core.errors import InputError, first_line
from medpos.core.labels import IGNORED
from medpos.inferers.background import BackgroundInferer

logger = logging.getLogger(__name__)
NAME = "loss/validation"
_SLICES = 4  # dimensions of slices [N, C, X, Y]; volumes have one more
_REFUSALS = (InputError, RuntimeError, ValueError, IndexError, TypeError)


class ValidationLoss:
    """Measure the loss of a training in its validation, without another forward pass.

    ``engine.state.metrics`` holds it as ``loss/validation`` when the epoch ends: the mean over the images, or over the
    slices of volumes; a loss that sums over images (``reduction`` "sum") is divided by their number. It is computed on
    whole images, so it equals the training's loss only where that is computed on whole images too, without random
    changes and dropout. A loss that can't be computed from logits and label maps alone, such as one with a weight for
    each pixel, is left out, and the log says so. With several processes, a case that fills the last batch counts twice.

    Args:
        loss: loss function of the trainer, called with logits [N, C, X, Y] and classes [N, X, Y].
    """

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.loss = loss
        self._is_left_out = False
        self._parts: list[Tensor] = []

    def attach(self, engine: Engine) -> None:
        """Measure every iteration of the evaluator ``engine``, in every process."""
        engine.add_event_handler(Events.EPOCH_STARTED, lambda _: self._parts.clear())
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._finish)

    def _add(self, engine: Engine) -> None:
        if self._is_left_out:
            return
        output = engine.state.output
        try:
            logits, target = _as_in_training(output["pred"], output["label"], engine.inferer)
            loss = self.loss(logits, target).detach()
        except _REFUSALS as error:
            self._is_left_out = True
            name = type(self.loss).__name__
            logger.info("no validation loss: %s can't be computed on whole images (%s)", name, first_line(error))
            return
        weight = 1 if getattr(self.loss, "reduction", "mean") == "sum" else len(logits)
        # Kept as a tensor until the epoch ends, because reading its value here would stall a GPU at every step.
        self._parts.append(torch.stack([loss.float() * weight, loss.new_tensor(len(logits), dtype=torch.float32)]))

    def _finish(self, engine: Engine) -> None:
        if self._is_left_out or not self._parts:
            return
        total = torch.stack(self._parts).sum(0)
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(total)
        loss, count = total.tolist()
        engine.state.metrics[NAME] = loss / count


def _as_in_training(logits: Tensor, label: Tensor, inferer: object) -> tuple[Tensor, Tensor]:
    """Bring the output of an evaluator into the form that losses take.

    Args:
        logits: output of the inferer, [N, C, X, Y], [N, C, X, Y, Z], or [N, C] of whole images.
        label: label maps [N, 1, X, Y(, Z)], or classes [N].
        inferer: inferer of the evaluator; the background that a BackgroundInferer inserts is taken out again.

    Returns:
        Logits [N, C, X, Y], slices of volumes one after the other, and classes [N, X, Y] as in the training.
    """
    if logits.ndim > _SLICES:
        logits, label = (part.movedim(-1, 1).flatten(0, 1) for part in (logits, label))
    target = (label[:, 0] if label.ndim == logits.ndim else label).long()
    if isinstance(inferer, BackgroundInferer):
        logits = logits[:, 1:]
        if logits.shape[1] > 1:  # classes from 0, as medpos.transforms.IgnoreVoid numbers them
            target = torch.where(target > 0, target - 1, IGNORED)
    return logits.float(), target
