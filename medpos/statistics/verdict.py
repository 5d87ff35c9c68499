"""Decide whether a study confirms or contradicts the paper's claim, by criteria that were stated before.

A criterion is an entry of the study's file: a quantity (mean foreground Dice of ``model`` under ``conditions``, minus
that of ``minus`` or under ``minus_conditions`` where given) and the range that the claim implies (``at_least``,
``at_most`` or ``between``). It has one part per condition, dose or curve (:mod:`medpos.statistics.judging`).

- It is confirmed where every part lies inside the range: the largest p-value of its parts is that of the criterion,
  which needs no correction (an intersection-union test).
- It is contradicted where a part lies outside, by the smallest p-value of its parts, adjusted among them.
- It is mixed where it would be contradicted and another part lies inside, by a p-value adjusted among the parts; or
  where an average hides a change of sign, by p-values adjusted among its conditions alone.
- It is not measured where the data set, the model or a condition is missing.

Every p-value of a primary criterion is adjusted by Holm's method over all primary criteria and data sets that the study
declares, measured or not, and decides at 0.05. Exploratory criteria have an interval and no verdict.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from medpos.core.labels import MEAN_OF_ORGANS, data_title
from medpos.metrics.intervals import Estimate
from medpos.statistics.criteria import Criterion
from medpos.statistics.judging import Part, judge
from medpos.statistics.matching import LeftOut
from medpos.statistics.measuring import find_measured
from medpos.statistics.mixed import Mixed, fit_mixed
from medpos.statistics.paired import holm, smallest_p
from medpos.statistics.power import power_to_confirm

CONFIRMED, CONTRADICTED, MIXED, UNDECIDED = "confirmed", "contradicted", "mixed", "undecided"
NOT_MEASURED, EXPLORATORY = "not measured", "exploratory"
VERDICTS = (CONFIRMED, CONTRADICTED, MIXED, UNDECIDED, NOT_MEASURED, EXPLORATORY)
ALPHA = 0.05
_NAMED = 3  # conditions without a value that a note names


@dataclass(frozen=True)
class Finding:
    """Hold the result of one criterion on one data set.

    Args:
        data: name of the data set.
        criterion: the criterion.
        verdict: one of ``VERDICTS``.
        parts: its parts; empty where it was not measured.
        decisive: index of the part that decides: the least clearly inside the range, or the most clearly outside.
        p: two-sided p-value of the criterion, 0 to 1. None where it was not measured.
        p_holm: the same, adjusted over the family. None for an exploratory criterion.
        power: chance that a study of this precision confirms the criterion at Holm's first step, if the quantity lies
            the margin inside the range, or in the middle of two ends. None where that can't be computed.
        left_out: values without a partner. None where nothing was subtracted.
        organs: estimate of each organ in the decisive part, which only describes.
        mixed: mixed model of the decisive part. None where it was not fitted.
        note: reason why it was not measured, or is mixed.
    """

    data: str
    criterion: Criterion
    verdict: str
    parts: tuple[Part, ...] = ()
    decisive: int = 0
    p: float | None = None
    p_holm: float | None = None
    power: float | None = None
    left_out: LeftOut | None = None
    organs: tuple[tuple[str, Estimate], ...] = ()
    mixed: Mixed | None = None
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the fields for ``study.json``."""
        part = self.parts[self.decisive] if self.parts else Part("", Estimate(None, None, None, 0, 0), 0)
        low, high = (bound if math.isfinite(bound) else None for bound in (self.criterion.low, self.criterion.high))
        return {
            "data": self.data,
            "text": self.criterion.text,
            "role": self.criterion.role,
            "verdict": self.verdict,
            "note": self.note,
            "where": part.label,
            **_estimate_json(part.estimate),
            "n": part.n,
            "subjects": part.estimate.subjects,
            "seeds": part.estimate.seeds,
            "p": self.p,
            "p_holm": self.p_holm,
            "low": low,
            "high": high,
            "margin": self.criterion.margin,
            "power": self.power,
            "smallest_p": smallest_p(part.estimate.subjects) if self.parts else None,
            "left_out": None if self.left_out is None else asdict(self.left_out),
            "parts": [_part_json(p) for p in self.parts],
            "organs": [{"organ": name, **_estimate_json(found)} for name, found in self.organs],
            "mixed": None if self.mixed is None else asdict(self.mixed),
        }


def _estimate_json(found: Estimate) -> dict[str, Any]:
    return {"value": found.value, "ci95": found.ci95}


def _part_json(part: Part) -> dict[str, Any]:
    conditions = [{"label": label, **_estimate_json(found)} for label, found in part.conditions]
    reverse = {"is_reversed": part.is_reversed, "conditions": conditions}
    counts = {"n": part.n, "subjects": part.estimate.subjects}
    return {"label": part.label, **_estimate_json(part.estimate), **counts, **reverse}


def evaluate_criteria(table: pd.DataFrame, criteria: Sequence[Criterion], data: Sequence[str]) -> list[Finding]:
    """Measure the criteria of a study on every data set that they are for, without verdicts.

    Args:
        table: one row per data set, model, seed, case, condition and organ.
        criteria: criteria of the study.
        data: names of the data sets that the study declares; those without rows are not measured.

    Raises:
        InputError: the table is inconsistent, or ``minus_conditions`` selects several conditions.
    """
    return [
        _measure(table[table["data"] == name], name, criterion)
        for criterion in criteria
        for name in data
        if criterion.data in ("", name)
    ]


def _measure(rows: pd.DataFrame, data: str, criterion: Criterion) -> Finding:
    """Measure one criterion on one data set."""
    measured = find_measured(rows, criterion)
    if isinstance(measured, str):
        return not_measured(data, criterion, measured)
    wanted = criterion.organ or MEAN_OF_ORGANS
    quantity, left_out = measured.quantity(wanted)
    finding = weigh_parts(data, criterion, judge(quantity, criterion.judge))
    if not finding.parts:
        return finding
    organs = []
    for name in measured.organs if wanted == MEAN_OF_ORGANS else []:
        found = judge(measured.quantity(name)[0], criterion.judge)
        organs.append((name, found[finding.decisive].estimate))
    values = finding.parts[finding.decisive].values if criterion.role == "primary" else None
    mixed = None if values is None else fit_mixed(values, quantity.subjects)
    return replace(finding, left_out=left_out, organs=tuple(organs), mixed=mixed)


def not_measured(data: str, criterion: Criterion, why: str) -> Finding:
    """Make the finding of a criterion that was not measured."""
    return Finding(data, criterion, NOT_MEASURED, note=why)


def weigh_parts(data: str, criterion: Criterion, parts: Sequence[Part]) -> Finding:
    """Make the finding of a criterion from the estimates of its parts; :func:`decide_family` completes it."""
    empty = [part.label for part in parts if part.estimate.value is None]
    if empty or not parts:
        more = f" and {len(empty) - _NAMED} more" if len(empty) > _NAMED else ""
        return not_measured(data, criterion, f"no case has a value: {', '.join(empty[:_NAMED]) or 'everywhere'}{more}")
    inside, outside = _p_values(criterion, parts)
    is_inside = max(inside) <= min(outside)
    decisive = int(np.argmax(inside) if is_inside else np.argmin(outside))
    return Finding(data, criterion, UNDECIDED, tuple(parts), decisive, max(inside) if is_inside else min(outside))


def _p_values(criterion: Criterion, parts: Sequence[Part]) -> tuple[list[float], list[float]]:
    """Return two-sided p-values of each part for lying inside and, adjusted among the parts, outside the range."""
    inside, outside = [], []
    for estimate in (part.estimate for part in parts):
        below, above = estimate.p_below(criterion.low), estimate.p_above(criterion.high)
        into = [estimate.p_above(criterion.low), estimate.p_below(criterion.high)]
        inside.append(min(1.0, 2 * max(into)))
        outside.append(min(1.0, 2 * min(below, above)))
    return inside, [1.0 if p is None else p for p in holm(outside)]


def decide_family(findings: Sequence[Finding]) -> list[Finding]:
    """Decide on the findings of a study: its primary ones, measured or not, are one family of tests.

    Args:
        findings: every finding of the study.

    Returns:
        The findings with verdict, adjusted p-value and power.
    """
    family = [n for n, finding in enumerate(findings) if finding.criterion.role == "primary"]
    p_values = [findings[n].p for n in family]
    # A criterion that isn't measured yet belongs to the family as well, so that its measurement can't undo a verdict.
    adjusted = dict(zip(family, holm([1.0 if p is None else p for p in p_values]), strict=True))
    decided = []
    for n, finding in enumerate(findings):
        if not finding.parts:
            decided.append(finding)
        elif n in adjusted:
            p_holm = adjusted[n]
            assert p_holm is not None  # holm() keeps numbers
            decided.append(_decide(finding, p_holm, ALPHA / len(family)))
        else:
            decided.append(replace(finding, verdict=EXPLORATORY, p=None))
    return decided


def _decide(finding: Finding, p_holm: float, first_step: float) -> Finding:
    """Decide on a primary finding."""
    inside, outside = _p_values(finding.criterion, finding.parts)
    is_outside = p_holm < ALPHA and min(outside) < max(inside)
    is_split = is_outside and any(p is not None and p < ALPHA for p in holm(inside))
    is_mixed = is_split or any(part.is_reversed for part in finding.parts)
    if is_mixed:
        verdict = MIXED
    elif p_holm >= ALPHA:
        verdict = UNDECIDED
    else:
        verdict = CONTRADICTED if is_outside else CONFIRMED
    note = _find_reason(finding.parts, inside, outside) if is_mixed else finding.note
    return replace(finding, verdict=verdict, p_holm=p_holm, power=_power(finding, first_step), note=note)


def _find_reason(parts: Sequence[Part], inside: Sequence[float], outside: Sequence[float]) -> str:
    """Return the reason for which a finding is mixed."""
    if turned := [part.label for part in parts if part.is_reversed]:
        return f"an average hides conditions above and below zero: {', '.join(turned)}"
    return f"inside the range: {parts[int(np.argmin(inside))].label}; outside: {parts[int(np.argmin(outside))].label}"


def _power(finding: Finding, alpha: float) -> float | None:
    """Return the lowest power of the parts; None without a margin or an interval."""
    low, high, likely = finding.criterion.low, finding.criterion.high, finding.criterion.likely
    found = [part.estimate for part in finding.parts]
    if likely is None or any(not estimate.se for estimate in found):
        return None
    return min(power_to_confirm(e.se or 0.0, e.df or 0.0, low, high, likely, alpha) for e in found)


def overall_verdict(findings: Sequence[Finding]) -> str:
    """Return the verdict on a claim, from the primary findings.

    It is contradicted if any finding is, else mixed if any is, else undecided if any is or if a data set is measured in
    part; confirmed if all are; ``confirmed for JSRT`` where the other data sets were not measured; ``not measured``
    where none was.
    """
    by_data: dict[str, set[str]] = {}
    for finding in findings:
        if finding.criterion.role == "primary":
            by_data.setdefault(finding.data, set()).add(finding.verdict)
    measured = {data: words for data, words in by_data.items() if words != {NOT_MEASURED}}
    words = set().union(*measured.values())
    if not measured:
        return NOT_MEASURED
    for word in (CONTRADICTED, MIXED):
        if word in words:
            return word
    if words != {CONFIRMED}:
        return UNDECIDED
    return CONFIRMED if len(measured) == len(by_data) else f"{CONFIRMED} for {', '.join(map(data_title, measured))}"
