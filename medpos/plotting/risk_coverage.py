"""Draw risk-coverage curves: how bad the kept predictions are, if those with the lowest expectation are left out."""

import math
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from medpos.core.labels import title
from medpos.plotting.style import INK, LINES, styled

_ROW = 4  # organs side by side at most


def draw_risk_coverage(
    curves: Mapping[str, Mapping[str, Sequence[float]]], ideals: Mapping[str, Sequence[float]]
) -> Figure:
    """Draw a panel for every organ, with a curve for every predictor.

    Args:
        curves: mean of 1 - Dice of the best 1, 2, ... n cases, by organ and predictor.
        ideals: the same of a perfect order, by organ.

    Returns:
        The figure; the nearer a curve is to the gray one of the perfect order, the better the predictor.
    """
    columns = min(len(curves), _ROW)
    rows = math.ceil(len(curves) / columns)
    with styled():
        figure = Figure(figsize=(2.5 * columns + 0.6, 2.6 * rows + 0.5), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False)
        for n, (organ, of_organ) in enumerate(curves.items()):
            axes = panels[n // columns, n % columns]
            axes.plot(*_points(ideals[organ]), color="#888888", linewidth=3, alpha=0.6, label="perfect order")
            for style, (predictor, curve) in zip(LINES * len(of_organ), of_organ.items(), strict=False):
                axes.plot(*_points(curve), linestyle=style, label=predictor, linewidth=1.4)
            axes.set(xlim=(0, 1), xlabel="share of cases kept", title=title(organ))
            axes.set_ylim(bottom=0)
        for row in panels:
            row[0].set_ylabel("mean of 1 - Dice")
        for n in range(len(curves), rows * columns):
            panels[n // columns, n % columns].set_axis_off()
        figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, labelcolor=INK)
    return figure


def _points(curve: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return the shares of cases and the risks of a curve."""
    return [(n + 1) / len(curve) for n in range(len(curve))], list(curve)
