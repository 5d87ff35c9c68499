"""Run the network of a run on the cases of a split of its data, as ``predict`` would."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import nibabel
import numpy as np
import torch

from medpos.core.labels import IGNORED
from medpos.data.conditions import Condition
from medpos.data.folder import DataFolder
from medpos.metrics.confusion import VOID
from medpos.predict.model import Model
from medpos.predict.quantization import spread
from medpos.transforms.intensity.degradations import Table, degrade
from medpos.transforms.spatial.shift import LOWEST, shift
from medpos.trust.evidence import Evidence


@dataclass(frozen=True, eq=False)
class LabeledImage:
    """Hold an image of the data, on the network's grid.

    Args:
        case: entry of the case in ``dataset.json``.
        decoded: image [C, x, y] or [C, x, y, z] in [0, 1].
        truth: classes [1, x, y] or [1, x, y, z], 255 for ignored pixels.
    """

    case: dict[str, Any]
    decoded: torch.Tensor
    truth: torch.Tensor


@dataclass(frozen=True, eq=False)
class Output:
    """Hold what the network says of a case, on the network's grid.

    Args:
        image: the case.
        probabilities: probabilities [C, x, y] or [C, x, y, z].
        evidence: what detectors look at, where it is collected.
    """

    image: LabeledImage
    probabilities: torch.Tensor
    evidence: Evidence | None = None


def load_split(model: Model, source: DataFolder, split: str, most: int) -> Iterator[LabeledImage]:
    """Load cases of a split, spread over it.

    Args:
        model: model of the run.
        source: its training data.
        split: ``training``, ``validation`` or ``test``.
        most: greatest number of cases.
    """
    for case in spread(source.cases(split), most):
        values, label = (np.asarray(nibabel.load(case[key]).dataobj) for key in ("image", "label"))
        decoded, truth = model.decode_labeled(values.astype(np.float32), label, case["spacing_mm"])
        if source.labels[0].name == VOID:
            truth = torch.where(truth == 0, IGNORED, truth)
        yield LabeledImage(case, decoded, truth)


@dataclass(frozen=True, eq=False)
class Changes:
    """Put images under conditions.

    Args:
        conditions: conditions without probes of the position channels, clean first.
        table: table of degradations, as :func:`medpos.transforms.intensity.degradations.degrade` takes it.
        seed: seed of the noise.
    """

    conditions: Sequence[Condition]
    table: Table
    seed: int

    def put(self, image: LabeledImage, condition: Condition) -> LabeledImage:
        """Put an image under a condition; shifts leave the image's lowest value in the free pixels."""
        kind, severity = condition.degradation, condition.severity
        changed = degrade(image.decoded, kind, severity, case=image.case["case"], seed=self.seed, table=self.table)
        moved = (condition.shift_x, condition.shift_y)
        return LabeledImage(image.case, shift(torch.as_tensor(changed), *moved, LOWEST), shift(image.truth, *moved))


def run_split(
    model: Model, source: DataFolder, split: str, most: int, collect: Callable[[], Evidence | None] = lambda: None
) -> Iterator[Output]:
    """Segment cases of a split; the arguments are those of :func:`load_split`.

    Args:
        collect: returns the collection for the evidence of the next case; by default none is collected.
    """
    for image in load_split(model, source, split, most):
        evidence = collect()
        yield Output(image, model.probabilities(image.decoded, evidence), evidence)
