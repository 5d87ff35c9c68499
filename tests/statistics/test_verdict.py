"""Check criteria on numbers made by hand."""

import math

import pandas as pd
import pytest

from medpos.core.errors import InputError
from medpos.statistics import verdict


def rows(model, dice, degradation="none", severity=0, shift="0", seed=0):
    return [
        {
            "data": "jsrt",
            "model": model,
            "seed": seed,
            "case": f"c{n}",
            "subject": f"c{n}",
            "split": "test",
            "degradation": degradation,
            "severity": severity,
            "shift": shift,
            "organ": "heart",
            "dice": value,
        }
        for n, value in enumerate(dice)
    ]


TABLE = pd.DataFrame(
    rows("a", [0.8, 0.9, 0.7, 0.8])
    + rows("b", [0.5, 0.6, 0.4, 0.5])
    + rows("a", [0.6, 0.7, 0.5, 0.6], "gaussian_noise", 1)
    + rows("a", [0.4, 0.5, 0.3, 0.4], "shot_noise", 5)
    + rows("a", [0.1, 0.2, 0.0, 0.1], shift="x-32")
)


@pytest.mark.parametrize(
    ("criterion", "value", "found"),
    [
        ({"model": "a", "minus": "b", "at_least": 0.2}, 0.3, "confirmed"),
        ({"model": "a", "minus": "b", "at_least": 0.4}, 0.3, "contradicted"),
        ({"model": "b", "minus": "a", "at_most": 0.0}, -0.3, "confirmed"),
        ({"model": "a", "between": [0.75, 0.85]}, 0.8, "undecided"),
        ({"model": "a", "between": [0.0, 1.0]}, 0.8, "confirmed"),
        # (0.6 + 0.4) / 2 under noise, 0.8 clean
        ({"model": "a", "conditions": "noise", "minus_conditions": "clean", "at_most": -0.1}, -0.3, "confirmed"),
        ({"model": "a", "conditions": "strong_noise", "minus_conditions": "clean", "at_most": -0.1}, -0.4, "confirmed"),
        ({"model": "a", "conditions": "far_shifted", "at_most": 0.3}, 0.1, "confirmed"),
        ({"model": "a", "conditions": ["shot_noise"], "between": [0.2, 0.6]}, 0.4, "confirmed"),
    ],
)
def test_a_criterion(criterion, value, found):
    [finding] = verdict.evaluate_criteria(TABLE, [{"text": "t", **criterion}])
    assert finding.value == pytest.approx(value)
    assert finding.verdict == found
    assert (finding.n, finding.subjects) == (4, 4)


def test_what_was_not_measured_is_undecided_and_says_so():
    [finding] = verdict.evaluate_criteria(TABLE, [{"text": "t", "model": "c", "at_least": 0.0}])
    assert finding.verdict == "undecided"
    assert "not measured" in finding.text
    assert math.isnan(finding.value)
    assert finding.to_json()["value"] is None


def test_a_criterion_for_other_data_is_left_out():
    assert verdict.evaluate_criteria(TABLE, [{"text": "t", "data": "acdc", "model": "a", "at_least": 0.0}]) == []


@pytest.mark.parametrize(
    ("ci95", "found"),
    [
        ((0.1, 0.2), "confirmed"),
        ((0.0, 0.2), "confirmed"),
        ((-0.1, 0.2), "undecided"),
        ((-0.2, -0.1), "contradicted"),
        (None, "undecided"),
        ((math.nan, math.nan), "undecided"),
    ],
)
def test_decide(ci95, found):
    assert verdict.decide(ci95, 0.0, math.inf) == found


def findings(*verdicts):
    return [verdict.Finding("d", "t", v, 0.0, None, 0, 0, 0) for v in verdicts]


@pytest.mark.parametrize(
    ("verdicts", "found"),
    [
        (("confirmed", "confirmed"), "confirmed"),
        (("confirmed", "undecided"), "undecided"),
        (("confirmed", "contradicted", "undecided"), "contradicted"),
        ((), "undecided"),
    ],
)
def test_overall(verdicts, found):
    assert verdict.overall_verdict(findings(*verdicts)) == found


def test_a_criterion_without_a_range_is_refused():
    with pytest.raises(InputError, match="expected a range, got none"):
        verdict.criterion_range({"text": "t"})


def test_unknown_conditions_are_refused():
    with pytest.raises(InputError, match="expected clean, noise"):
        verdict.select_conditions("fog")
