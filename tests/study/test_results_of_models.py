"""Test which tables of a run folder a study takes for the results of a model."""

import json
import math

import pandas as pd
import pytest

from medpos.calibrate.noticed import CASE_COLUMNS
from medpos.core.files import write_csv
from medpos.data.conditions import CLEAN, Condition, named
from medpos.runs.calibration import CALIBRATION_COLUMNS
from medpos.runs.tables import COLUMNS
from medpos.study.collecting import add_dice_lost
from medpos.study.models import (
    add_alarms,
    add_calibration,
    find_to_judge,
    missing_conditions,
    read_moved,
    read_rows,
)

CONFIG = {
    "lr": 0.1,
    "seed": 1,
    "data_sha256": "a",
    "degradation_table": "study",
    "noise_seed": 0,
    "dataset": {"data": "$@source.cases('test')"},
    "steps": {"normalize": {"_target_": "medpos.transforms.StandardizePerSlice"}, "shift": {"_target_": "Shifted"}},
    "preprocessing": {"_target_": "Compose", "transforms": ["@steps::normalize", "@steps::shift"]},
    "shift_before_standardizing": False,
}
NOISY, MOVED = Condition("shot_noise", 1), Condition(shift_x=8)


def evaluate(run, name, dice, conditions=(CLEAN, NOISY, MOVED), lacking=(), **changes):
    """Write the evaluation of one case; ``lacking``: keys that earlier versions didn't have."""
    folder = run / name
    folder.mkdir(parents=True, exist_ok=True)
    config = {key: value for key, value in {**CONFIG, **changes}.items() if key not in lacking}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "summary.json").write_text("{}")
    rows = [
        {
            **dict.fromkeys(COLUMNS, "0"),
            "degradation": c.degradation,
            "severity": c.severity,
            "shift": c.shift,
            "dice": dice,
        }
        for c in conditions
    ]
    write_csv(folder / "metrics.csv", COLUMNS, rows)
    write_csv(folder / "moved_predictions.csv", COLUMNS, [row for row in rows if row["shift"] != "0"])


def found(run):
    return [float(row["dice"]) for row in read_rows(run, CONFIG, [CLEAN, NOISY, MOVED])]


@pytest.mark.parametrize(
    ("changes", "usable"),
    [
        ({"dataset": {"data": "$@source.cases('validation')"}}, []),
        ({"data_sha256": "b"}, []),
        ({"checkpoint": "other.pt"}, []),
        ({"degradation_table": "cifar_c"}, [CLEAN, MOVED]),
        ({"noise_seed": 1}, [CLEAN, MOVED]),
        ({"shift_before_standardizing": True}, [CLEAN, NOISY]),
    ],
)
def test_other_data_and_settings_are_other_results(changes, usable, tmp_path):
    evaluate(tmp_path, "evaluate", 0.5, **changes)
    assert found(tmp_path) == [0.5] * len(usable)
    assert missing_conditions(tmp_path, CONFIG, [CLEAN, NOISY, MOVED]) == [
        c for c in (CLEAN, NOISY, MOVED) if c not in usable
    ]
    evaluate(tmp_path, "evaluate-2", 0.75)  # sorted after the other
    assert sorted(found(tmp_path)) == [0.5] * len(usable) + [0.75] * (3 - len(usable))
    assert [float(row["dice"]) for row in read_moved(tmp_path, CONFIG, [MOVED])] == [0.5 if MOVED in usable else 0.75]


def test_a_study_of_probabilities_measures_them_where_an_earlier_version_did_not(tmp_path):
    conditions = [CLEAN, NOISY]
    evaluate(tmp_path, "evaluate", 0.5)
    assert missing_conditions(tmp_path, CONFIG, conditions) == []
    assert missing_conditions(tmp_path, CONFIG, conditions, needs_calibration=True) == conditions
    [about, *_] = read_rows(tmp_path, CONFIG, [CLEAN])
    place = {name: about[name] for name in CALIBRATION_COLUMNS if name in about}
    row = {**place, "ece": 0.1, "mce": 0.2, "brier": 0.3, "nll": 0.4, "expected_dice": 0.75}
    write_csv(tmp_path / "evaluate/calibration.csv", CALIBRATION_COLUMNS, [row])
    assert missing_conditions(tmp_path, CONFIG, conditions, needs_calibration=True) == [NOISY]
    clean, noisy = add_calibration(read_rows(tmp_path, CONFIG, conditions), tmp_path, CONFIG, conditions)
    assert (clean["overconfidence"], clean["ece"]) == (0.25, 0.1)
    assert noisy["overconfidence"] is None


def judge(folder, rings):
    """Write ``noticed_cases.csv``: one case, whose lights ring under these conditions."""
    rows = [
        {
            **dict.fromkeys(CASE_COLUMNS, "0"),
            "degradation": c.degradation,
            "severity": c.severity,
            "shift": c.shift,
            "alarm": int(rings(c)),
        }
        for c in named(("degradations",), "study")
    ]
    write_csv(folder / "noticed_cases.csv", CASE_COLUMNS, rows)


def test_the_lights_judge_an_evaluation_under_the_same_settings(tmp_path):
    config = {**CONFIG, "shift_pixels": [8]}
    groups = ("clean", "degradations", "position")
    evaluate(tmp_path, "evaluate", 0.5, noise_seed=1, shift_pixels=[8])
    assert find_to_judge(tmp_path, config, groups) == (tmp_path / "evaluate", ("clean",))  # other noise
    assert find_to_judge(tmp_path, config, ("shifts",)) == (tmp_path / "evaluate", ("shifts",))
    assert find_to_judge(tmp_path, {**config, "shift_pixels": [8, 16]}, ("shifts",)) == (None, ("shifts",))
    evaluate(tmp_path, "evaluate-2", 0.75, shift_pixels=[8])
    judge(tmp_path / "evaluate", rings=lambda c: True)
    assert find_to_judge(tmp_path, config, groups) == (tmp_path / "evaluate-2", ("clean", "degradations"))
    judge(tmp_path / "evaluate-2", rings=lambda c: c.severity > 2)
    assert find_to_judge(tmp_path, config, groups) is None
    rows = add_alarms(read_rows(tmp_path, config, [NOISY, MOVED]), tmp_path, config, [NOISY, MOVED])
    assert {row["degradation"]: row["alarm"] for row in rows} == {"shot_noise": 0, "none": None}


def test_dice_lost_is_that_of_the_same_case_organ_and_seed():
    columns = ["data", "model", "seed", "case", "organ", "severity", "shift", "dice"]
    rows = [("d", "m", 0, "a", "heart", 2, "0", 0.25), ("d", "m", 0, "a", "heart", 0, "0", 0.75)]
    rows += [("d", "m", 1, "a", "heart", 0, "0", 1.0), ("d", "m", 1, "a", "heart", 0, "x+8", 0.5)]
    rows += [("d", "moved", 0, "a", "heart", 0, "x+8", 0.5), ("d", "m", 0, "a", "lung", 2, "0", 0.5)]
    found = add_dice_lost(pd.DataFrame(rows, columns=columns))["dice_lost"]
    assert found[:4].tolist() == [0.5, 0, 0, 0.5]
    assert all(map(math.isnan, found[4:]))


def test_results_of_earlier_versions_serve_as_far_as_they_are_the_same(tmp_path):
    """Earlier ones had the training's seed for the noise, and shifted before they standardized slices."""
    before = ("noise_seed", "shift_before_standardizing")
    evaluate(tmp_path, "evaluate", 0.5, lacking=before)
    assert missing_conditions(tmp_path, CONFIG, [CLEAN, NOISY, MOVED]) == [NOISY, MOVED]
    first = {**CONFIG, "seed": 0}
    evaluate(tmp_path / "first", "evaluate", 0.5, lacking=before, seed=0)
    assert missing_conditions(tmp_path / "first", first, [CLEAN, NOISY, MOVED]) == [MOVED]
