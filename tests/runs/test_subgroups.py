"""Measure subgroups of constructed cases."""

import numpy as np
import pytest

from medpos.core.labels import ACDC
from medpos.runs.cases import CaseView
from medpos.runs.subgroups import COLUMNS, find_levels, find_subgroups, measure_subgroups, summarize_subgroups


def row(case, dice, organ="heart", severity=0, **more):
    place = {"case": case, "subject": case[0], "split": "test", "degradation": "none", "severity": severity}
    return {**place, "shift": "0", "organ": organ, "dice": dice, **more}


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ({"phase": "ED", "group": "DCM", "frame": 1}, {"phase": "ED", "group": "DCM"}),
        ({"sex": "F", "age": 44.5}, {"sex": "F", "age": "below 45"}),
        ({"age": 45}, {"age": "45 to 64"}),
        ({"age": 65}, {"age": "65 and above"}),
        ({"sex": " ", "age": None, "group": ""}, {}),
        ({"age": "unknown"}, {}),
    ],
)
def test_a_case_is_in_the_subgroups_that_its_entry_knows(entry, found):
    assert find_subgroups(entry) == found


@pytest.mark.parametrize("flipped", [False, True])
def test_the_base_is_the_end_with_the_larger_area(flipped):
    """Seven slices of a heart in nine; the apex is the smallest, wherever the file begins."""
    truth = np.zeros((12, 12, 9), np.uint8)
    for z, side in zip(range(1, 8), (9, 8, 7, 6, 5, 4, 3), strict=True):
        truth[:side, :side, z] = 3
    found = find_levels(truth[..., ::-1] if flipped else truth)
    expected = {"base": [5, 6, 7], "mid": [3, 4], "apex": [1, 2]} if flipped else None
    expected = expected or {"base": [1, 2, 3], "mid": [4, 5], "apex": [6, 7]}
    assert {name: sorted(slices.tolist()) for name, slices in found.items()} == expected


def test_images_and_hearts_in_two_slices_have_no_levels():
    assert find_levels(np.ones((4, 4), np.uint8)) == {}
    assert find_levels(np.ones((4, 4, 2), np.uint8)) == {}


def test_the_dice_of_a_level_is_that_of_its_slices():
    truth = np.zeros((8, 8, 3), np.uint8)
    truth[:6, :6, 0], truth[:4, :4, 1], truth[:2, :2, 2] = 3, 3, 3
    prediction = truth.copy()
    prediction[:2, :2, 2] = 0  # the apex is missed
    prediction[:4, 2:4, 1] = 0  # half of the middle
    view = CaseView("a_ED", "a", "ED", (1.0, 1.0, 1.0), truth, truth, prediction)
    found = measure_subgroups([row("a_ED", 0.5, "lv_cavity")], [{"case": "a_ED", "phase": "ED"}], [view], ACDC)
    assert all(set(one) == set(COLUMNS) for one in found)
    levels = {one["subgroup"]: one["dice"] for one in found if (one["by"], one["organ"]) == ("level", "lv_cavity")}
    assert levels == pytest.approx({"base": 1.0, "mid": 2 / 3, "apex": 0.0})
    assert [(one["by"], one["subgroup"], one["dice"]) for one in found if one["by"] == "phase"] == [
        ("phase", "ED", 0.5)
    ]


def test_only_clean_images_count():
    rows = [row("a1", 0.9), row("a1", 0.1, severity=3)]
    assert [one["dice"] for one in measure_subgroups(rows, [{"case": "a1", "sex": "F"}], [], ACDC)] == [0.9]


def test_subgroups_are_summarized_over_subjects_and_only_where_there_are_several():
    entries = [{"case": f"{name}1", "sex": sex, "phase": "ED"} for name, sex in zip("abcd", "FFMM", strict=True)]
    dice = {"a1": (0.9, 0.7), "b1": (0.7, 0.5), "c1": (0.5, np.nan), "d1": (0.3, 0.1)}
    rows = [row(case, value, organ) for case, pair in dice.items() for organ, value in zip("xy", pair, strict=True)]
    found = summarize_subgroups(measure_subgroups(rows, entries, [], ACDC))
    assert {one["by"] for one in found} == {"sex"}  # all cases have the same phase
    means = {(one["subgroup"], one["organ"]): one["mean"] for one in found}
    expected = {("F", "x"): 0.8, ("F", "y"): 0.6, ("F", "mean of organs"): 0.7}
    expected |= {("M", "x"): 0.4, ("M", "y"): 0.1, ("M", "mean of organs"): 0.35}
    assert means == pytest.approx(expected)
    [women] = [one for one in found if (one["subgroup"], one["organ"]) == ("F", "x")]
    # Student's t with one degree of freedom: 12.706 standard errors of 0.1; Dice ends at 1.
    assert women["ci95"] == pytest.approx([max(0.8 - 12.706 * 0.1, 0), 1.0], abs=1e-3)
    assert (women["subjects"], women["n"]) == (2, 2)
