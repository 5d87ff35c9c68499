"""Tabulate how well each detector of the lights tells shifted images from clean ones, for docs/explanation/claims.

usage: python docs/src/shifts_heard.py NAME TITLE=RUN[,RUN...] ...

The runs of a title are those of a model's folds, each after the study ``noticed`` or ``medpos calibrate --condition
shifts``. ``docs/results/NAME.csv`` gets the mean AUROC over runs, the four directions, and the organs or depths of a
kind of detector.
"""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

FOLDER = Path(__file__).resolve().parents[1] / "results"
DISTANCES = (8, 16)  # px of the network's grid
KINDS = ("offset", "features", "neighbors", "place", "mean mask", "gray values", "noise", "blur", "all")
TITLES = {"all": "all together"}


def measure(runs: Sequence[Path]) -> pd.Series:
    """Return the mean AUROC by kind of detector and distance."""
    table = pd.concat([pd.read_csv(run / "noticed.csv", dtype={"shift": str}) for run in runs])
    shifted = table[table["shift"] != "0"]
    kinds = shifted["detector"].map(lambda name: next(kind for kind in KINDS if name.startswith(kind)))
    distances = shifted["shift"].str.extract(r"[xy][+-](\d+)", expand=False).astype(int)
    return shifted["auroc"].groupby([kinds, distances]).mean()


def tabulate(models: dict[str, Sequence[Path]]) -> list[list[str]]:
    """Tabulate the kinds of detectors; the head first."""
    found = {title: measure(runs) for title, runs in models.items()}
    head = ["detector", *(f"{title}, {distance} px" for title in found for distance in DISTANCES)]
    lines = [
        [TITLES.get(kind, kind), *(f"{found[title][kind, distance]:.3f}" for title in found for distance in DISTANCES)]
        for kind in KINDS
    ]
    return [head, *lines]


def main(name: str, *models: str) -> None:
    """Write the table."""
    parts = [model.partition("=") for model in models]
    rows = tabulate({title: [Path(run) for run in runs.split(",")] for title, _, runs in parts})
    with (FOLDER / f"{name}.csv").open("w", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
