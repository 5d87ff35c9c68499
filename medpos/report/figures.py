"""The figures of a report and of a study: Dice against severity and against shift, and Bland-Altman plots.

Every figure comes as SVG and PNG for a paper, and as SVG to stand in the page, whose ink takes the page's text colour.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from medpos.core.labels import Label, labels_of
from medpos.metrics import summarize
from medpos.plotting.style import INK, LINES, MARKERS, styled
from medpos.transforms.position.probe import DISTANCES, PROBES

_AXES = {"x": "shift to the right, px", "y": "shift down, px"}
Panels = list[tuple[str, str, pd.DataFrame]]  # title, axis label, rows with a column `at`


def severity_curves(table: pd.DataFrame) -> Figure | None:
    """Dice against the severity of each degradation, with 95 % bands over subjects.

    Args:
        table: long, columns ``model``, ``seed``, ``case``, ``subject``, ``degradation``, ``severity`` (0 to 5),
            ``shift``, ``organ``, ``dice`` [0, 1] or NaN; shifted rows and probes of the position channels are left out,
            and severity 0 begins every curve.

    Returns:
        A panel each kind, and a row of them each organ where there are several models; None where nothing is degraded.
    """
    still = table[(table["shift"] == "0") & ~table["degradation"].isin(PROBES)]
    still = _measured(still, lambda rows: rows["severity"] > 0)
    kinds = [kind for kind in dict.fromkeys(still["degradation"]) if kind != "none"]
    panels: Panels = []
    for kind in kinds:
        rows = still[(still["degradation"] == kind) | (still["severity"] == 0)]
        panels.append((kind.replace("_", " "), "severity", rows.assign(at=rows["severity"])))
    return _curves(panels) if panels else None


def shift_curves(table: pd.DataFrame) -> Figure | None:
    """Dice against the shift along each axis, with 95 % bands over subjects.

    Args:
        table: as for :func:`severity_curves`; degraded rows are left out, and so are shifts along both axes.

    Returns:
        A panel each axis, and a row of them each organ where there are several models; None where nothing is shifted.
    """
    sharp = _measured(table[table["severity"] == 0], lambda rows: rows["shift"] != "0")
    panels: Panels = []
    for axis, text in _AXES.items():
        at = sharp["shift"].str.extract(rf"^{axis}([+-]\d+)$", expand=False).where(sharp["shift"] != "0", "0")
        rows = sharp.assign(at=pd.to_numeric(at)).dropna(subset=["at"])
        if rows["at"].nunique() > 1:
            panels.append((text.split(",")[0], text, rows))
    return _curves(panels) if panels else None


def probe_curves(table: pd.DataFrame) -> Figure | None:
    """Dice against how far the position channels, and they alone, are moved, with 95 % bands over subjects.

    Args:
        table: as for :func:`severity_curves`; of the probes those of several distances are drawn.

    Returns:
        A panel each probe, and a row of them each organ where there are several models; None without such probes.
    """
    moved = [probe for probe, most in PROBES.items() if most > 1]
    rows = table[(table["shift"] == "0") & ((table["severity"] == 0) | table["degradation"].isin(moved))]
    rows = _measured(rows, lambda rows: rows["severity"] > 0)
    rows = rows.assign(at=rows["severity"].map(dict(enumerate((0, *DISTANCES)))))
    panels: Panels = [
        (probe.replace("_", " "), "px", rows[(rows["degradation"] == probe) | (rows["severity"] == 0)])
        for probe in moved
        if (rows["degradation"] == probe).any()
    ]
    return _curves(panels) if panels else None


def _measured(table: pd.DataFrame, off: Callable[[pd.DataFrame], "pd.Series[bool]"]) -> pd.DataFrame:
    """The rows of the trainings that were measured off the clean images too.

    The other models would be single points, and the other seeds would move a curve's first point alone.
    """
    trainings = pd.MultiIndex.from_frame(table[["model", "seed"]])
    return table[trainings.isin(trainings[off(table)])]


def _curves(panels: Panels) -> Figure:
    """One row of panels with a line each organ, or for several models a row each organ with a line each model."""
    labels = labels_of(panels[0][2]["organ"])[1:]
    models = list(dict.fromkeys(panels[0][2]["model"]))
    groups = [labels] if len(models) == 1 else [(label,) for label in labels]
    with styled():
        size = (3.2 * len(panels) + 0.6, 2.5 * len(groups) + 0.9)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(groups), len(panels), squeeze=False, sharey=True, sharex="col")
        for n_row, (row, group) in enumerate(zip(grid, groups, strict=True)):
            for axes, (title, text, rows) in zip(row, panels, strict=True):
                for label in group:
                    for n, model in enumerate(models):
                        part = rows[(rows["organ"] == label.name) & (rows["model"] == model)]
                        _curve(axes, part, label, n, len(models))
                axes.set_title(title if n_row == 0 else "")
                axes.set_xlabel(text if n_row == len(groups) - 1 else "")
                axes.set_ylim(-0.03, 1.03)
            row[0].set_ylabel("Dice" if len(models) == 1 else f"Dice, {group[0].title}")
        figure.legend(handles=_keys(labels, models), loc="outside lower center", ncols=3)
        return _laid_out(figure)


def _laid_out(figure: Figure) -> Figure:
    """Lay it out once, not again for every file."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def _curve(axes: Axes, rows: pd.DataFrame, label: Label, n: int, models: int) -> None:
    """Mean and band over the subjects at each place; the seeds of a model are pooled within a subject."""
    points = []
    for at, part in rows.groupby("at"):
        found = summarize(part["dice"].to_numpy(), groups=part["subject"].tolist())
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
    """Difference against mean of the true and the predicted value of one index.

    Args:
        true: one finite value a case, in ``unit``.
        predicted: the same for the prediction.
        agreement: ``bias``, ``lower`` and ``upper`` limit of agreement, in ``unit``.
        unit: of the index, empty for a ratio.
        names: of the cases; the three that differ most are named.

    Reference:
        J. M. Bland and D. G. Altman, "Statistical methods for assessing agreement between two methods of clinical
        measurement", Lancet 327, 1986.
    """
    x = (np.asarray(true, float) + np.asarray(predicted, float)) / 2
    y = np.asarray(predicted, float) - np.asarray(true, float)
    with styled():
        # One size for all, so that nothing has to be laid out: a page may hold dozens.
        figure = Figure(figsize=(4.4, 3.1))
        axes = figure.add_axes((0.19, 0.17, 0.78, 0.79))
        axes.scatter(x, y, s=18, color=INK, alpha=0.65, linewidths=0)
        for key, line in (("bias", "-"), ("lower", "--"), ("upper", "--")):
            value = agreement.get(key)
            if value is not None and np.isfinite(value):
                axes.axhline(value, color=INK, linestyle=line, linewidth=1.2)
                axes.annotate(
                    f"{key} {value:.3g}",
                    (1, value),
                    xycoords=("axes fraction", "data"),
                    ha="right",
                    va="bottom",
                    fontsize=8,
                )
        for n in np.argsort(-abs(y))[:3] if len(names) else ():
            axes.annotate(names[n], (x[n], y[n]), xytext=(4, 3), textcoords="offset points", fontsize=7)
        suffix = f", {unit}" if unit else ""
        axes.set_xlabel(f"mean of predicted and true{suffix}")
        axes.set_ylabel(f"predicted - true{suffix}")
    return figure
