"""Scores of whole cases and of a whole set, beside the metrics per organ.

A score is an object with two methods, see :class:`Score`. The handler ``medpos.handlers.Scores`` asks it about every
case and then about the set, under every condition anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from medpos.core.errors import InputError
from medpos.core.labels import IGNORED, Label
from medpos.metrics.boundary import TOLERANCE, boundary_f1
from medpos.metrics.confusion import Confusion, class_scores, confusion_matrix, weighted_dice
from medpos.metrics.instances import adapted_rand_error, components, pixel_error, seg_measure
from medpos.metrics.summary import mean_of_finite

VOID = "void"  # the name of class 0 where pixels that nobody labelled have a number of their own


@dataclass(frozen=True, eq=False)
class CaseMaps:
    """What a score sees of a case.

    Args:
        prediction: label map [X, Y] or [X, Y, Z].
        truth: label map of the same shape; 255 where it is to be ignored.
        spacing_mm: size of a pixel along each axis, mm.
        instances: the true objects, 1 and on, 0 the background, of the same shape; None: there is no such map.

    Raises:
        InputError: different shapes.
    """

    prediction: npt.NDArray[Any]
    truth: npt.NDArray[Any]
    spacing_mm: tuple[float, ...]
    instances: npt.NDArray[Any] | None = None

    def __post_init__(self) -> None:
        maps = {"prediction": self.prediction, "truth": self.truth, "instances": self.instances}
        shapes = {name: values.shape for name, values in maps.items() if values is not None}
        if len(set(shapes.values())) > 1:
            found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            raise InputError(f"shapes differ: {found}; needed is one shape for all")


class Measured(NamedTuple):
    """What a score found in a case: its values by name, and what it needs of the case for the set."""

    values: dict[str, float]
    kept: Any = None


class Score(Protocol):
    """A score of cases and of a set; NaN where there is nothing to measure."""

    def of_case(self, case: CaseMaps) -> Measured:
        """Measure a case."""

    def of_set(self, cases: Sequence[Measured]) -> dict[str, float]:
        """Values by name, of all cases together."""


class InstanceScores:
    """How well single objects are found: ``seg``, ``pixel_error``, ``adapted_rand_error`` and the numbers of objects.

    Predicted objects are the connected parts of the predicted foreground. True ones come from the case's instance map,
    else they are the connected parts of the true foreground. Ignored pixels are left out. Of the set:
    ``seg_all_objects``, the mean over the objects of all cases, as the Cell Tracking Challenge has it; ``seg`` of a set
    is the mean over the cases.

    Args:
        connectivity: as in :func:`medpos.metrics.instances.components`.
    """

    def __init__(self, connectivity: int = 1) -> None:
        self.connectivity = connectivity

    def of_case(self, case: CaseMaps) -> Measured:
        """Measure a case."""
        counted = case.truth != IGNORED
        predicted = components(case.prediction, self.connectivity)[counted]
        true = components((case.truth > 0) & counted, self.connectivity) if case.instances is None else case.instances
        true = true[counted]
        return Measured(
            {
                "seg": seg_measure(predicted, true),
                "pixel_error": pixel_error(predicted, true),
                "adapted_rand_error": adapted_rand_error(predicted, true),
                "objects_true": float(np.unique(true[true > 0]).size),
                "objects_predicted": float(np.unique(predicted[predicted > 0]).size),
            }
        )

    def of_set(self, cases: Sequence[Measured]) -> dict[str, float]:
        """SEG over the objects of all cases."""
        found = [case.values for case in cases if case.values["objects_true"]]
        objects = sum(values["objects_true"] for values in found)
        matched = sum(values["seg"] * values["objects_true"] for values in found)
        return {"seg_all_objects": matched / objects if objects else float("nan")}


class ClassScores:
    """G, C, mean IoU and frequency-weighted IoU of the set; ``boundary_f1`` of each case.

    The set's scores come from one confusion matrix, see :func:`medpos.metrics.confusion.class_scores`. The boundary F1
    of an image is the mean over the classes of its truth, that of a volume the mean over its slices.

    Args:
        labels: the classes, background first.
        include_background: False leaves class 0 out of all means over classes.
        void: pixels of true class 0 are left out, as they are none of the classes. None: where class 0 is so called.
        tolerance: of the boundary F1, as a part of the image's diagonal.
    """

    def __init__(
        self,
        labels: Sequence[Label],
        include_background: bool = True,
        void: bool | None = None,
        tolerance: float = TOLERANCE,
    ) -> None:
        self.classes = len(labels)
        self.void = labels[0].name == VOID if void is None else void
        self.include_background = include_background and not self.void
        self.tolerance = tolerance

    def of_case(self, case: CaseMaps) -> Measured:
        """Measure a case."""
        truth = np.where(case.truth == 0, IGNORED, case.truth) if self.void else case.truth
        counts = confusion_matrix(case.prediction, truth, self.classes)
        images = (np.moveaxis(part.reshape(*part.shape[:2], -1), 2, 0) for part in (case.prediction, truth))
        values = [self._boundary_f1(prediction, true) for prediction, true in zip(*images, strict=True)]
        return Measured({"boundary_f1": mean_of_finite(values)}, counts)

    def _boundary_f1(self, prediction: npt.NDArray[Any], truth: npt.NDArray[Any]) -> float:
        found = boundary_f1(prediction, truth, self.tolerance)
        return mean_of_finite([value for index, value in found.items() if index or self.include_background])

    def of_set(self, cases: Sequence[Measured]) -> dict[str, float]:
        """G, C, mean IoU and frequency-weighted IoU."""
        return class_scores(_sum(cases, self.classes), self.include_background)


class WeightedDice:
    """``weighted_dice`` of the set, as the U-SegNet paper has it; see :func:`medpos.metrics.confusion.weighted_dice`.

    Args:
        labels: the classes, background first.
    """

    def __init__(self, labels: Sequence[Label]) -> None:
        self.classes = len(labels)

    def of_case(self, case: CaseMaps) -> Measured:
        """Measure a case: nothing of its own."""
        return Measured({}, confusion_matrix(case.prediction, case.truth, self.classes))

    def of_set(self, cases: Sequence[Measured]) -> dict[str, float]:
        """Mean Dice weighted by the classes' pixels."""
        return {"weighted_dice": weighted_dice([case.kept for case in cases])}


def _sum(cases: Sequence[Measured], classes: int) -> Confusion:
    return np.sum([np.zeros((classes, classes), np.int64), *(case.kept for case in cases)], axis=0)  # type: ignore[no-any-return]
