"""Tabulate how well the predicted Dice of a run finds its bad predictions, for docs/explanation/results.md.

usage: python docs/src/failures.py RUN NAME

RUN is a run after ``medpos calibrate --failures``. ``docs/results/NAME.csv`` gets the scores of each predictor,
``docs/results/NAME_auroc.csv`` the AUROC by kind of images. All are means over the organs.
"""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from medpos.core.labels import kind_title
from medpos.trust.failure import score_failures

FOLDER = Path(__file__).resolve().parents[1] / "results"
CLEAN, SHIFTED = "clean", "shifted"
SCORES = {"auroc": "AUROC", "aurc": "AURC", "excess_aurc": "excess AURC", "correlation": "rank correlation"}


def read(run: Path) -> pd.DataFrame:
    """Read ``predicted_dice.csv``, and add the kind of images: clean, shifted, or the kind of degradation."""
    table = pd.read_csv(run / "predicted_dice.csv", dtype={"shift": str})
    still = np.where(table["shift"] == "0", CLEAN, SHIFTED)
    return table.assign(kind=np.where(table["severity"] > 0, table["degradation"].map(kind_title), still))


def score(table: pd.DataFrame) -> dict[str, float]:
    """Return the scores of one predictor, and its mean absolute error: means over the organs that have them."""
    parts = [part for _, part in table.groupby("organ")]
    found = pd.DataFrame([score_failures(*(p[name].tolist() for name in ("predicted", "dice", "case"))) for p in parts])
    errors = {"error": float((table["predicted"] - table["dice"]).abs().mean())}
    return {name: float(found[name].astype(float).mean()) for name in SCORES} | errors


def tabulate(table: pd.DataFrame) -> list[list[str]]:
    """Tabulate the scores of each predictor over all images, and its error on clean ones; the head first."""
    rows = [["predictor", *SCORES.values(), "error", "error, clean"]]
    for predictor, part in table.groupby("predictor", sort=False):
        found, clean = score(part), score(part[part["kind"] == CLEAN])
        rows.append([str(predictor), *(f"{found[name]:.3f}" for name in (*SCORES, "error")), f"{clean['error']:.3f}"])
    return rows


def tabulate_auroc(table: pd.DataFrame) -> list[list[str]]:
    """Tabulate the AUROC of each predictor by kind of images, all strengths together; the head first."""
    predictors = list(dict.fromkeys(table["predictor"]))
    rows = [["images", "failures", "mean Dice", *predictors]]
    for kind, part in table.groupby("kind", sort=False):
        one = part[part["predictor"] == predictors[0]]
        failures = score_failures(one["predicted"].tolist(), one["dice"].tolist())
        aurocs = [f"{score(part[part['predictor'] == name])['auroc']:.3f}" for name in predictors]
        rows.append([str(kind), f"{failures['failures']} of {failures['n']}", f"{failures['dice']:.3f}", *aurocs])
    return rows


def main(run: str, name: str) -> None:
    """Write both tables."""
    table = read(Path(run))
    tables: dict[str, Sequence[Sequence[str]]] = {name: tabulate(table), f"{name}_auroc": tabulate_auroc(table)}
    for stem, rows in tables.items():
        with (FOLDER / f"{stem}.csv").open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows(rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
