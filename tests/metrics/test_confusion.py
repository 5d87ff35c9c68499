"""Check scores of one confusion matrix by hand, against MONAI and against the formulas of FCN."""

import math

import numpy as np
import pytest
import torch
from monai.metrics import MeanIoU
from sklearn.metrics import confusion_matrix as sklearn_confusion
from sklearn.metrics import jaccard_score, recall_score

from medpos.core.errors import InputError
from medpos.core.labels import BACKGROUND, Label
from medpos.metrics import CaseTruth, overlap
from medpos.metrics.confusion import class_scores, confusion_matrix, scores_by_class, weighted_dice

TRUTH = np.array([[0, 0, 0, 1], [1, 1, 2, 255]])
PREDICTION = np.array([[0, 0, 1, 1], [1, 2, 2, 2]])
MATRIX = np.array([[2, 1, 0], [0, 2, 1], [0, 0, 1]])
NAMES = ("global_accuracy", "class_accuracy", "mean_iou", "frequency_weighted_iou")


def test_matrix_by_hand():
    assert confusion_matrix(PREDICTION, TRUTH, 3).tolist() == MATRIX.tolist()


def test_scores_by_hand():
    # IoU 2/3, 2/4, 1/2; accuracy 2/3, 2/3, 1; true pixels 3, 3, 1.
    found = class_scores(MATRIX)
    assert found == pytest.approx(dict(zip(NAMES, (5 / 7, 7 / 9, 5 / 9, (3 * 2 / 3 + 3 / 2 + 1 / 2) / 7), strict=True)))
    # Without the background it is out of the means, but what was taken from it is still wrong.
    found = class_scores(MATRIX, include_background=False)
    assert found == pytest.approx(dict(zip(NAMES, (5 / 7, 5 / 6, 1 / 2, 1 / 2), strict=True)))


def test_absent_classes():
    # Class 1 is in neither: left out. Class 2 was predicted without being there: IoU 0, no accuracy.
    found = class_scores(np.array([[3, 0, 1], [0, 0, 0], [0, 0, 0]]))
    assert found == dict(zip(NAMES, (0.75, 0.75, 0.375, 0.75), strict=True))
    assert all(math.isnan(value) for value in class_scores(np.zeros((3, 3), np.int64)).values())
    nothing_else = class_scores(np.array([[4, 0], [0, 0]]), include_background=False)
    assert nothing_else["global_accuracy"] == 1
    assert all(math.isnan(nothing_else[name]) for name in NAMES[1:])


@pytest.mark.parametrize("seed", range(10))
def test_second_implementations(seed):
    rng = np.random.default_rng(seed)
    images = [rng.integers(0, 5, (2, 9, 8)) for _ in range(3)]
    total = sum(confusion_matrix(prediction, truth, 6) for prediction, truth in images)
    found = class_scores(total)
    # As FCN's own evaluation has it, on a matrix filled pixel by pixel.
    hist = np.zeros((6, 6))
    for prediction, truth in images:
        np.add.at(hist, (truth, prediction), 1)
    with np.errstate(invalid="ignore"):
        accuracy = np.diag(hist) / hist.sum(1)
        iou = np.diag(hist) / (hist.sum(1) + hist.sum(0) - np.diag(hist))
    frequency = hist.sum(1) / hist.sum()
    wanted = (
        np.diag(hist).sum() / hist.sum(),
        np.nanmean(accuracy),
        np.nanmean(iou),
        (frequency[frequency > 0] * iou[frequency > 0]).sum(),
    )
    assert [found[name] for name in NAMES] == pytest.approx(wanted)
    # MONAI's IoU of the whole set as one image.
    metric = MeanIoU(reduction="none")
    one_hot = [
        torch.tensor(np.stack([np.stack(part) == c for c in range(6)])[None]) for part in zip(*images, strict=True)
    ]
    assert found["mean_iou"] == pytest.approx(float(torch.nanmean(metric(*one_hot))))


@pytest.mark.parametrize("seed", range(5))
def test_counts_and_classes_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    truth, prediction = rng.integers(0, 4, (2, 2, 9, 8))
    truth[:, :3] = 255
    labels = (BACKGROUND, Label(1, "a", "#000001"), Label(2, "b", "#000002"), Label(3, "c", "#000003"))
    counts = sum(CaseTruth(t, labels, (1, 1)).compare(p)[1] for p, t in zip(prediction, truth, strict=True))
    maps = truth[truth != 255], prediction[truth != 255]
    assert counts.tolist() == confusion_matrix(prediction, truth, 4).tolist() == sklearn_confusion(*maps).tolist()
    assert counts.tolist() != counts.T.tolist()
    found = scores_by_class(counts)
    assert found["iou"] == pytest.approx(jaccard_score(*maps, average=None))
    assert found["class_accuracy"] == pytest.approx(recall_score(*maps, average=None))


def test_classes_with_gaps_keep_the_order_of_their_labels():
    labels = (BACKGROUND, Label(2, "a", "#000001"), Label(5, "b", "#000002"))
    counts = CaseTruth([[0, 2, 2], [5, 5, 255]], labels, (1, 1)).compare([[0, 5, 2], [0, 5, 5]])[1]
    assert counts.tolist() == [[1, 0, 0], [0, 1, 1], [1, 0, 1]]


def test_a_set_is_not_the_mean_of_its_images():
    one, other = np.diag([8, 0]), np.array([[0, 1], [0, 1]])
    means = (class_scores(one)["mean_iou"] + class_scores(other)["mean_iou"]) / 2
    assert class_scores(one + other)["mean_iou"] == pytest.approx((8 / 9 + 1 / 2) / 2)
    assert means != pytest.approx(class_scores(one + other)["mean_iou"])


def test_properties():
    rng = np.random.default_rng(0)
    truth, prediction = rng.integers(0, 4, (2, 30, 20))
    assert class_scores(confusion_matrix(truth, truth, 4)) == dict.fromkeys(NAMES, 1)
    # The numbers of the classes make no difference.
    order = rng.permutation(4)
    found = class_scores(confusion_matrix(prediction, truth, 4))
    assert class_scores(confusion_matrix(order[prediction], order[truth], 4)) == pytest.approx(found)
    # An ignored pixel counts as little as one that is not there.
    truth[:, 10:] = 255
    cut = confusion_matrix(prediction[:, :10], truth[:, :10], 4)
    assert confusion_matrix(prediction, truth, 4).tolist() == cut.tolist()


def test_many_classes():
    truth = np.arange(200, dtype=np.uint8).reshape(10, 20)
    assert confusion_matrix(truth, truth, 200).tolist() == np.eye(200, dtype=int).tolist()


def test_weighted_dice_by_hand():
    # Case 1: class 1 Dice 2*2/(3+3), class 2 2*1/(1+2). Case 2: class 1 perfect of 5 px, class 2 in neither.
    second = np.diag([1, 5, 0])
    dice = (2 / 3 + 1) / 2, 2 / 3
    assert weighted_dice([MATRIX, second]) == pytest.approx((8 * dice[0] + 1 * dice[1]) / 9)
    assert weighted_dice([np.diag([4, 3, 2])]) == 1
    assert math.isnan(weighted_dice([np.diag([4, 0, 0])]))


def test_weighted_dice_is_that_of_the_organ_table_where_classes_are_as_large():
    truth = np.repeat([[0, 1, 2, 3]], 4, axis=0)
    prediction = np.random.default_rng(3).integers(0, 4, truth.shape)
    mean = overlap(prediction, truth, 4)["dice"].mean()
    assert weighted_dice([confusion_matrix(prediction, truth, 4)]) == pytest.approx(mean)


def test_bad_maps_are_refused():
    with pytest.raises(InputError, match=r"prediction: expected the shape of the truth, \(4, 2\), got \(2, 4\)"):
        confusion_matrix(PREDICTION, TRUTH.T, 3)
    with pytest.raises(InputError, match="truth: expected classes 0 to 1, got values 0 to 2"):
        confusion_matrix(np.zeros_like(TRUTH), TRUTH, 2)
    with pytest.raises(InputError, match="prediction: expected classes 0 to 2, got values -1 to 1"):
        confusion_matrix(PREDICTION - 1, TRUTH, 3)
