"""Draw pictures of the worst, the median and the best case of an evaluation."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events

from medpos.core.device import is_main_process
from medpos.core.files import write_atomically
from medpos.core.labels import as_labels
from medpos.data.conditions import CLEAN
from medpos.data.folder import DataFolder
from medpos.handlers.rows import condition_of
from medpos.handlers.tensorboard import TensorBoard
from medpos.plotting.overlay import draw_page, draw_panels
from medpos.runs import files
from medpos.runs.folder import RunFolder

View = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]  # image, ground truth, prediction
_MOST_ROWS = 6  # slices of a volume on one picture


class Overlays:
    """Draw the worst, the median and the best clean case by mean Dice, as PNG files, in TensorBoard, or both.

    A validation without surface distances, which CaseMetrics leaves out of most epochs, isn't drawn either.

    Args:
        source: the data set, for its labels and a note on phantoms.
        folder: run folder that gets ``overlays/`` with the PNG files; None writes none.
        board: TensorBoard writer of the run; None leaves it out.
    """

    def __init__(self, source: DataFolder, folder: RunFolder | None = None, board: TensorBoard | None = None) -> None:
        self.source = source
        self.folder = folder
        self.board = board
        self._views: dict[str, View] = {}

    def attach(self, engine: Engine) -> None:
        """Draw when the evaluator ``engine`` ends, in the main process alone; its key metric is CaseMetrics."""
        if is_main_process():
            engine.add_event_handler(Events.EPOCH_STARTED, lambda _: self._views.clear())
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._keep)
            engine.add_event_handler(Events.COMPLETED, self._show)

    def _keep(self, engine: Engine) -> None:
        if not getattr(engine.state, "has_surfaces", True):
            return
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
            page = draw_page(
                [draw_panels(*view, self.source.labels) for view in _slices(self._views[case])],
                self.source.labels,
                [f"{rank} of {len(ranked)}: {case}, mean Dice {dice[case]:.3f}{note}"],
            )
            if self.folder is not None:
                path = self.folder.results / files.OVERLAYS / f"{rank}_{case}.png"
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
    """Choose at most ``_MOST_ROWS`` slices, evenly among those that hold an organ; an X-ray is a single slice."""
    image, truth, prediction = (a.astype(np.float32) if i == 0 else a for i, a in enumerate(view))
    if image.ndim == 2:
        return [(image, truth, prediction)]
    shown = np.flatnonzero((truth > 0).any((0, 1)) | (prediction > 0).any((0, 1)))
    if not shown.size:
        shown = np.array([image.shape[2] // 2])
    chosen = shown[np.unique(np.linspace(0, shown.size - 1, min(_MOST_ROWS, shown.size)).round().astype(int))]
    return [(image[..., z], truth[..., z], prediction[..., z]) for z in chosen]
