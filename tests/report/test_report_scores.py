import json
import re

import numpy as np
import pandas as pd
import pytest
from making import CLEAN, make_run
from test_report import text

from medpos.core.errors import InputError
from medpos.core.files import write_csv
from medpos.metrics import summarize
from medpos.report import build
from medpos.runs.tables import SCORE_COLUMNS, ScoreResults, add_scores
from medpos.runs.text import PHANTOM_NOTE

NAN = float("nan")
NOISY = ("gaussian_noise", 2, "0")
# Of the subjects s00 to s05; one has nothing to measure.
SEG = [0.5, 0.75, 1.0, 0.25, 0.5, NAN]


def write_scores(folder, by_condition, sets=None):
    """Write scores as an evaluation does: SEG and true objects by condition, a mean IoU of each."""
    rows = [
        dict(zip(SCORE_COLUMNS, (f"s{n:02d}", f"s{n:02d}", "test", *condition), strict=True))
        | {"seg": value, "objects_true": 12.0}
        for condition, values in by_condition.items()
        for n, value in enumerate(values)
    ]
    scored = ScoreResults(rows, sets or {condition: {"mean_iou": 0.625} for condition in by_condition})
    write_csv(folder / "scores.csv", (*SCORE_COLUMNS, *scored.names), rows)
    about = json.loads((folder / "summary.json").read_text())
    conditions = [dict(zip(("degradation", "severity", "shift"), c, strict=True)) for c in by_condition]
    about["conditions"] = add_scores(conditions, scored)
    (folder / "summary.json").write_text(json.dumps(about))


@pytest.fixture
def run(tmp_path):
    """Make a run on phantoms with scores on clean images, and on noisy ones."""
    run = make_run(tmp_path / "r/jsrt/a", "jsrt", phantom=True, with_cases=False)
    write_scores(run, {CLEAN: SEG})
    write_scores(
        run / "robustness",
        {CLEAN: SEG, NOISY: [0.25] * 6},
        {CLEAN: {"mean_iou": 0.625}, NOISY: {"mean_iou": NAN}},
    )
    return run


def cells(html, table):
    """Return the rows of a table on the page."""
    body = re.search(rf'id="table-{table}".*?<tbody>(.*?)</tbody>', html, re.S)[1]
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S) for row in body.split("</tr>")[:-1]]
    return [[re.sub(r"<[^>]*>", "", cell) for cell in row] for row in rows]


def test_the_page_has_a_section_of_scores(run, tmp_path):
    html = build([run], tmp_path / "out").read_text(encoding="utf-8")
    assert '<li><a href="#scores">Scores</a></li>' in html
    section = re.search(r'<section id="scores">(.*?)</section>', html, re.S)[1]
    assert PHANTOM_NOTE in text(section)
    wanted = summarize(SEG, list("abcdef"))
    low, high = wanted["ci95"]
    seg, objects, iou = cells(html, "scores")
    value = f"{wanted['mean']:.3f} ± {wanted['sd']:.3f}"
    # n and missing: the clean images of the robustness evaluation are those of the test.
    assert seg == ["SEG", "cases", "jsrt", "jsrt_small", value, f"{low:.3f} to {high:.3f}", "5", "1", "1", "6"]
    assert objects[4:8] == ["12.0 ± 0.0", "12.0 to 12.0", "6", "0"]
    assert iou == ["mean IoU", "whole set", "jsrt", "jsrt_small", "0.625", "-", "1", "0", "1", "-"]


def test_scores_under_every_condition(run, tmp_path):
    html = build([run], tmp_path / "out").read_text(encoding="utf-8")
    rows = cells(html, "score_conditions")
    assert [row[0] for row in rows if row[4] == "clean"] == ["SEG", "true objects", "mean IoU"]
    noisy = {row[0]: row[5:9] for row in rows if row[4] == "Gaussian noise, severity 2"}
    assert noisy["SEG"] == ["0.250 ± 0.000", "0.250 to 0.250", "6", "0"]
    assert noisy["mean IoU"] == ["-", "-", "0", "1"]


def test_files_beside_the_page(run, tmp_path):
    html = build([run], tmp_path / "out").read_text(encoding="utf-8")
    assert all(f'href="csv/{name}.csv"' in html for name in ("scores", "score_conditions", "score_cases"))
    found = pd.read_csv(tmp_path / "out/csv/scores.csv").set_index("score")
    assert found.loc["seg", "mean"] == pytest.approx(np.nanmean(SEG))
    assert found.loc["seg", "missing"] == 1
    assert np.isnan(found.loc["mean_iou", "low"])
    rows = pd.read_csv(tmp_path / "out/csv/score_cases.csv", dtype={"shift": str})
    assert len(rows) == 2 * (6 * 2 + 1)  # conditions; cases by scores, and one of the set
    assert rows[(rows["score"] == "seg") & (rows["severity"] == 0)]["value"].tolist() == pytest.approx(SEG, nan_ok=True)


def test_seeds_are_pooled(tmp_path):
    runs = []
    for seed, iou in ((0, 0.5), (1, 0.75)):
        run = make_run(tmp_path / f"r/a/{seed}", "jsrt", with_cases=False, whole=False)
        (run / "environment.json").write_text(json.dumps({"seed": seed}))
        write_scores(run, {CLEAN: [0.25 + 0.5 * seed] * 6}, {CLEAN: {"mean_iou": iou}})
        runs.append(run)
    html = build(runs, tmp_path / "out").read_text(encoding="utf-8")
    seg, _, iou = cells(html, "scores")
    assert seg[4:] == ["0.500 ± 0.261", "0.500 to 0.500", "12", "0", "2", "6"]
    # Two seeds are no sample of subjects: a spread, no interval.
    assert iou[4:] == ["0.625 ± 0.177", "-", "2", "0", "2", "-"]
    assert 'id="table-score_conditions"' not in html


def test_a_score_that_only_the_set_has(tmp_path):
    run = make_run(tmp_path / "r/a/b", "jsrt", with_cases=False, whole=False)
    write_scores(run, {CLEAN: SEG}, {CLEAN: {"weighted_dice": 0.5}})
    table = pd.read_csv(run / "scores.csv", dtype=str)
    table[list(SCORE_COLUMNS)].to_csv(run / "scores.csv", index=False)
    html = build([run], tmp_path / "out").read_text(encoding="utf-8")
    assert [row[:2] for row in cells(html, "scores")] == [["weighted mean Dice", "whole set"]]


def test_without_scores_there_is_no_section(tmp_path):
    out = build([make_run(tmp_path / "r/a/b", whole=False, with_cases=False)], tmp_path / "out")
    assert not re.search(r"[#/\"]scores?\b|score_", out.read_text(encoding="utf-8"))
    assert not list(out.parent.glob("csv/score*"))


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("scores.csv", "0.75", "many", r"scores\.csv: severity, seg, objects_true: expected numbers, .*'many'"),
        ("scores.csv", "shift", "moved", r"scores\.csv: lacks the columns shift"),
        (
            "summary.json",
            '"set"',
            '"sets"',
            r"summary\.json: expected the scores of the set under every .*evaluate again",
        ),
        ("summary.json", "0.625", '"good"', r"summary\.json: expected the scores of the set under every condition"),
    ],
)
def test_bad_files_are_refused(name, old, new, message, tmp_path):
    run = make_run(tmp_path / "r/a/b", "jsrt", with_cases=False, whole=False)
    write_scores(run, {CLEAN: SEG})
    (run / name).write_text((run / name).read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=message):
        build([run], tmp_path / "out")
