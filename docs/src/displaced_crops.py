"""Measure how well the detector ``offset`` tells displaced crops of images from centered ones, without an empty border.

usage: python docs/src/displaced_crops.py NAME TITLE=RUN[,RUN...] ...

The runs after a title are those of a model's folds; only their data, grid and splits are used. Crops have three
quarters of the image's sides. ``docs/results/NAME.csv`` gets the mean AUROC on the test images over runs and the four
directions.
"""

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from medpos.calibrate.outputs import load_split
from medpos.data.folder import DataFolder
from medpos.predict.model import Model
from medpos.trust.detectors import Offset
from medpos.trust.evidence import Evidence, Floats
from medpos.trust.failure import auroc

FOLDER = Path(__file__).resolve().parents[1] / "results"
DISTANCES = (4, 8, 12)  # px of the network's grid
DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1))
ALL = 1 << 20  # cases


def read_layout(image: torch.Tensor, x: int = 0, y: int = 0) -> Floats:
    """Return the layout of a crop that lies ``x`` and ``y`` px off the center of an image [C, x, y] or [C, x, y, z]."""
    slices = []
    for side, moved in zip(image.shape[1:3], (x, y), strict=True):
        length = side * 3 // 4
        begin = (side - length) // 2 + moved
        slices.append(slice(begin, begin + length))
    crop = image[:, slices[0], slices[1]]
    evidence = Evidence((), 0)
    evidence.add(crop, torch.ones(1, *crop.shape[1:]))  # nothing but background
    return evidence.layout


def measure(run: Path) -> dict[int, float]:
    """Return the mean AUROC over the directions, by distance, on the test images of a run."""
    config = json.loads((run / "config.json").read_text())
    model, source = Model(run, device="cpu"), DataFolder(config["data_folder"], config.get("fold", ""))
    training = np.stack([read_layout(image.decoded) for image in load_split(model, source, "training", ALL)])
    offset = Offset(training)
    images = [image.decoded for image in load_split(model, source, "test", ALL)]

    def score(x: int, y: int) -> Floats:
        return np.array([offset.score(read_layout(image, x, y)) for image in images])

    centered = score(0, 0)
    return {
        distance: float(np.mean([auroc(score(distance * x, distance * y), centered) for x, y in DIRECTIONS]))
        for distance in DISTANCES
    }


def tabulate(models: dict[str, Sequence[Path]]) -> list[list[str]]:
    """Tabulate the models; the header row first."""
    rows = [["images", *(f"displaced by {distance} px" for distance in DISTANCES)]]
    for title, runs in models.items():
        found = [measure(run) for run in runs]
        rows.append([title, *(f"{np.mean([entry[distance] for entry in found]):.3f}" for distance in DISTANCES)])
    return rows


def main(name: str, *models: str) -> None:
    """Write the table."""
    parts = [model.partition("=") for model in models]
    rows = tabulate({title: [Path(run) for run in runs.split(",")] for title, _, runs in parts})
    with (FOLDER / f"{name}.csv").open("w", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
