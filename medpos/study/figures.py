"""The figures of a study: one line or mark a model, mean of the organs, with intervals over subjects and seeds.

A study's file names kinds of :data:`KINDS`; each is drawn once a data set.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medpos.core.labels import MEAN_OF_ORGANS, labels_of, title
from medpos.data.conditions import Condition, is_clean
from medpos.plotting.style import INK, LINES, MARKERS, styled
from medpos.study.intensities import Intensities
from medpos.transforms.position.probe import PROBES

Maps = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Drawing:
    """One figure of a study: the stem of its files, its caption, and what it shows in words."""

    name: str
    title: str
    alt: str
    figure: Figure


def draw(kinds: Sequence[str], spread: pd.DataFrame) -> list[Drawing]:
    """Draw the kinds that come from the table, for each data set.

    Args:
        kinds: of :data:`KINDS`; others are left to :func:`histogram` and :func:`change_maps`.
        spread: as :func:`medpos.statistics.effects.summarize_over_seeds` gives it.
    """
    drawings = []
    for data in dict.fromkeys(spread["data"]):
        rows = spread[spread["data"] == data]
        for kind in [k for k in kinds if k in KINDS]:
            with styled():
                figure = KINDS[kind](rows)
            if figure is not None:
                alt = f"{_WORDS[kind]} on {data}: {_in_words(rows)}"
                drawings.append(Drawing(f"models_{kind}_{data}", f"{_WORDS[kind]}, {data}", alt, figure))
    return drawings


def _severity(rows: pd.DataFrame) -> Figure | None:
    """Dice against severity, a panel each kind."""
    mean = rows[(rows["organ"] == MEAN_OF_ORGANS) & (rows["shift"] == "0")]
    kinds = [k for k in dict.fromkeys(mean["degradation"]) if k != "none" and k not in PROBES]
    panels = []
    for kind in kinds:
        part = mean[(mean["degradation"] == kind) | (mean["severity"] == 0)]
        panels.append((kind.replace("_", " "), "severity", part.assign(at=part["severity"])))
    return _lines(panels)


def _shift(rows: pd.DataFrame) -> Figure | None:
    """Dice against shift, a panel each axis."""
    mean = rows[(rows["organ"] == MEAN_OF_ORGANS) & (rows["severity"] == 0)]
    panels = []
    for axis, text in (("x", "shift to the right, px"), ("y", "shift down, px")):
        at = [0.0 if s == "0" else float(m.group(1)) if (m := re.fullmatch(rf"{axis}([+-]\d+)", s)) else np.nan
              for s in mean["shift"]]  # fmt: skip
        part = mean.assign(at=at).dropna(subset=["at"])
        if part["at"].nunique() > 1:
            panels.append((text.split(",")[0], text, part))
    return _lines(panels)


def _lines(panels: list[tuple[str, str, pd.DataFrame]]) -> Figure | None:
    if not panels:
        return None
    models = list(dict.fromkeys(panels[0][2]["model"]))
    figure = Figure(figsize=(3.3 * len(panels) + 0.4, 3.4 + 0.22 * ((len(models) + 1) // 2)), layout="constrained")
    row: Sequence[Axes] = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, (name, text, rows) in zip(row, panels, strict=True):
        for n, model in enumerate(models):
            part = rows[rows["model"] == model].sort_values("at")
            look = _look(n, len(models))
            axes.plot(part["at"], part["mean"], markersize=4, linewidth=1.5, label=model, **look)
            axes.fill_between(part["at"], part["ci95_low"], part["ci95_high"], color=look["color"], alpha=0.13, lw=0)
        axes.set(title=name, xlabel=text, ylim=(-0.03, 1.03))
    row[0].set_ylabel("mean Dice of organs")
    figure.legend(*row[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _look(n: int, models: int) -> dict[str, Any]:
    """Colours of one lightness scale, which every eye can tell apart, and a line and marker of its own."""
    colour = mpl.colormaps["cividis"](0.88 * n / max(models - 1, 1))
    return {"color": colour, "linestyle": LINES[n % len(LINES)], "marker": MARKERS[n % len(MARKERS)]}


def _bars(rows: pd.DataFrame) -> Figure | None:
    """Clean Dice of each model, organ by organ."""
    clean = rows[is_clean(rows)]
    return _dots(clean, list(dict.fromkeys(clean["model"])), "model", "Dice on clean test images")


def _reliance(rows: pd.DataFrame) -> Figure | None:
    """Dice under each probe of the position channels, organ by organ, for the first model."""
    first = rows[(rows["model"] == rows["model"].iloc[0]) & (rows["shift"] == "0")]
    kept = first[first["degradation"].isin([*PROBES, "none"])]
    names = [Condition(d, int(s)).title for d, s in zip(kept["degradation"], kept["severity"], strict=True)]
    kept = kept.assign(probe=names)
    return _dots(kept, list(dict.fromkeys(names)), "probe", "Dice") if len(set(names)) > 1 else None


def _dots(rows: pd.DataFrame, names: list[str], by: str, text: str) -> Figure:
    """A line each name: a dot each organ with its interval, and a bar for the mean of the organs."""
    labels = labels_of([o for o in dict.fromkeys(rows["organ"]) if o != MEAN_OF_ORGANS])[1:]
    figure = Figure(figsize=(6.4, 0.9 + 0.42 * len(names)), layout="constrained")
    axes = figure.subplots()
    for place, name in enumerate(names):
        part = rows[rows[by] == name].set_index("organ")
        axes.barh(place, float(part["mean"][MEAN_OF_ORGANS]), color=INK, alpha=0.18, height=0.72, zorder=0)
        for n, label in enumerate(labels):
            if label.name in part.index:
                row, y = part.loc[label.name], place + (n - (len(labels) - 1) / 2) * 0.2
                axes.plot([row["ci95_low"], row["ci95_high"]], [y, y], color=label.color, linewidth=1.4)
                shown = label.title if place == 0 else None
                axes.plot(row["mean"], y, MARKERS[n % len(MARKERS)], color=label.color, markersize=5, label=shown)
    axes.set(yticks=range(len(names)), yticklabels=names, xlabel=text, xlim=(-0.02, 1.02))
    axes.invert_yaxis()
    figure.legend(loc="outside lower center", ncols=len(labels))
    return figure


KINDS: dict[str, Callable[[pd.DataFrame], Figure | None]] = {
    "severity": _severity,
    "shift": _shift,
    "bars": _bars,
    "reliance": _reliance,
}
_WORDS = {
    "severity": "Dice against severity",
    "shift": "Dice against shift",
    "bars": "Dice on clean images (bar: mean of organs)",
    "reliance": "Dice with changed position channels (bar: mean of organs)",
}


def _in_words(rows: pd.DataFrame) -> str:
    clean = rows[(rows["organ"] == MEAN_OF_ORGANS) & is_clean(rows)]
    other = rows[(rows["organ"] == MEAN_OF_ORGANS) & ((rows["severity"] > 0) | (rows["shift"] != "0"))]
    parts = []
    for model, value in zip(clean["model"], clean["mean"], strict=True):
        worst = other[other["model"] == model]["mean"].min()
        end = "" if pd.isna(worst) else f", at worst {worst:.3f}"
        parts.append(f"{model} {value:.3f} clean{end}")
    return "; ".join(parts)


def change_maps(maps: Maps, data: str, model: str) -> Drawing:
    """Where predictions change when the position channels do.

    Args:
        maps: by probe and severity (``position_zeroed-1``), the share of slices whose class changes, [X, Y], 0 to 1.
        data: name of the data set.
        model: name of the model.
    """
    columns = 5
    lines = -(-len(maps) // columns)
    with styled(**{"axes.grid": False}):
        figure = Figure(figsize=(2.0 * columns + 0.8, 2.2 * lines), layout="constrained")
        grid = figure.subplots(lines, columns, squeeze=False)
        top = max(float(m.max()) for m in maps.values()) or 1.0
        for axes in grid.flat:
            axes.set_axis_off()
        for axes, (name, values) in zip(grid.flat, maps.items(), strict=False):
            probe, severity = name.rsplit("-", 1)
            shown = axes.imshow(values.T, cmap="cividis", vmin=0, vmax=top, interpolation="nearest")
            axes.set_title(Condition(probe, int(severity)).title.removeprefix("position "), fontsize=9)
        figure.colorbar(shown, ax=list(grid.flat), label="share of slices whose class changes", shrink=0.8)
    words = "; ".join(f"{name}: {float(m.mean()):.3f} of all pixels" for name, m in maps.items())
    caption = f"Where predictions change with the position channels, {model}, {data}"
    return Drawing(f"models_changes_{data}", caption, f"{caption}: {words}", figure)


def histogram(measured: Sequence[Intensities], alphas: Sequence[float]) -> Drawing:
    """Normalised intensities of each data set, with the ends of the position channels at each alpha in view.

    Args:
        measured: one a data set.
        alphas: strengths of the position channels.
    """
    with styled():
        figure = Figure(figsize=(3.6 * len(measured), 3.0), layout="constrained")
        for axes, found in zip(figure.subplots(1, len(measured), squeeze=False)[0], measured, strict=True):
            axes.stairs(found.density, found.edges, fill=True, color=INK, alpha=0.3)
            for alpha in [a for a in alphas if a <= abs(found.edges).max()]:
                axes.axvline(-alpha, color=INK, linestyle="--", linewidth=1)
                axes.axvline(alpha, color=INK, linestyle="--", linewidth=1)
                axes.annotate(f"±{alpha:g}", (alpha, 0.97), xycoords=("data", "axes fraction"), fontsize=8)
            name = title(found.data.upper()) + (" PHANTOMS" if found.phantom else "")
            axes.set(title=name, xlabel="normalised intensity", yscale="log")
            # The style leaves mathematical text alone, which a logarithmic scale would write.
            axes.yaxis.set_major_formatter("{x:g}")
        figure.axes[0].set_ylabel("share of pixels per unit, log scale")
    words = "; ".join(f"{m.data}: {m.edges[0]:.2f} to {m.edges[-1]:.2f} (99.9 % of pixels)" for m in measured)
    return Drawing("models_intensities", "Normalised intensities; dashed: ends of the position channels", words, figure)
