"""The segmented cases of an evaluation in one file: image, truth and prediction with what identifies them.

``cases.npz`` stands beside ``metrics.csv``. From it come the case browser and the clinical indices of a report, which
so need neither the data set nor the network again.
"""

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medpos.core.errors import InputError
from medpos.core.files import write_atomically

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class CaseView:
    """One test case as it was segmented, on the network's grid.

    Args:
        case: name of the case.
        subject: name of the subject; a subject may have several cases, such as its phases.
        phase: ``ED`` or ``ES`` for cardiac MRI, empty otherwise.
        spacing_mm: size of a pixel (voxel) along each axis, mm.
        image: grey values [X, Y] or [X, Y, Z], 0.5 to 99.5 percentile to 0 to 255.
        truth: label map of the same shape.
        prediction: label map of the same shape.
    """

    case: str
    subject: str
    phase: str
    spacing_mm: tuple[float, ...]
    image: Pixels
    truth: Pixels
    prediction: Pixels


def to_grey(image: npt.NDArray[Any]) -> Pixels:
    """Grey values of any range to 0 to 255, between the percentiles 0.5 and 99.5, as screens show them."""
    low, high = np.percentile(image, [0.5, 99.5])
    scaled = (image.astype(np.float32) - low) / max(float(high - low), 1e-6)
    grey: Pixels = (scaled.clip(0, 1) * 255).round().astype(np.uint8)
    return grey


def save_cases(cases: Sequence[CaseView], path: Path) -> None:
    """Write the cases to one compressed file, whole or not at all."""
    about = [{"case": c.case, "subject": c.subject, "phase": c.phase, "spacing_mm": list(c.spacing_mm)} for c in cases]
    arrays = {f"{n}_{part}": getattr(c, part) for n, c in enumerate(cases) for part in ("image", "truth", "prediction")}
    write_atomically(path, lambda partial: _write(partial, json.dumps(about), arrays))


def _write(path: Path, about: str, arrays: dict[str, Pixels]) -> None:
    with path.open("wb") as stream:
        np.savez_compressed(stream, about=np.array(about), **arrays)  # type: ignore[arg-type]


def load_cases(path: Path) -> list[CaseView]:
    """Read what :func:`save_cases` wrote; nothing in the file is evaluated.

    Raises:
        InputError: the file is missing, damaged, or not such a file.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            about = json.loads(str(content["about"]))
            return [
                CaseView(
                    entry["case"],
                    entry["subject"],
                    entry["phase"],
                    tuple(entry["spacing_mm"]),
                    *(content[f"{n}_{part}"] for part in ("image", "truth", "prediction")),
                )
                for n, entry in enumerate(about)
            ]
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, EOFError) as error:
        raise InputError(f"{path}: can't be read as the cases of an evaluation ({error}); evaluate again") from error
