"""Draw the values of all cases as dots, a line of dots for each organ and model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import rcParams
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from medpos.plotting.style import INK, styled

_MOST_VECTORS = 2000  # dots, above which they are a picture within the figure, so that its file stays small
_LINE_INCHES = 0.3


@dataclass(frozen=True, eq=False)
class Strip:
    """Hold one line of dots.

    Args:
        name: text beside the line.
        color: color of the dots, ``#rrggbb``.
        values: finite values, 0 to 1.
    """

    name: str
    color: str
    values: Sequence[float]


def draw_strips(strips: Sequence[Strip], label: str) -> Figure:
    """Draw lines of dots, each dot moved a little up or down so that equal values are seen, with a mark at the median.

    Args:
        strips: lines from top to bottom.
        label: label of the horizontal axis, on which the values lie.
    """
    rng = np.random.default_rng(0)
    as_picture = sum(len(strip.values) for strip in strips) > _MOST_VECTORS
    with styled():
        # A fixed layout, because the names alone decide on the margin, in inches.
        size = FontProperties(size=rcParams["ytick.labelsize"]).get_size_in_points()
        left = 0.2 + max(TextPath((0, 0), strip.name, size=size).get_extents().width for strip in strips) / 72
        height = _LINE_INCHES * len(strips) + 0.7
        figure = Figure(figsize=(left + 5.2, height))
        axes = figure.add_axes((left / (left + 5.2), 0.55 / height, 5.05 / (left + 5.2), 1 - 0.65 / height))
        for place, strip in enumerate(strips):
            at = place + rng.uniform(-0.28, 0.28, len(strip.values))
            dots: dict[str, Any] = {
                "s": 14,
                "color": strip.color,
                "alpha": 0.6,
                "linewidths": 0,
                "rasterized": as_picture,
            }
            axes.scatter(strip.values, at, clip_on=False, **dots)
            if len(strip.values):
                axes.plot([float(np.median(strip.values))] * 2, [place - 0.42, place + 0.42], color=INK, linewidth=1.6)
        axes.set(yticks=range(len(strips)), yticklabels=[strip.name for strip in strips], xlabel=label)
        axes.set(xlim=(0, 1), ylim=(len(strips) - 0.4, -0.6))
    return figure
