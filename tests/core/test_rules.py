"""Rules in the words of JSON Schema: what fits, what doesn't, and how it is said."""

import math

import numpy as np
import pytest

from medpos.core.errors import InputError
from medpos.core.rules import check_value, describe, fits, is_finite, load_rules

COUNT = {"type": "integer", "minimum": 1, "maximum": 16}
RATE = {"type": "number", "exclusiveMinimum": 0}
SHARE = {"type": "number", "minimum": 0, "exclusiveMaximum": 1}
CHOICE = {"type": ["string", "integer"], "enum": ["64", "128", "7-128"]}
LIST = {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 1}}
PAIR = {"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "integer"}}
GROUPS = {"type": ["array", "string"], "items": {"type": "string", "enum": ["clean", "shifts"]}}
TABLE = {
    "type": ["string", "object"],
    "enum": ["study"],
    "propertyNames": {"enum": ["noise", "blur"]},
    "additionalProperties": PAIR,
}
NAME = {"type": "string", "pattern": r"\w[\w.-]*"}
MAYBE = {"type": ["integer", "null"], "minimum": 1}


@pytest.mark.parametrize(
    ("rule", "right", "wrong"),
    [
        (COUNT, [1, 16], [0, 17, 1.0, True, "1", None, [1]]),
        (RATE, [1e-14, 1, 5.5], [0, -5, math.nan, math.inf, True, "0.1", "nan"]),
        (SHARE, [0, 0.99], [1, -0.1]),
        (CHOICE, [64, "64", "7-128"], [65, "7", True, None]),
        (LIST, [[8], [8, 16], (1,)], [[], 8, [1.5], [0], ["8"], "[8", [True], [[8]]]),
        (PAIR, [[1, 2]], [[1], [1, 2, 3]]),
        (GROUPS, [["clean"], "shifts", []], ["foo", ["clean", "foo"], 3, None, [["clean"]]]),
        (TABLE, ["study", {"noise": [1, 2]}], ["other", {"nois": [1, 2]}, {"noise": [1]}, {"noise": 1}, [1, 2]]),
        (NAME, ["a", "a.b-c"], ["", ".a", "../x", "a/b", "a\n", 1]),
        (MAYBE, [1, None], [0, "None"]),
        ({"type": "boolean"}, [True, False], ["true", "False", 0, 1, None]),
        ({}, [1, "x", None, [1, "x"], True], [math.nan]),
    ],
)
def test_what_fits(rule, right, wrong):
    assert [value for value in right if not fits(value, rule)] == []
    assert [value for value in wrong if fits(value, rule)] == []


@pytest.mark.parametrize(
    ("rule", "value", "words"),
    [
        (COUNT, 0, "--k: expected an integer from 1 to 16, got 0; correct it"),
        ({**RATE, "description": "learning rate"}, 0, "--k: expected a number above 0, got 0; it sets: learning rate"),
        (CHOICE, "7-129", "--k: expected one of 64, 128, 7-128, got '7-129'; did you mean 7-128?"),
        (GROUPS, ["clean", "shift"], "each one of clean, shifts, got ['clean', 'shift']; did you mean shifts?"),
        (GROUPS, "foo", "got 'foo'; choose among them"),
        (PAIR, [1], "--k: expected a list of 2 items, each an integer, got [1]"),
        (
            TABLE,
            {"noise": [1]},
            "--k: expected one of study, or keys with values: each key one of noise, blur, each value a list of 2 "
            "items, each an integer, got {'noise': [1]}; correct it",
        ),
        ({"type": "boolean"}, "false", "--k: expected True or False, got 'false'; write it with a capital letter"),
        ({"type": "string"}, 1e5, """quote it twice: --k "'100000.0'\""""),
        (MAYBE, 0, "--k: expected an integer of at least 1, or None, got 0"),
    ],
)
def test_messages(rule, value, words):
    with pytest.raises(InputError) as error:
        check_value("k", value, rule)
    assert words in str(error.value)


def test_every_rule_of_the_bundles_is_complete():
    words = {"type", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "enum", "items", "minItems"}
    words |= {"maxItems", "pattern", "description", "propertyNames", "additionalProperties"}
    for key, rule in load_rules().items():
        assert {"type", "description"} <= rule.keys() <= words, key
        assert describe(rule), key
        assert "\n" not in rule["description"], key


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), np.float32("inf"), 10**400, -(10**400), True, "1", None, [1]]
)
def test_what_is_no_finite_number(value):
    assert not is_finite(value)
    assert not fits(value, {"type": "number"})


@pytest.mark.parametrize("value", [0, -1.5, 10**300, np.float32(2), np.int64(3)])
def test_finite_numbers(value):
    assert is_finite(value)
