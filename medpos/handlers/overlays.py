"""Draw pictures of the worst, the median and the best case of an evaluation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events

from medpos.core.device import is_main_process
from medpos.core.files import write_bytes
from medpos.core.labels import as_labels
from medpos.data.conditions import CLEAN, Condition
from medpos.data.folder import DataFolder
from medpos.handlers.charts import example_tag, write_picture
from medpos.handlers.rows import condition_of
from medpos.handlers.tensorboard import TensorBoard
from medpos.plotting.overlay import draw_page, draw_panels, encode_png
from medpos.runs import files
from medpos.runs.folder import RunFolder

View = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]  # image, ground truth, prediction
_MOST_ROWS = 6  # slices of a volume on one picture


class Overlays:
    """Draw the worst, the median and the best clean case by mean Dice, as PNG files, in TensorBoard, or both.

    A validation without surface distances, which CaseMetrics leaves out of most epochs, isn't drawn either.
    Under several conditions TensorBoard also gets the first case, one slice of a volume, under each of them: the step
    of ``PART/KIND/example`` is the severity or the distance of the shift in pixels.

    Args:
        source: the data set, for its labels and a note on phantoms.
        folder: run folder of a test, which gets ``overlays/`` with the PNG files; None for a validation.
        board: TensorBoard writer of the run; None leaves it out.
    """

    def __init__(self, source: DataFolder, folder: RunFolder | None = None, board: TensorBoard | None = None) -> None:
        self.source = source
        self.folder = folder
        self.board = board
        self._views: dict[str, View] = {}
        self._examples: dict[Condition, View] = {}  # the first case under each condition
        self._example = ""  # its name

    def attach(self, engine: Engine) -> None:
        """Draw when the evaluator ``engine`` ends, in the main process alone; its key metric is CaseMetrics."""
        if is_main_process():
            engine.add_event_handler(Events.EPOCH_STARTED, self._reset)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._keep)
            engine.add_event_handler(Events.COMPLETED, self._show)

    def _reset(self, engine: Engine) -> None:
        self._views, self._examples, self._example = {}, {}, ""

    def _keep(self, engine: Engine) -> None:
        if not getattr(engine.state, "has_surfaces", True):
            return
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            condition, case = condition_of(item), item["case"]
            self._example = self._example or case
            if condition == CLEAN or (self.board is not None and case == self._example):
                image = item["image"][0].to(torch.float16).cpu().numpy()
                view = (image, as_labels(output["label"]), as_labels(output["pred"]))
                if condition == CLEAN:
                    self._views[case] = view
                if case == self._example:
                    self._examples[condition] = _slices(view, 1)[0]

    def _show(self, engine: Engine) -> None:
        self._show_examples()
        dice = _mean_dice(engine.state.rows)
        ranked = sorted((case for case in self._views if case in dice), key=lambda case: (dice[case], case))
        if not ranked:
            return
        chosen = {"worst": ranked[0], "median": ranked[len(ranked) // 2], "best": ranked[-1]}
        for rank, case in chosen.items():
            note = " - PHANTOM DATA" if self.source.phantom else ""
            page = draw_page(
                [draw_panels(*view, self.source.labels) for view in _slices(self._views[case])],
                self.source.labels,
                [f"{rank} of {len(ranked)}: {case}, mean Dice {dice[case]:.3f}{note}"],
            )
            if self.folder is not None:
                path = self.folder.results / files.OVERLAYS / f"{rank}_{case}.png"
                write_bytes(path, encode_png(page))
            if self.board is not None:
                tag = f"overlay/{rank}" if self.folder is None else f"{self.board.part}/overlay/{rank}"
                write_picture(self.board.writer, tag, page, engine.state.epoch)

    def _show_examples(self) -> None:
        """Draw the first case under each condition, with the clean image at the beginning of each curve."""
        if self.board is None or self.folder is None or not self._examples.keys() - {CLEAN}:
            return
        note = " - PHANTOM DATA" if self.source.phantom else ""
        points = {example_tag(self.board.part, condition): condition for condition in self._examples}
        curves = dict.fromkeys(tag for tag, step in points if step)
        points |= {(tag, 0): CLEAN for tag in curves if CLEAN in self._examples}
        for tag, step in sorted(point for point in points if point[0] in curves):
            condition = points[tag, step]
            panels = draw_panels(*self._examples[condition], self.source.labels)
            page = draw_page([panels], self.source.labels, [f"{self._example}, {condition.title}{note}"])
            write_picture(self.board.writer, tag, page, step)


def _mean_dice(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for row in rows:
        if row["severity"] == 0 and row["shift"] == CLEAN.shift and np.isfinite(row["dice"]):
            values.setdefault(row["case"], []).append(row["dice"])
    return {case: float(np.mean(v)) for case, v in values.items()}


def _slices(view: View, most: int = _MOST_ROWS) -> list[View]:
    """Choose at most ``most`` slices, evenly among those that hold an organ; an X-ray is a single slice."""
    image, truth, prediction = (a.astype(np.float32) if i == 0 else a for i, a in enumerate(view))
    if image.ndim == 2:
        return [(image, truth, prediction)]
    shown = np.flatnonzero((truth > 0).any((0, 1)) | (prediction > 0).any((0, 1)))
    if not shown.size:
        shown = np.array([image.shape[2] // 2])
    chosen = shown[np.unique(np.linspace(0, shown.size - 1, min(_MOST_ROWS, shown.size)).round().astype(int))]
    return [(image[..., z], truth[..., z], prediction[..., z]) for z in chosen]
