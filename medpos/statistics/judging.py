"""Judge a quantity measured under several conditions: at each one, at each dose, or by one number of the curve.

A dose is the severity of a degradation, or the distance of a shift in px. An average over conditions can hide that some
of them go the other way, so their signs are compared.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from medpos.core.labels import kind_title
from medpos.metrics.intervals import Estimate, estimate, estimate_mean, linearize, sum_by_subject
from medpos.statistics.criteria import shift_distance
from medpos.statistics.grid import Array
from medpos.statistics.paired import holm
from medpos.transforms.naming import condition_title
from medpos.transforms.position.probe import DISTANCES, PROBES

_ALPHA = 0.05


@dataclass(frozen=True)
class Place:
    """Place a condition on a curve.

    Args:
        kind: kind of degradation, ``shift`` or ``clean``; conditions of one kind make a curve.
        dose: severity, or distance in px.
        label: the condition in words.
    """

    kind: str
    dose: float
    label: str


@dataclass(frozen=True, eq=False)
class Quantity:
    """Hold a quantity a, or a - b, under several conditions.

    Args:
        places: place of each condition.
        a: values of the first side, [condition, case, seed].
        b: values of the second side, of the same shape; None for none.
        subjects: subject of each case.
        added: values of subjects that are added for the intervals of means, as
            :func:`medpos.metrics.intervals.find_added` gives them.
    """

    places: Sequence[Place]
    a: Array
    b: Array | None
    subjects: npt.NDArray[np.intp]
    added: tuple[float, ...] = ()

    @property
    def values(self) -> Array:
        """The quantity, [condition, case, seed]."""
        return self.a if self.b is None else self.a - self.b


@dataclass(frozen=True)
class Part:
    """Hold the estimate of one part of a criterion: a condition, a dose or a curve.

    Args:
        label: the part in words.
        estimate: the quantity there.
        n: number of cases.
        is_reversed: whether some of its conditions are above zero and some below, beyond chance.
        conditions: label and estimate of each of its conditions, where it averages several.
        values: values [case, seed] that were averaged, for a second analysis; None for an area.
    """

    label: str
    estimate: Estimate
    n: int
    is_reversed: bool = False
    conditions: tuple[tuple[str, Estimate], ...] = ()
    values: Array | None = field(default=None, repr=False, compare=False)


def place_of(condition: Mapping[str, Any]) -> Place:
    """Return the place of a condition, given as ``degradation``, ``severity`` and ``shift``."""
    degradation, severity, shift = str(condition["degradation"]), int(condition["severity"]), str(condition["shift"])
    label = condition_title(degradation, severity, shift)
    words = kind_title(degradation)
    if shift != "0":
        return Place(f"{words}, severity {severity}, shift" if severity else "shift", shift_distance(shift), label)
    if not severity:
        return Place(label, 0, label)
    if degradation not in PROBES:
        return Place(words, severity, label)
    dose = DISTANCES[severity - 1] if PROBES[degradation] > 1 else 1
    return Place(words.removesuffix(" x").removesuffix(" y"), dose, label)


def judge(quantity: Quantity, how: str) -> list[Part]:
    """Estimate the parts of a quantity.

    Args:
        quantity: the quantity; with the clean condition for ``slope`` and ``area``.
        how: a key of :data:`medpos.statistics.criteria.JUDGES`.
    """
    if how == "area":
        return [_area(quantity, label, weights) for label, weights in _curves(quantity.places, _trapezoids)]
    if how == "slope":
        return [_contrast(quantity, label, weights) for label, weights in _curves(quantity.places, _slopes)]
    groups: dict[str, list[int]] = {}
    for n, place in enumerate(quantity.places):
        dose = f"{place.kind} {place.dose:g}" + (" px" if "shift" in place.kind else "")
        name = {"each": place.label, "dose": dose, "mean": "all conditions"}[how]
        groups.setdefault(name, []).append(n)
    return [_average(quantity, label, members) for label, members in groups.items()]


def _average(quantity: Quantity, label: str, members: Sequence[int]) -> Part:
    """Average some conditions, and compare their signs."""
    weights = np.zeros(len(quantity.places))
    weights[list(members)] = 1 / len(members)
    part = _contrast(quantity, quantity.places[members[0]].label if len(members) == 1 else label, weights)
    if len(members) == 1:
        return part
    found = [
        (quantity.places[n].label, estimate_mean(quantity.values[n], quantity.subjects, quantity.added))
        for n in members
    ]
    adjusted = holm([min(1.0, 2 * min(e.p_above(0), e.p_below(0))) for _, e in found])
    signs = {np.sign(e.value or 0) for (_, e), p in zip(found, adjusted, strict=True) if p is not None and p < _ALPHA}
    return replace(part, is_reversed={-1.0, 1.0} <= signs, conditions=tuple(found))


def _contrast(quantity: Quantity, label: str, weights: Array) -> Part:
    """Estimate a weighted sum over conditions; a case and seed counts where all of them have a value."""
    used = weights != 0
    sums = np.tensordot(weights[used], quantity.values[used], 1)
    n = int(np.isfinite(sums).any(axis=1).sum())
    added = quantity.added if np.isclose(weights.sum(), 1) else ()  # a slope is no share of cases
    return Part(label, estimate_mean(sums, quantity.subjects, added), n, values=sums)


def _curves(places: Sequence[Place], weigh: Any) -> Iterator[tuple[str, Array]]:
    """Yield the name of each kind, and the weights [condition] of its curve, which begins with the clean condition."""
    for kind in dict.fromkeys(place.kind for place in places if place.kind != "clean"):
        members = [n for n, place in enumerate(places) if place.kind in (kind, "clean")]
        doses = np.array([places[n].dose for n in members], np.float64)
        weights = np.zeros(len(places))
        weights[members] = weigh(doses)
        yield kind, weights


def _slopes(doses: Array) -> Array:
    """Return the weights of the least-squares slope."""
    centered = doses - doses.mean()
    weights: Array = centered / (centered**2).sum()
    return weights


def _trapezoids(doses: Array) -> Array:
    """Return the weights of the mean height of the curve by the trapezoidal rule; conditions of a dose share it."""
    levels, members, counts = np.unique(doses, return_inverse=True, return_counts=True)
    steps = np.diff(levels)
    heights = (np.append(steps, 0) + np.insert(steps, 0, 0)) / 2 / steps.sum()
    weights: Array = (heights / counts)[members]
    return weights


def _area(quantity: Quantity, label: str, weights: Array) -> Part:
    """Estimate the mean height of the curve as a share of the clean value; the difference of shares for two sides."""
    used = weights != 0
    clean = next(n for n, place in enumerate(quantity.places) if place.kind == "clean")
    kept = np.isfinite(quantity.values[used]).all(axis=0)
    members = np.unique(quantity.subjects[kept.any(axis=1)])

    def share(side: Array) -> tuple[float | None, Array]:
        parts = np.tensordot(weights[used], np.where(kept, side[used], 0), 1), np.where(kept, side[clean], 0)
        # Subjects are numbered from 0, so each has the row of its number.
        sums, sizes = (sum_by_subject(part, quantity.subjects)[members][:, kept.any(axis=0)] for part in parts)
        return linearize(sums, sizes)

    value, residuals = share(quantity.a)
    if quantity.b is not None:
        other, others = share(quantity.b)
        if value is None or other is None:
            value, residuals = None, np.zeros((0, 0))
        else:
            value, residuals = value - other, residuals - others
    return Part(label, estimate(value, residuals), int(kept.any(axis=1).sum()))
