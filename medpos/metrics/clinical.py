"""Clinical indices of label maps, and how well predicted and true ones agree.

They are as good as the spacing: where it is nominal, so are ml and g. Ratios (cardiothoracic ratio, ejection fraction)
don't depend on it.

A volume whose mask is empty is 0 ml, so a ventricle that was never found counts as an error. A ratio without its
organs is NaN: left out and counted as missing.
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
    """A case with its true and its predicted label map, such as :class:`medpos.runs.cases.CaseView`."""

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
_WITHIN_95 = 1.96  # standard deviations on either side of the mean that hold 95 % of a normal distribution


def volume_ml(mask: npt.ArrayLike, spacing_mm: Sequence[float]) -> float:
    """Volume of a mask, ml: its voxels times the size of one.

    Args:
        mask: true (not 0) inside, [X, Y, Z].
        spacing_mm: distance of the voxels' centres along each axis, mm; along z the slice spacing, gaps included, as
            Simpson's rule over a short-axis stack has it.

    Raises:
        InputError: the spacing doesn't fit the mask.
    """
    inside = np.asarray(mask)
    if inside.ndim != 3 or len(spacing_mm) != 3 or not all(0 < size < np.inf for size in spacing_mm):
        raise InputError(
            f"a mask of shape {inside.shape} with spacing_mm {tuple(spacing_mm)} has no volume; needed are three axes "
            "and three positive sizes"
        )
    return float(np.count_nonzero(inside) * np.prod(spacing_mm) / 1000)


def cardiothoracic_ratio(label_map: npt.ArrayLike, heart: int, lungs: tuple[int, int]) -> float:
    """Maximal transverse diameter of the heart over the maximal internal diameter of the thorax.

    Heart: from its leftmost to its rightmost column, at any height. This is the sum of the maximal distances to the
    right and to the left of the midline, wherever within the heart the midline lies. Thorax: the greatest distance, on
    one row, from the outer border of one lung to the outer border of the other. Both count pixels along x, so the
    spacing cancels. Nothing is cleaned: an island that a network drew counts.

    Args:
        label_map: frontal chest X-ray [X, Y] or [X, Y, 1], x along the columns.
        heart: value of the heart.
        lungs: values of both lungs.

    Returns:
        A ratio above 0; normal adults have up to about 0.5. NaN where the heart is missing, or no row holds both lungs.

    Raises:
        InputError: not one flat image.

    Reference:
        C. S. Danzer, "The cardiothoracic ratio: an index of cardiac enlargement", Am. J. Med. Sci. 157, 1919.
    """
    values = np.asarray(label_map)
    flat = values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
    if flat.ndim != 2:
        raise InputError(f"the label map has shape {values.shape}; the cardiothoracic ratio needs [X, Y] or [X, Y, 1]")
    columns = np.flatnonzero((flat == heart).any(axis=1))
    first, second = (flat == lung for lung in lungs)
    both = (first | second)[:, first.any(axis=0) & second.any(axis=0)]
    if not columns.size or not both.shape[1]:
        return float("nan")
    # From the first lung pixel of a row, counted from either side, to the last.
    thorax = len(both) - both.argmax(axis=0) - both[::-1].argmax(axis=0)
    return float((columns[-1] - columns[0] + 1) / thorax.max())


def ventricular_indices(
    end_diastole: Phase | None, end_systole: Phase | None, classes: Mapping[str, int]
) -> dict[str, float]:
    """Volumes, function and mass of the ventricles from a short-axis stack.

    Args:
        end_diastole: label map [X, Y, Z] and spacing, mm. None: there is none.
        end_systole: the same at end-systole.
        classes: value of each class; of ``lv_cavity``, ``rv_cavity`` and ``myocardium`` those that there are.

    Returns:
        As :func:`ventricular_function`.

    Raises:
        InputError: a spacing that doesn't fit its label map.

    Reference:
        S. G. Myerson, N. G. Bellenger and D. J. Pennell, "Assessment of left ventricular mass by cardiovascular
        magnetic resonance", Hypertension 39(3), 2002 (slice summation, density of myocardium).
    """
    return ventricular_function(_volumes(end_diastole, classes), _volumes(end_systole, classes))


def ventricular_function(end_diastole: Mapping[str, float], end_systole: Mapping[str, float]) -> dict[str, float]:
    """Function and mass of the ventricles from volumes.

    Args:
        end_diastole: ml, of ``lv_cavity``, ``rv_cavity`` and ``myocardium`` those that there are; NaN: not measured.
        end_systole: the same classes at end-systole.

    Returns:
        For each side with a cavity, ``LV`` and ``RV``: ``EDV`` and ``ESV`` (ml), stroke volume ``SV`` = EDV - ESV (ml)
        and ejection fraction ``EF`` = SV / EDV (%); both may be negative in a bad prediction. ``LV mass`` (g):
        myocardium at end-diastole times 1.05 g/ml. NaN for what needs a phase that is missing, and for the EF of an
        empty cavity.
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
    """Of the ventricles' classes, ml; NaN where there is no such phase."""
    return {
        name: float("nan") if phase is None else volume_ml(np.asarray(phase[0]) == classes[name], phase[1])
        for name in VENTRICULAR_CLASSES
        if name in classes
    }


def indices(cases: Sequence[SegmentedCase], labels: Sequence[Label]) -> list[dict[str, Any]]:
    """The clinical indices that the classes allow.

    Heart and both lungs give the cardiothoracic ratio of each flat case; a heart cavity or the myocardium give the
    indices of :func:`ventricular_indices` of each subject; other classes, and data that only name the same organs (a
    CT of the chest, a heart of unknown phase), give nothing.

    Args:
        cases: with a phase ``ED`` or ``ES`` for the ventricles; cases without phase are left out of those.
        labels: the classes.

    Returns:
        Rows of ``subject``, ``case`` (whose picture shows it: for SV and EF the end-diastolic one), ``index``,
        ``unit`` (``ml``, ``%``, ``g``, or empty for a ratio), ``true`` and ``predicted``.

    Raises:
        InputError: a subject has two cases of one phase, or a shape or spacing doesn't fit.
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
                    f"{case.case} and {phases[case.phase].case} are both phase {case.phase!r} of {case.subject}; "
                    "needed is one volume a phase, ED or ES"
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


def agreement(true: npt.ArrayLike, predicted: npt.ArrayLike) -> dict[str, Any]:
    """Agreement of a predicted index with the true one; which index is in the caller's hands.

    Args:
        true: one value a subject; NaN where there is none.
        predicted: the same, in the same order.

    Returns:
        ``n``, pairs of finite values; ``missing``, the other pairs; ``bias``, mean of predicted - true; ``sd`` of these
        differences (n - 1 in the denominator); ``lower`` and ``upper``, the 95 % limits of agreement, bias - 1.96 sd
        and bias + 1.96 sd; ``mean_absolute_error`` (all in the index's unit); ``correlation``, Pearson's, -1 to 1. What
        needs more pairs than there are is None, and so is the correlation of values that are all equal. Only types
        that JSON has.

    Raises:
        InputError: different lengths.

    Reference:
        J. M. Bland and D. G. Altman, "Statistical methods for assessing agreement between two methods of clinical
        measurement", Lancet 327(8476), 1986.
    """
    first, second, missing = _measured(true, predicted)
    difference = second - first
    bias = float(difference.mean()) if difference.size else None
    sd = float(difference.std(ddof=1)) if difference.size > 1 else None
    lower, upper = (None, None) if bias is None or sd is None else (bias - _WITHIN_95 * sd, bias + _WITHIN_95 * sd)
    varied = difference.size > 1 and np.ptp(first) > 0 and np.ptp(second) > 0
    return {
        "n": difference.size,
        "missing": missing,
        "bias": bias,
        "sd": sd,
        "lower": lower,
        "upper": upper,
        "correlation": float(np.corrcoef(first, second)[0, 1]) if varied else None,
        "mean_absolute_error": float(np.abs(difference).mean()) if difference.size else None,
    }


def _measured(
    true: npt.ArrayLike, predicted: npt.ArrayLike
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], int]:
    """The pairs of finite values, and how many others there are."""
    first, second = np.asarray(true, np.float64), np.asarray(predicted, np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        raise InputError(
            f"true has shape {first.shape}, predicted {second.shape}; needed is one value of each a subject"
        )
    kept = np.isfinite(first) & np.isfinite(second)
    return first[kept], second[kept], int((~kept).sum())


def worst(rows: Sequence[Mapping[str, Any]], count: int = 5) -> list[dict[str, Any]]:
    """The rows of one index that are furthest off, worst first.

    Args:
        rows: of :func:`indices`, of one index.
        count: at most this many.

    Returns:
        The rows with ``error``, predicted - true. A true value that the prediction has none for is worst of all, its
        error NaN; a row without a true value can't be judged and is left out.
    """
    judged = [{**row, "error": row["predicted"] - row["true"]} for row in rows if np.isfinite(row["true"])]
    return sorted(judged, key=lambda row: -abs(row["error"]) if np.isfinite(row["error"]) else -np.inf)[:count]
