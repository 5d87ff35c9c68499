"""Decide whether a study confirms or contradicts the paper's claim, by criteria that were stated before.

A criterion is an entry of the study's file: a quantity (mean foreground Dice of ``model`` under ``conditions``, minus
that of ``minus`` or under ``minus_conditions`` where given) and the range that the claim implies (``at_least``,
``at_most`` or ``between``). The quantity's 95 % interval decides: inside the range the claim is confirmed, outside it
is contradicted, and otherwise it is undecided.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from medpos.core.errors import InputError
from medpos.statistics.effects import estimate_effect

VERDICTS = ("confirmed", "contradicted", "undecided")
Select = Callable[[pd.DataFrame], "pd.Series[bool]"]


def _distance(rows: pd.DataFrame) -> "pd.Series[int]":
    """Return the longest shift along an axis in px."""
    return rows["shift"].map(lambda s: max((abs(int(part[1:])) for part in s.split() if part != "0"), default=0))


def _noise(rows: pd.DataFrame) -> "pd.Series[bool]":
    return rows["degradation"].isin(["gaussian_noise", "shot_noise"])


SELECTORS: dict[str, Select] = {
    "clean": lambda rows: (rows["severity"] == 0) & (rows["shift"] == "0"),
    "noise": lambda rows: _noise(rows) & (rows["severity"] > 0),
    "strong_noise": lambda rows: _noise(rows) & (rows["severity"] >= 4),
    "blur": lambda rows: (rows["degradation"] == "gaussian_blur") & (rows["severity"] > 0),
    "shifted": lambda rows: _distance(rows) > 0,
    "shifted_16": lambda rows: _distance(rows) == 16,
    "far_shifted": lambda rows: _distance(rows) >= 32,
}


@dataclass(frozen=True)
class Finding:
    """Hold the result of one criterion on one data set.

    Args:
        data: name of the data set.
        text: the criterion in words.
        verdict: one of ``VERDICTS``.
        value: value of the quantity; NaN without data.
        ci95: its 95 % interval, None where there are too few subjects.
        n: number of cases.
        subjects: number of their subjects.
        seeds: number of seeds of the models.
    """

    data: str
    text: str
    verdict: str
    value: float
    ci95: tuple[float, float] | None
    n: int
    subjects: int
    seeds: int

    def to_json(self) -> dict[str, Any]:
        """Return the fields for ``study.json``."""
        return {**asdict(self), "value": None if math.isnan(self.value) else self.value}


def evaluate_criteria(table: pd.DataFrame, criteria: Sequence[dict[str, Any]]) -> list[Finding]:
    """Evaluate the criteria of a study on every data set that they are for.

    Args:
        table: one row per data set, model, seed, case, condition and organ.
        criteria: criteria of the study.

    Raises:
        InputError: a criterion has no range, or unknown conditions.
    """
    return [
        finding
        for criterion in criteria
        for data in table["data"].unique()
        if criterion.get("data", data) == data
        for finding in _evaluate(table[table["data"] == data], data, criterion)
    ]


def overall_verdict(findings: Sequence[Finding]) -> str:
    """Return ``contradicted`` if any criterion is, ``confirmed`` if all are, else ``undecided``."""
    verdicts = {finding.verdict for finding in findings}
    if "contradicted" in verdicts:
        return "contradicted"
    return "confirmed" if verdicts == {"confirmed"} else "undecided"


def _evaluate(rows: pd.DataFrame, data: str, criterion: dict[str, Any]) -> list[Finding]:
    """Evaluate one criterion on one data set."""
    a = _collapsed(rows, criterion["model"], criterion.get("conditions", "clean"), criterion, "a")
    difference = "minus" in criterion or "minus_conditions" in criterion
    parts = [a]
    if difference:
        other = criterion.get("minus", criterion["model"])
        conditions = criterion.get("minus_conditions", criterion.get("conditions", "clean"))
        parts.append(_collapsed(rows, other, conditions, criterion, "b"))
    if any(part.empty for part in parts):
        text = f"{criterion['text']} (not measured: a model or condition is missing)"
        return [Finding(data, text, "undecided", math.nan, None, 0, 0, 0)]
    found = estimate_effect(pd.concat(parts), "a", "b" if difference else None)
    verdict = decide(found.ci95, *criterion_range(criterion))
    ci95 = None if found.ci95 is None else (float(found.ci95[0]), float(found.ci95[1]))
    value = math.nan if found.value is None else found.value
    return [Finding(data, criterion["text"], verdict, value, ci95, found.n, found.subjects, found.seeds)]


def _collapsed(
    rows: pd.DataFrame, model: str, conditions: str | list[str], criterion: dict[str, Any], name: str
) -> pd.DataFrame:
    """Return the rows of one model, averaged over the chosen conditions as if they were one condition."""
    kept = rows[(rows["model"] == model) & select_conditions(conditions)(rows)]
    if "organ" in criterion:
        kept = kept[kept["organ"] == criterion["organ"]]
    keys = ["data", "seed", "case", "subject", "split", "organ"]
    mean = kept.groupby(keys, sort=False)["dice"].mean().reset_index()
    return mean.assign(model=name, degradation="none", severity=0, shift="0")


def select_conditions(conditions: str | list[str]) -> Select:
    """Return the function that selects the rows of some conditions.

    Args:
        conditions: a key of ``SELECTORS``, or a list of degradations.

    Raises:
        InputError: the key is unknown.
    """
    if isinstance(conditions, list):
        return lambda rows: rows["degradation"].isin(conditions)
    if conditions not in SELECTORS:
        raise InputError(
            f"conditions of a criterion: expected {', '.join(SELECTORS)} or a list of degradations, got "
            f"{conditions!r}; correct the study's file"
        )
    return SELECTORS[conditions]


def criterion_range(criterion: dict[str, Any]) -> tuple[float, float]:
    """Return the range of a criterion, from low to high.

    Raises:
        InputError: it has none.
    """
    if "between" in criterion:
        low, high = criterion["between"]
        return float(low), float(high)
    if "at_least" in criterion or "at_most" in criterion:
        return float(criterion.get("at_least", -math.inf)), float(criterion.get("at_most", math.inf))
    raise InputError(f"criterion {criterion['text']!r}: expected a range, got none; give at_least, at_most or between")


def decide(ci95: Sequence[float] | None, low: float, high: float) -> str:
    """Decide on a criterion from the position of its interval.

    Args:
        ci95: bounds of the 95 % interval, None where there is none.
        low: lower end of the range.
        high: upper end of the range.

    Returns:
        One of ``VERDICTS``.
    """
    if ci95 is None or any(math.isnan(bound) for bound in ci95):
        return "undecided"
    if low <= ci95[0] and ci95[1] <= high:
        return "confirmed"
    return "contradicted" if ci95[1] < low or ci95[0] > high else "undecided"
