"""Name the files of a run folder, and read what it holds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medpos.core import files
from medpos.core.errors import InputError
from medpos.core.moved import in_current_form
from medpos.data.training_data import FILE as DATA

__all__ = ["DATA", "Run", "read_json"]

CONFIG = "config.json"  # resolved configuration; runs again as it is
ENVIRONMENT = "environment.json"  # versions, commit, seed, device of each call
MODEL = "model.pt"  # weights of the best epoch
START = "start.pt"  # weights that the training of an exported bundle began with
RESUME = "resume.pt"  # state after the last epoch
METRICS = "metrics.csv"  # a row per case, organ and condition
MOVED = "moved_predictions.csv"  # as metrics.csv, for the clean prediction shifted with the image
NATIVE = "native_grid.csv"  # as metrics.csv, on the grid of the images, clean images
SUBGROUPS = "subgroups.csv"  # a row per case, organ and subgroup, clean images
SCORES = "scores.csv"  # a row per case and condition
CONFUSION = "confusion.csv"  # a row per condition, true class and predicted class
CALIBRATION = "calibration.csv"  # a row per case, condition and organ
RELIABILITY = "reliability.csv"  # a row per condition, organ and bin of the reliability diagram
TEMPERATURES = "temperatures.json"  # of the probabilities, by medpos calibrate
SCALING = "temperature_scaling.csv"  # a row per condition, organ and kind of temperatures
DETECTORS = "detectors.npz"  # of strange images, by medpos calibrate
NOTICED = "noticed.csv"  # a row per condition and detector
NOTICED_CASES = "noticed_cases.csv"  # a row per case and condition
QUALITY = "quality.npz"  # what predicts the Dice, by medpos calibrate
PREDICTED_DICE = "predicted_dice.csv"  # a row per case, condition, organ and predictor
FAILURES = "failures.csv"  # a row per condition, organ and predictor
PREDICTIONS = "predictions.csv"  # a row per classified image and condition
SUMMARY = "summary.json"  # written last: marks a run or an evaluation as finished
CASES = "cases.npz"  # segmented test cases
CHANGES = "changes.npz"  # where changed position channels changed the prediction
TRAINING_CASES = "training_cases.csv"  # a row per case that the model was trained on
LOG = "log.txt"
OVERLAYS = "overlays"  # folder of pictures
TENSORBOARD = "tensorboard"  # folder of TensorBoard events
CARD = "model_card.md"  # by medpos card
STUDY = "study.json"  # results of a study, in a folder of its own
_ADVICE = "let the run finish, resume it, or copy it again"


@dataclass(frozen=True)
class Run:
    """Read a run folder, or the folder of one evaluation in it.

    Args:
        folder: the folder; it may be missing.
    """

    folder: Path

    @property
    def is_recorded(self) -> bool:
        """Whether the run has begun and written its configuration."""
        return (self.folder / CONFIG).is_file()

    @property
    def is_finished(self) -> bool:
        """Whether the last step, writing the results, was done."""
        return (self.folder / SUMMARY).is_file()

    @property
    def has_model(self) -> bool:
        """Whether an epoch was completed, so that there are weights."""
        return (self.folder / MODEL).is_file()

    @property
    def is_trained(self) -> bool:
        """Whether the training has ended; the test of its model is its last step."""
        return self.is_finished and self.has_model

    @property
    def config(self) -> dict[str, Any]:
        """Resolved configuration."""
        return read_json(self.folder / CONFIG)

    @property
    def summary(self) -> dict[str, Any] | None:
        """Results by condition; None before the run is finished."""
        return read_json(self.folder / SUMMARY) if self.is_finished else None

    @property
    def environment(self) -> dict[str, Any]:
        """Versions, commit, seed and device of the last call; empty where they were not recorded."""
        return (self.environments or [{}])[-1]

    @property
    def environments(self) -> list[dict[str, Any]]:
        """Versions, commit, seed and device of each call that began or resumed the run, in order."""
        path = self.folder / ENVIRONMENT
        if not path.is_file():
            return []
        content = in_current_form(ENVIRONMENT, files.parse_json(path, _ADVICE))
        if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
            raise InputError(f"{path}: expected a list of JSON objects, got something else; {_ADVICE}")
        return content

    def evaluations(self) -> list["Run"]:
        """List the folders that hold ``metrics.csv``: the run's own first, then its sub-folders by name."""
        parts = [self.folder, *sorted(path for path in self.folder.iterdir() if path.is_dir())]
        return [Run(part) for part in parts if (part / METRICS).is_file()]


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file of a run.

    Raises:
        InputError: the file can't be read, or holds something else.
    """
    return files.read_json(path, _ADVICE)
