"""Draw a case for the page: one gray picture and three small overlays of the same size, as data URIs.

The page shows the overlays on top of the gray picture, so that it is stored once; a volume shows up to six slices, side
by side.
"""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageColor
from scipy import ndimage

from medpos.core.labels import IGNORED, Label
from medpos.plotting.overlay import OPACITY
from medpos.runs.cases import CaseView, Pixels

SLICES = 6
_COLUMNS = 3
_SIDE = {2: 256, 3: 144}  # greatest side of an image and of a slice, px
# Not the colors of organs. Where one organ stands for another, both are mixed as a checkerboard.
MISSED, EXTRA = "#CC79A7", "#FFFFFF"
_UNKNOWN = "#FFFFFF"


@dataclass(frozen=True)
class Pictures:
    """Hold the pictures of one case.

    Args:
        image: gray picture, a JPEG as data URI.
        truth: overlay of the ground truth, a PNG as data URI.
        prediction: overlay of the prediction, a PNG as data URI.
        difference: overlay of missed and extra pixels, and a checkerboard where one organ stands for another, a PNG as
            data URI.
        columns: number of slices side by side.
        rows: number of rows of slices.
        ratio: width of a slice divided by its height.
        slices: numbers of the slices shown, from 0; empty for an image.
    """

    image: str
    truth: str
    prediction: str
    difference: str
    columns: int
    rows: int
    ratio: float
    slices: tuple[int, ...]

    @property
    def middle(self) -> tuple[float, float]:
        """Position of the middle slice as CSS background position: across and down, in %."""
        shown = max(len(self.slices), 1)
        row, column = divmod(shown // 2, self.columns)
        return 100 * column / max(self.columns - 1, 1), 100 * row / max(self.rows - 1, 1)


def draw_case(view: CaseView, labels: Sequence[Label]) -> Pictures:
    """Draw one case.

    Args:
        view: case with an image [X, Y] or a volume [X, Y, Z], x along the columns.
        labels: the classes, background first.
    """
    chosen = _slices(view)
    width, height = _size(view)
    columns = min(_COLUMNS, max(len(chosen), 1))
    rows = -(-max(len(chosen), 1) // columns)
    gray = _mosaic([_flat(view.image, z) for z in chosen or (None,)], columns, (width, height), smooth=True)
    truth, prediction = (
        _mosaic([_flat(part, z) for z in chosen or (None,)], columns, (width, height), smooth=False)
        for part in (view.truth, view.prediction)
    )
    return Pictures(
        _uri(Image.fromarray(gray), "JPEG"),
        _uri(_paint(truth, labels), "PNG"),
        _uri(_paint(prediction, labels), "PNG"),
        _uri(_difference(truth, prediction), "PNG"),
        columns,
        rows,
        width / height,
        chosen,
    )


def _slices(view: CaseView) -> tuple[int, ...]:
    """Choose up to six slices, spread over those with an organ in the ground truth (over all where none has)."""
    if view.truth.ndim == 2:
        return ()
    held = np.flatnonzero(view.truth.any(axis=(0, 1)))
    if not held.size:
        held = np.arange(view.truth.shape[2])
    places = np.linspace(0, held.size - 1, min(SLICES, held.size)).round().astype(int)
    return tuple(int(held[n]) for n in places)


def _size(view: CaseView) -> tuple[int, int]:
    """Return width and height of one slice in px, in the proportions of the body."""
    sizes = [n * s for n, s in zip(view.image.shape[:2], view.spacing_mm, strict=False)]
    plausible = len(sizes) == 2 and min(sizes) > 0 and 0.25 <= sizes[0] / sizes[1] <= 4
    across, down = sizes if plausible else view.image.shape[:2]
    side = min(_SIDE[view.image.ndim], max(view.image.shape[:2]))
    return max(1, round(side * min(1, across / down))), max(1, round(side * min(1, down / across)))


def _flat(volume: Pixels, z: int | None) -> Pixels:
    """Return one slice, rows first."""
    return (volume if z is None else volume[..., z]).T


def _mosaic(tiles: Sequence[Pixels], columns: int, size: tuple[int, int], smooth: bool) -> Pixels:
    method = Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST
    small = [np.asarray(Image.fromarray(np.ascontiguousarray(tile)).resize(size, method)) for tile in tiles]
    small += [np.zeros_like(small[0])] * (-len(small) % columns)
    lines = [np.concatenate(small[n : n + columns], axis=1) for n in range(0, len(small), columns)]
    return np.concatenate(lines)


def _paint(mask: Pixels, labels: Sequence[Label]) -> Image.Image:
    """Tint each organ, draw its outline in full color, and leave the rest transparent."""
    colors = {label.index: label.color for label in labels}
    entries: list[tuple[str, float]] = [("#000000", 0)]
    out = np.zeros(mask.shape, np.uint8)
    for index in np.unique(mask[mask > 0]):
        inside = mask == index
        color = colors.get(int(index), _UNKNOWN)
        out[inside] = len(entries)
        out[inside & ~ndimage.binary_erosion(inside, border_value=1)] = len(entries) + 1
        entries += [(color, OPACITY), (color, 1)]
    return _palette(out, entries)


def _difference(truth: Pixels, prediction: Pixels) -> Image.Image:
    out = np.zeros(truth.shape, np.uint8)
    out[(truth > 0) & (prediction == 0)] = 1
    out[(truth == 0) & (prediction > 0)] = 2
    row, column = np.nonzero((truth > 0) & (prediction > 0) & (truth != prediction))
    out[row, column] = 1 + (row // 2 + column // 2) % 2
    out[truth == IGNORED] = 0
    return _palette(out, [("#000000", 0), (MISSED, 1), (EXTRA, 1)])


def _palette(indices: npt.NDArray[np.uint8], entries: Sequence[tuple[str, float]]) -> Image.Image:
    picture = Image.fromarray(indices, "P")
    picture.putpalette([value for color, _ in entries for value in ImageColor.getrgb(color)[:3]])
    picture.info["transparency"] = bytes(round(255 * alpha) for _, alpha in entries)
    return picture


def _uri(picture: Image.Image, kind: str) -> str:
    stream = BytesIO()
    options = {"quality": 78} if kind == "JPEG" else {"optimize": True}
    picture.save(stream, kind, **options)
    return f"data:image/{kind.lower()};base64,{b64encode(stream.getvalue()).decode('ascii')}"
