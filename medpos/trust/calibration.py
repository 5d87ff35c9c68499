"""Measure whether probabilities mean what they say: calibration errors, Brier score, likelihood, reliability diagram.

All are computed from one histogram of integers for each image, which needs no second look at the pixels, can be added
over images and processes in any order, and is counted on the device of the network. Its bins have equal widths in the
log-odds of the probability, because the softmax of a trained network crowds near 0 and 1, where bins of equal widths in
the probability would hold most pixels in two of them. A bin stands for the probability at its middle: within a bin a
probability differs from that by at most 0.004, and the scores by less than 0.002 (the maximum error by about
0.01) from those of the single pixels.

Each class is judged by itself: does a pixel with a probability of 0.8 for the heart belong to the heart in 80 % of the
cases? "All classes" judges the probability of the predicted class, and scores all classes together.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from medpos.core.labels import IGNORED
from medpos.trust.uncertainty import HIGH, LOW

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
SCORES = ("ece", "mce", "brier", "nll")
SIZES = ("coverage", "width")
EXPECTED = "expected_dice"
# Smallest and greatest possible value of each score.
LIMITS = {"ece": (0.0, 1.0), "mce": (0.0, 1.0), "brier": (0.0, 2.0), "nll": (0.0, float("inf"))}
LIMITS |= {"coverage": (0.0, 1.0), "width": (0.0, float("inf")), EXPECTED: (0.0, 1.0)}
BINS = 1024
EQUAL_COUNT_BINS = 15
DIAGRAM_BINS = 10
LEAST = 0.01  # probabilities below it are left out of the calibration errors, as most of an image is no organ at all
_LIMIT = 16.0  # log-odds at the end of the last bin; probabilities beyond it count there
_PART = 1 << 20  # pixels that are counted at a time
_LOG_ODDS = (np.arange(BINS) + 0.5) * (2 * _LIMIT / BINS) - _LIMIT
_PROBABILITIES = 1 / (1 + np.exp(-_LOG_ODDS))


def count_probabilities(logits: Tensor, truth: Tensor) -> Tensor:
    """Count how often each probability came true, on the device of the logits and without waiting for it.

    Args:
        logits: logits [N, C, X, Y] or [N, C, X, Y, Z].
        truth: classes [N, 1, X, Y] or [N, 1, X, Y, Z], 0 to C - 1; pixels of 255 are left out.

    Returns:
        Numbers of pixels [N, 2 C, 2, BINS], int32, those for which a class was wrong and those for which it was right,
        by the log-odds of its probability: first of each class over all pixels, then over those that it is predicted
        for, as the most probable one.
    """
    return torch.stack([_count(*image) for image in zip(logits, truth, strict=True)])


def _count(logits: Tensor, truth: Tensor) -> Tensor:
    classes, device = logits.shape[0], logits.device
    size = 2 * classes * 2 * BINS
    counts = torch.zeros(size + 1, dtype=torch.int64, device=device)  # the last one of ignored pixels
    row = torch.arange(classes, dtype=torch.int32, device=device)[:, None]
    for scores, true in zip(logits.flatten(1).split(_PART, 1), truth.flatten(1).split(_PART, 1), strict=True):
        planes = torch.empty(scores.shape, device=device).copy_(scores)  # faster than float() and contiguous()
        odds = planes.softmax(0).logit_(1e-7)
        top = odds.amax(0, keepdim=True)
        # The first class with the greatest probability: by far faster than argmax.
        predicted = classes - (odds == top).int().mul_(classes - row).amax(0, keepdim=True).clamp_(min=1)
        cells = torch.cat([row.expand(odds.shape), predicted + classes])
        right = torch.cat([row == true, predicted == true])
        bins = torch.cat([odds, top]).add_(_LIMIT).mul_(BINS / (2 * _LIMIT)).nan_to_num_(0.0).clamp_(0, BINS - 1)
        code = bins.int().add_(right.int(), alpha=BINS).add_(cells, alpha=2 * BINS)
        code = code.add_(true == IGNORED, alpha=size).clamp_(max=size).flatten()  # faster than masked_fill_
        if device.type == "cpu":
            counts += torch.bincount(code, minlength=size + 1)
        else:  # bincount makes the host wait
            counts.scatter_add_(0, code.long(), torch.ones(1, dtype=torch.int64, device=device).expand_as(code))
    return counts[:-1].view(2 * classes, 2, BINS).int()


def add_all_classes(counts: Counts) -> Counts:
    """Return the counts of each class, and last those of the predicted class whichever it is.

    Args:
        counts: numbers of pixels [2 C, 2, BINS] of :func:`count_probabilities`, of one image or of many.

    Returns:
        Numbers of pixels [C + 1, 2, BINS].
    """
    of_class, of_predicted = np.split(counts, 2)
    return np.concatenate([of_class, of_predicted.sum(axis=0, keepdims=True)])


def score_calibration(counts: Counts) -> dict[str, Floats]:
    """Compute the scores of every class, and last those of all classes together.

    Args:
        counts: numbers of pixels [2 C, 2, BINS] of :func:`count_probabilities`, of one image or of many.

    Returns:
        Each of ``SCORES`` as [C + 1]; 0 is best, NaN where there is no pixel. ``ece`` and ``mce`` are the mean and
        the greatest difference of probability and frequency over ``EQUAL_COUNT_BINS`` bins of equal numbers of pixels,
        among the pixels whose probability is at least ``LEAST``. ``brier`` is the mean squared difference, ``nll`` the
        mean negative natural logarithm of the probability of the truth, over all pixels: of a class, against the rest;
        of all classes, the sum of squares over the classes (0 to 2), and the logarithm for the true class.

    Reference:
        J. Nixon et al., "Measuring Calibration in Deep Learning", CVPR workshops 2019 (thresholded adaptive calibration
        error); C. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
    """
    counts = add_all_classes(counts)
    wrong, right = counts[:, 0], counts[:, 1]
    total = (wrong + right).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        brier = (right @ (1 - _PROBABILITIES) ** 2 + wrong @ _PROBABILITIES**2) / total
        surprise = right @ np.logaddexp(0, -_LOG_ODDS)
        nll = (surprise + wrong @ np.logaddexp(0, _LOG_ODDS)) / total
        brier[-1], nll[-1] = brier[:-1].sum(), surprise[:-1].sum() / total[-1]
    errors = np.array([_errors(of_class) for of_class in counts])
    return {"ece": errors[:, 0], "mce": errors[:, 1], "brier": brier, "nll": nll}


def score_sizes(counts: Counts) -> dict[str, Floats]:
    """Compare the interval of each organ's size with its true size.

    Args:
        counts: numbers of pixels [2 C, 2, BINS] of :func:`count_probabilities`, of one image.

    Returns:
        Each of ``SIZES`` as [C + 1], the last one the mean of the organs. ``coverage`` is 1 if the true size lies in
        the interval of :mod:`medpos.trust.uncertainty`, whose level is 0.9, else 0; ``width`` is the width of the
        interval over the true size. NaN for the background, and for an organ that isn't in the image.
    """
    counts = add_all_classes(counts)
    size = counts[:, 1].sum(axis=1).astype(np.float64)
    size[0] = size[-1] = 0
    size[size == 0] = np.nan
    low, high = (counts[..., level <= _PROBABILITIES].sum(axis=(1, 2)) for level in (LOW, HIGH))
    coverage = np.where(np.isnan(size), np.nan, (low <= size) & (size <= high))
    found = {"coverage": coverage, "width": (high - low) / size}
    for values in found.values():
        values[-1] = _mean_of_organs(values)
    return found


def expect_dice(counts: Counts) -> Floats:
    """Compute the Dice that the probabilities expect of their own prediction, without the truth.

    Args:
        counts: numbers of pixels [2 C, 2, BINS] of :func:`count_probabilities`, of one image.

    Returns:
        Twice the sum of the probabilities of the pixels that are predicted, over their number and the sum of the
        probabilities of all pixels, [C + 1], 0 to 1; the last one is the mean of the organs. Where none is predicted,
        the expected Dice is 0. NaN for the background.
    """
    pixels, predicted = np.split(counts.sum(axis=1), 2)
    number = predicted.sum(axis=1).astype(np.float64)
    found: Floats = np.append(2 * (predicted @ _PROBABILITIES) / (number + pixels @ _PROBABILITIES), np.nan)
    found[0] = np.nan
    found[-1] = _mean_of_organs(found)
    return found


def _mean_of_organs(values: Floats) -> float:
    measured = values[:-1][~np.isnan(values[:-1])]
    return float(measured.mean()) if measured.size else float("nan")


def _errors(counts: Counts) -> tuple[float, float]:
    """Compute the expected and the maximum calibration error of one class from its counts [2, BINS]."""
    kept = np.where(_PROBABILITIES >= LEAST, counts, 0)
    of_bin = kept.sum(axis=0)
    if not (total := int(of_bin.sum())):
        return float("nan"), float("nan")
    middle = np.cumsum(of_bin) - of_bin / 2  # rank of the middle pixel of each bin
    pixels, probability, frequency = _group(kept, (middle * EQUAL_COUNT_BINS / total).astype(int))
    found = pixels > 0
    gaps = np.abs(probability[found] - frequency[found])
    return float(gaps @ pixels[found] / total), float(gaps.max())


def _group(counts: Counts, groups: npt.NDArray[np.int64]) -> tuple[Counts, Floats, Floats]:
    """Return pixels, mean probability and frequency of groups of bins; NaN where there is no pixel."""
    of_bin = counts.sum(axis=0)
    pixels = np.bincount(groups, of_bin)
    with np.errstate(invalid="ignore"):
        probability = np.bincount(groups, of_bin * _PROBABILITIES) / pixels
        frequency = np.bincount(groups, counts[1]) / pixels
    return pixels.astype(np.int64), probability, frequency


def reliability_diagram(counts: Counts) -> list[dict[str, float]]:
    """Tabulate how often each probability of a class came true.

    Args:
        counts: numbers of pixels [2, BINS] of one class, as :func:`count_probabilities` has them.

    Returns:
        A row for each of ``DIAGRAM_BINS`` bins of equal widths: ``low`` and ``high``, its ends; ``pixels``;
        ``probability``, their mean probability; ``frequency``, the share of them that is of the class; both NaN where
        there is no pixel.
    """
    width = 1 / DIAGRAM_BINS
    pixels, probability, frequency = _group(counts, (_PROBABILITIES * DIAGRAM_BINS).astype(int))
    return [
        {
            "low": round(n * width, 9),
            "high": round((n + 1) * width, 9),
            "pixels": int(pixels[n]),
            "probability": float(probability[n]),
            "frequency": float(frequency[n]),
        }
        for n in range(DIAGRAM_BINS)
    ]
