"""Show the progress of a training or an evaluation: a bar, and one line per epoch."""

import logging
import math
import time
from typing import Any

import torch
from ignite.engine import Engine, Events
from ignite.handlers import ProgressBar

from medpos.core.device import is_main_process

logger = logging.getLogger(__name__)


class Progress(ProgressBar):
    """Show a progress bar on a terminal's standard error; it disappears at the end and is never written to a file.

    Args:
        desc: text beside the bar, such as ``training``.
    """

    def __init__(self, desc: str) -> None:
        super().__init__(desc=desc, persist=False, mininterval=0.5, disable=None)

    def attach(self, engine: Engine) -> None:
        """Show the progress of ``engine``, on the main process only."""
        if is_main_process():
            super().attach(engine)


class EpochLog:
    """Log a line after every epoch of a trainer: loss, validation metrics, best key metric so far, seconds.

    Args:
        evaluator: evaluator of the validation.
    """

    def __init__(self, evaluator: Engine) -> None:
        self.evaluator = evaluator
        self._losses: list[Any] = []
        self._started = 0.0

    def attach(self, engine: Engine) -> None:
        """Log after every epoch of the trainer ``engine``; attach after ValidationHandler."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._log)

    def _begin(self, engine: Engine) -> None:
        self._losses, self._started = [], time.perf_counter()

    def _collect(self, engine: Engine) -> None:
        if isinstance(engine.state.output, dict) and "loss" in engine.state.output:
            # Kept as a tensor, because reading its value here would stall a GPU at every step.
            self._losses.append(engine.state.output["loss"].detach())

    def _log(self, engine: Engine) -> None:
        if not is_main_process():
            return
        parts = [f"epoch {engine.state.epoch}/{engine.state.max_epochs}"]
        if self._losses:
            losses = torch.stack(self._losses)
            parts.append(f"loss {float(losses[losses.isfinite()].mean()):.4f}")  # without those of skipped batches
        metrics = self.evaluator.state.metrics
        organs = [f"{k.removeprefix('dice/')} {_number(v)}" for k, v in metrics.items() if k.startswith("dice/")]
        if organs:
            parts.append(f"validation Dice {_number(metrics['mean_dice'])} ({', '.join(organs)})")
        if metrics:
            state = self.evaluator.state
            # Metrics per organ have a slash in their names, scores don't.
            parts += [f"{k} {_number(v)}" for k, v in metrics.items() if "/" not in k and k != "mean_dice"]
            parts.append(f"best {_number(state.best_metric)} in epoch {state.best_metric_epoch}")
        parts.append(f"{time.perf_counter() - self._started:.1f} s")
        logger.info("; ".join(parts))


def _number(value: float) -> str:
    return "missing" if math.isnan(value) else f"{value:.3f}"
