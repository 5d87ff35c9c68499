"""Write the losses, metrics and hyperparameters of a training to TensorBoard."""

from functools import cached_property
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from torch.utils.tensorboard import SummaryWriter

from medpos.core.device import is_main_process
from medpos.runs import files
from medpos.runs.folder import RunFolder


class TensorBoard:
    """Hold the run's one event writer, made at its first use, so that building a bundle writes nothing.

    Args:
        run: run folder that gets ``tensorboard/`` with the events.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run

    @cached_property
    def writer(self) -> SummaryWriter:
        """The writer."""
        return SummaryWriter(str(self.run.folder / files.TENSORBOARD))

    def close(self) -> None:
        """Write pending events, close the writer, if it was used, and release the run folder."""
        if "writer" in self.__dict__:
            self.writer.close()
        self.run.close()


class ScalarLog:
    """Log the loss of every iteration, learning rate and validation metrics of every epoch, and hyperparameters.

    Tags: ``loss``, ``learning_rate``, ``mean_dice``, ``dice/<organ>`` and ``hd95_mm/<organ>``; for a classification
    ``top1`` and ``top5``. The epoch's mean loss, ``train_loss``, and ``learning_rate`` also go to the trainer's
    ``state.metrics``, where MLflow's handler reads them.

    Args:
        board: TensorBoard writer of the run.
        optimizer: optimizer with the learning rate; None logs no rate.
        evaluator: evaluator of the validation.
        hyper_parameters: names and values for the HPARAMS page, written when the training ends.
    """

    def __init__(
        self,
        board: TensorBoard,
        optimizer: torch.optim.Optimizer | None,
        evaluator: Engine,
        hyper_parameters: dict[str, Any],
    ) -> None:
        self.board = board
        self.optimizer = optimizer
        self.evaluator = evaluator
        self.hyper_parameters = hyper_parameters
        self._losses: list[torch.Tensor] = []

    def attach(self, engine: Engine) -> None:
        """Log the trainer ``engine``, in the main process alone; attach after ValidationHandler."""
        if is_main_process():
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._iteration)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch)
            engine.add_event_handler(Events.COMPLETED, self._end)

    def _iteration(self, engine: Engine) -> None:
        if "loss" in engine.state.output:
            # Kept as a tensor until the epoch ends, because reading its value here would stall a GPU at every step.
            self._losses.append(engine.state.output["loss"].detach())

    def _epoch(self, engine: Engine) -> None:
        step = engine.state.iteration - len(self._losses)
        losses = torch.stack(self._losses).tolist() if self._losses else []
        finite = {n: loss for n, loss in enumerate(losses, start=1) if np.isfinite(loss)}  # without skipped batches
        for n, loss in finite.items():
            self.board.writer.add_scalar("loss", loss, step + n)
        self._losses = []
        if finite:
            engine.state.metrics["train_loss"] = float(np.mean([*finite.values()]))
        if self.optimizer is not None:
            rate = float(self.optimizer.param_groups[0]["lr"])
            self.board.writer.add_scalar("learning_rate", rate, engine.state.iteration)
            engine.state.metrics["learning_rate"] = rate
        for name, value in self.evaluator.state.metrics.items():
            # TensorBoard draws a gap where a value is missing, which a NaN would spoil.
            if np.isfinite(value):
                self.board.writer.add_scalar(name, value, engine.state.epoch)
        self.board.writer.flush()

    def _end(self, engine: Engine) -> None:
        plain = {k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in self.hyper_parameters.items()}
        best = float(self.evaluator.state.best_metric)
        self.board.writer.add_hparams(
            plain, {f"best_{self.evaluator.state.key_metric_name}": best}, run_name="hyper_parameters"
        )
        self.board.writer.flush()
