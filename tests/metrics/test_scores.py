"""Check scores of cases and of data sets on maps made by hand."""

import math

import numpy as np
import pytest

from medpos.core.errors import InputError
from medpos.core.labels import JSRT, Label
from medpos.metrics import ClassScores, InstanceScores, WeightedDice
from medpos.metrics.boundary import boundary_f1
from medpos.metrics.scores import CaseMaps

LABELS = JSRT[:3]
VOID = (Label(0, "void", "#000000"), *JSRT[1:3])


def case(prediction, truth, instances=None):
    prediction, truth = (np.array(values, np.uint8) for values in (prediction, truth))
    instances = None if instances is None else np.array(instances)
    return CaseMaps(prediction, truth, (1.0,) * truth.ndim, instances)


def of_set(score, *cases):
    return score.of_set([score.of_case(each) for each in cases])


TWO = case([[1, 1, 0, 2, 0]], [[1, 1, 0, 2, 2]])


def test_objects_are_the_connected_parts_of_the_foreground():
    found = InstanceScores().of_case(TWO).values
    assert found == pytest.approx(
        {
            "seg": (1 + 0) / 2,
            "pixel_error": 1 / 5,
            # Pairs: 2 + 0 agree of 2 + 2 true ones, and 2 predicted ones.
            "adapted_rand_error": 1 - 2 * 2 / (4 + 2),
            "objects_true": 2,
            "objects_predicted": 2,
            # The second box is found to half, which is not above one half.
            "box_iou": (1 + 0) / 2,
            "box_precision": 1 / 2,
            "box_recall": 1 / 2,
            "box_f1": 1 / 2,
        }
    )


def test_instances_of_the_case_replace_connected_components():
    touching = case([[1, 1, 1, 1]], [[1, 1, 1, 1]], [[4, 4, 4, 9]])
    found = InstanceScores().of_case(touching).values
    assert (found["objects_true"], found["objects_predicted"]) == (2, 1)
    assert found["seg"] == pytest.approx((3 / 4 + 1 / 4) / 2)


def test_connectivity():
    corner = case([[1, 0], [0, 1]], [[1, 0], [0, 1]])
    counts = [InstanceScores(n).of_case(corner).values["objects_predicted"] for n in (1, 2)]
    assert counts == [2, 1]


def test_ignored_pixels_are_left_out_of_the_instance_scores():
    found = InstanceScores().of_case(case([[1, 1, 0, 1, 1]], [[1, 1, 0, 255, 255]])).values
    assert (found["seg"], found["pixel_error"], found["objects_predicted"], found["objects_true"]) == (1, 0, 1, 1)
    assert found["box_iou"] == found["box_f1"] == 1
    # They connect nothing of the truth.
    assert InstanceScores().of_case(case([[1, 1, 1]], [[1, 255, 1]])).values["objects_true"] == 2


def test_scores_of_a_set_count_every_object_once():
    one = case([[0, 0]], [[1, 0]])
    none = case([[0, 1]], [[0, 0]])
    score = InstanceScores()
    assert math.isnan(score.of_case(none).values["seg"])
    assert math.isnan(score.of_case(none).values["box_iou"])
    assert [score.of_case(each).values["box_f1"] for each in (one, none)] == [0, 0]
    three = case([[1, 0, 1, 0, 1]], [[1, 0, 1, 0, 1]])
    # Three boxes are right, of four true and four predicted ones.
    assert of_set(score, one, none, three) == {"seg_all_objects": 3 / 4, "box_f1_all_objects": 3 / 4}
    assert of_set(score, none)["box_f1_all_objects"] == 0
    assert math.isnan(of_set(score, none)["seg_all_objects"])


def test_volumes():
    volume = np.zeros((6, 6, 3), np.uint8)
    volume[1:3, 1:3], volume[4:, 4:, 1] = 1, 2
    same = case(volume, volume)
    assert InstanceScores().of_case(same).values["objects_true"] == 2
    other = volume.copy()
    other[..., 0] = 0
    values = [np.mean(list(boundary_f1(other[..., z], volume[..., z]).values())) for z in range(3)]
    assert ClassScores(LABELS).of_case(case(other, volume)).values["boundary_f1"] == pytest.approx(np.mean(values))
    assert values[0] < values[1] == 1


def test_class_scores_come_from_one_matrix_of_the_set():
    one, other = case([[0, 1, 1]], [[0, 1, 0]]), case([[2, 2]], [[2, 255]])
    # Pixels: class 0 1 of 2, class 1 1 of 1 and 1 too many, class 2 1 of 1.
    found = of_set(ClassScores(LABELS), one, other)
    assert found["global_accuracy"] == 3 / 4
    assert found["class_accuracy"] == pytest.approx((1 / 2 + 1 + 1) / 3)
    assert found["mean_iou"] == pytest.approx((1 / 2 + 1 / 2 + 1) / 3)
    assert found["frequency_weighted_iou"] == pytest.approx((2 * 1 / 2 + 1 / 2 + 1) / 4)
    found = of_set(ClassScores(LABELS, include_background=False), one, other)
    assert found["mean_iou"] == pytest.approx((1 / 2 + 1) / 2)
    assert found["global_accuracy"] == 3 / 4


def test_void_pixels_are_left_out():
    images = np.array([[1, 1, 2, 2]]), np.array([[1, 2, 0, 0]])
    found = of_set(ClassScores(VOID), case(*images))
    assert found["global_accuracy"] == 1 / 2
    assert found["class_accuracy"] == 1 / 2
    assert found["mean_iou"] == (1 / 2 + 0) / 2
    as_background = of_set(ClassScores(VOID, void=False), case(*images))
    assert as_background["global_accuracy"] == 1 / 4
    assert of_set(ClassScores(LABELS, void=True), case(*images)) == found
    # A network that has a class for it may not give a labeled pixel to it.
    assert of_set(ClassScores(VOID), case([[0, 2]], [[1, 2]]))["mean_iou"] == 1 / 2


def test_boundary_f1_of_a_case_is_the_mean_of_its_classes():
    truth = np.zeros((40, 40), np.uint8)
    truth[10:20, 10:20], truth[30:35] = 1, 2
    prediction = np.roll(truth, 1, axis=0)
    by_class = boundary_f1(prediction, truth)
    value = {
        name: score.of_case(case(prediction, truth)).values["boundary_f1"]
        for name, score in (
            ("all", ClassScores(LABELS)),
            ("foreground", ClassScores(LABELS, include_background=False)),
            ("wide", ClassScores(LABELS, tolerance=0.02)),
        )
    }
    assert value["all"] == pytest.approx((by_class[0] + by_class[1] + by_class[2]) / 3)
    assert value["foreground"] == pytest.approx((by_class[1] + by_class[2]) / 2)
    assert value["all"] != pytest.approx(value["foreground"])
    assert value["wide"] == 1
    # Without the rest of the image, a label map of void has no background to have a contour.
    void = ClassScores(VOID).of_case(case(prediction, truth)).values["boundary_f1"]
    masked = boundary_f1(prediction, np.where(truth == 0, 255, truth))
    assert void == pytest.approx((masked[1] + masked[2]) / 2)


def test_weighted_dice():
    score = WeightedDice(LABELS)
    assert score.of_case(TWO).values == {}
    # Class 1: 1, of 2 px; class 2: 2/3, of 2 px; then class 2 again: 1, of 4 px.
    assert of_set(score, TWO, case([[2] * 4], [[2] * 4]))["weighted_dice"] == pytest.approx((2 * 1 + 6 * 5 / 6) / 8)
    assert of_set(score, case([[2, 1]], [[2, 255]])) == {"weighted_dice": 1}


def test_one_shape_for_all():
    with pytest.raises(
        InputError, match=r"expected maps of one shape, got prediction \(1, 2\), truth \(1, 2\), instances \(2, 1\)"
    ):
        case([[0, 1]], [[0, 1]], [[0], [1]])
