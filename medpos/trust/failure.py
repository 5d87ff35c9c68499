"""Score how well a number tells which predictions are bad, before anyone knows the truth.

The number is the Dice that the probabilities themselves expect (:func:`medpos.trust.calibration.expect_dice`), or one
that :mod:`medpos.trust.quality` predicts. It is compared with the Dice that was measured: does it put the bad cases
first?
"""

import itertools
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]
FAILED_BELOW = 0.8  # Dice
LEAST = 8  # cases, below which nothing but counts and means is stated
STATED = ("auroc", "aurc", "excess_aurc", "correlation", "pearson")


def auroc(strange: Floats, familiar: Floats) -> float:
    """Return the chance that a strange score is above a familiar one, 0 to 1; ties count half."""
    above = stats.mannwhitneyu(strange, familiar, method="asymptotic").statistic
    return float(above / (len(strange) * len(familiar)))


def risk_coverage(expected: Floats, dice: Floats) -> Floats:
    """Compute the mean loss of the cases that are kept, if those with the lowest expectation are left out first.

    Args:
        expected: expected Dice of each case.
        dice: measured Dice of each case.

    Returns:
        Mean of 1 - Dice of the best 1, 2, ... n cases by expectation; where expectations are equal, of any of them.
    """
    loss = 1 - dice
    _, group = np.unique(-expected, return_inverse=True)
    mean = np.bincount(group, loss) / np.bincount(group)  # of cases with equal expectation the order is unknown
    ordered = np.sort(group)
    return np.cumsum(mean[ordered]) / np.arange(1, len(loss) + 1)


def score_failures(
    expected: Sequence[float], dice: Sequence[float], cases: Sequence[Hashable] | None = None
) -> dict[str, Any]:
    """Score an expectation of the Dice against the Dice.

    Args:
        expected: expected Dice of each case; NaN where it wasn't measured.
        dice: measured Dice of each case; NaN where there is neither truth nor prediction.
        cases: case of each pair, where one may have several, under other conditions or by other trainings; None: each
            pair is a case.

    Returns:
        ``n`` pairs with both values and ``failures``, those with a Dice below 0.8; ``expected`` and ``dice``, their
        means. With 8 different cases or more also ``auroc``, how likely a failure has a lower expectation than another
        case, 0 to 1, None without both kinds; ``aurc``, the area under the curve of :func:`risk_coverage`, and
        ``excess_aurc``, how much larger it is than with a perfect order, 0 is best; ``correlation``, Spearman's, and
        ``pearson``, Pearson's, None where a side is constant. Else None.

    Reference:
        Y. Geifman, G. Uziel and R. El-Yaniv, "Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers",
        ICLR 2019 (AURC and its excess); P. F. Jaeger et al., "A Call to Reflect on Evaluation Practices for Failure
        Detection in Image Classification", ICLR 2023.
    """
    pairs = np.array([expected, dice], float)
    known = np.isfinite(pairs).all(axis=0)
    guess, true = pairs[:, known]
    failed = true < FAILED_BELOW
    n, failures = len(true), int(failed.sum())
    found: dict[str, Any] = {"n": n, "failures": failures}
    found |= {name: float(values.mean()) if n else None for name, values in (("expected", guess), ("dice", true))}
    found |= dict.fromkeys(STATED)
    if len(set(np.flatnonzero(known) if cases is None else itertools.compress(cases, known))) < LEAST:
        return found
    found["aurc"] = float(risk_coverage(guess, true).mean())
    found["excess_aurc"] = found["aurc"] - float(risk_coverage(true, true).mean())
    if 0 < failures < n:
        found["auroc"] = auroc(-guess[failed], -guess[~failed])
    if len(np.unique(guess)) > 1 and len(np.unique(true)) > 1:
        found["correlation"] = float(stats.spearmanr(guess, true).statistic)
        found["pearson"] = float(stats.pearsonr(guess, true).statistic)
    return found
