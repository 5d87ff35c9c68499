"""Write the losses, metrics and hyperparameters of a training to TensorBoard, as one entry for each run."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from torch.utils.tensorboard import SummaryWriter

from medpos.core.device import is_main_process
from medpos.handlers.charts import as_block, layout, write_results, write_settings
from medpos.handlers.validation_loss import ValidationLoss
from medpos.runs import files
from medpos.runs.folder import RunFolder


class TensorBoard:
    """Hold the run's one event writer, made at its first use, so that building a bundle writes nothing.

    Training, test and later evaluations of a run write to one folder, so TensorBoard lists them as one run. Its first
    events are the configuration, as text, and a layout that draws all organs in one chart, under *Custom Scalars*.

    Args:
        run: run folder that gets ``tensorboard/`` with the events.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run

    @property
    def part(self) -> str:
        """First part of the tags of the present evaluation: ``test``, ``robustness`` and so on."""
        return "test" if self.run.results == self.run.folder else self.run.results.name

    @cached_property
    def writer(self) -> SummaryWriter:
        """The writer."""
        folder, config = self.run.folder / files.TENSORBOARD, self.run.results / files.CONFIG
        is_new = not folder.exists()
        writer = SummaryWriter(str(folder))
        if is_new and config.is_file():
            writer.add_text("configuration", as_block(config.read_text(encoding="utf-8")))
            writer.add_custom_scalars(layout(self.run.folder))
            writer.flush()
        return writer

    def write_results(
        self, conditions: Sequence[Mapping[str, Any]], cases: Mapping[str, Sequence[float]], text: str
    ) -> None:
        """Write the results of the present evaluation; arguments as in :func:`medpos.handlers.charts.write_results`."""
        write_results(self.writer, self.part, conditions, cases, text)
        self.writer.add_custom_scalars(layout(self.run.folder, self.part, conditions))
        self.writer.flush()

    def close(self) -> None:
        """Write pending events, close the writer, if it was used, and release the run folder."""
        if "writer" in self.__dict__:
            self.writer.close()
        self.run.close()


class ScalarLog:
    """Log the loss of every iteration, losses, learning rate and validation metrics of every epoch, hyperparameters.

    Tags: ``loss`` of every iteration; of every epoch ``loss/training``, ``loss/validation``
    (:class:`medpos.handlers.validation_loss.ValidationLoss`), ``learning_rate``, ``mean_dice``, the best one until
    then as ``best_mean_dice``, ``dice/<organ>`` and ``hd95_mm/<organ>``; for a classification ``top1``, ``best_top1``
    and ``top5``. The epoch's mean loss, as ``train_loss``, and ``learning_rate`` also go to the trainer's
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
        self._measures_loss = False

    def attach(self, engine: Engine) -> None:
        """Log the trainer ``engine``, in the main process alone; attach in every one, after ValidationHandler."""
        engine.add_event_handler(Events.STARTED, self._begin)
        if is_main_process():
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._iteration)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch)
            engine.add_event_handler(Events.COMPLETED, self._end)

    def _begin(self, engine: Engine) -> None:
        # Not in attach(), because MONAI's trainer attaches its handlers before it has its loss.
        if (loss := getattr(engine, "loss_function", None)) is not None and not self._measures_loss:
            self._measures_loss = True
            ValidationLoss(loss).attach(self.evaluator)

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
            mean = float(np.mean([*finite.values()]))
            engine.state.metrics["train_loss"] = mean
            self.board.writer.add_scalar("loss/training", mean, engine.state.epoch)
        if self.optimizer is not None:
            rate = float(self.optimizer.param_groups[0]["lr"])
            self.board.writer.add_scalar("learning_rate", rate, engine.state.iteration)
            engine.state.metrics["learning_rate"] = rate
        state = self.evaluator.state
        best = {f"best_{state.key_metric_name}": state.best_metric} if state.metrics else {}
        for name, value in {**state.metrics, **best}.items():
            # TensorBoard draws a gap where a value is missing, which a NaN would spoil.
            if np.isfinite(value):
                self.board.writer.add_scalar(name, value, engine.state.epoch)
        self.board.writer.flush()

    def _end(self, engine: Engine) -> None:
        key = self.evaluator.state.key_metric_name
        write_settings(self.board.writer, self.hyper_parameters, (f"best_{key}", f"test/{key}"))
