"""Draw reliability diagrams: how often each probability came true."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medpos.core.labels import ALL_CLASSES, labels_of, title
from medpos.plotting.style import INK, styled

_ROW = 4  # organs side by side at most
_MOST = 12  # organs in a figure at most; more can't be read, and take a minute to draw


def draw_reliability(diagrams: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Draw a panel for every organ: probability against frequency, and below the share of the pixels.

    Args:
        diagrams: points of each organ, as :func:`medpos.trust.calibration.reliability_diagram` gives them.

    Returns:
        The figure; on the dashed diagonal probabilities mean what they say, below it the network is too sure. Of many
        organs it has those with the most pixels, and says so.
    """
    all_organs, diagrams = len(diagrams), _choose_largest(diagrams)
    colors = {label.name: label.color for label in labels_of(name for name in diagrams if name != ALL_CLASSES)}
    columns = min(len(diagrams), _ROW)
    rows = math.ceil(len(diagrams) / columns)
    with styled():
        figure = Figure(figsize=(2.1 * columns + 0.5, 3.4 * rows), layout="constrained")
        layout: dict[str, Any] = {"sharex": True, "sharey": "row", "height_ratios": [5, 2] * rows}
        panels = figure.subplots(2 * rows, columns, squeeze=False, **layout)
        for n, (organ, points) in enumerate(diagrams.items()):
            row, column = 2 * (n // columns), n % columns
            _draw(panels[row, column], panels[row + 1, column], points, colors.get(organ, INK))
            panels[row, column].set_title(title(organ))
            if column == 0:
                panels[row, 0].set_ylabel("frequency")
                panels[row + 1, 0].set_ylabel("share of pixels")
        for n in range(len(diagrams), rows * columns):
            for row in (0, 1):
                panels[2 * (n // columns) + row, n % columns].set_axis_off()
        if len(diagrams) < all_organs:
            figure.suptitle(f"the largest {len(diagrams)} of {all_organs}")
    return figure


def _choose_largest(
    diagrams: Mapping[str, Sequence[Mapping[str, float]]],
) -> Mapping[str, Sequence[Mapping[str, float]]]:
    """Keep the organs with the most pixels, in their order."""
    if len(diagrams) <= _MOST:
        return diagrams
    sizes = {
        organ: sum(point["frequency"] * point["pixels"] for point in points if point["pixels"])
        for organ, points in diagrams.items()
    }
    kept = set(sorted(sizes, key=lambda organ: sizes[organ])[-_MOST:])
    return {organ: points for organ, points in diagrams.items() if organ in kept}


def _draw(curve: Axes, shares: Axes, points: Sequence[Mapping[str, float]], color: str) -> None:
    """Draw the curve of one organ, and the share of the pixels in each bin."""
    found = [point for point in points if point["pixels"]]
    total = sum(point["pixels"] for point in found) or 1
    curve.plot([0, 1], [0, 1], "--", color="#888888", linewidth=1)
    curve.plot(
        [p["probability"] for p in found],
        [p["frequency"] for p in found],
        "o-",
        color=color,
        markersize=4,
        clip_on=False,
    )
    curve.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    middles, widths = zip(*(((p["low"] + p["high"]) / 2, p["high"] - p["low"]) for p in points), strict=True)
    shares.bar(middles, [p["pixels"] / total for p in points], widths, color=color, edgecolor="#88888866")
    shares.set(yscale="log", ylim=(1e-5, 1), xlabel="probability")
    shares.set_yticks([1e-4, 1e-2, 1], ["0.01 %", "1 %", "100 %"])
    shares.minorticks_off()
