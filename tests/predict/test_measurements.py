"""Compare measurements and warnings on simple label maps with values computed by hand."""

import math

import numpy as np
import pytest

from medpos.core.labels import ACDC, JSRT
from medpos.data.training_data import TrainingData
from medpos.io.scan import directions_of
from medpos.predict.measurements import (
    find_intensity_warnings,
    find_label_warnings,
    measure_organs,
    measure_ventricles,
    write_table,
)
from medpos.predict.orientation import find_orientation

CHEST = TrainingData("jsrt", True, JSRT, {"low": 0.0, "high": 100.0, "mean": 0.5, "std": 0.2}, "LIP", False)
HEART = TrainingData("acdc", True, ACDC, {"low": 0.0, "high": 100.0, "mean": 0.5, "std": 0.2}, "RAS", True)


def chest():
    values = np.zeros((20, 10, 1), np.uint8)
    values[2:8, 1:9] = 1
    values[12:19, 2:8] = 2
    values[7:14, 6:9] = 3
    return values


def test_area_and_cardiothoracic_ratio():
    rows = measure_organs(chest(), (2.0, 0.5, 1.0), JSRT)
    assert [(r["structure"], r["measure"], r["value"], r["unit"]) for r in rows[:3]] == [
        ("right_lung", "area", 45.0, "mm2"),
        ("left_lung", "area", 38.0, "mm2"),
        ("heart", "area", 21.0, "mm2"),
    ]
    assert rows[3]["measure"] == "cardiothoracic ratio"
    assert rows[3]["value"] == pytest.approx(7 / 17)
    assert {r["unit"] for r in measure_organs(chest(), None, JSRT)} == {"pixels", ""}
    assert math.isnan(measure_organs(chest() * 0, None, JSRT)[3]["value"])


def test_volume():
    values = np.zeros((4, 4, 5), np.uint8)
    values[1:3, 1:3] = 3
    assert [r["value"] for r in measure_organs(values, (1.0, 2.0, 10.0), ACDC)] == [0, 0, 0.4]
    assert measure_organs(values, None, ACDC)[2] == {
        "structure": "lv_cavity",
        "measure": "volume",
        "value": 20.0,
        "unit": "voxels",
    }


def rows(volume):
    return [{"structure": "lv_cavity", "measure": "volume", "value": volume, "unit": "ml"}]


def test_phases():
    named = measure_ventricles(
        [("a", "ED", rows(100.0)), ("a", "ES", rows(40.0)), ("b", "ED", rows(9.0)), ("c", "", rows(1.0))]
    )
    assert {(r["subject"], r["measure"]): r["value"] for r in named} == {
        ("a", "EDV"): 100,
        ("a", "ESV"): 40,
        ("a", "SV"): 60,
        ("a", "EF"): 60,
    }
    numbered = measure_ventricles([("a", f"phase{n:02d}", rows(v)) for n, v in enumerate((80.0, 100.0, 70.0, 25.0), 1)])
    assert [r["value"] for r in numbered if r["measure"] == "EF"] == [75]
    assert measure_ventricles([("a", "ED", [{**rows(1.0)[0], "unit": "voxels"}]), ("a", "ES", rows(1.0))]) == []


def test_warnings():
    values = chest()
    assert find_label_warnings(values, (1.0, 1.0, 1.0), JSRT) == []
    assert find_label_warnings(values, None, JSRT) == ["spacing unknown: pixels are counted, give --spacing for mm"]
    values[values == 3] = 0
    values[0, 5] = 2
    values[10, 3] = 2
    assert find_label_warnings(values, (1.0, 1.0, 1.0), JSRT) == [
        "left lung is in 3 pieces, the largest 95 %",
        "left lung touches the border",
        "heart is missing",
    ]


def test_intensity_warnings():
    rng = np.random.default_rng(0)
    gray = rng.normal(50, 20, (50, 50, 1))
    assert find_intensity_warnings(gray.clip(0, 100), CHEST) == []
    assert "too bright" in find_intensity_warnings((gray + 40).clip(0, 100), CHEST)[0]
    assert "too dark" in find_intensity_warnings(gray / 16, CHEST)[0]
    assert "contrast 0.2" in find_intensity_warnings(50 + (gray - 50) / 5, CHEST)[0]
    assert "outside 0 to 100" in find_intensity_warnings(gray * 3 - 100, CHEST)[0]


def test_table_leaves_nan_empty(tmp_path):
    write_table(tmp_path / "a.csv", ("a", "b", "c"), [{"a": 1 / 3, "b": float("nan")}])
    assert (tmp_path / "a.csv").read_text() == "a,b,c\n0.333333,,\n"


def test_orientations_that_scanners_give():
    flat, stack = (1.0, 1.0, 1.0), (1.5, 1.5, 8.0)
    frontal = find_orientation(directions_of("LIP"), (9, 9, 1), flat, CHEST, True)
    assert (frontal.order, frontal.flips) == ((0, 1, 2), (False, False))
    # An X-ray that someone stored as an axial slice of ITK's directions is hung as it was.
    axial = find_orientation(directions_of("LPS"), (9, 9, 1), flat, CHEST, False)
    assert (axial.order, axial.flips) == ((0, 1, 2), (False, False))
    # Short-axis planes stand oblique; a scanner stores columns to the left and back, rows down and back.
    right, down = np.array([-0.7, -0.7, 0.1]), np.array([0.1, -0.2, -0.97])
    normal = np.cross(right, down)
    oblique = np.stack([v / np.linalg.norm(v) for v in (right, down, normal)], axis=1)
    assert find_orientation(oblique, (9, 9, 5), stack, HEART, True).flips == (False, False)
    # dcm2niix turns rows upside down; the true direction brings them back.
    assert find_orientation(oblique * [1, -1, 1], (9, 9, 5), stack, HEART, False).flips == (False, True)
    # The nominal identity of the training itself is kept.
    assert find_orientation(directions_of("RAS"), (9, 9, 5), stack, HEART, False).flips == (False, False)
    assert find_orientation(directions_of("LPS"), (9, 9, 5), stack, HEART, False).flips == (True, True)
    assert find_orientation(directions_of("LPS"), (9, 9, 5), stack, HEART, True).flips == (False, False)
    assert find_orientation(None, (9, 9, 5), stack, HEART, False).order == (0, 1, 2)
