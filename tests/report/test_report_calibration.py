import re

import numpy as np
import pandas as pd
import pytest
from making import CLEAN, make_run
from test_report import text
from test_report_scores import NOISY, cells

from medpos.core.errors import InputError
from medpos.core.files import write_csv
from medpos.report import build
from medpos.runs.calibration import (
    CALIBRATION_COLUMNS,
    PREDICTED_COLUMNS,
    RELIABILITY_COLUMNS,
    SCALING_COLUMNS,
    Calibrations,
)
from medpos.trust.calibration import BINS
from medpos.trust.failure import risk_coverage, score_failures

NAMES = ("background", "right_lung", "left_lung", "heart")


def write_calibration(folder, *conditions):
    """Write what two cases would give: half of all pixels have a probability near 1, and are right in every case."""
    counts = np.zeros((2 * len(NAMES), 2, BINS), np.int64)
    counts[: len(NAMES) + 1, 0, 0] = counts[: len(NAMES) + 1, 1, -1] = 500
    rows = [
        dict(
            zip(
                CALIBRATION_COLUMNS,
                (case, case, "test", *condition, organ, ece, 0.5, 0.25, 0.125, n, 0.5, 0.9),
                strict=True,
            )
        )
        for condition in conditions
        for n, (case, ece) in enumerate((("s00", 0.1), ("s01", 0.3)))
        for organ in (*NAMES[1:], "all classes")
    ]
    found = Calibrations(rows, dict.fromkeys(conditions, counts), NAMES)
    write_csv(folder / "calibration.csv", CALIBRATION_COLUMNS, found.rows)
    write_csv(folder / "reliability.csv", RELIABILITY_COLUMNS, found.diagrams)


@pytest.fixture
def run(tmp_path):
    run = make_run(tmp_path / "r/jsrt/a", "jsrt", phantom=True, with_cases=False)
    write_calibration(run, CLEAN)
    write_calibration(run / "robustness", CLEAN, NOISY)
    return run


def test_the_page_has_a_section_of_calibration(run, tmp_path):
    html = build([run], tmp_path / "out").read_text(encoding="utf-8")
    assert '<li><a href="#calibration">Calibration</a></li>' in html
    section = re.search(r'<section id="calibration">(.*?)</section>', html, re.S)[1]
    assert "PHANTOM" in text(section)
    numbers = ["0.200 ± 0.141", "0.500 ± 0.000", "0.250 ± 0.000", "0.125 ± 0.000", "0.50", "0.50", "2", "1", "2"]
    names = [name.replace("_", " ") for name in NAMES[1:]] + ["all classes"]
    assert cells(html, "calibration") == [[name, "jsrt", "jsrt_small", *numbers] for name in names]
    assert len(cells(html, "calibration_conditions")) == 2 * len(names)
    [label] = re.findall(r'aria-label="(Reliability diagram of [^"]*)"', html)
    assert "heart: where the probability is 1.00 on average, the highest bin, the frequency is 1.00" in label


def test_files_beside_the_page(run, tmp_path):
    html = build([run], tmp_path / "out").read_text(encoding="utf-8")
    assert 'href="csv/calibration_cases.csv"' in html
    assert len(pd.read_csv(tmp_path / "out/csv/calibration_cases.csv")) == 2 * 2 * 4  # the clean images once
    assert (tmp_path / "out/figures/reliability_01_jsrt_small.png").is_file()


def test_runs_of_earlier_versions_have_no_such_section(tmp_path):
    run = make_run(tmp_path / "r/jsrt/a", "jsrt", with_cases=False)
    assert 'id="calibration"' not in build([run], tmp_path / "out").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [("calibration", ",0.5,", ",1.5,"), ("reliability", ",500,", ",-1,"), ("metrics", ",0.", ",1.")],
)
def test_numbers_beyond_their_limits_are_refused(run, tmp_path, name, old, new):
    path = run / f"{name}.csv"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(InputError, match=f"{name}.csv: .*: expected numbers from 0 to .*; evaluate again"):
        build([run], tmp_path / "out")


def test_failures_are_scored_by_condition_from_both_tables(run, tmp_path):
    html = build([run], tmp_path / "out").read_text(encoding="utf-8")
    rows = cells(html, "failures")
    assert len(rows) == 2 * 3  # conditions and organs
    table = pd.read_csv(tmp_path / "out/csv/failures.csv")
    assert table["expected"].tolist() == pytest.approx([0.9] * len(table))
    assert table["n"].max() == 2
    assert table["auroc"].isna().all()  # of two cases


def test_failures_are_found_where_an_earlier_version_measured_the_dice(run, tmp_path):
    """The test has the Dice of clean images alone, a later evaluation both."""
    for name in ("calibration.csv", "reliability.csv"):
        (run / name).unlink()
    build([run], tmp_path / "out")
    table = pd.read_csv(tmp_path / "out/csv/failures.csv")
    assert sorted(set(table["degradation"])) == sorted({"none", NOISY[0]})
    assert set(table["n"]) == {2}


PREDICTED = {"all": 0.1, "members": 0.0}  # by how much the prediction of each case is wrong


def write_predicted(folder):
    """Write predicted and measured Dice of five cases under each of two conditions; members have the right order."""
    draw = np.random.default_rng(0)
    dice = {(n, organ, noisy): draw.uniform(0.6, 1) for n in range(5) for organ in NAMES[1:] for noisy in (False, True)}
    rows = [
        dict(
            zip(
                PREDICTED_COLUMNS,
                (*2 * (f"s{n + 5 * noisy}",), "test", *(NOISY if noisy else CLEAN), organ, name, low, value),
                strict=True,
            )
        )
        for (n, organ, noisy), value in dice.items()
        for name, low in ((name, max(value - wrong * n, 0)) for name, wrong in PREDICTED.items())
    ]
    write_csv(folder / "predicted_dice.csv", PREDICTED_COLUMNS, rows)
    return pd.DataFrame(rows)


def test_predictors_are_compared_over_all_conditions_and_drawn(run, tmp_path):
    rows = write_predicted(run)
    html = build([run], tmp_path / "out").read_text(encoding="utf-8")
    assert '<li><a href="#failures">Bad predictions</a></li>' in html
    shown = cells(html, "predicted_failures")
    assert len(shown) == 3 * len(PREDICTED)
    table = pd.read_csv(tmp_path / "out/csv/predicted_failures.csv")
    heart = rows[(rows["organ"] == "heart") & (rows["predictor"] == "all")]
    wanted = score_failures(heart["predicted"], heart["dice"])
    [found] = table[
        (table["organ"] == "heart") & (table["predictor"] == "all") & (table["degradation"] == "all")
    ].to_dict("records")
    assert {name: found[name] for name in wanted} == pytest.approx(wanted)
    assert set(table[table["degradation"] != "all"]["n"]) == {5}
    assert table[table["degradation"] != "all"]["aurc"].isna().all()
    exact = table[(table["predictor"] == "members") & (table["degradation"] == "all")]
    assert exact["excess_aurc"].tolist() == pytest.approx([0] * 3, abs=1e-12)
    [label] = re.findall(r'aria-label="(Risk-coverage curves of [^"]*)"', html)
    half = risk_coverage(heart["predicted"].to_numpy(), heart["dice"].to_numpy())[4]
    assert f"of the better half {half:.3f} by all" in label.partition("heart")[2]
    assert (tmp_path / "out/figures/risk_coverage_01_jsrt_small.png").is_file()
    assert len(pd.read_csv(tmp_path / "out/csv/predicted_dice_cases.csv")) == len(rows)


def test_few_cases_have_no_curve(run, tmp_path):
    """Two cases under two conditions: no figure, but the table of the expected Dice."""
    html = build([run], tmp_path / "out").read_text(encoding="utf-8")
    assert "Risk-coverage" not in html
    assert len(cells(html, "failures")) == 6


def test_what_temperatures_change_is_tabulated(run, tmp_path):
    rows = [
        dict(zip(SCALING_COLUMNS, (*CLEAN, organ, kind, ece, 0.5, 0.25, 0.125), strict=True))
        for organ in (*NAMES[1:], "all classes")
        for kind, ece in (("none", 0.3), ("one", 0.2), ("class", 0.1))
    ]
    write_csv(run / "temperature_scaling.csv", SCALING_COLUMNS, rows)
    html = build([run], tmp_path / "out").read_text(encoding="utf-8")
    shown = cells(html, "temperature_scaling")
    assert shown[-1] == ["all classes", "jsrt", "jsrt_small", "clean", "class", "0.100", "0.500", "0.250", "0.125", "1"]
    assert len(shown) == 12
