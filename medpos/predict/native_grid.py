"""Measure a run on the grid of its images: its test cases, segmented as ``predict`` does it.

An evaluation measures on the network's grid, to which it resizes the ground truth as well. There thin structures may
be lost from both, and a pixel may be several mm wide. Here the probabilities are resampled back to the image's grid.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from medpos.core.errors import InputError
from medpos.core.files import write_csv
from medpos.core.lock import FolderLock
from medpos.data.conditions import CLEAN
from medpos.data.folder import DataFolder
from medpos.io.scan import Pixels
from medpos.metrics import CaseTruth
from medpos.predict.case import Pipeline
from medpos.predict.ensemble import Ensemble
from medpos.predict.inputs import identify_case
from medpos.predict.model import Model
from medpos.predict.records import Options
from medpos.runs import files
from medpos.runs.tables import COLUMNS, Row

_CONDITION = {"degradation": CLEAN.degradation, "severity": CLEAN.severity, "shift": CLEAN.shift}


def open_test_data(run: Path, dataset_dir: Path | None = None) -> DataFolder:
    """Open the prepared folder of a run's test, with its fold.

    Args:
        run: run folder.
        dataset_dir: the folder, where it has moved.

    Raises:
        InputError: this is no finished run, or the folder is missing or holds other data.
    """
    if not files.Run(run).is_trained:
        raise InputError(f"{run}: expected a finished run, got another folder; let the run finish, or resume it")
    config = files.Run(run).config
    source = DataFolder(dataset_dir or config["data_folder"], config.get("fold", ""))
    if source.sha256 != config["data_sha256"]:
        raise InputError(
            f"{source.path}: expected the data that {run} was tested on, got others; give their folder as --dataset-dir"
        )
    return source


def measure_native(
    run: Path, source: DataFolder, device: str = "", done: Callable[[], object] = lambda: None
) -> list[Row]:
    """Segment the test cases of a run, measure them on their own grid, and write ``native_grid.csv`` into its folder.

    Args:
        run: run folder.
        source: its data, from :func:`open_test_data`.
        device: device to compute on; empty: CUDA if there is one.
        done: function called after each case.

    Returns:
        The rows, with the columns of ``metrics.csv``.

    Raises:
        InputError: the run classifies images, a case can't be read, or another process writes into the folder.
    """
    pipeline = Pipeline(Ensemble([Model(run, source.folder, device)]), run, Options(overlays=False, force=True))
    rows: list[Row] = []
    with FolderLock(run, inside=True, other="wait until it has ended"):
        for case in source.cases("test"):
            rows += _measure_case(pipeline, source, case)
            done()
        write_csv(run / files.NATIVE, COLUMNS, rows)
    return rows


def _measure_case(pipeline: Pipeline, source: DataFolder, case: dict[str, Any]) -> list[Row]:
    prediction = pipeline.segment(pipeline.load(identify_case([case["image"]]))).labels
    truth: Pixels = np.asarray(nibabel.load(case["label"]).dataobj).astype(np.uint8).reshape(prediction.shape)
    axes = 2 if truth.shape[2] == 1 else 3
    truth, prediction = (values[..., 0] if axes == 2 else values for values in (truth, prediction))
    found = CaseTruth(truth, source.labels, case["spacing_mm"][:axes]).measure(prediction)
    about = {key: case[key] for key in ("case", "subject", "split")}
    return [{**about, **_CONDITION, **row} for row in found]
