import csv
import json
import math

import pytest

from medpos.results import COLUMNS, PHANTOM_NOTE, summary, table, write_csv

NAN, INF = float("nan"), float("inf")


def row(case, organ, dice, hd95, **condition):
    place = {"degradation": "none", "severity": 0, "shift": "0", **condition}
    rest = dict.fromkeys(("iou", "sensitivity", "precision"), dice)
    return {
        "case": case,
        "subject": case[0],
        "split": "test",
        **place,
        "organ": organ,
        "dice": dice,
        **rest,
        "hd95_mm": hd95,
        "assd_mm": hd95,
    }


ROWS = [
    row("a1", "heart", 0.5, 2.0),
    row("a1", "lung", 0.0, INF),
    row("b1", "heart", 1.0, 0.0),
    row("b1", "lung", 0.0, INF),
    row("c1", "heart", NAN, NAN),
    row("c1", "lung", 0.0, INF),
]


def test_summary_by_hand():
    [condition] = summary(ROWS)
    heart, lung = condition["organs"]["heart"], condition["organs"]["lung"]
    assert heart["dice"]["mean"] == 0.75
    assert heart["dice"]["sd"] == pytest.approx(0.5 / math.sqrt(2))
    assert (heart["dice"]["n"], heart["dice"]["missing"], heart["dice"]["infinite"]) == (2, 1, 0)
    assert heart["hd95_mm"]["mean"] == 1.0
    # Never found: Dice is 0, and there is no distance, least of all a perfect one.
    assert lung["dice"]["mean"] == 0.0
    assert (lung["hd95_mm"]["mean"], lung["hd95_mm"]["n"], lung["hd95_mm"]["infinite"]) == (None, 0, 3)
    # Case means 0.25, 0.5 and 0.
    assert condition["mean_foreground_dice"]["mean"] == pytest.approx(0.25)
    json.dumps(condition, allow_nan=False)


def test_summary_keeps_conditions_apart_and_in_order():
    noisy = [row("a1", "heart", 0.1, 9.0, degradation="shot_noise", severity=s) for s in (2, 1)]
    found = summary(ROWS + noisy)
    assert [(c["degradation"], c["severity"]) for c in found] == [("none", 0), ("shot_noise", 2), ("shot_noise", 1)]


def test_csv(tmp_path):
    write_csv(ROWS, tmp_path / "metrics.csv")
    with (tmp_path / "metrics.csv").open() as stream:
        found = list(csv.DictReader(stream))
    assert tuple(found[0]) == COLUMNS
    assert [float(r["dice"]) for r in found] == pytest.approx([r["dice"] for r in ROWS], nan_ok=True)
    assert {r["hd95_mm"] for r in found if r["organ"] == "lung"} == {"inf"}


def test_table_of_organs():
    text = table(summary(ROWS), "title here", phantom=False)
    lines = {line.split("  ")[1].strip(): line for line in text.splitlines() if line.startswith("  ")}
    assert "title here" in text
    assert lines["heart"].split()[1:4] == ["0.750", "±", "0.354"]
    assert lines["heart"].split()[-3:] == ["2", "1", "0"]
    assert lines["lung"].split()[-5:] == ["-", "-", "3", "0", "3"]
    assert "0.250" in lines["mean of organs"]
    assert PHANTOM_NOTE not in text
    assert "nan" not in text
    assert max(map(len, text.splitlines())) <= 150


def test_table_of_conditions():
    noisy = [row(c, "heart", 0.1, 9.0, degradation="shot_noise", severity=2) for c in ("a1", "b1")]
    noisy += [row(c, "lung", NAN, NAN, degradation="shot_noise", severity=2) for c in ("a1", "b1")]
    text = table(summary(ROWS + noisy), "title here", phantom=True)
    clean, noise = (next(line for line in text.splitlines() if f"  {name} " in line) for name in ("none", "shot noise"))
    assert clean.split()[-3:] == ["3", "1", "3"]
    assert noise.split()[2:7] == ["2", "0", "0.100", "±", "0.000"]
    assert noise.split()[-4:] == ["-", "2", "2", "0"]
    assert PHANTOM_NOTE in text
