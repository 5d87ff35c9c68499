"""Draw the forest plot of a study: every difference that a criterion is about, with interval, range, margin and n."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medpos.core.labels import MEAN_OF_ORGANS, data_title, title
from medpos.metrics.intervals import Estimate
from medpos.plotting.style import INK, Drawing, styled
from medpos.statistics.verdict import Finding

_RANGE = "#56B4E9"
_LINE_WIDTH = 52  # characters


@dataclass(frozen=True)
class _Row:
    """Hold one line of the plot; a heading has no estimate, and an organ only describes."""

    label: str
    finding: Finding
    estimate: Estimate | None = None
    n: int | None = None


def draw(findings: Sequence[Finding]) -> list[Drawing]:
    """Draw a forest plot for each data set with a measured difference.

    Args:
        findings: findings of the study. Those that are no difference, or a slope, have another unit and are left out.
    """
    drawings = []
    for data in dict.fromkeys(finding.data for finding in findings):
        rows = [
            row for finding in findings if finding.data == data and _is_difference(finding) for row in _rows(finding)
        ]
        if rows:
            with styled():
                figure = _draw(rows)
            caption = (
                f"Differences with 95 % intervals, {data_title(data)}. Blue: range that the claim implies; dashed: "
                "margin; filled: primary, open: exploratory; n: subjects"
            )
            drawings.append(Drawing(f"forest_{data}", caption, f"{caption}. {'; '.join(_words(rows))}", figure))
    return drawings


def _is_difference(finding: Finding) -> bool:
    about = finding.criterion
    return bool(finding.parts and (about.minus or about.minus_conditions) and about.judge != "slope")


def _rows(finding: Finding) -> Iterator[_Row]:
    """Yield the heading of a criterion, its parts, and the organs of the part that decides."""
    yield _Row(finding.criterion.text, finding)
    is_single = len(finding.parts) == 1
    for part in finding.parts:
        label = title(finding.criterion.organ or MEAN_OF_ORGANS) if is_single else part.label
        yield _Row(label, finding, part.estimate, part.estimate.subjects)
    where = "" if is_single else f", {finding.parts[finding.decisive].label}"
    for name, estimate in finding.organs:
        yield _Row(f"{title(name)}{where}", finding, estimate)


def _draw(rows: Sequence[_Row]) -> Figure:
    labels = [textwrap.fill(row.label, _LINE_WIDTH) if row.estimate is None else f"   {row.label}" for row in rows]
    heights = [label.count("\n") + 1 for label in labels]
    places = np.cumsum(heights) - np.array(heights) / 2
    figure = Figure(figsize=(9.0, 0.9 + 0.2 * sum(heights)), layout="constrained")
    axes = figure.subplots()
    low, high = _limits(rows)
    axes.axvline(0, color=INK, linewidth=0.8)
    for row, place in zip(rows, places, strict=True):
        if row.estimate is not None:
            _draw_row(axes, row, float(place), (low, high))
    of_dice = all(row.finding.criterion.measure == "dice" for row in rows)
    axes.set(xlim=(low, high), ylim=(sum(heights), 0), yticks=places, yticklabels=labels)
    axes.set_xlabel("difference in Dice" if of_dice else "difference")
    axes.set_yticks(places, labels, ha="left", fontsize=8)
    axes.tick_params(axis="y", length=0, pad=235)
    axes.grid(visible=False, axis="y")
    return figure


def _draw_row(axes: Axes, row: _Row, place: float, ends: tuple[float, float]) -> None:
    """Draw one estimate with its interval, over the range of its criterion."""
    about, found = row.finding.criterion, row.estimate
    assert found is not None  # the caller draws headings itself
    axes.fill_betweenx(
        [place - 0.5, place + 0.5], *np.clip((about.low, about.high), *ends), color=_RANGE, alpha=0.2, lw=0
    )
    if about.margin is not None and about.likely is not None:
        axes.plot([about.likely] * 2, [place - 0.5, place + 0.5], color=_RANGE, linestyle="--", linewidth=1)
    is_main = row.n is not None
    if found.ci95:
        axes.plot(found.ci95, [place] * 2, color=INK, linewidth=1.6 if is_main else 0.8)
    face = INK if about.role == "primary" and is_main else "none"
    if found.value is not None:
        axes.plot(found.value, place, "o", color=INK, markerfacecolor=face, markersize=5 if is_main else 3.5)
    text = _number_text(row)
    axes.annotate(
        text, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=8, annotation_clip=False
    )


def _number_text(row: _Row) -> str:
    found = row.estimate
    assert found is not None  # headings have no numbers
    if found.value is None:
        return "no value"
    interval = f" ({found.ci95[0]:.3f} to {found.ci95[1]:.3f})" if found.ci95 else ""
    count = "" if row.n is None else f", n = {row.n}"
    return f"{found.value:.3f}{interval}{count}"


def _limits(rows: Sequence[_Row]) -> tuple[float, float]:
    """Return the ends of the axis: every estimate and its interval, up to a difference of 1, and zero."""
    values = [0.0]
    for row in rows:
        if row.estimate is not None and row.estimate.value is not None:
            values += [row.estimate.value, *(row.estimate.ci95 or [])]
            values += [end for end in (row.finding.criterion.low, row.finding.criterion.high) if np.isfinite(end)]
    low, high = max(min(values), -1.0), min(max(values), 1.0)
    pad = 0.06 * max(high - low, 0.01)
    return low - pad, high + pad


def _words(rows: Sequence[_Row]) -> Iterator[str]:
    """Describe the plot in words."""
    for row in rows:
        yield row.label if row.estimate is None else f"{row.label} {_number_text(row)}"
