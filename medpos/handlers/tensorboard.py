"""Pictures of cases, and what TensorBoard shows beside MONAI's own scalars."""

import io
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from torch.utils.tensorboard import SummaryWriter

from medpos.core.device import is_main_process
from medpos.core.files import write_atomically
from medpos.core.labels import as_labels
from medpos.data.conditions import CLEAN
from medpos.data.folder import DataFolder
from medpos.handlers.metrics import condition_of
from medpos.plotting.overlay import panels, picture
from medpos.runs.folder import RunFolder

View = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]
_MOST_ROWS = 6  # slices of a volume on one picture


class TensorBoard:
    """The run's one event writer, made at its first use, so that building a bundle writes nothing.

    Args:
        run: the events go to ``tensorboard/`` in its folder.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run

    @cached_property
    def writer(self) -> SummaryWriter:
        """The writer, in the folder as it is then."""
        return SummaryWriter(str(self.run.folder / "tensorboard"))

    def close(self) -> None:
        """Write out what is pending, if anything was written at all."""
        if "writer" in self.__dict__:
            self.writer.close()


class ScalarLog:
    """Loss at every iteration, learning rate and the validation's metrics at every epoch, hyper-parameters at the end.

    Tags: ``loss``, ``learning_rate``, ``mean_dice``, ``dice/<organ>``, ``hd95_mm/<organ>``; of a classification
    ``top1``, ``top5``. The epoch's mean loss, ``train_loss``, and ``learning_rate`` also go to the trainer's
    ``state.metrics``, where MLflow's handler looks.

    Args:
        board: the writer.
        optimizer: whose learning rate is shown.
        evaluator: the validating engine.
        hyper_parameters: names and values for the HPARAMS page.
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
        """Follow the trainer ``engine``; goes behind the validation handler."""
        if is_main_process():
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._iteration)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch)
            engine.add_event_handler(Events.COMPLETED, self._end)

    def _iteration(self, engine: Engine) -> None:
        if "loss" in engine.state.output:
            # Kept as a tensor until the epoch ends: reading its value here would stall a GPU at every step.
            self._losses.append(engine.state.output["loss"].detach())

    def _epoch(self, engine: Engine) -> None:
        step = engine.state.iteration - len(self._losses)
        losses = torch.stack(self._losses).tolist() if self._losses else []
        for n, loss in enumerate(losses, start=1):
            self.board.writer.add_scalar("loss", loss, step + n)
        self._losses = []
        if losses:
            engine.state.metrics["train_loss"] = float(np.mean(losses))
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


class Overlays:
    """Pictures of the worst, the median and the best clean case, by mean Dice: as PNG files, in TensorBoard, or both.

    Args:
        source: gives the labels, and whether the data are phantoms.
        folder: run whose ``overlays/`` gets the PNG files; None leaves them out.
        board: the TensorBoard writer; None leaves it out.
    """

    def __init__(self, source: DataFolder, folder: RunFolder | None = None, board: TensorBoard | None = None) -> None:
        self.source = source
        self.folder = folder
        self.board = board
        self._views: dict[str, View] = {}

    def attach(self, engine: Engine) -> None:
        """Follow an evaluator whose key metric is CaseMetrics."""
        if is_main_process():
            engine.add_event_handler(Events.EPOCH_STARTED, lambda _: self._views.clear())
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._keep)
            engine.add_event_handler(Events.COMPLETED, self._show)

    def _keep(self, engine: Engine) -> None:
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            if condition_of(item) == CLEAN:
                image = item["image"][0].to(torch.float16).cpu().numpy()
                self._views[item["case"]] = (image, as_labels(output["label"]), as_labels(output["pred"]))

    def _show(self, engine: Engine) -> None:
        dice = _mean_dice(engine.state.rows)
        ranked = sorted((case for case in self._views if case in dice), key=lambda case: (dice[case], case))
        if not ranked:
            return
        chosen = {"worst": ranked[0], "median": ranked[len(ranked) // 2], "best": ranked[-1]}
        for rank, case in chosen.items():
            note = " - PHANTOM DATA" if self.source.phantom else ""
            page = picture(
                [panels(*view, self.source.labels) for view in _slices(self._views[case])],
                self.source.labels,
                [f"{rank} of {len(ranked)}: {case}, mean Dice {dice[case]:.3f}{note}"],
            )
            if self.folder is not None:
                path = self.folder.results / "overlays" / f"{rank}_{case}.png"
                write_atomically(path, lambda partial, page=page: _save_png(page, partial))  # type: ignore[misc]
            if self.board is not None:
                pixels = np.asarray(page)
                self.board.writer.add_image(f"overlay/{rank}", pixels, engine.state.epoch, dataformats="HWC")


def _save_png(page: Any, path: Path) -> None:
    buffer = io.BytesIO()
    page.save(buffer, "PNG", compress_level=1)
    path.write_bytes(buffer.getvalue())


def _mean_dice(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for row in rows:
        if row["severity"] == 0 and row["shift"] == CLEAN.shift and np.isfinite(row["dice"]):
            values.setdefault(row["case"], []).append(row["dice"])
    return {case: float(np.mean(v)) for case, v in values.items()}


def _slices(view: View) -> list[View]:
    """The slices that show anything, at most ``_MOST_ROWS`` spread evenly; an X-ray is its own only slice."""
    image, truth, prediction = (a.astype(np.float32) if i == 0 else a for i, a in enumerate(view))
    if image.ndim == 2:
        return [(image, truth, prediction)]
    shown = np.flatnonzero((truth > 0).any((0, 1)) | (prediction > 0).any((0, 1)))
    if not shown.size:
        shown = np.array([image.shape[2] // 2])
    chosen = shown[np.unique(np.linspace(0, shown.size - 1, min(_MOST_ROWS, shown.size)).round().astype(int))]
    return [(image[..., z], truth[..., z], prediction[..., z]) for z in chosen]
