"""Read what ``medpos calibrate`` has stored in a run."""

from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from medpos.core.errors import InputError
from medpos.core.files import read_json
from medpos.core.rules import is_finite
from medpos.data.training_data import TrainingData
from medpos.runs.files import DETECTORS, QUALITY, TEMPERATURES
from medpos.trust.light import TrafficLight
from medpos.trust.quality import DicePredictor

_Learned = TypeVar("_Learned", TrafficLight, DicePredictor)


class Stored:
    """Read what a run knows of its own network; the base of :class:`medpos.predict.model.Model`.

    Attributes:
        run: folder of the run, as messages name it.
        home: folder of the run, also of an evaluation in it.
        identity: SHA-256 of the weights.
        data: description of the training data.
    """

    run: Path
    home: Path
    identity: str
    data: TrainingData

    def find_temperatures(self, kind: str) -> list[float]:
        """Return the temperatures that ``medpos calibrate`` has stored in the run.

        Args:
            kind: one of :data:`medpos.trust.temperature.KINDS`.

        Raises:
            InputError: there are none, those of other weights, or the file is damaged.
        """
        path, advice = self.home / TEMPERATURES, f"run 'python -m medpos calibrate {self.run}' first"
        if not path.is_file():
            raise InputError(f"--calibrated: expected {path}, got no such file; {advice}")
        content = read_json(path, advice)
        found, count = content.get(kind), len(self.data.labels) if kind == "class" else 1
        if not (isinstance(found, list) and len(found) == count and all(is_finite(t) and t > 0 for t in found)):
            raise InputError(f"{path}: expected {count} temperatures above 0 as {kind!r}, got {found!r:.80}; {advice}")
        if content.get("weights") != self.identity:
            raise InputError(f"{path}: expected temperatures of these weights, got those of others; {advice}")
        return [float(t) for t in found]

    @cached_property
    def light(self) -> TrafficLight | None:
        """Detectors of strange images that ``medpos calibrate`` has stored in the run; None if there are none.

        Raises:
            InputError: they are damaged, or of other weights.
        """
        path = self.home / DETECTORS
        return self._check(path, TrafficLight.read(path), "detectors") if path.is_file() else None

    @cached_property
    def dice_predictor(self) -> DicePredictor | None:
        """What predicts the Dice without the truth, as :attr:`light`."""
        path = self.home / QUALITY
        return self._check(path, DicePredictor.read(path), "curves") if path.is_file() else None

    def forget_others(self) -> None:
        """Remove detectors and curves that are damaged, or of other weights, before they are fitted again."""
        for name, attribute in ((DETECTORS, "light"), (QUALITY, "dice_predictor")):
            with suppress(InputError):
                getattr(self, attribute)
                continue
            (self.home / name).unlink()

    def _check(self, path: Path, found: _Learned, what: str) -> _Learned:
        """Return what was learned, if it is of this network."""
        if found.weights != self.identity or found.organs != tuple(label.name for label in self.data.labels[1:]):
            raise InputError(
                f"{path}: expected {what} of this network, got those of another; run 'python -m medpos calibrate "
                f"{self.run}' again"
            )
        return found
