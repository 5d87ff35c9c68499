"""Check the tables of a study by hand."""

import numpy as np
import pytest

from medpos.core.labels import ACDC
from medpos.runs.cases import CaseView
from medpos.study.tables import choice_tables, slice_table


def volume(prediction):
    """Make three slices of four pixels, with the RV in the first two slices of the truth."""
    truth = np.zeros((2, 2, 3), np.uint8)
    truth[:, 0, :2] = 1
    found = np.zeros_like(truth)
    for z, count in enumerate(prediction):
        found.reshape(4, 3)[[0, 2, 1, 3][:count], z] = 1
    return CaseView("a_ED", "a", "ED", (1.0, 1.0, 5.0), truth, truth, found)


def test_slices_are_averaged_one_by_one():
    # Slice 1: 2 of 2 pixels, Dice 1. Slice 2: 1 of 2, Dice 2/3. Slice 3: in neither, missing.
    table = slice_table("acdc", ACDC[:2], {"network": [[volume((2, 1, 0))]]})
    assert table["columns"] == ["model", "seeds", "RV cavity", "slices", "missing"]
    assert table["rows"] == [["network", 1, f"{(1 + 2 / 3) / 2:.3f}", 3, 1]]
    # A second seed that finds nothing: 0 and 0; mean 0.417, sd of (0.833, 0) 0.589.
    table = slice_table("acdc", ACDC[:2], {"network": [[volume((2, 1, 0))], [volume((0, 0, 0))]]})
    assert table["rows"][0][2] == "0.417 ± 0.589"
    assert table["rows"][0][-2:] == [3, 1]


def test_missing_counts_every_seed_and_the_same_slice_once():
    # The first seed has the organ in every slice, the others miss the third one, where the truth has none.
    seeds = [[volume(prediction)] for prediction in ((2, 1, 3), (2, 1, 0), (1, 1, 0))]
    table = slice_table("acdc", ACDC[:2], {"network": seeds})
    assert table["rows"][0][-2:] == [3, 1]


def test_images_have_no_slices():
    flat = volume((2, 1, 0))
    picture = CaseView("a", "a", "", (1.0, 1.0), *(getattr(flat, n)[..., 0] for n in ("image", "truth", "prediction")))
    assert slice_table("jsrt", ACDC[:2], {"network": [[picture]]}) is None


def test_choices():
    [table] = choice_tables([("jsrt", "network", "pe_alpha", 3.0, 0.51234, True)])
    assert table["rows"] == [["jsrt", "network", "pe_alpha", 3.0, "0.5123", "yes"]]
    assert choice_tables([]) == []


@pytest.mark.parametrize("prediction", [(2, 1, 3)])
def test_a_false_positive_slice_counts_as_zero(prediction):
    table = slice_table("acdc", ACDC[:2], {"network": [[volume(prediction)]]})
    assert table["rows"][0][2] == f"{(1 + 2 / 3 + 0) / 3:.3f}"
