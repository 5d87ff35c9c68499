"""Run the network of a run on the cases of a split of its data, as ``predict`` would."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import nibabel
import numpy as np
import torch

from medpos.core.labels import IGNORED
from medpos.data.folder import DataFolder
from medpos.metrics.confusion import VOID
from medpos.predict.model import Model
from medpos.predict.quantization import spread
from medpos.trust.evidence import Evidence


@dataclass(frozen=True, eq=False)
class Output:
    """Hold what the network says of a case, on the network's grid.

    Args:
        case: entry of the case in ``dataset.json``.
        probabilities: probabilities [C, x, y] or [C, x, y, z].
        truth: classes [1, x, y] or [1, x, y, z], 255 for ignored pixels.
        evidence: what detectors look at, where it is collected.
    """

    case: dict[str, Any]
    probabilities: torch.Tensor
    truth: torch.Tensor
    evidence: Evidence | None = None


def run_split(
    model: Model, source: DataFolder, split: str, most: int, collect: Callable[[], Evidence | None] = lambda: None
) -> Iterator[Output]:
    """Segment cases of a split, spread over it.

    Args:
        model: model of the run.
        source: its training data.
        split: ``training``, ``validation`` or ``test``.
        most: greatest number of cases.
        collect: returns the collection for the evidence of the next case; by default none is collected.
    """
    for case in spread(source.cases(split), most):
        values, label = (np.asarray(nibabel.load(case[key]).dataobj) for key in ("image", "label"))
        decoded, truth = model.decode_labeled(values.astype(np.float32), label, case["spacing_mm"])
        if source.labels[0].name == VOID:
            truth = torch.where(truth == 0, IGNORED, truth)
        evidence = collect()
        yield Output(case, model.probabilities(decoded, evidence), truth, evidence)
