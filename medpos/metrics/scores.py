"""Compute scores of whole cases and of a whole set, beside the metrics per organ.

A score is an object with two methods, see :class:`Score`. Under every condition, the handler ``medpos.handlers.Scores``
calls the first for every case and the second for the set.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from medpos.core.errors import InputError
from medpos.core.labels import IGNORED, Label
from medpos.metrics.boundary import TOLERANCE, boundary_f1
from medpos.metrics.confusion import VOID, Confusion, class_scores, confusion_matrix, weighted_dice
from medpos.metrics.instances import adapted_rand_error, components, match_boxes, pixel_error, seg_measure
from medpos.metrics.summary import mean_of_finite


@dataclass(frozen=True, eq=False)
class CaseMaps:
    """Hold the maps of a case that a score is computed from.

    Args:
        prediction: predicted label map [X, Y] or [X, Y, Z].
        truth: label map of the ground truth, of the same shape; pixels of 255 are ignored.
        spacing_mm: size of a pixel along each axis in mm.
        instances: true instance map of the same shape, 0 for the background; None: there is none.

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
            raise InputError(f"expected maps of one shape, got {found}; resample them")


class Measured(NamedTuple):
    """Hold the scores of a case by name, and the data of the case that the score of the set needs."""

    values: dict[str, float]
    kept: Any = None


class Score(Protocol):
    """Compute a score of cases and of a set; NaN where there is nothing to measure."""

    def of_case(self, case: CaseMaps) -> Measured:
        """Measure a case."""

    def of_set(self, cases: Sequence[Measured]) -> dict[str, float]:
        """Compute the scores of all cases together, by name."""


class InstanceScores:
    """Measure single objects: ``seg``, ``pixel_error``, ``adapted_rand_error``, boxes and the numbers of objects.

    Predicted objects are the connected components of the predicted foreground. True ones come from the case's instance
    map, or else are the connected components of the true foreground. Ignored pixels are left out. The set has
    ``seg_all_objects``, the mean over the objects of all cases, as in the Cell Tracking Challenge; ``seg`` of a set is
    the mean over the cases.

    A predicted bounding box is right if its IoU with a true one is above 0.5, see
    :func:`medpos.metrics.instances.match_boxes`. ``box_iou`` is the mean over the true boxes of the IoU with their
    match, 0 without one; ``box_precision`` and ``box_recall`` are the shares of predicted boxes that are right, and of
    true boxes that are found; ``box_f1`` is their harmonic mean, and ``box_f1_all_objects`` that of the whole set.

    Args:
        connectivity: greatest number of axes along which neighbors differ, see
            :func:`medpos.metrics.instances.components`.
    """

    def __init__(self, connectivity: int = 1) -> None:
        self.connectivity = connectivity

    def of_case(self, case: CaseMaps) -> Measured:
        """Measure a case."""
        counted = case.truth != IGNORED
        predicted = components(case.prediction, self.connectivity)
        true = components((case.truth > 0) & counted, self.connectivity) if case.instances is None else case.instances
        ious = match_boxes(np.where(counted, predicted, 0), np.where(counted, true, 0))
        predicted, true = predicted[counted], true[counted]
        objects, found = (float(np.unique(values[values > 0]).size) for values in (true, predicted))
        return Measured(
            {
                "seg": seg_measure(predicted, true),
                "pixel_error": pixel_error(predicted, true),
                "adapted_rand_error": adapted_rand_error(predicted, true),
                "objects_true": objects,
                "objects_predicted": found,
                "box_iou": float(ious.sum() / objects) if objects else float("nan"),
                **_box_shares(ious.size, objects, found),
            },
            ious.size,
        )

    def of_set(self, cases: Sequence[Measured]) -> dict[str, float]:
        """Compute SEG and the F1 score of the boxes over the objects of all cases."""
        found = [case.values for case in cases if case.values["objects_true"]]
        objects = sum(values["objects_true"] for values in found)
        matched = sum(values["seg"] * values["objects_true"] for values in found)
        predicted = sum(case.values["objects_predicted"] for case in cases)
        boxes = _box_shares(sum(case.kept for case in cases), objects, predicted)
        return {
            "seg_all_objects": matched / objects if objects else float("nan"),
            "box_f1_all_objects": boxes["box_f1"],
        }


def _box_shares(right: int, objects: float, predicted: float) -> dict[str, float]:
    """Compute precision, recall and F1 of boxes: NaN without any box, 0 where either has none."""
    wholes = {"box_precision": predicted, "box_recall": objects, "box_f1": (objects + predicted) / 2}
    return {k: right / (whole or 1) if objects or predicted else float("nan") for k, whole in wholes.items()}


class ClassScores:
    """Measure G, C, mean IoU and frequency-weighted IoU of the set, and ``boundary_f1`` of each case.

    The set's scores come from one confusion matrix, see :func:`medpos.metrics.confusion.class_scores`. The boundary F1
    of an image is the mean over the classes of its ground truth, that of a volume the mean over its slices.

    Args:
        labels: the classes, background first.
        include_background: False leaves class 0 out of all means over classes.
        void: True leaves out pixels of true class 0, because they belong to no class. None: where class 0 is named
            ``void``.
        tolerance: greatest distance between matching contours, as a fraction of the image's diagonal.
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
        """Compute G, C, mean IoU and frequency-weighted IoU."""
        return class_scores(_sum(cases, self.classes), self.include_background)


class WeightedDice:
    """Measure ``weighted_dice`` of the set, as in the U-SegNet paper.

    See :func:`medpos.metrics.confusion.weighted_dice`.

    Args:
        labels: the classes, background first.
    """

    def __init__(self, labels: Sequence[Label]) -> None:
        self.classes = len(labels)

    def of_case(self, case: CaseMaps) -> Measured:
        """Count the confusions of a case; it has no scores of its own."""
        return Measured({}, confusion_matrix(case.prediction, case.truth, self.classes))

    def of_set(self, cases: Sequence[Measured]) -> dict[str, float]:
        """Compute the mean Dice weighted by the classes' pixels."""
        return {"weighted_dice": weighted_dice([case.kept for case in cases])}


def _sum(cases: Sequence[Measured], classes: int) -> Confusion:
    return np.sum([np.zeros((classes, classes), np.int64), *(case.kept for case in cases)], axis=0)  # type: ignore[no-any-return]
