"""Declare the criteria of a study: a quantity, the range that the claim implies, and how its conditions are judged."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from medpos.core.errors import InputError

Select = Callable[[pd.DataFrame], "pd.Series[bool]"]

ROLES = ("primary", "exploratory")
# How the probabilities of a model fit, see :mod:`medpos.trust.calibration`; ``overconfidence`` is the Dice that they
# expect less the Dice.
OF_PROBABILITIES = ("overconfidence", "ece", "brier", "nll")
# Whether a case raises an alarm of a model's lights, 0 or 1, and the Dice of its clean image less its Dice.
ALARM, DICE_LOST = "alarm", "dice_lost"
MEASURES = ("dice", *OF_PROBABILITIES, ALARM, DICE_LOST)
QUANTITIES = ("half_range", "growth")  # of images alone
JUDGES = {
    "each": "at each condition",
    "dose": "at each severity or distance, its conditions averaged",
    "mean": "averaged over the conditions",
    "slope": "per step of severity, or per px",
    "area": "area under the curve, as a share of the clean value",
}
_KEYS = {
    "text", "model", "minus", "conditions", "minus_conditions", "judge", "role", "margin", "data", "organ", "intensity",
    "measure", "min_dice_lost", "at_least", "at_most", "between",
}  # fmt: skip


def _distance(rows: pd.DataFrame) -> "pd.Series[int]":
    """Return the longest shift along an axis in px."""
    return rows["shift"].map(shift_distance)


def shift_distance(shift: Any) -> int:
    """Return the longest part of a shift such as ``x+8 y-16`` in px."""
    return max((abs(int(part[1:])) for part in str(shift).split() if part != "0"), default=0)


def _noise(rows: pd.DataFrame) -> "pd.Series[bool]":
    return rows["degradation"].isin(["gaussian_noise", "shot_noise"])


SELECTORS: dict[str, Select] = {
    "clean": lambda rows: (rows["severity"] == 0) & (rows["shift"].map(str) == "0"),
    "noise": lambda rows: _noise(rows) & (rows["severity"] > 0),
    "strong_noise": lambda rows: _noise(rows) & (rows["severity"] >= 4),
    "blur": lambda rows: (rows["degradation"] == "gaussian_blur") & (rows["severity"] > 0),
    "shifted": lambda rows: _distance(rows) > 0,
    "shifted_16": lambda rows: _distance(rows) == 16,
    "far_shifted": lambda rows: _distance(rows) >= 32,
    "changed": lambda rows: (rows["severity"] > 0) | (_distance(rows) > 0),
}


@dataclass(frozen=True)
class Criterion:
    """Declare one criterion.

    Args:
        text: the criterion in words.
        model: name of the model; empty for a criterion of the images.
        minus: name of the model that is subtracted; empty for none.
        conditions: a key of ``SELECTORS``, or degradations.
        minus_conditions: the one condition that is subtracted, a key of ``SELECTORS``; empty for none.
        judge: a key of ``JUDGES``.
        low: lower end of the range, minus infinity for none.
        high: upper end of the range, infinity for none.
        role: ``primary`` decides on the claim, ``exploratory`` only describes.
        margin: smallest distance from the end of a range with one end that matters, in the unit of the quantity; the
            power is computed for it. None for a range with two ends, where it is computed for the middle.
        data: name of its data set; empty for all of the study.
        organ: name of the organ; empty for the mean of organs.
        intensity: one of ``QUANTITIES`` of the images; empty for a criterion of a model.
        measure: one of ``MEASURES`` of the model.
        min_dice_lost: mean Dice that the model must lose under a condition for it to count; None for any.
    """

    text: str
    model: str = ""
    minus: str = ""
    conditions: str | tuple[str, ...] = "clean"
    minus_conditions: str = ""
    judge: str = "each"
    low: float = -math.inf
    high: float = math.inf
    role: str = "primary"
    margin: float | None = None
    data: str = ""
    organ: str = ""
    intensity: str = ""
    measure: str = "dice"
    min_dice_lost: float | None = None

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "Criterion":
        """Make a criterion from its entry in a study's file.

        Raises:
            InputError: an unknown key, role, judge or condition, or no range.
        """
        text = str(entry.get("text", ""))
        if unknown := sorted(set(entry) - _KEYS):
            raise InputError(
                f"criterion {text!r}: expected keys among {', '.join(sorted(_KEYS))}; remove {', '.join(unknown)}"
            )
        conditions = entry.get("conditions", "clean")
        low, high = _range(text, entry)
        found = cls(
            text=text,
            model=str(entry.get("model", "")),
            minus=str(entry.get("minus", "")),
            conditions=conditions if isinstance(conditions, str) else tuple(conditions),
            minus_conditions=str(entry.get("minus_conditions", "")),
            judge=_choice(text, entry, "judge", "each", JUDGES),
            low=low,
            high=high,
            role=_choice(text, entry, "role", "primary", ROLES),
            margin=_margin(text, entry.get("margin")),
            data=str(entry.get("data", "")),
            organ=str(entry.get("organ", "")),
            intensity=_choice(text, entry, "intensity", "", ("", *QUANTITIES)) if "intensity" in entry else "",
            measure=_choice(text, entry, "measure", "dice", MEASURES),
            min_dice_lost=None if entry.get("min_dice_lost") is None else _number(text, entry["min_dice_lost"]),
        )
        for chosen in (found.conditions, found.minus_conditions or "clean"):
            select_conditions(chosen)
        return found

    @property
    def likely(self) -> float | None:
        """Value for which the power is computed; None where the criterion has neither margin nor two ends."""
        if math.isfinite(self.low) and math.isfinite(self.high):
            return (self.low + self.high) / 2
        if self.margin is None:
            return None
        return self.low + self.margin if math.isfinite(self.low) else self.high - self.margin


def _choice(text: str, entry: Mapping[str, Any], key: str, default: str, known: Any) -> str:
    value = str(entry.get(key, default))
    if value not in known:
        raise InputError(f"criterion {text!r}: {key}: expected {', '.join(known)}, got {value!r}; correct it")
    return value


def _number(text: str, value: Any) -> float:
    try:
        return float(value)
    except (OverflowError, TypeError, ValueError) as error:
        raise InputError(f"criterion {text!r}: expected a number, got {value!r:.100}; correct it") from error


def _margin(text: str, value: Any) -> float | None:
    if value is None:
        return None
    if not 0 < (margin := _number(text, value)) < math.inf:
        raise InputError(f"criterion {text!r}: margin: expected a number above 0, got {value!r:.100}; correct it")
    return margin


def _range(text: str, entry: Mapping[str, Any]) -> tuple[float, float]:
    if "between" in entry:
        low, high = entry["between"]
    elif "at_least" in entry or "at_most" in entry:
        low, high = entry.get("at_least", -math.inf), entry.get("at_most", math.inf)
    else:
        raise InputError(f"criterion {text!r}: expected a range, got none; give at_least, at_most or between")
    ends = _number(text, low), _number(text, high)
    if not ends[0] < ends[1]:
        raise InputError(f"criterion {text!r}: expected a lower end below the upper one, got {ends}; correct them")
    return ends


def select_conditions(conditions: str | tuple[str, ...]) -> Select:
    """Return the function that selects the rows of some conditions.

    Args:
        conditions: a key of ``SELECTORS``, or degradations.

    Raises:
        InputError: the key is unknown.
    """
    if isinstance(conditions, tuple):
        return lambda rows: rows["degradation"].isin(conditions)
    if conditions not in SELECTORS:
        raise InputError(
            f"conditions of a criterion: expected {', '.join(SELECTORS)} or a list of degradations, got "
            f"{conditions!r}; correct the study's file"
        )
    return SELECTORS[conditions]
