"""Draw a confusion matrix with its numbers."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from medpos.plotting.style import INK, styled

MOST = 30  # classes whose numbers are readable
_FEW = 8  # classes that leave room for a decimal
_LONGEST = 30  # letters of a class
_DARK = "#00558C"  # a single hue, as color-blind people see it too; transparent where the share is 0
_LIGHT_TEXT_FROM = 0.73  # share from which light text has the better contrast


def draw_confusion(confusion: npt.NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """Draw the shares of each true class's pixels that were predicted as each class.

    Args:
        confusion: numbers of pixels [C, C], true classes in rows, predicted ones in columns.
        classes: titles of the C classes, at most ``MOST`` to be readable.

    Returns:
        Figure with a cell for every pair, its share in percent; empty where there is no pixel, and a dash in the rows
        of classes without true pixels.
    """
    size = len(classes)
    names = [name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}" for name in classes]
    side, font = (0.62, 9) if size <= _FEW else (0.4, 8)
    margin = max(map(len, names)) * font * 0.0075 + 0.45  # inches, with the title of the axis
    whole = margin + side * size + 0.1
    true = confusion.sum(axis=1, keepdims=True)
    shares = confusion / np.maximum(true, 1)
    color = LinearSegmentedColormap.from_list("", [f"{_DARK}00", f"{_DARK}ff"])
    with styled(**{"axes.grid": False, "font.size": font}):
        figure = Figure(figsize=(whole, whole))
        axes = figure.add_axes((margin / whole, margin / whole, side * size / whole, side * size / whole))
        axes.pcolormesh(shares, cmap=color, vmin=0, vmax=1, edgecolors="#88888866", linewidth=0.5)
        for row, column in np.ndindex(size, size):
            text = _percent(int(confusion[row, column]), int(true[row, 0]), 1 if size <= _FEW else 0)
            ink = "white" if shares[row, column] >= _LIGHT_TEXT_FROM else INK
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=ink)
        axes.set_xticks(np.arange(size) + 0.5, names, rotation=90)
        axes.set_yticks(np.arange(size) + 0.5, names)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set(xlabel="predicted class", ylabel="true class", ylim=(size, 0))
    return figure


def _percent(pixels: int, whole: int, digits: int) -> str:
    """Format a share in percent; one that isn't 0 or 100 never reads so."""
    if not whole:
        return "-"
    if not pixels:
        return ""
    share, least = 100 * pixels / whole, 10.0**-digits
    if share < least:
        return f"<{least:g}"
    if pixels < whole and share > 100 - least:
        return f">{100 - least:g}"
    return f"{share:.{digits}f}" if pixels < whole else "100"
