import csv
import json
import math

import pytest

from medpos.core.files import write_csv
from medpos.metrics import summarize
from medpos.runs.tables import COLUMNS, ScoreResults, add_scores, summarize_conditions
from medpos.runs.text import PHANTOM_NOTE, format_results

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
        **dict.fromkeys(("surface_dice", "specificity", "accuracy", "npv"), dice),
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
    [condition] = summarize_conditions(ROWS)
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
    found = summarize_conditions(ROWS + noisy)
    assert [(c["degradation"], c["severity"]) for c in found] == [("none", 0), ("shot_noise", 2), ("shot_noise", 1)]


def test_csv(tmp_path):
    write_csv(tmp_path / "metrics.csv", COLUMNS, ROWS)
    with (tmp_path / "metrics.csv").open() as stream:
        found = list(csv.DictReader(stream))
    assert tuple(found[0]) == COLUMNS
    assert [float(r["dice"]) for r in found] == pytest.approx([r["dice"] for r in ROWS], nan_ok=True)
    assert {r["hd95_mm"] for r in found if r["organ"] == "lung"} == {"inf"}


def test_table_of_organs():
    text = format_results(summarize_conditions(ROWS), "title here", phantom=False)
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
    text = format_results(summarize_conditions(ROWS + noisy), "title here", phantom=True)
    clean, noise = (next(line for line in text.splitlines() if f"  {name} " in line) for name in ("none", "shot noise"))
    assert clean.split()[-3:] == ["3", "1", "3"]
    assert noise.split()[2:7] == ["2", "0", "0.100", "±", "0.000"]
    assert noise.split()[-4:] == ["-", "2", "2", "0"]
    assert PHANTOM_NOTE in text


# --- scores ----------------------------------------------------------------------------------------------------------

CLEAN, NOISY = ("none", 0, "0"), ("shot_noise", 2, "0")


def score_row(case, seg, objects, condition=CLEAN):
    place = dict(zip(("degradation", "severity", "shift"), condition, strict=True))
    return {"case": case, "subject": case[0], "split": "test", **place, "seg": seg, "objects_true": objects}


SCORES = ScoreResults(
    [score_row("a1", 0.5, 10), score_row("a2", 1.0, 30), score_row("b1", 0.0, 5), score_row("c1", NAN, 0)],
    {CLEAN: {"mean_iou": 0.625, "weighted_dice": NAN}},
)


def test_scores_are_summed_up_per_condition_over_subjects():
    more = ScoreResults([*SCORES.rows, score_row("a1", 0.25, 10, NOISY)], {**SCORES.sets, NOISY: {"mean_iou": 0.5}})
    noisy = [row("a1", "heart", 0.1, 9.0, degradation="shot_noise", severity=2)]
    clean, noise = add_scores(summarize_conditions(ROWS + noisy), more)
    assert clean["scores"]["seg"] == summarize([0.5, 1.0, 0.0, NAN], ["a", "a", "b", "c"], (0, 1))
    assert (clean["scores"]["seg"]["n"], clean["scores"]["seg"]["missing"]) == (3, 1)
    assert clean["scores"]["set"] == {"mean_iou": 0.625, "weighted_dice": None}
    assert noise["scores"]["seg"]["mean"] == 0.25
    assert noise["scores"]["set"] == {"mean_iou": 0.5}
    assert clean["organs"] == summarize_conditions(ROWS)[0]["organs"]
    json.dumps(clean, allow_nan=False)


def test_scores_are_printed_below_the_organs():
    conditions = summarize_conditions(ROWS)
    plain, scored = (
        format_results(part, "title", phantom=True) for part in (conditions, add_scores(conditions, SCORES))
    )
    # What there was before stays as it was; the last line is the note on phantoms.
    assert scored.splitlines()[: len(plain.splitlines()) - 1] == plain.splitlines()[:-1]
    assert scored.splitlines()[-1] == PHANTOM_NOTE
    lines = {line.split("  ")[1].strip(): line.split() for line in scored.splitlines() if line.startswith("  ")}
    assert lines["SEG"] == ["SEG", "cases", "0.500", "±", "0.500", "0.000", "to", "1.000", "3", "1"]
    assert lines["true objects"][2:6] == ["cases", "11.2", "±", "13.1"]
    assert lines["mean IoU"] == ["mean", "IoU", "whole", "set", "0.625"]
    assert lines["weighted mean Dice"] == ["weighted", "mean", "Dice", "whole", "set", "-"]
    assert "nan" not in scored


def test_scores_of_several_conditions_have_a_table_for_cases_and_one_for_the_set():
    noisy = [row("a1", organ, 0.1, 9.0, degradation="shot_noise", severity=2) for organ in ("heart", "lung")]
    rows = [*SCORES.rows, score_row("a1", 0.25, 10, NOISY)]
    found = ScoreResults(rows, {CLEAN: {"mean_iou": 0.625}, NOISY: {"mean_iou": NAN}})
    text = format_results(add_scores(summarize_conditions(ROWS + noisy), found), "title", phantom=False)
    _, cases, of_set = text.split("\nscores, ")
    cases, of_set = ([line.split() for line in part.splitlines() if line[:2] == "  "] for part in (cases, of_set))
    cases, of_set = ([line for line in part if line] for part in (cases, of_set))
    assert cases[0][-3:] == ["SEG", "true", "objects"]
    assert cases[1] == ["none", "0", "0", "0.500", "±", "0.500", "11.2", "±", "13.1"]
    assert cases[2] == ["shot", "noise", "2", "0", "0.250", "10.0"]
    assert of_set[0][-2:] == ["mean", "IoU"]
    assert of_set[1:] == [["none", "0", "0", "0.625"], ["shot", "noise", "2", "0", "-"]]
    only = ScoreResults(
        [{k: v for k, v in one.items() if k not in ("seg", "objects_true")} for one in rows], found.sets
    )
    assert "scores, cases" not in format_results(
        add_scores(summarize_conditions(ROWS + noisy), only), "title", phantom=False
    )


def test_score_csv(tmp_path):
    write_csv(tmp_path / "scores.csv", tuple(SCORES.rows[0]), SCORES.rows)
    lines = (tmp_path / "scores.csv").read_text().splitlines()
    assert lines[0] == "case,subject,split,degradation,severity,shift,seg,objects_true"
    assert lines[-1] == "c1,c,test,none,0,0,nan,0"
