"""Draw grids of small pictures, and figures that hold them."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medpos.core.files import write_bytes

Values = npt.NDArray[np.float32]
_GAP = 1  # pixels between tiles
_WIDEST = 1200  # width of a grid in pixels; larger tiles are averaged down
_TEXT = {"text.parse_math": False, "font.size": 9, "axes.titlesize": 9}  # a name with a $ isn't a formula


def make_grid(tiles: Values, columns: int = 0) -> Values:
    """Arrange tiles in a grid, with gaps of NaN.

    Args:
        tiles: tiles [n, X, Y], or [n, X, Y, 3] in color.
        columns: number of tiles in a row; 0: about as many as rows.

    Returns:
        Pixels [Y, X] or [Y, X, 3] of the whole grid.
    """
    columns = columns or int(np.ceil(np.sqrt(len(tiles))))
    step = -(-columns * tiles.shape[1] // _WIDEST)
    small = tiles if step == 1 else _averaged(tiles, step)
    rows_first = small.swapaxes(1, 2)
    n, tall, wide = rows_first.shape[:3]
    rows = -(-n // columns)
    size = (rows * (tall + _GAP) - _GAP, columns * (wide + _GAP) - _GAP)
    page = np.full((*size, *rows_first.shape[3:]), np.nan, np.float32)
    for place, tile in enumerate(rows_first):
        y, x = (place // columns) * (tall + _GAP), (place % columns) * (wide + _GAP)
        page[y : y + tall, x : x + wide] = tile
    return page


def _averaged(tiles: Values, step: int) -> Values:
    sizes = [max(length // step, 1) for length in tiles.shape[1:3]]
    steps = [min(step, length) for length in tiles.shape[1:3]]
    cut = tiles[:, : sizes[0] * steps[0], : sizes[1] * steps[1]]
    fields = cut.reshape(len(tiles), sizes[0], steps[0], sizes[1], steps[1], *tiles.shape[3:])
    mean: Values = fields.mean(axis=(2, 4))
    return mean


def scale_each(tiles: Values) -> Values:
    """Scale each tile [n, X, Y] or [n, X, Y, 3] to [0, 1]; a tile of a single value becomes 0."""
    axes = tuple(range(1, tiles.ndim))
    low, high = tiles.min(axis=axes, keepdims=True), tiles.max(axis=axes, keepdims=True)
    scaled: Values = (tiles - low) / np.where(high > low, high - low, 1)
    return scaled


def draw_grids(
    pages: dict[str, Values], lines: Sequence[str], cmap: str = "gray", ends: tuple[float, float] | None = None
) -> Figure:
    """Draw grids with titles and a color bar.

    Args:
        pages: grids of :func:`make_grid` by title; those in color in [0, 1].
        lines: lines of the figure's title.
        cmap: name of the color map of grids that aren't in color.
        ends: values at the ends of the color map; None draws no color bar, for tiles that are each scaled.
    """
    across = min(len(pages), 4)
    down = -(-len(pages) // across)
    with mpl.rc_context(_TEXT):
        figure = Figure(figsize=(3 * across + 4, (5.5 if across == 1 else 3.2) * down + 1.5), layout="constrained")
        places = figure.subplots(down, across, squeeze=False, gridspec_kw={"wspace": 0.08}).flatten()
        for axes in places:
            axes.set_axis_off()
        for axes, (title, page) in zip(places, pages.items(), strict=False):
            _show(axes, page, cmap, ends)
            axes.set_title(title)
        if ends is not None:
            figure.colorbar(places[0].images[0], ax=places.tolist(), shrink=0.5)
        figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=9)
    return figure


def draw_ascent(pictures: dict[str, Values], activations: Sequence[float], lines: Sequence[str]) -> Figure:
    """Draw the images that a gradient ascent found, and the curve of the activation.

    Args:
        pictures: images [X, Y], or [X, Y, 3] in [0, 1], by title.
        activations: activation before each step and after the last.
        lines: lines of the figure's title.
    """
    with mpl.rc_context(_TEXT):
        figure = Figure(figsize=(4 * len(pictures) + 4, 4.6), layout="constrained")
        places = figure.subplots(1, len(pictures) + 1)
        for axes, (title, picture) in zip(places, pictures.items(), strict=False):
            _show(axes, picture.swapaxes(0, 1), "gray", None)
            axes.set_title(title)
        places[-1].plot(activations, color="black")
        places[-1].set(xlabel="step", title="activation")
        figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=9)
    return figure


def _show(axes: Axes, page: Values, cmap: str, ends: tuple[float, float] | None) -> None:
    low, high = ends or (None, None)
    colors = mpl.colormaps[cmap].with_extremes(bad="0.6")  # the gaps
    axes.imshow(page if page.ndim == 2 else np.nan_to_num(page, nan=1.0), cmap=colors, vmin=low, vmax=high)
    axes.set_axis_off()


def save_figure(figure: Figure, path: Path) -> None:
    """Save a figure as PNG; a file that can't be completed is not left behind."""
    buffer = io.BytesIO()
    with mpl.rc_context(_TEXT):
        figure.savefig(buffer, format="png", dpi=160, metadata={"Software": None})
    write_bytes(path, buffer.getvalue())


def read_pixels(path: Path) -> npt.NDArray[Any]:
    """Read a PNG as uint8 pixels [Y, X, 3]."""
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
