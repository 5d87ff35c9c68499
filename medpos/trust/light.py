"""Give a case a green, yellow or red light with its reasons, at a stated rate of false alarms."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medpos.core.arrays import open_arrays
from medpos.core.errors import InputError
from medpos.core.files import decode_json
from medpos.trust.detectors import NEVER, Detectors, Sample, pack, unpack
from medpos.trust.evidence import Evidence, Floats

GREEN, YELLOW, RED = "green", "yellow", "red"
ALARM_RATE = 0.05  # of familiar images, that the threshold is set for
_RED_FROM = 2.0  # multiple of the threshold
_HIGH = 0.9  # quantile of the familiar scores that becomes 1, as their median becomes 0
_FORM = 1  # of the file
_ADVICE = "run 'python -m medpos calibrate' again"


@dataclass(frozen=True)
class Light:
    """Hold the light of a case.

    Args:
        color: ``green``, ``yellow`` or ``red``.
        score: greatest score of the detectors, as a multiple of the threshold; above 1 the light isn't green, from 2 on
            it is red.
        reasons: what raised the alarm, the strongest first; empty for green.
        detectors: score of each detector by its name, as a multiple of the threshold.
    """

    color: str
    score: float
    reasons: tuple[str, ...]
    detectors: Mapping[str, float]


class TrafficLight:
    """Decide on the light of a case.

    Args:
        about: facts that the file keeps: ``weights``, SHA-256 of the network's weights; ``layers``, numbers of the
            convolutions whose features are looked at; ``organs``, their names; ``validation`` and ``training``, numbers
            of familiar cases by split; ``test_cases`` and ``test_alarms``, once they are measured.
        samples: evidence of the training cases.
        familiar: scores [cases, detectors] of familiar cases that the detectors weren't fitted to.
        mean_mask: share of training images that have an organ at each pixel, [organs, x, y]; empty where images differ
            in size.

    Attributes:
        threshold: standardized score above which a light isn't green, set on the familiar cases in which all organs are
            found.
        rate: share of familiar cases with an alarm, by the threshold or because an organ isn't found.
        lost: number of familiar cases in which an organ isn't found that nearly every training case has. They raise an
            alarm whatever the threshold, so they have no part in setting it: one alone would lift it above all others.
    """

    def __init__(
        self, about: Mapping[str, Any], samples: Sequence[Sample], familiar: Floats, mean_mask: Floats
    ) -> None:
        self.about = dict(about)
        self.weights, self.organs = str(about["weights"]), tuple(map(str, about["organs"]))
        self.layers = tuple(map(int, about["layers"]))
        self.mean_mask = torch.from_numpy(mean_mask).float() if mean_mask.size else None
        self.detectors = Detectors(samples, self.organs)
        self._samples, self._familiar, self._mask = samples, familiar, mean_mask
        is_complete = (familiar != NEVER).all(axis=1)
        self.lost = int((~is_complete).sum())
        usual = familiar[is_complete] if is_complete.any() else familiar
        self._middle = np.median(usual, axis=0)
        spread = np.quantile(usual, _HIGH, axis=0) - self._middle
        self._spread = np.maximum(spread, np.maximum(0.05 * np.abs(self._middle), 1e-6))
        ranked = np.sort(self._standardize(usual).max(axis=1))
        place = min(math.ceil((len(ranked) + 1) * (1 - ALARM_RATE)), len(ranked))
        self.threshold = max(float(ranked[place - 1]), 1e-6)
        # The k-th smallest of n scores is exceeded by a new one with a probability of at most 1 - k / (n + 1); cases
        # with a lost organ are the greatest of the n.
        self.rate = 1 - (place if is_complete.any() else 0) / (len(familiar) + 1)

    def _standardize(self, scores: Floats) -> Floats:
        found: Floats = (scores - self._middle) / self._spread
        return found

    @property
    def facts(self) -> dict[str, Any]:
        """Rate of false alarms, the numbers of cases of each split that it was set on, and alarms among test cases."""
        names = ("validation", "training", "test_cases", "test_alarms")
        counts = {name: self.about.get(name, 0) for name in names}
        return {"false_alarm_rate": self.rate, "familiar_with_lost_organ": self.lost, **counts}

    def begin(self) -> Evidence:
        """Return an empty collection for the evidence of a case."""
        return Evidence(self.layers, len(self.organs))

    def judge(self, evidence: Evidence) -> Light:
        """Give a case its light.

        Args:
            evidence: the evidence of the case, complete.
        """
        sample = Sample.of(evidence, self.mean_mask)
        found = self.detectors.score(sample)
        scores = self._standardize(found) / self.threshold
        scores[found == NEVER] = np.maximum(scores[found == NEVER], _RED_FROM)
        above = [int(n) for n in np.argsort(-scores) if scores[n] > 1]
        sides = evidence.planes.shape[1:] if evidence.planes is not None else ()
        reasons = tuple(dict.fromkeys(self.detectors.describe(n, sample, sides) for n in above))
        top = float(scores.max())
        color = RED if top >= _RED_FROM else YELLOW if above else GREEN
        by_name = dict(zip(self.detectors.names, scores.tolist(), strict=True))
        return Light(color, top, reasons, by_name)

    def to_arrays(self) -> dict[str, Any]:
        """Return everything as named arrays for a file."""
        about = np.array(json.dumps({"form": _FORM, **self.about}))
        return {"about": about, "familiar": self._familiar, "mean_mask": self._mask, **pack(self._samples)}

    @classmethod
    def read(cls, path: Path) -> "TrafficLight":
        """Read what :meth:`to_arrays` gave; no code in the file is run.

        Raises:
            InputError: the file is damaged, or of another version.
        """
        with open_arrays(path, "detectors of a run", _ADVICE) as content:
            about = decode_json(str(content["about"]))
            arrays = {name: np.asarray(content[name], np.float64) for name in content.files if name != "about"}
            if about["form"] != _FORM:
                raise InputError(f"{path}: expected version {_FORM} of this file, got {about['form']!r}; {_ADVICE}")
            familiar, mean_mask = arrays.pop("familiar"), arrays.pop("mean_mask")
            if not familiar.size:
                raise ValueError("expected scores of familiar cases, got none")
            light = cls(about, unpack(arrays), familiar, mean_mask)
            shape = (len(familiar), len(light.detectors.names))
            if familiar.shape != shape or not math.isfinite(light.threshold):
                raise ValueError(f"expected finite scores {shape} of familiar cases, got {familiar.shape}")
        return light
