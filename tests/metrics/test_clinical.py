"""Check clinical indices by hand, against SciPy and by a pixel-by-pixel search."""

import math

import numpy as np
import pytest

from medpos.core import labels
from medpos.core.errors import InputError
from medpos.metrics.clinical import (
    CTR,
    cardiothoracic_ratio,
    indices,
    ventricular_indices,
    volume_ml,
)
from medpos.runs.cases import CaseView

CLASSES = {"rv_cavity": 1, "myocardium": 2, "lv_cavity": 3}
SPACING = (2.0, 2.0, 10.0)  # 0.04 ml a voxel


def chest():
    """Draw 20 columns by 10 rows: right lung 1, left lung 2, heart 3."""
    values = np.zeros((20, 10), np.uint8)
    values[2:8, 1:9] = 1
    values[12:19, 2:8] = 2
    values[7:14, 6:9] = 3
    return values


def ventricles(rv, myocardium, lv):
    """Make a label map of 10 x 10 x 10 with the given number of voxels of each class."""
    values = np.zeros(1000, np.uint8)
    values[: rv + myocardium + lv] = np.repeat([1, 2, 3], [rv, myocardium, lv])
    return values.reshape(10, 10, 10)


def view(subject, phase, truth, prediction, spacing=SPACING):
    name = f"{subject}_{phase}" if phase else subject
    return CaseView(name, subject, phase, spacing, np.zeros_like(truth), truth, prediction)


class TestVolume:
    def test_by_hand(self):
        # 3 voxels of 2 x 2 x 10 mm are 120 cubic millimeters.
        assert volume_ml(ventricles(3, 0, 0), SPACING) == pytest.approx(0.12)
        assert volume_ml(np.zeros((2, 2, 2), bool), SPACING) == 0

    @pytest.mark.parametrize("spacing", [(1, 1), (1, 1, 0), (1, 1, math.inf), (1, 1, math.nan), (-1, 1, 1)])
    def test_spacing(self, spacing):
        with pytest.raises(InputError, match="three positive sizes"):
            volume_ml(np.zeros((2, 2, 2)), spacing)

    def test_flat(self):
        with pytest.raises(InputError, match="three axes"):
            volume_ml(np.zeros((2, 2)), (1, 1))


class TestCardiothoracicRatio:
    def test_by_hand(self):
        # Heart columns 7 to 13, lungs 2 to 18 on the same row: 7 of 17.
        assert cardiothoracic_ratio(chest(), 3, (1, 2)) == pytest.approx(7 / 17)
        assert cardiothoracic_ratio(chest()[..., None], 3, (2, 1)) == pytest.approx(7 / 17)

    def test_thorax_is_measured_on_one_row(self):
        values = chest()
        # A tip of the right lung where there is no left one makes the thorax no wider.
        values[0, 0] = 1
        assert cardiothoracic_ratio(values, 3, (1, 2)) == pytest.approx(7 / 17)
        values[0, 3] = 1
        assert cardiothoracic_ratio(values, 3, (1, 2)) == pytest.approx(7 / 19)

    def test_heart_is_measured_over_all_rows(self):
        values = chest()
        values[5, 9] = 3
        assert cardiothoracic_ratio(values, 3, (1, 2)) == pytest.approx(9 / 17)

    @pytest.mark.parametrize("organ", [1, 2, 3])
    def test_organ_missing(self, organ):
        values = chest()
        values[values == organ] = 0
        assert math.isnan(cardiothoracic_ratio(values, 3, (1, 2)))

    def test_lungs_apart(self):
        values = np.zeros((4, 4))
        values[0, 0], values[3, 3], values[1, 1] = 1, 2, 3
        assert math.isnan(cardiothoracic_ratio(values, 3, (1, 2)))

    @pytest.mark.parametrize("seed", range(20))
    def test_pixel_by_pixel(self, seed):
        values = np.random.default_rng(seed).choice(4, (9, 7), p=[0.7, 0.1, 0.1, 0.1])
        at = {c: [(x, y) for x in range(9) for y in range(7) if values[x, y] == c] for c in (1, 2, 3)}
        heart = max(x for x, _ in at[3]) - min(x for x, _ in at[3]) + 1
        rows = {y for _, y in at[1]} & {y for _, y in at[2]}
        lungs = [(x, y) for x, y in at[1] + at[2] if y in rows]
        thorax = max((x - left + 1 for x, y in lungs for left, row in lungs if row == y), default=math.nan)
        assert cardiothoracic_ratio(values, 3, (1, 2)) == pytest.approx(heart / thorax, nan_ok=True)

    def test_volume_is_no_radiograph(self):
        with pytest.raises(InputError, match="cardiothoracic ratio: expected a label map"):
            cardiothoracic_ratio(np.zeros((4, 4, 2)), 3, (1, 2))


class TestVentricles:
    def test_by_hand(self):
        result = ventricular_indices(
            (ventricles(300, 200, 250), SPACING), (ventricles(150, 210, 100), SPACING), CLASSES
        )
        assert result == pytest.approx(
            {
                "LV EDV": 10,  # 250 x 0.04 ml
                "LV ESV": 4,
                "LV SV": 6,
                "LV EF": 60,
                "RV EDV": 12,
                "RV ESV": 6,
                "RV SV": 6,
                "RV EF": 50,
                "LV mass": 8.4,  # 200 x 0.04 ml x 1.05 g/ml
            }
        )

    def test_phases_of_different_spacing(self):
        result = ventricular_indices(
            (ventricles(0, 0, 100), SPACING), (ventricles(0, 0, 100), (1, 1, 10)), {"lv_cavity": 3}
        )
        assert result == pytest.approx({"LV EDV": 4, "LV ESV": 1, "LV SV": 3, "LV EF": 75})

    def test_phase_missing(self):
        some = (ventricles(100, 100, 100), SPACING)
        no_systole = ventricular_indices(some, None, CLASSES)
        assert {k for k, v in no_systole.items() if math.isnan(v)} == {
            f"{side} {index}" for side in ("LV", "RV") for index in ("ESV", "SV", "EF")
        }
        no_diastole = ventricular_indices(None, some, CLASSES)
        assert {k for k, v in no_diastole.items() if not math.isnan(v)} == {"LV ESV", "RV ESV"}

    def test_empty_cavity(self):
        result = ventricular_indices((ventricles(1, 1, 0), SPACING), (ventricles(1, 1, 50), SPACING), CLASSES)
        assert (result["LV EDV"], result["LV SV"]) == (0, -2)
        assert math.isnan(result["LV EF"])


class TestIndices:
    def test_chest(self):
        prediction = chest()
        prediction[14, 7] = 3  # the heart one column wider
        (found,) = indices([view("p1", "", chest(), prediction, (1.0, 1.0))], labels.JSRT)
        assert found == {
            "subject": "p1",
            "case": "p1",
            "index": CTR,
            "unit": "",
            "true": pytest.approx(7 / 17),
            "predicted": pytest.approx(8 / 17),
        }

    def test_heart(self):
        cases = [
            view("p1", "ES", ventricles(150, 210, 100), ventricles(150, 210, 125)),
            view("p2", "ES", ventricles(10, 10, 10), ventricles(10, 10, 10)),
            view("p1", "ED", ventricles(300, 200, 250), ventricles(300, 190, 250)),
        ]
        rows = indices(cases, labels.ACDC)
        assert [r["index"] for r in rows[:9]] == [
            *(f"{side} {index}" for side in ("LV", "RV") for index in ("EDV", "ESV", "SV", "EF")),
            "LV mass",
        ]
        found = {(r["subject"], r["index"]): r for r in rows}
        assert found["p1", "LV EF"] == {
            "subject": "p1",
            "case": "p1_ED",
            "index": "LV EF",
            "unit": "%",
            "true": pytest.approx(60),
            "predicted": pytest.approx(50),
        }
        assert found["p1", "LV ESV"]["case"] == "p1_ES"
        assert (found["p1", "LV mass"]["unit"], found["p1", "LV SV"]["unit"]) == ("g", "ml")
        assert found["p1", "LV mass"]["predicted"] == pytest.approx(190 * 0.04 * 1.05)
        # p2 has no end-diastole.
        assert found["p2", "LV ESV"]["true"] == pytest.approx(0.4)
        assert math.isnan(found["p2", "LV EDV"]["true"])
        assert len(rows) == 18

    def test_nothing_to_measure(self):
        classes = (labels.BACKGROUND, labels.Label(1, "liver", "#000000"))
        assert indices([view("p1", "", chest(), chest())], classes) == []
        assert indices([view("p1", "", ventricles(1, 1, 1), ventricles(1, 1, 1))], labels.ACDC) == []
        assert indices([], labels.ACDC) == []
        # A user's data may have two volumes of the heart per subject without phases, or the organs of the chest in CT.
        case = view("p1", "", ventricles(1, 1, 1), ventricles(1, 1, 1))
        assert indices([case, case], labels.ACDC) == []
        assert indices([case], labels.JSRT) == []

    def test_two_volumes_of_a_phase(self):
        case = view("p1", "ED", ventricles(1, 1, 1), ventricles(1, 1, 1))
        with pytest.raises(InputError, match="one volume per phase"):
            indices([case, case], labels.ACDC)
