"""Draw the figures of a study: one line or mark per model, with intervals over subjects and seeds.

A study's file names kinds of :data:`KINDS`; each is drawn once per data set.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medpos.core.labels import MEAN_OF_ORGANS, data_title, kind_title, labels_of, title
from medpos.data.conditions import Condition, is_clean
from medpos.plotting.curves import Panel, severity_panels, shift_panels
from medpos.plotting.style import INK, LINES, MARKERS, Drawing, styled
from medpos.study.declaration import is_moved, name_moved
from medpos.study.images import DegradedImages, ImageMeasures, Intensities
from medpos.transforms.intensity.degradations import UNITS
from medpos.transforms.position.probe import PROBES

Maps = dict[str, npt.NDArray[np.float32]]


def draw(kinds: Sequence[str], spread: pd.DataFrame) -> list[Drawing]:
    """Draw figures of some kinds from the table of a study, for each data set.

    Args:
        kinds: kinds of figures; those that are not in :data:`KINDS` are left to :func:`draw_images` and
            :func:`change_maps`.
        spread: table from :func:`medpos.statistics.effects.summarize_over_seeds`.
    """
    drawings = []
    for data in dict.fromkeys(spread["data"]):
        rows = spread[spread["data"] == data]
        for kind in [k for k in kinds if k in KINDS]:
            with styled():
                figure = KINDS[kind](rows)
            if figure is not None:
                alt = f"{_WORDS[kind]} on {data}: {_describe(rows)}"
                drawings.append(Drawing(f"models_{kind}_{data}", f"{_WORDS[kind]}, {data}", alt, figure))
    return drawings


def draw_differences(kinds: Sequence[str], comparisons: pd.DataFrame) -> list[Drawing]:
    """Draw the differences of the compared pairs of models against severity or shift, for each data set.

    Args:
        kinds: kinds of figures; those without a curve are left out.
        comparisons: table from :func:`medpos.statistics.effects.compare_models`, with the models ``a`` and ``b``.
    """
    pairs = comparisons.assign(model=comparisons["a"] + " - " + comparisons["b"], mean=comparisons["mean_difference"])
    drawings = []
    for data in dict.fromkeys(pairs["data"]):
        rows = pairs[pairs["data"] == data]
        for kind in [k for k in kinds if k in _PANELS]:
            with styled():
                figure = _lines(_PANELS[kind](rows), "difference in mean Dice", None)
            if figure is not None:
                caption = f"Differences in Dice against {kind}, {data_title(data)}; bands: 95 % intervals"
                alt = f"{caption}. {_describe(rows)}"
                drawings.append(Drawing(f"differences_{kind}_{data}", caption, alt, figure))
    return drawings


def draw_noticed(kinds: Sequence[str], alarms: pd.DataFrame, lost: pd.DataFrame) -> list[Drawing]:
    """Draw the share of cases with an alarm, with the Dice that is lost below it, for each data set.

    Args:
        kinds: kinds of figures; ``noticed_severity`` and ``noticed_shift`` are drawn.
        alarms: table of ``alarm`` from :func:`medpos.statistics.effects.summarize_over_seeds`.
        lost: table of ``dice_lost``, likewise.
    """
    drawings = []
    chosen = [kind for kind in kinds if kind.startswith(_NOTICED)]
    for data, kind in [(data, kind) for data in dict.fromkeys(alarms["data"]) for kind in chosen]:
        against = kind.removeprefix(_NOTICED)
        panels = [_PANELS[against](table[table["data"] == data]) for table in (alarms, lost)]
        with styled():
            figure = _rows_of_lines(zip(panels, ("share of alarms", "Dice lost"), (_SHARE, None), strict=True))
        if figure is not None:
            caption = f"Alarms and Dice lost against {against}, {data_title(data)}; bands: 95 % intervals"
            alt = f"{caption}. Alarms: {_describe(alarms[alarms['data'] == data], 'at most', max)}"
            drawings.append(Drawing(f"{kind}_{data}", caption, alt, figure))
    return drawings


def _severities(rows: pd.DataFrame) -> list[Panel]:
    """Select the curves against severity, one panel per kind of degradation."""
    mean = rows[(rows["organ"] == MEAN_OF_ORGANS) & (rows["shift"] == "0") & ~rows["degradation"].isin(PROBES)]
    return severity_panels(mean)


def _shifts(rows: pd.DataFrame) -> list[Panel]:
    """Select the curves against shift, one panel per axis."""
    return shift_panels(rows[(rows["organ"] == MEAN_OF_ORGANS) & (rows["severity"] == 0)])


_NOTICED, _SHARE = "noticed_", (-0.03, 1.03)
_PANELS: dict[str, Callable[[pd.DataFrame], list[Panel]]] = {"severity": _severities, "shift": _shifts}


def _severity(rows: pd.DataFrame) -> Figure | None:
    """Draw Dice against severity."""
    return _lines(_severities(rows))


def _shift(rows: pd.DataFrame) -> Figure | None:
    """Draw Dice against shift."""
    return _lines(_shifts(rows))


def _lines(
    panels: Sequence[Panel], label: str = "mean Dice of organs", limits: tuple[float, float] | None = _SHARE
) -> Figure | None:
    """Draw one row of :func:`_rows_of_lines`."""
    return _rows_of_lines([(panels, label, limits)])


def _rows_of_lines(rows: Iterable[tuple[Sequence[Panel], str, tuple[float, float] | None]]) -> Figure | None:
    """Draw a line with its interval per model in each panel, dotted for its moved clean predictions.

    Args:
        rows: panels of each row, with the label and the limits of its vertical axis; None: a line at zero instead.

    Returns:
        The figure; None without panels.
    """
    [(first, *_), *_] = content = list(rows)
    if not first:
        return None
    models = [model for model in dict.fromkeys(first[0].rows["model"]) if not is_moved(model)]
    height = 3.4 * len(content) + 0.22 * ((len(models) + 1) // 2)
    figure = Figure(figsize=(3.3 * len(first) + 0.4, height), layout="constrained")
    grid = figure.subplots(len(content), len(first), squeeze=False, sharey="row")
    for line, parts in zip(grid, content, strict=True):
        _draw_row(line, *parts, models)
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _draw_row(
    row: Sequence[Axes],
    panels: Sequence[Panel],
    label: str,
    limits: tuple[float, float] | None,
    models: Sequence[str],
) -> None:
    for axes, panel in zip(row, panels, strict=True):
        for n, model in enumerate(models):
            part = panel.rows[panel.rows["model"] == model].sort_values("at")
            style = line_style(n, len(models))
            axes.plot(part["at"], part["mean"], markersize=4, linewidth=1.5, label=model, **style)
            axes.fill_between(part["at"], part["ci95_low"], part["ci95_high"], color=style["color"], alpha=0.13, lw=0)
            moved = panel.rows[panel.rows["model"] == name_moved(model)].sort_values("at")
            if len(moved):
                dotted = "dotted: clean prediction moved" if n == len(models) - 1 else None
                axes.plot(moved["at"], moved["mean"], ":", linewidth=1.2, color=style["color"], label=dotted)
        if limits is None:
            axes.axhline(0, color=INK, linewidth=0.8)
        axes.set(title=panel.title, xlabel=panel.label, **({} if limits is None else {"ylim": limits}))
    row[0].set_ylabel(label)


def line_style(n: int, models: int) -> dict[str, Any]:
    """Return color, line and marker of a model; the colors differ in lightness, for the color-blind."""
    color = mpl.colormaps["cividis"](0.88 * n / max(models - 1, 1))
    return {"color": color, "linestyle": LINES[n % len(LINES)], "marker": MARKERS[n % len(MARKERS)]}


def _bars(rows: pd.DataFrame) -> Figure | None:
    """Draw the clean Dice of each model, organ by organ."""
    clean = rows[is_clean(rows)]
    return _dots(clean, list(dict.fromkeys(clean["model"])), "model", "Dice on clean test images")


def _reliance(rows: pd.DataFrame) -> Figure | None:
    """Draw the Dice of the first model under each probe of the position channels, organ by organ."""
    first = rows[(rows["model"] == rows["model"].iloc[0]) & (rows["shift"] == "0")]
    kept = first[first["degradation"].isin([*PROBES, "none"])]
    names = [Condition(d, int(s)).title for d, s in zip(kept["degradation"], kept["severity"], strict=True)]
    kept = kept.assign(probe=names)
    return _dots(kept, list(dict.fromkeys(names)), "probe", "Dice") if len(set(names)) > 1 else None


def _dots(rows: pd.DataFrame, names: list[str], by: str, text: str) -> Figure:
    """Draw one line per name: a dot with its interval per organ, and a bar for the mean of organs."""
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


def _describe(rows: pd.DataFrame, words: str = "at worst", pick: Callable[[Any], float] = min) -> str:
    """Describe a figure in words: clean and worst value of every model."""
    clean = rows[(rows["organ"] == MEAN_OF_ORGANS) & is_clean(rows)]
    other = rows[(rows["organ"] == MEAN_OF_ORGANS) & ((rows["severity"] > 0) | (rows["shift"] != "0"))]
    parts = []
    for model, value in zip(clean["model"], clean["mean"], strict=True):
        found = other[other["model"] == model]["mean"].dropna()
        end = f", {words} {pick(found):.3f}" if len(found) else ""
        parts.append(f"{model} {value:.3f} clean{end}")
    return "; ".join(parts)


def change_maps(maps: Maps, data: str, model: str) -> Drawing:
    """Draw maps of where predictions change with the position channels.

    Args:
        maps: share of slices with another predicted class, [X, Y], 0 to 1, by probe and severity
            (``position_zeroed-1``).
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
        figure.colorbar(shown, ax=list(grid.flat), label="share of slices with another class", shrink=0.8)
    words = "; ".join(f"{name}: {float(m.mean()):.3f} of all pixels" for name, m in maps.items())
    caption = f"Where predictions change with the position channels, {model}, {data}"
    return Drawing(f"models_changes_{data}", caption, f"{caption}: {words}", figure)


def draw_images(measured: Sequence[ImageMeasures], alphas: Sequence[float]) -> list[Drawing]:
    """Draw the figures of images alone: one histogram of all data sets, and the degraded images of each.

    Args:
        measured: what was measured on the images of each data set.
        alphas: strengths of the position channels, for the histogram.
    """
    found = [entry for entry in measured if isinstance(entry, Intensities)]
    shown = [entry for entry in measured if isinstance(entry, DegradedImages)]
    return [*([histogram(found, alphas)] if found else []), *map(degraded_examples, shown)]


def degraded_examples(found: DegradedImages) -> Drawing:
    """Draw an image clean and under each degradation: a row for each kind, a column for each severity."""
    lines, columns = found.examples.shape[:2]
    with styled(**{"axes.grid": False}):
        figure = Figure(figsize=(1.7 * columns + 0.4, 2.0 * lines), layout="constrained")
        grid = figure.subplots(lines, columns, squeeze=False)
        for row, (kind, strengths), shown in zip(grid, found.strengths.items(), found.examples, strict=True):
            for axes, image, strength in zip(row, shown, (None, *strengths), strict=True):
                axes.imshow(image.T, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
                axes.spines[:].set_visible(False)
                axes.set(xticks=[], yticks=[], title="clean" if strength is None else f"{strength:g}")
            row[0].set_ylabel(kind_title(kind))
    name = data_title(found.data) + (" PHANTOMS" if found.phantom else "")
    units = "; ".join(f"{kind.replace('_', ' ')}: {UNITS[kind]}" for kind in found.strengths)
    caption = f"Degraded images, {name}, case {found.case}, severity 1 to 5 from left to right ({units})"
    mean = found.changes.mean(axis=0)
    words = "; ".join(
        f"{kind.replace('_', ' ')} {', '.join(f'{v:.3f}' for v in values)}"
        for kind, values in zip(found.strengths, mean, strict=True)
    )
    alt = f"{caption}. Root mean square change of all test images: {words}"
    return Drawing(f"degraded_{found.data}", caption, alt, figure)


def histogram(measured: Sequence[Intensities], alphas: Sequence[float]) -> Drawing:
    """Draw histograms of the normalized intensities, with the range of the position channels for each alpha.

    Args:
        measured: intensities of each data set.
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
            axes.set(title=name, xlabel="normalized intensity", yscale="log")
            # The style turns off math text, which a logarithmic scale would use.
            axes.yaxis.set_major_formatter("{x:g}")
        figure.axes[0].set_ylabel("share of pixels per unit, log scale")
    words = "; ".join(f"{m.data}: {m.edges[0]:.2f} to {m.edges[-1]:.2f} (99.9 % of pixels)" for m in measured)
    return Drawing(
        "models_intensities", "Normalized intensities; dashed: range of the position channels", words, figure
    )
