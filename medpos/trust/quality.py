"""Predict the Dice of each organ without the truth, by signs that were calibrated on cases with a truth.

Every sign of :mod:`medpos.trust.signs` lies between 0 and 1 and rises with quality. A monotone curve for each organ and
sign, fitted to validation images, clean and changed, turns it into a Dice. ``all`` is the mean of these.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import isotonic_regression

from medpos.core.arrays import open_arrays
from medpos.core.errors import InputError
from medpos.core.files import decode_json
from medpos.trust.evidence import Floats
from medpos.trust.failure import LEAST
from medpos.trust.signs import FEATURES, PLAUSIBILITY, Signs

TOGETHER = "all"  # mean of the predictors
# Least standard deviation of each of the FEATURES.
_LEAST_SPREADS = np.array([0.1, 0.01, 0.01, 0.02, 0.02, 0.5, 0.02])
_FORM = 1  # of the file
_ADVICE = "run 'python -m medpos calibrate' again"


class Plausibility:
    """Compare shape and place of organs with those of training masks.

    Args:
        means: mean of each feature over the training masks, [organs, features]; NaN where no mask has it.
        spreads: their standard deviations.
    """

    def __init__(self, means: Floats, spreads: Floats) -> None:
        self.means, self.spreads = means, spreads

    @classmethod
    def fit(cls, rows: Floats) -> "Plausibility":
        """Learn what is usual from :meth:`medpos.trust.signs.Signs.describe` of training masks.

        Args:
            rows: features [cases, organs, features].
        """
        known = np.isfinite(rows)
        count = np.where(known.any(axis=0), known.sum(axis=0), np.nan)
        means = np.where(known, rows, 0).sum(axis=0) / count
        squares = np.where(known, (rows - means) ** 2, 0).sum(axis=0) / count
        return cls(means, np.sqrt(squares))

    def score(self, row: Floats) -> Floats:
        """Score the features [organs, features] of a case.

        Returns:
            1 / (1 + z), where z is the mean square of the features in standard deviations from the mean of the
            training masks: 1 for the usual, 0.5 at one standard deviation, [organs]. 0 for an organ that isn't found,
            NaN for one that no training mask has.
        """
        squares = ((row - self.means) / np.maximum(self.spreads, _LEAST_SPREADS)) ** 2
        known = np.isfinite(squares)
        mean = np.where(known, squares, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        found = np.where(known.any(axis=1), 1 / (1 + mean), 0.0)
        scores: Floats = np.where(np.isfinite(self.means).any(axis=1), found, np.nan)
        return scores


@dataclass(frozen=True)
class Curve:
    """Hold a monotone curve from a sign to a Dice: straight lines between knots, through 0 at 0, level after the last.

    Args:
        signs: signs of the knots, rising, above 0.
        dice: Dice of the knots, not falling.
    """

    signs: tuple[float, ...]
    dice: tuple[float, ...]

    @classmethod
    def fit(cls, signs: Floats, dice: Floats, weights: Floats) -> "Curve":
        """Fit a curve by isotonic regression, with a knot in the middle of each level part.

        Args:
            signs: sign of each case.
            dice: its Dice.
            weights: its weight, above 0.

        Reference:
            A. P. Oron and N. Flournoy, "Centered Isotonic Regression", Statistics in Biopharmaceutical Research 9(3),
            2017. The knots in the middle keep the order of cases, which a staircase loses.
        """
        at, group = np.unique(signs, return_inverse=True)
        total = np.bincount(group, weights)
        found = isotonic_regression(np.bincount(group, dice * weights) / total, weights=total)
        starts = found.blocks[:-1]
        middles = np.add.reduceat(at * total, starts) / np.add.reduceat(total, starts)
        knots = [(float(x), float(y)) for x, y in zip(middles, found.x[starts], strict=True) if x > 0]
        return cls(tuple(x for x, _ in knots), tuple(y for _, y in knots))

    def predict(self, sign: float) -> float:
        """Return the Dice of a sign from 0 to 1; NaN for NaN."""
        return float(np.interp(sign, (0.0, *self.signs), (0.0, *self.dice)))


@dataclass(frozen=True, eq=False)
class Example:
    """Hold a prediction whose Dice is known.

    Args:
        signs: signs [organs] by predictor.
        dice: Dice [organs]; NaN where neither truth nor prediction has the organ.
        weight: its weight among the others, above 0.
    """

    signs: Mapping[str, Floats]
    dice: Floats
    weight: float = 1.0


@dataclass(frozen=True)
class Fit:
    """Hold the curves that were fitted to one way of predicting.

    Args:
        settings: members, test-time augmentation and dropout, as :attr:`medpos.predict.ensemble.Ensemble.settings`.
        cases: number of images by split.
        curves: curve by predictor and organ; organs with fewer than 8 measurements have none.
    """

    settings: dict[str, Any]
    cases: Mapping[str, int]
    curves: Mapping[str, Mapping[str, Curve]]

    @classmethod
    def make(
        cls,
        settings: dict[str, Any],
        cases: Mapping[str, int],
        organs: Sequence[str],
        examples: Sequence[Example],
    ) -> "Fit":
        """Fit the curves.

        Args:
            settings: as above.
            cases: as above.
            organs: names of the organs.
            examples: predictions to fit them to.
        """
        curves: dict[str, dict[str, Curve]] = {}
        for predictor in examples[0].signs if examples else ():
            curves[predictor] = {}
            for n, organ in enumerate(organs):
                triples = np.array([(e.signs[predictor][n], e.dice[n], e.weight) for e in examples])
                # An organ that isn't found has the sign 0, which the curve knows.
                known = triples[np.isfinite(triples).all(axis=1) & (triples[:, 0] > 0)]
                if len(known) >= LEAST:
                    curves[predictor][organ] = Curve.fit(*known.T)
        return cls(settings, cases, curves)

    def predict(self, signs: Mapping[str, Floats], organs: Sequence[str]) -> dict[str, Floats]:
        """Predict the Dice of each organ.

        Args:
            signs: signs [organs] by predictor.
            organs: names of the organs.

        Returns:
            Predicted Dice [organs] of ``all`` predictors together and of each; NaN for an organ without a curve.
        """
        by_one = {
            predictor: np.array(
                [curves[o].predict(signs[predictor][n]) if o in curves else np.nan for n, o in enumerate(organs)]
            )
            for predictor, curves in self.curves.items()
        }
        values = np.array(list(by_one.values()))
        known = np.isfinite(values)
        mean = np.where(known, values, 0).sum(axis=0) / np.where(known.any(axis=0), known.sum(axis=0), np.nan)
        return {TOGETHER: mean, **by_one}


class DicePredictor:
    """Predict the Dice of each organ of a run's predictions.

    Args:
        weights: SHA-256 of the network's weights.
        organs: names of the organs.
        plausibility: what shape and place of the training masks are.
        mean_mask: share of training images that have an organ at each pixel, [organs, x, y]; empty where images
            differ in size.
        fits: curves for each way of predicting.
    """

    def __init__(
        self,
        weights: str,
        organs: Sequence[str],
        plausibility: Plausibility,
        mean_mask: Floats,
        fits: Sequence[Fit] = (),
    ) -> None:
        self.weights, self.organs, self.plausibility = weights, tuple(organs), plausibility
        self.fits = list(fits)
        self._mask = mean_mask
        self._mean_mask = torch.from_numpy(mean_mask).float() if mean_mask.size else None

    def measure(self, signs: Signs) -> dict[str, Floats]:
        """Return all signs [organs] of a prediction by predictor, 0 to 1."""
        return {**signs.measure(), PLAUSIBILITY: self.plausibility.score(signs.describe(self._mean_mask))}

    def find(self, settings: Mapping[str, Any]) -> Fit | None:
        """Return the curves for a way of predicting; None if there are none."""
        return next((fit for fit in self.fits if fit.settings == settings), None)

    def keep(self, fit: Fit) -> None:
        """Take the curves for a way of predicting, in place of earlier ones."""
        self.fits = [*(other for other in self.fits if other.settings != fit.settings), fit]

    def to_arrays(self) -> dict[str, Any]:
        """Return everything as named arrays for a file."""
        fits = [
            {
                "settings": fit.settings,
                "cases": dict(fit.cases),
                "curves": {p: {o: [c.signs, c.dice] for o, c in found.items()} for p, found in fit.curves.items()},
            }
            for fit in self.fits
        ]
        about = {"form": _FORM, "weights": self.weights, "organs": self.organs, "fits": fits}
        learned = {"means": self.plausibility.means, "spreads": self.plausibility.spreads}
        return {"about": np.array(json.dumps(about)), "mean_mask": self._mask, **learned}

    @classmethod
    def read(cls, path: Path) -> "DicePredictor":
        """Read what :meth:`to_arrays` gave; no code in the file is run.

        Raises:
            InputError: the file is damaged, or of another version.
        """
        with open_arrays(path, "the quality of a run", _ADVICE) as content:
            about = decode_json(str(content["about"]))
            mask, means, spreads = (np.asarray(content[n], np.float64) for n in ("mean_mask", "means", "spreads"))
            if about["form"] != _FORM:
                raise InputError(f"{path}: expected version {_FORM} of this file, got {about['form']!r}; {_ADVICE}")
            organs = tuple(map(str, about["organs"]))
            shape = (len(organs), len(FEATURES))
            if means.shape != shape or spreads.shape != shape or (mask.size and mask.shape[:-2] != shape[:1]):
                raise ValueError(f"expected means and spreads {shape}, got {means.shape} and {spreads.shape}")
            fits = [_read_fit(entry) for entry in about["fits"]]
        return cls(str(about["weights"]), organs, Plausibility(means, spreads), mask, fits)


def _read_fit(entry: Mapping[str, Any]) -> Fit:
    curves = {
        str(predictor): {str(organ): _read_curve(*knots) for organ, knots in found.items()}
        for predictor, found in entry["curves"].items()
    }
    return Fit(dict(entry["settings"]), {str(split): int(n) for split, n in entry["cases"].items()}, curves)


def _read_curve(signs: Sequence[Any], dice: Sequence[Any]) -> Curve:
    knots = np.array([signs, dice], np.float64)
    if knots.ndim != 2 or not (np.diff(knots) >= 0).all() or not ((knots >= 0) & (knots <= 1)).all():
        raise ValueError("expected knots of a curve that doesn't fall, from 0 to 1, got others")
    return Curve(*(tuple(line) for line in knots.tolist()))
