"""Check calibration scores against scikit-learn, against the definitions pixel by pixel, and by hand."""

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from medpos.core.labels import IGNORED
from medpos.trust.calibration import (
    BINS,
    DIAGRAM_BINS,
    EQUAL_COUNT_BINS,
    LEAST,
    count_probabilities,
    reliability_diagram,
    score_calibration,
    score_sizes,
)

CLASSES = 4


def images(seed, sharpness, count=3, shape=(40, 33)):
    """Draw logits and a truth that follows their softmax; above a sharpness of 1 they are too sure."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(0, 2, (count, CLASSES, *shape))
    chance = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = (draw.random((count, 1, *shape)) > np.cumsum(chance, axis=1)).sum(axis=1, keepdims=True)
    truth = truth.clip(0, CLASSES - 1).astype(np.uint8)
    return torch.from_numpy(logits * sharpness).float(), torch.from_numpy(truth)


def flat(logits, truth):
    """Return probabilities [pixels, C] in double precision, and the classes [pixels]."""
    return logits.double().softmax(1).movedim(1, -1).flatten(0, -2).numpy(), truth.flatten().numpy()


def counts_of(logits, truth):
    return count_probabilities(logits, truth).sum(0).numpy().astype(np.int64)


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 3.0])
def test_scores_are_those_of_scikit_learn(sharpness):
    logits, truth = images(1, sharpness)
    found, (chance, true) = score_calibration(counts_of(logits, truth)), flat(logits, truth)
    own = np.eye(CLASSES)[true]
    for n in range(CLASSES):
        assert found["brier"][n] == pytest.approx(brier_score_loss(own[:, n], chance[:, n]), abs=1e-4)
        assert found["nll"][n] == pytest.approx(log_loss(own[:, n], chance[:, n]), abs=1e-3)
    assert found["brier"][-1] == pytest.approx(((chance - own) ** 2).sum(axis=1).mean(), abs=1e-4)
    assert found["nll"][-1] == pytest.approx(log_loss(true, chance), abs=1e-3)


def expected_errors(chance, came_true):
    """Compute the errors by their definition: sort all pixels, and cut them into parts of equal size."""
    kept = chance >= LEAST
    order = np.argsort(chance[kept], kind="stable")
    parts = zip(*(np.array_split(values[kept][order], EQUAL_COUNT_BINS) for values in (chance, came_true)), strict=True)
    gaps = [(len(p), abs(p.mean() - y.mean())) for p, y in parts]
    return sum(n * gap for n, gap in gaps) / kept.sum(), max(gap for _, gap in gaps)


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 3.0])
def test_calibration_errors_are_those_of_sorted_pixels(sharpness):
    logits, truth = images(2, sharpness, shape=(120, 90))
    found, (chance, true) = score_calibration(counts_of(logits, truth)), flat(logits, truth)
    pairs = [(chance[:, n], true == n) for n in range(CLASSES)] + [(chance.max(1), chance.argmax(1) == true)]
    wanted = np.array([expected_errors(p, y.astype(float)) for p, y in pairs])
    assert np.abs(found["ece"] - wanted[:, 0]).max() < 2e-3
    assert np.abs(found["mce"] - wanted[:, 1]).max() < 1e-2
    if sharpness == 1.0:
        assert found["ece"].max() < 0.015
    else:
        assert found["ece"].min() > 0.05


def test_the_diagram_is_that_of_scikit_learn():
    logits, truth = images(3, 3.0)
    counts, (chance, true) = counts_of(logits, truth), flat(logits, truth)
    points = reliability_diagram(counts[2])
    frequency, probability = calibration_curve(true == 2, chance[:, 2], n_bins=DIAGRAM_BINS)
    assert [p["frequency"] for p in points] == pytest.approx(frequency, abs=0.02)
    assert [p["probability"] for p in points] == pytest.approx(probability, abs=2e-3)
    assert sum(p["pixels"] for p in points) == true.size
    assert [p["low"] for p in points] == pytest.approx(np.arange(DIAGRAM_BINS) / DIAGRAM_BINS)


def test_by_hand():
    # Two pixels: sure and right, sure and wrong.
    logits = torch.tensor([[100.0, 100.0], [-100.0, -100.0]]).reshape(1, 2, 1, 2)
    found = score_calibration(counts_of(logits, torch.tensor([0, 1]).reshape(1, 1, 1, 2)))
    assert found["ece"][[0, 2]] == pytest.approx([0.5, 0.5], abs=1e-6)
    assert np.isnan(found["ece"][1])  # class 1 is never thought possible
    assert found["brier"] == pytest.approx([0.5, 0.5, 1.0], abs=1e-6)
    assert found["nll"] == pytest.approx([8, 8, 8], abs=0.03)  # probabilities end at 1e-7


def test_images_volumes_and_memory_layouts_are_counted_alike():
    logits, truth = images(4, 1.0, count=2, shape=(6, 7))
    single = count_probabilities(logits, truth)
    assert single.shape == (2, 2 * CLASSES, 2, BINS)
    of_class, of_predicted = single.sum(dim=(2, 3)).split(CLASSES, 1)
    assert of_class.unique().tolist() == of_predicted.sum(1).unique().tolist() == [42]
    assert torch.equal(single, count_probabilities(logits.contiguous(memory_format=torch.channels_last), truth))
    volume = count_probabilities(*(part.movedim(0, -1)[None] for part in (logits, truth)))
    assert torch.equal(volume[0], single.sum(0))


def test_ignored_pixels_are_left_out_and_nothing_is_known_without_pixels():
    logits, truth = images(5, 1.0, count=1)
    truth[..., :20] = IGNORED
    assert torch.equal(count_probabilities(logits, truth), count_probabilities(logits[..., 20:], truth[..., 20:]))
    none = score_calibration(counts_of(logits, torch.full_like(truth, IGNORED)))
    assert all(np.isnan(values).all() for values in none.values())
    assert all(p["pixels"] == 0 for p in reliability_diagram(counts_of(logits, torch.full_like(truth, IGNORED))[0]))


def test_logits_that_are_no_numbers_are_counted_as_something():
    logits, truth = images(6, 1.0, count=1)
    logits[:, :, 0, :2] = torch.tensor([float("nan"), float("inf")])
    assert count_probabilities(logits, truth).sum() == (CLASSES + 1) * truth.numel()


def test_a_pixel_is_predicted_as_its_most_probable_class_the_first_of_equal_ones():
    logits, truth = images(7, 0.3)
    logits[:, 2, :5] = logits[:, 1, :5]  # a tie, as mean masks have them
    predicted = logits.argmax(1)
    counts = count_probabilities(logits, truth)[:, CLASSES:]
    for n in range(CLASSES):
        right = (truth[:, 0] == n) & (predicted == n)
        assert torch.equal(counts[:, n].sum((1, 2)), (predicted == n).sum((1, 2)).int())
        assert torch.equal(counts[:, n, 1].sum(1), right.sum((1, 2)).int())


def test_sizes_are_compared_with_those_of_the_probabilities():
    logits, truth = images(2, 3.0, count=1)
    truth[truth == 3] = 0  # an organ that isn't in the image
    chance, true = flat(logits, truth)
    found = score_sizes(counts_of(logits, truth))
    for n in (1, 2):
        low, high, size = (chance[:, n] >= 0.95).sum(), (chance[:, n] >= 0.05).sum(), (true == n).sum()
        assert found["coverage"][n] == (low <= size <= high)
        assert found["width"][n] == pytest.approx((high - low) / size, rel=0.02)
    assert np.isnan([found["coverage"][n] for n in (0, 3)]).all()
    assert found["width"][-1] == pytest.approx(found["width"][1:3].mean())


def test_an_interval_may_miss_the_size():
    logits = torch.zeros(1, 2, 10, 10)
    logits[:, 1, :5] = 20
    logits[:, 0, 5:] = 20
    truth = torch.zeros(1, 1, 10, 10, dtype=torch.uint8)
    for rows, covered in ((5, 1), (6, 0)):
        truth[:, :, :rows] = 1
        found = score_sizes(counts_of(logits, truth))
        assert found["coverage"].tolist()[1:] == [covered, covered]
        assert found["width"].tolist()[1:] == [0, 0]
