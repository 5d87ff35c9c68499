"""Save the segmented cases of an evaluation, and maps of where position channels change the prediction."""

import logging
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents

from medpos.core.arrays import save_arrays
from medpos.core.device import is_main_process
from medpos.core.labels import as_labels
from medpos.data.conditions import CLEAN
from medpos.handlers.rows import condition_of
from medpos.runs import files
from medpos.runs.cases import CaseView, save_cases, to_gray
from medpos.runs.folder import RunFolder
from medpos.transforms.position.probe import PROBES
from medpos.trust.uncertainty import entropy

logger = logging.getLogger(__name__)


class Cases:
    """Write ``cases.npz``: image, ground truth, prediction and entropy of the probabilities of every clean case.

    With probes of the position channels it also writes ``changes.npz``: for each probe (``position_zeroed-1``) a map
    [X, Y] of the share of slices, 0 to 1, in which the predicted class of the pixel differs from the clean case.
    ``engine.state.cases`` holds the clean cases.

    Place it before ResultTable, which marks the evaluation as finished.

    Args:
        run: run folder that gets the files.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self._cases: dict[str, CaseView] = {}
        self._changes: dict[str, list[npt.NDArray[np.float64]]] = {}

    def attach(self, engine: Engine) -> None:
        """Keep the cases of the evaluator ``engine``, and write them at its end."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._reset)
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, _add_entropy)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._keep)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _reset(self, engine: Engine) -> None:
        self._cases, self._changes = {}, {}

    def _keep(self, engine: Engine) -> None:
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            condition = condition_of(item)
            if condition == CLEAN:
                self._cases[item["case"]] = _view(item, output)
            elif condition.degradation in PROBES and item["case"] in self._cases:
                # The clean condition comes first, so its prediction is known, unless another process made it.
                changed = as_labels(output["pred"]) != self._cases[item["case"]].prediction
                planes = changed.reshape(*changed.shape[:2], -1)
                name = f"{condition.degradation}-{condition.severity}"
                counts = self._changes.setdefault(name, [np.zeros(planes.shape[:2]), np.zeros(1)])
                counts[0] += planes.sum(axis=2)
                counts[1] += planes.shape[2]

    def _write(self, engine: Engine) -> None:
        self._gather()
        if not is_main_process():
            return
        if self._cases:
            engine.state.cases = list(self._cases.values())
            save_cases(engine.state.cases, self.run.results / files.CASES)
        if self._changes:
            maps = {name: (total / count).astype(np.float32) for name, (total, count) in self._changes.items()}
            save_arrays(self.run.results / files.CHANGES, maps)

    def _gather(self) -> None:
        """Give the cases of all processes to each of them."""
        if not torch.distributed.is_initialized():
            return
        parts: list[dict[str, CaseView]] = [{} for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather_object(parts, self._cases)
        self._cases = {name: case for part in parts for name, case in sorted(part.items())}
        if self._changes:
            logger.warning("%s is left out: it needs all conditions of a case in one process", files.CHANGES)
            self._changes = {}


def _add_entropy(engine: Engine) -> None:
    """Add the entropy [N, X, Y(, Z)] of the clean images of a batch to its output, before the postprocessing."""
    batch, logits = engine.state.batch, engine.state.output["pred"]
    clean = [not any(moves) for moves in zip(*(batch[key] for key in ("severity", "shift_x", "shift_y")), strict=True)]
    if any(clean):
        maps = logits.new_zeros((len(logits), *logits.shape[2:]), dtype=torch.uint8)
        for n in (n for n, is_clean in enumerate(clean) if is_clean):
            maps[n] = entropy(logits[n].float().softmax(0)).nan_to_num_(1.0).mul_(255).round_()
        engine.state.output["entropy"] = maps


def _view(item: dict[str, Any], output: dict[str, Any]) -> CaseView:
    return CaseView(
        item["case"],
        item["subject"],
        item["phase"],
        tuple(float(s) for s in item["spacing_mm"]),
        to_gray(item["image"][0].float().cpu().numpy()),
        as_labels(output["label"]),
        as_labels(output["pred"]),
        output["entropy"].cpu().numpy() if "entropy" in output else None,
    )
