"""Grids of small pictures, and the figures they stand in."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medpos.core.files import write_atomically

Values = npt.NDArray[np.float32]
_GAP = 1  # px between tiles
_WIDEST = 1200  # px of a grid; larger tiles are averaged down
_TEXT = {"text.parse_math": False, "font.size": 9, "axes.titlesize": 9}  # a name is text, whatever it holds


def grid(tiles: Values, columns: int = 0) -> Values:
    """Puts tiles side by side, with gaps of NaN.

    Args:
        tiles: [n, X, Y], or [n, X, Y, 3] in colour.
        columns: tiles beside each other; 0 for about as many as rows.

    Returns:
        [rows, columns] or [rows, columns, 3] of px, rows first, as screens want it.
    """
    columns = columns or int(np.ceil(np.sqrt(len(tiles))))
    step = -(-columns * tiles.shape[1] // _WIDEST)
    small = tiles if step == 1 else _averaged(tiles, step)
    upright = small.swapaxes(1, 2)
    n, tall, wide = upright.shape[:3]
    rows = -(-n // columns)
    size = (rows * (tall + _GAP) - _GAP, columns * (wide + _GAP) - _GAP)
    page = np.full((*size, *upright.shape[3:]), np.nan, np.float32)
    for place, tile in enumerate(upright):
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


def own_scales(tiles: Values) -> Values:
    """Each tile [n, X, Y] or [n, X, Y, 3] from 0 to 1; one of a single value is 0."""
    axes = tuple(range(1, tiles.ndim))
    low, high = tiles.min(axis=axes, keepdims=True), tiles.max(axis=axes, keepdims=True)
    scaled: Values = (tiles - low) / np.where(high > low, high - low, 1)
    return scaled


def figure_of(
    pages: dict[str, Values], lines: Sequence[str], cmap: str = "gray", ends: tuple[float, float] | None = None
) -> Figure:
    """Grids with a title, and a bar that says what the colours mean.

    Args:
        pages: of :func:`grid`, by their titles; in colour from 0 to 1.
        lines: of the title.
        cmap: colour map of grids without colours.
        ends: values of its ends; None draws no bar, for tiles of their own scales.
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


def ascent_figure(pictures: dict[str, Values], rise: Sequence[float], lines: Sequence[str]) -> Figure:
    """The images that an ascent found, and how the activation rose.

    Args:
        pictures: by title, [X, Y] or [X, Y, 3] from 0 to 1.
        rise: activation before the first step and after each.
        lines: of the title.
    """
    with mpl.rc_context(_TEXT):
        figure = Figure(figsize=(4 * len(pictures) + 4, 4.6), layout="constrained")
        places = figure.subplots(1, len(pictures) + 1)
        for axes, (title, picture) in zip(places, pictures.items(), strict=False):
            _show(axes, picture.swapaxes(0, 1), "gray", None)
            axes.set_title(title)
        places[-1].plot(rise, color="black")
        places[-1].set(xlabel="step", title="activation")
        figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=9)
    return figure


def _show(axes: Axes, page: Values, cmap: str, ends: tuple[float, float] | None) -> None:
    low, high = ends or (None, None)
    colours = mpl.colormaps[cmap].with_extremes(bad="0.6")  # the gaps
    axes.imshow(page if page.ndim == 2 else np.nan_to_num(page, nan=1.0), cmap=colours, vmin=low, vmax=high)
    axes.set_axis_off()


def save(figure: Figure, path: Path) -> None:
    """Write a PNG, whole or not at all."""
    write_atomically(path, lambda partial: _save(figure, partial))


def _save(figure: Figure, path: Path) -> None:
    buffer = io.BytesIO()
    with mpl.rc_context(_TEXT):
        figure.savefig(buffer, format="png", dpi=160, metadata={"Software": None})
    path.write_bytes(buffer.getvalue())


def pixels(path: Path) -> npt.NDArray[Any]:
    """A PNG as [Y, X, 3], 0 to 255."""
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
