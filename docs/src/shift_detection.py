"""Tabulate how well the lights tell shifted images from clean ones, for docs/explanation/claims.

usage: python docs/src/shift_detection.py TITLE=RUN[,RUN...] ...

``docs/results/shift_detection.csv`` gets the share of alarms and the Dice that is lost by distance, means of the four
directions as they stand, rounded, in the taken tables ``..._noticed_lights.csv``; ``shift_detection_auroc.csv`` the
AUROC of each kind of detector, the mean over directions and runs, and over the organs or depths of a kind. The runs
after a title are one model's folds and seeds, each after the study ``noticed`` or ``medpos calibrate --condition
shifts``.
"""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

FOLDER = Path(__file__).resolve().parents[1] / "results"
LIGHTS = {"unet_folds3_xrays": "X-rays", "folds3_xrays": "X-rays", "small_hearts": "hearts"}
DISTANCES = (8, 16, 24, 32)  # px of the network's grid
KINDS = ("offset", "features", "neighbors", "place", "mean mask", "gray values", "noise", "blur", "all")
TITLES = {"all": "all together"}


def read(runs: Sequence[Path]) -> pd.DataFrame:
    """Read the shifts in ``noticed.csv`` of some runs, with the kind of each detector and the distance."""
    table = pd.concat([pd.read_csv(run / "noticed.csv", dtype={"shift": str}) for run in runs])
    table = table[table["shift"] != "0"]
    kinds = table["detector"].map(lambda name: next(kind for kind in KINDS if name.startswith(kind)))
    return table.assign(kind=kinds, distance=table["shift"].str.extract(r"[xy][+-](\d+)", expand=False).astype(int))


def tabulate_alarms(lights: Sequence[tuple[str, list[list[str]]]]) -> list[list[str]]:
    """Tabulate the share of alarms and the Dice lost by distance; the header row first.

    Args:
        lights: taken tables of lights, each with the images that it is of.
    """
    rows = [["model", *(f"{d} px: {what}" for d in DISTANCES for what in ("alarms", "Dice lost"))]]
    for images, (head, *lines) in lights:
        for column in range(1, len(head), 2):
            parts = [[line for line in lines if line[0].startswith(f"shifted {d} px")] for d in DISTANCES]
            means = [
                np.mean([float(line[n].split()[0]) for line in part]) for part in parts for n in (column, column + 1)
            ]
            rows.append([f"{head[column].removesuffix(': alarms')}, {images}", *(f"{mean:.3f}" for mean in means)])
    return rows


def tabulate_auroc(models: dict[str, pd.DataFrame]) -> list[list[str]]:
    """Tabulate the AUROC of the kinds of detectors at the two shortest distances; the header row first."""
    rows = [["model", "shift", *(TITLES.get(kind, kind) for kind in KINDS)]]
    for title, table in models.items():
        found = table["auroc"].groupby([table["kind"], table["distance"]]).mean()
        rows += [[title, f"{d} px", *(f"{found[kind, d]:.3f}" for kind in KINDS)] for d in DISTANCES[:2]]
    return rows


def main(*models: str) -> None:
    """Write the tables."""
    parts = [model.partition("=") for model in models]
    runs = {title: read([Path(run) for run in given.split(",")]) for title, _, given in parts}
    lights = []
    for name, images in LIGHTS.items():
        with (FOLDER / f"{name}_noticed_lights.csv").open(newline="") as stream:
            lights.append((images, list(csv.reader(stream))))
    for end, rows in (("", tabulate_alarms(lights)), ("_auroc", tabulate_auroc(runs))):
        with (FOLDER / f"shift_detection{end}.csv").open("w", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows(rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
