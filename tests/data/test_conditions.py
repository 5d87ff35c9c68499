import pytest

from medpos.data.conditions import CLEAN, Condition, degradations, shifts
from medpos.transforms.intensity.degradations import TABLES


@pytest.mark.parametrize("table", TABLES)
def test_degradations(table):
    found = degradations(table)
    assert len(found) == len(set(found)) == 16
    assert found[0] == CLEAN
    assert {c.degradation for c in found[1:]} == {"gaussian_noise", "gaussian_blur", "shot_noise"}
    assert sorted(c.severity for c in found) == [0, *sorted([1, 2, 3, 4, 5] * 3)]


def test_shifts():
    found = shifts(range(8, 65, 8))
    assert len(found) == len(set(found)) == 33
    assert found[0] == CLEAN
    assert {abs(c.shift_x) + abs(c.shift_y) for c in found} == set(range(0, 65, 8))
    assert all(c.shift_x == 0 or c.shift_y == 0 for c in found)


@pytest.mark.parametrize(
    ("condition", "shift", "title"),
    [
        (CLEAN, "0", "clean"),
        (Condition("gaussian_blur", 3), "0", "Gaussian blur, severity 3"),
        (Condition(shift_x=8), "x+8", "shifted 8 px right"),
        (Condition("shot_noise", 1, 8, -16), "x+8 y-16", "shot noise, severity 1, shifted 8 px right and 16 px up"),
    ],
)
def test_names(condition, shift, title):
    assert (condition.shift, condition.title) == (shift, title)
    assert Condition(**condition.to_item()) == condition
