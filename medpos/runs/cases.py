"""Keep the segmented cases of an evaluation in one file: image, ground truth, prediction and entropy of each.

``cases.npz`` stands beside ``metrics.csv``. A report makes its case browser and clinical indices from it, without the
data set or the network.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medpos.core.arrays import open_arrays, save_arrays
from medpos.core.files import decode_json
from medpos.core.memory import split_array

Pixels = npt.NDArray[np.uint8]
_PARTS = ("image", "truth", "prediction", "entropy")


@dataclass(frozen=True, eq=False)
class CaseView:
    """Hold one test case as it was segmented, on the network's grid.

    Args:
        case: name of the case.
        subject: name of the subject; a subject may have several cases, such as its phases.
        phase: ``ED`` or ``ES`` for cardiac MRI, empty otherwise.
        spacing_mm: size of a pixel (voxel) along each axis, mm.
        image: gray values [X, Y] or [X, Y, Z], 0 to 255, from the 0.5 to the 99.5 percentile.
        truth: label map of the ground truth, of the same shape.
        prediction: predicted label map of the same shape.
        entropy: entropy of the probabilities of the same shape, 0 for a sure class to 255 for equal probabilities of
            all; None where it wasn't kept, as in runs of earlier versions.
    """

    case: str
    subject: str
    phase: str
    spacing_mm: tuple[float, ...]
    image: Pixels
    truth: Pixels
    prediction: Pixels
    entropy: Pixels | None = None


def to_gray(image: npt.NDArray[Any]) -> Pixels:
    """Scale gray values for a screen: the percentiles 0.5 to 99.5 become 0 to 255.

    Args:
        image: values of any range and shape.
    """
    low, high = np.percentile(image, [0.5, 99.5])
    gray: Pixels = np.empty_like(image, np.uint8)
    for part in split_array(image):
        scaled = (image[part].astype(np.float32) - low) / max(float(high - low), 1e-6)
        gray[part] = (scaled.clip(0, 1) * 255).round()
    return gray


def save_cases(cases: Sequence[CaseView], path: Path) -> None:
    """Write cases to one compressed file, whole or not at all."""
    about = [{"case": c.case, "subject": c.subject, "phase": c.phase, "spacing_mm": list(c.spacing_mm)} for c in cases]
    arrays = {f"{n}_{part}": getattr(c, part) for n, c in enumerate(cases) for part in _PARTS}
    kept = {name: array for name, array in arrays.items() if array is not None}
    save_arrays(path, {"about": np.array(json.dumps(about)), **kept})


def load_cases(path: Path) -> list[CaseView]:
    """Read the cases that :func:`save_cases` wrote; no code in the file is run.

    Raises:
        InputError: the file is missing, damaged or something else.
    """
    with open_arrays(path, "the cases of an evaluation", "evaluate the run again") as content:
        about = decode_json(str(content["about"]))
        return [_read_case(content, n, entry) for n, entry in enumerate(about)]


def _read_case(content: Mapping[str, Pixels], n: int, about: Mapping[str, Any]) -> CaseView:
    image, truth, prediction = (content[f"{n}_{part}"] for part in _PARTS[:3])
    spacing_mm = tuple(about["spacing_mm"])
    names = about["case"], about["subject"], about["phase"]
    return CaseView(*names, spacing_mm, image, truth, prediction, content.get(f"{n}_entropy"))
