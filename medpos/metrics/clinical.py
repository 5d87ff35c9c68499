"""Compute clinical indices of label maps; :mod:`medpos.metrics.agreement` compares predicted with true ones.

They depend on the spacing: where it is nominal, so are ml and g. Ratios (cardiothoracic ratio, ejection fraction) don't
depend on it.

An empty mask has a volume of 0 ml, so a ventricle that was never found counts as an error. A ratio without its organs
is NaN: left out and counted as missing.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from medpos.core.errors import InputError
from medpos.core.labels import Label

LabelMap = npt.NDArray[Any]
Phase = tuple[LabelMap, Sequence[float]]


class SegmentedCase(Protocol):
    """Describe a case with its true and its predicted label map, such as :class:`medpos.runs.cases.CaseView`."""

    @property
    def case(self) -> str:
        """Name of the case."""

    @property
    def subject(self) -> str:
        """Name of the subject."""

    @property
    def phase(self) -> str:
        """``ED``, ``ES``, or empty where the phase is unknown."""

    @property
    def spacing_mm(self) -> Sequence[float]:
        """Voxel size in mm along each axis."""

    @property
    def truth(self) -> LabelMap:
        """True label map [X, Y] or [X, Y, Z]."""

    @property
    def prediction(self) -> LabelMap:
        """Predicted label map of the same shape."""


CTR = "cardiothoracic ratio"
VENTRICULAR_UNITS = {
    **{
        f"{side} {index}": unit for side in ("LV", "RV") for index, unit in (("EDV", "ml"), ("ESV", "ml"), ("SV", "ml"))
    },
    "LV EF": "%",
    "RV EF": "%",
    "LV mass": "g",
}
MYOCARDIUM_G_PER_ML = 1.05
_LUNGS = ("right_lung", "left_lung")
CHEST_CLASSES = ("heart", *_LUNGS)
_CAVITIES = {"LV": "lv_cavity", "RV": "rv_cavity"}
_MYOCARDIUM = "myocardium"
VENTRICULAR_CLASSES = (*_CAVITIES.values(), _MYOCARDIUM)


def volume_ml(mask: npt.ArrayLike, spacing_mm: Sequence[float]) -> float:
    """Compute the volume of a mask in ml: its number of voxels times the size of one.

    Args:
        mask: mask [X, Y, Z], not 0 inside.
        spacing_mm: distance between the voxels' centers along each axis in mm; along z the slice spacing with gaps, as
            in Simpson's rule over a short-axis stack.

    Returns:
        Volume in ml.

    Raises:
        InputError: the mask hasn't three axes, or the spacing isn't three positive numbers.
    """
    inside = np.asarray(mask)
    if inside.ndim != 3 or len(spacing_mm) != 3 or not all(0 < size < np.inf for size in spacing_mm):
        raise InputError(
            f"expected a mask with three axes and three positive sizes, got shape {inside.shape} and spacing_mm "
            f"{tuple(spacing_mm)}; give a volume and the size of its voxels"
        )
    return float(np.count_nonzero(inside) * np.prod(spacing_mm) / 1000)


def cardiothoracic_ratio(label_map: npt.ArrayLike, heart: int, lungs: tuple[int, int]) -> float:
    """Compute the maximal transverse diameter of the heart over the maximal internal diameter of the thorax.

    Heart: from its leftmost to its rightmost column, at any height. This is the sum of the maximal distances to the
    right and to the left of the midline, for any midline within the heart. Thorax: the greatest distance, on one row,
    from the outer border of one lung to the outer border of the other. Both count pixels along x, so the spacing
    cancels. The label map is not cleaned: isolated false positives count.

    Args:
        label_map: label map [X, Y] or [X, Y, 1] of a frontal chest X-ray, x along the columns.
        heart: label of the heart.
        lungs: labels of both lungs.

    Returns:
        Ratio above 0; normal adults have up to about 0.5. NaN where the heart is missing, or no row holds both lungs.

    Raises:
        InputError: the label map is not a single image.

    Reference:
        C. S. Danzer, "The cardiothoracic ratio: an index of cardiac enlargement", Am. J. Med. Sci. 157, 1919.
    """
    values = np.asarray(label_map)
    flat = values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
    if flat.ndim != 2:
        raise InputError(
            f"cardiothoracic ratio: expected a label map [X, Y] or [X, Y, 1], got {values.shape}; give one X-ray"
        )
    columns = np.flatnonzero((flat == heart).any(axis=1))
    first, second = (flat == lung for lung in lungs)
    both = (first | second)[:, first.any(axis=0) & second.any(axis=0)]
    if not columns.size or not both.shape[1]:
        return float("nan")
    # From the first to the last lung pixel of a row.
    thorax = len(both) - both.argmax(axis=0) - both[::-1].argmax(axis=0)
    return float((columns[-1] - columns[0] + 1) / thorax.max())


def ventricular_indices(
    end_diastole: Phase | None, end_systole: Phase | None, classes: Mapping[str, int]
) -> dict[str, float]:
    """Compute volumes, function and mass of the ventricles from short-axis stacks.

    Args:
        end_diastole: label map [X, Y, Z] and its spacing in mm; None: there is none.
        end_systole: label map and spacing at end-systole; None: there is none.
        classes: label of each class by name; any of ``lv_cavity``, ``rv_cavity`` and ``myocardium`` may be missing.

    Returns:
        The indices of :func:`ventricular_function`.

    Raises:
        InputError: a spacing doesn't match its label map.

    Reference:
        S. G. Myerson, N. G. Bellenger and D. J. Pennell, "Assessment of left ventricular mass by cardiovascular
        magnetic resonance", Hypertension 39(3), 2002 (slice summation, density of myocardium).
    """
    return ventricular_function(_volumes(end_diastole, classes), _volumes(end_systole, classes))


def ventricular_function(end_diastole: Mapping[str, float], end_systole: Mapping[str, float]) -> dict[str, float]:
    """Compute function and mass of the ventricles from volumes.

    Args:
        end_diastole: volumes in ml of ``lv_cavity``, ``rv_cavity`` and ``myocardium``, any of which may be missing;
            NaN: not measured.
        end_systole: volumes of the same classes at end-systole.

    Returns:
        For each side with a cavity, ``LV`` and ``RV``: ``EDV`` and ``ESV`` (ml), stroke volume ``SV`` = EDV - ESV (ml)
        and ejection fraction ``EF`` = SV / EDV (%); both may be negative in a bad prediction. ``LV mass`` (g):
        myocardium at end-diastole times 1.05 g/ml. NaN where a phase is missing, and for the EF of an empty cavity.
    """
    result: dict[str, float] = {}
    for side, name in _CAVITIES.items():
        if name in end_diastole:
            full, rest = end_diastole[name], end_systole[name]
            stroke = full - rest
            result[f"{side} EDV"], result[f"{side} ESV"], result[f"{side} SV"] = full, rest, stroke
            result[f"{side} EF"] = 100 * stroke / full if full else float("nan")
    if _MYOCARDIUM in end_diastole:
        result["LV mass"] = MYOCARDIUM_G_PER_ML * end_diastole[_MYOCARDIUM]
    return result


def _volumes(phase: Phase | None, classes: Mapping[str, int]) -> dict[str, float]:
    """Compute the volumes of the ventricles' classes in ml; NaN where the phase is missing."""
    return {
        name: float("nan") if phase is None else volume_ml(np.asarray(phase[0]) == classes[name], phase[1])
        for name in VENTRICULAR_CLASSES
        if name in classes
    }


def indices(cases: Sequence[SegmentedCase], labels: Sequence[Label]) -> list[dict[str, Any]]:
    """Compute the clinical indices that the classes allow.

    With heart and both lungs, it is the cardiothoracic ratio of each 2-D case; with a heart cavity or the myocardium,
    the indices of :func:`ventricular_indices` of each subject. There are none for other classes, and for the
    same organs in another view (a CT of the chest, a heart in an unknown phase).

    Args:
        cases: the cases; for the ventricles with a phase ``ED`` or ``ES``, other cases are left out.
        labels: the classes.

    Returns:
        Rows of ``subject``, ``case`` (the one to show in a picture: for SV and EF the end-diastolic one), ``index``,
        ``unit`` (``ml``, ``%``, ``g``, or empty for a ratio), ``true`` and ``predicted``.

    Raises:
        InputError: a subject has two cases of one phase, or a shape or spacing doesn't match.
    """
    classes = {label.name: label.index for label in labels}
    if set(CHEST_CLASSES) <= classes.keys():
        return [_chest(case, classes) for case in cases if case.truth.ndim == 2 or case.truth.shape[2] == 1]
    if set(VENTRICULAR_CLASSES) & classes.keys():
        subjects: dict[str, dict[str, SegmentedCase]] = {}
        for case in (case for case in cases if case.phase):
            phases = subjects.setdefault(case.subject, {})
            if case.phase in phases:
                raise InputError(
                    f"{case.subject}: expected one volume per phase, got {phases[case.phase].case} and {case.case} for "
                    f"phase {case.phase!r}; correct the phases of its cases to ED and ES"
                )
            phases[case.phase] = case
        return [row for phases in subjects.values() for row in _ventricles(phases, classes)]
    return []


def _chest(case: SegmentedCase, classes: Mapping[str, int]) -> dict[str, Any]:
    heart, lungs = classes["heart"], (classes[_LUNGS[0]], classes[_LUNGS[1]])
    true, predicted = (cardiothoracic_ratio(part, heart, lungs) for part in (case.truth, case.prediction))
    return {
        "subject": case.subject,
        "case": case.case,
        "index": CTR,
        "unit": "",
        "true": true,
        "predicted": predicted,
    }


def _ventricles(phases: Mapping[str, SegmentedCase], classes: Mapping[str, int]) -> list[dict[str, Any]]:
    ed, es = phases.get("ED"), phases.get("ES")
    shown = ed or es
    if shown is None:
        return []
    true = ventricular_indices(_phase(ed, "truth"), _phase(es, "truth"), classes)
    predicted = ventricular_indices(_phase(ed, "prediction"), _phase(es, "prediction"), classes)
    return [
        {
            "subject": shown.subject,
            "case": es.case if es and name.endswith("ESV") else shown.case,
            "index": name,
            "unit": VENTRICULAR_UNITS[name],
            "true": value,
            "predicted": predicted[name],
        }
        for name, value in true.items()
    ]


def _phase(case: SegmentedCase | None, part: str) -> Phase | None:
    return None if case is None else (getattr(case, part), case.spacing_mm)
