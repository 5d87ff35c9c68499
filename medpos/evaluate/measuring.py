"""Measure the label maps of tools against the ground truth, case by case, on the grid of the ground truth."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from medpos.core.errors import InputError
from medpos.data.conditions import CLEAN
from medpos.evaluate.classes import Classes
from medpos.evaluate.pairs import Case, Tool
from medpos.evaluate.volumes import Volume, find_difference, read_image, read_label_map, resample
from medpos.io.scan import Array, Pixels
from medpos.metrics import CaseTruth
from medpos.metrics.confusion import Confusion
from medpos.runs.cases import CaseView, to_gray
from medpos.runs.tables import Row

SPLIT = "test"
# Pixels of a case, and of all cases, that are kept for the pictures of the report.
_CASE_PIXELS, _ALL_PIXELS = 2_000_000, 400_000_000
_LISTED = 10  # greatest number of failures in a message
_CONDITION = {"degradation": CLEAN.degradation, "severity": CLEAN.severity, "shift": CLEAN.shift}


@dataclass(frozen=True)
class Options:
    """Choose how label maps are measured.

    Args:
        resample: whether predictions on other grids are resampled.
        spacing_mm: size of a pixel along each axis in mm, for ground truth without; None: 1 mm, marked as nominal.
        keep_views: whether to keep the maps for the report.
    """

    resample: bool = False
    spacing_mm: tuple[float, ...] | None = None
    keep_views: bool = True


@dataclass(eq=False)
class Measured:
    """Hold the measurements of one tool.

    Args:
        tool: the tool.
        classes: names of the C classes, background first.
        confusion: confusion matrix [C, C] of all cases, true classes in rows.
        rows: rows of ``metrics.csv``.
        views: maps of the cases for the report.
        missing: names of the cases without a prediction, measured as empty label maps.
        resampled: names of the cases that were on another grid.
        unplaced: names of the cases of which one file alone states its position, so that only shapes were compared.
    """

    tool: Tool
    classes: tuple[str, ...]
    confusion: Confusion
    rows: list[Row] = field(default_factory=list)
    views: list[CaseView] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    resampled: list[str] = field(default_factory=list)
    unplaced: list[str] = field(default_factory=list)


@dataclass(eq=False)
class Measurements:
    """Hold the measurements of all tools.

    Args:
        tools: measurements of each tool.
        nominal: names of the cases without a known pixel size.
        reduced: names of the cases whose maps are kept with fewer pixels; the metrics are of all pixels.
        remarks: files whose headers state something oddly, each with the remark.
    """

    tools: list[Measured]
    nominal: list[str] = field(default_factory=list)
    reduced: list[str] = field(default_factory=list)
    remarks: list[tuple[str, str]] = field(default_factory=list)


def measure_cases(
    cases: Sequence[Case], tools: Sequence[Tool], classes: Classes, options: Options, done: Callable[[], object]
) -> Measurements:
    """Measure every case of every tool.

    Args:
        cases: files of the cases.
        tools: tools in the order of the predictions of each case.
        classes: classes of all label maps.
        options: how they are measured.
        done: function called after each case.

    Raises:
        InputError: cases can't be measured; the message has a line for each of them.
    """
    names = tuple(label.name for label in classes.labels)
    none = np.zeros((len(names), len(names)), np.int64)
    found, failures = Measurements([Measured(tool, names, none.copy()) for tool in tools]), []
    share = min(_CASE_PIXELS, _ALL_PIXELS // (len(cases) * len(tools)))
    for case in cases:
        try:
            _measure_case(case, classes, options, found, share)
        except InputError as error:
            failures.append(str(error))
        done()
    if failures:
        more = len(failures) - _LISTED
        end = [f"and {more} more"] if more > 0 else []
        several = [f"{len(failures)} of {len(cases)} cases can't be measured:"] if len(failures) > 1 else []
        raise InputError(*several, *failures[:_LISTED], *end)
    return found


def _measure_case(case: Case, classes: Classes, options: Options, found: Measurements, share: int) -> None:
    grid = read_label_map(case.truth)
    found.remarks += [(str(grid.path), note) for note in grid.notes]
    spacing = grid.spacing_mm or options.spacing_mm
    if spacing is None:
        found.nominal.append(case.name)
    axes = 2 if grid.values.shape[2] == 1 else 3
    mm = (*(spacing or (1.0, 1.0)), 1.0)[:axes]
    if len(spacing or mm) < axes:
        raise InputError(f"{case.truth}: expected --spacing X,Y,Z for a volume, got X,Y; give three sizes")
    grid = replace(grid, values=classes.to_indices(grid, may_ignore=True))
    truth = _cut(grid.values, axes)
    measuring = CaseTruth(truth, classes.labels, mm)
    stride = _stride(truth.shape, share) if options.keep_views else 1
    gray = _thin(_read_gray(case.image, grid, options, axes), stride) if options.keep_views else None
    if stride > 1:
        found.reduced.append(case.name)
    about = {"case": case.name, "subject": case.subject, "split": SPLIT}
    for tool, path in zip(found.tools, case.predictions, strict=True):
        if path is None:
            tool.missing.append(case.name)
            prediction = np.zeros_like(truth)
        else:
            volume, moved = _place(read_label_map(path), grid, options.resample, "export it on that grid")
            found.remarks += [(str(path), note) for note in volume.notes]
            tool.resampled += [case.name] if moved else []
            tool.unplaced += [case.name] if (volume.affine is None) != (grid.affine is None) else []
            prediction = _cut(classes.to_indices(volume), axes)
            del volume  # before more memory is needed
        rows, counts = measuring.compare(prediction)
        tool.confusion += counts
        tool.rows += [{**about, **_CONDITION, **row} for row in rows]
        if gray is not None:
            maps = (gray, _thin(truth, stride), _thin(prediction, stride))
            thin_mm: tuple[Any, ...] = (mm[0] * stride, mm[1] * stride, *mm[2:])
            tool.views.append(CaseView(case.name, case.subject, case.phase, thin_mm, *maps))


def _place(volume: Volume, grid: Volume, may_resample: bool, advice: str) -> tuple[Volume, bool]:
    """Return a file's label map on the grid of the ground truth, and whether it was resampled."""
    difference = find_difference(volume, grid)
    if difference and not may_resample:
        raise InputError(
            f"{volume.path}: expected the grid of {grid.path}, got another: {difference}; {advice}, or add --resample"
        )
    return (resample(volume, grid), True) if difference else (volume, False)


def _read_gray(path: Path | None, grid: Volume, options: Options, axes: int) -> Pixels:
    """Read the picture behind the maps; black if there is no image."""
    if path is None:
        return np.zeros(grid.values.shape[:axes], np.uint8)
    image, _ = _place(read_image(path), grid, options.resample, "leave --images out")
    return to_gray(_cut(image.values, axes))


def _cut(values: Array, axes: int) -> Array:
    """Drop the slice axis of an image."""
    return values[..., 0] if axes == 2 else values


def _stride(shape: Sequence[int], pixels: int) -> int:
    """Return the step along X and Y that leaves at most this many pixels, as far as one remains."""
    return max(1, int(np.ceil(np.sqrt(np.prod(shape, dtype=float) / max(pixels, 1)))))


def _thin(values: Pixels, stride: int) -> Pixels:
    """Copy every pixel that stays along X and Y."""
    return np.ascontiguousarray(values[::stride, ::stride])
