"""Draw the figures of a report: Dice against severity and against shift, and Bland-Altman plots."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath

from medpos.core.labels import Label, kind_title, labels_of
from medpos.core.rules import is_finite
from medpos.metrics import limits_of, summarize
from medpos.plotting.curves import Panel, severity_panels, shift_panels
from medpos.plotting.style import INK, LINES, MARKERS, styled
from medpos.transforms.position.probe import DISTANCES, PROBES

_LINES = {"bias": "-", "lower": "--", "upper": "--"}
_NAME_SIZE = 7  # pt
_NAME_POINTS = 115  # width of a case's name in pt that fits into half a Bland-Altman plot


def severity_curves(table: pd.DataFrame) -> Figure | None:
    """Draw Dice against the severity of each degradation, with 95 % bands over subjects.

    Args:
        table: long table with the columns ``model``, ``seed``, ``case``, ``subject``, ``degradation``, ``severity`` (0
            to 5), ``shift``, ``organ`` and ``dice``, 0 to 1 or NaN; shifted rows and probes of the position channels
            are left out, and severity 0 begins every curve.

    Returns:
        Figure with one panel per kind, and with several models one row of panels per organ; None without degradations.
    """
    still = table[(table["shift"] == "0") & ~table["degradation"].isin(PROBES)]
    still = _measured(still, lambda rows: rows["severity"] > 0)
    return _curves(severity_panels(still))


def shift_curves(table: pd.DataFrame) -> Figure | None:
    """Draw Dice against the shift along each axis, with 95 % bands over subjects.

    Args:
        table: long table as for :func:`severity_curves`; degraded rows and shifts along both axes are left out.

    Returns:
        Figure with one panel per axis, and with several models one row of panels per organ; None without shifts.
    """
    sharp = _measured(table[table["severity"] == 0], lambda rows: rows["shift"] != "0")
    return _curves(shift_panels(sharp))


def probe_curves(table: pd.DataFrame) -> Figure | None:
    """Draw Dice against the shift of the position channels alone, with 95 % bands over subjects.

    Args:
        table: long table as for :func:`severity_curves`; probes with several distances are drawn.

    Returns:
        Figure with one panel per probe, and with several models one row of panels per organ; None without such probes.
    """
    moved = [probe for probe, most in PROBES.items() if most > 1]
    rows = table[(table["shift"] == "0") & ((table["severity"] == 0) | table["degradation"].isin(moved))]
    rows = _measured(rows, lambda rows: rows["severity"] > 0)
    rows = rows.assign(at=rows["severity"].map(dict(enumerate((0, *DISTANCES)))))
    panels = [
        Panel(kind_title(probe), "px", rows[(rows["degradation"] == probe) | (rows["severity"] == 0)])
        for probe in moved
        if (rows["degradation"] == probe).any()
    ]
    return _curves(panels)


def _measured(table: pd.DataFrame, off: Callable[[pd.DataFrame], "pd.Series[bool]"]) -> pd.DataFrame:
    """Keep the rows of trainings that were also measured on degraded or shifted images.

    Other models would be single points, and other seeds would change a curve's first point alone.
    """
    trainings = pd.MultiIndex.from_frame(table[["model", "seed"]])
    return table[trainings.isin(trainings[off(table)])]


def _curves(panels: Sequence[Panel]) -> Figure | None:
    """Draw one row of panels with a line per organ, or for several models a row per organ with a line per model."""
    if not panels:
        return None
    labels = labels_of(panels[0].rows["organ"])[1:]
    models = list(dict.fromkeys(panels[0].rows["model"]))
    groups = [labels] if len(models) == 1 else [(label,) for label in labels]
    with styled():
        size = (3.2 * len(panels) + 0.6, 2.5 * len(groups) + 0.9)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(groups), len(panels), squeeze=False, sharey=True, sharex="col")
        for n_row, (row, group) in enumerate(zip(grid, groups, strict=True)):
            for axes, panel in zip(row, panels, strict=True):
                for label in group:
                    for n, model in enumerate(models):
                        part = panel.rows[(panel.rows["organ"] == label.name) & (panel.rows["model"] == model)]
                        _curve(axes, part, label, n, len(models))
                axes.set_title(panel.title if n_row == 0 else "")
                axes.set_xlabel(panel.label if n_row == len(groups) - 1 else "")
                axes.set_ylim(-0.03, 1.03)
            row[0].set_ylabel("Dice" if len(models) == 1 else f"Dice, {group[0].title}")
        figure.legend(handles=_keys(labels, models), loc="outside lower center", ncols=3)
        # The layout is computed once, not again for every file.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    return figure


def _curve(axes: Axes, rows: pd.DataFrame, label: Label, n: int, models: int) -> None:
    """Draw mean and band over the subjects at each place; the seeds of a model are pooled within a subject."""
    points = []
    for at, part in rows.groupby("at"):
        found = summarize(part["dice"].to_numpy(), part["subject"].tolist(), limits_of("dice"))
        if found["mean"] is not None:
            points.append((at, found["mean"], *(found["ci95"] or (np.nan, np.nan))))
    if not points:
        return
    x, mean, low, high = np.array(points, float).T
    line, marker = LINES[n % len(LINES)], MARKERS[n % len(MARKERS)]
    axes.fill_between(x, low, high, color=label.color, alpha=0.22 if models < 3 else 0.12, linewidth=0)
    axes.plot(x, mean, color=label.color, linestyle=line, marker=marker, markersize=4, linewidth=1.6)


def _keys(labels: Sequence[Label], models: Sequence[str]) -> list[Line2D]:
    if len(models) == 1:
        return [Line2D([], [], color=label.color, marker="o", markersize=4, label=label.title) for label in labels]
    return [
        Line2D(
            [],
            [],
            color=INK,
            linestyle=LINES[n % len(LINES)],
            marker=MARKERS[n % len(MARKERS)],
            markersize=4,
            label=name,
        )
        for n, name in enumerate(models)
    ]


def bland_altman(
    true: Sequence[float], predicted: Sequence[float], agreement: dict[str, Any], unit: str, names: Sequence[str] = ()
) -> Figure:
    """Draw the difference of predicted and true value of an index against their mean.

    Args:
        true: true value of each case, finite, in ``unit``.
        predicted: predicted value of each case, finite, in ``unit``.
        agreement: ``bias``, ``lower`` and ``upper`` limit of agreement, in ``unit``.
        unit: unit of the index, empty for a ratio.
        names: names of the cases; the three with the greatest differences are shown, shortened to half the width.

    Reference:
        J. M. Bland and D. G. Altman, "Statistical methods for assessing agreement between two methods of clinical
        measurement", Lancet 327, 1986.
    """
    x = (np.asarray(true, float) + np.asarray(predicted, float)) / 2
    y = np.asarray(predicted, float) - np.asarray(true, float)
    with styled():
        # A fixed size, so that no layout is computed: a page may hold dozens of plots.
        figure = Figure(figsize=(4.4, 3.1))
        axes = figure.add_axes((0.19, 0.17, 0.78, 0.79))
        axes.scatter(x, y, s=18, color=INK, alpha=0.65, linewidths=0)
        for key, line in _LINES.items():
            if (value := agreement.get(key)) is not None and is_finite(value):
                axes.axhline(value, color=INK, linestyle=line, linewidth=1.2)
                axes.annotate(
                    f"{key} {value:.3g}",
                    (1, value),
                    xycoords=("axes fraction", "data"),
                    ha="right",
                    va="bottom",
                    fontsize=8,
                )
        drawn = np.concatenate([y, *(np.atleast_1d(line.get_ydata()) for line in axes.lines)])
        room = 0.1 * (np.ptp(drawn) or 1)  # for a label above the highest point and line
        axes.set_ylim(drawn.min() - room, drawn.max() + room)
        for n in np.argsort(-abs(y))[:3] if len(names) else ():
            is_right = x[n] > (x.min() + x.max()) / 2  # the name goes to the side where there is room
            offset, side = ((-4, 3), "right") if is_right else ((4, 3), "left")
            axes.annotate(
                _fit(names[n]), (x[n], y[n]), xytext=offset, textcoords="offset points", ha=side, fontsize=_NAME_SIZE
            )
        suffix = f", {unit}" if unit else ""
        axes.set_xlabel(f"mean of predicted and true{suffix}")
        axes.set_ylabel(f"predicted - true{suffix}")
    return figure


def _fit(name: str) -> str:
    """Shorten a name to the width that a Bland-Altman plot has for it."""
    for kept in range(len(name), 0, -1):
        shown = name if kept == len(name) else f"{name[:kept]}…"
        if TextPath((0, 0), shown, _NAME_SIZE).get_extents().width <= _NAME_POINTS:
            return shown
    return ""
