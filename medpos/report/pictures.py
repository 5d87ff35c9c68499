"""Pictures of a case for the page: one grey picture and three thin overlays of the same size, as data URIs.

The page lays the overlays on the grey picture, so that nothing is stored twice; a volume shows up to six of its slices,
side by side.
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
_SIDE = {2: 256, 3: 144}  # of one slice at most, px
# No organ's colours. A third kind, one organ in place of another, is a chequer of both.
MISSED, EXTRA = "#CC79A7", "#FFFFFF"
_UNKNOWN = "#FFFFFF"


@dataclass(frozen=True)
class Pictures:
    """The pictures of one case.

    Args:
        image: the grey picture, a JPEG as data URI.
        truth: overlay of the truth, a PNG as data URI; ``prediction`` and ``difference`` likewise.
        prediction: overlay.
        difference: overlay: missed, extra, and a chequer where one organ stands for another.
        columns: slices beside each other.
        rows: slices below each other.
        ratio: width of a slice over its height.
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
        """Where the middle slice lies, as CSS background position: across and down, in %."""
        shown = max(len(self.slices), 1)
        row, column = divmod(shown // 2, self.columns)
        return 100 * column / max(self.columns - 1, 1), 100 * row / max(self.rows - 1, 1)


def pictures(view: CaseView, labels: Sequence[Label]) -> Pictures:
    """Draw one case.

    Args:
        view: an image [X, Y] or a volume [X, Y, Z], x along the columns.
        labels: its classes, background first.
    """
    chosen = _slices(view)
    width, height = _size(view)
    columns = min(_COLUMNS, max(len(chosen), 1))
    rows = -(-max(len(chosen), 1) // columns)
    grey = _mosaic([_flat(view.image, z) for z in chosen or (None,)], columns, (width, height), smooth=True)
    truth, prediction = (
        _mosaic([_flat(part, z) for z in chosen or (None,)], columns, (width, height), smooth=False)
        for part in (view.truth, view.prediction)
    )
    return Pictures(
        _uri(Image.fromarray(grey), "JPEG"),
        _uri(_painted(truth, labels), "PNG"),
        _uri(_painted(prediction, labels), "PNG"),
        _uri(_difference(truth, prediction), "PNG"),
        columns,
        rows,
        width / height,
        chosen,
    )


def _slices(view: CaseView) -> tuple[int, ...]:
    """Up to six numbers, spread over the slices that hold an organ in the truth (all slices where none does)."""
    if view.truth.ndim == 2:
        return ()
    held = np.flatnonzero(view.truth.any(axis=(0, 1)))
    if not held.size:
        held = np.arange(view.truth.shape[2])
    places = np.linspace(0, held.size - 1, min(SLICES, held.size)).round().astype(int)
    return tuple(int(held[n]) for n in places)


def _size(view: CaseView) -> tuple[int, int]:
    """Width and height of one slice in px, in the proportions of the body."""
    sizes = [n * s for n, s in zip(view.image.shape[:2], view.spacing_mm, strict=False)]
    sound = len(sizes) == 2 and min(sizes) > 0 and 0.25 <= sizes[0] / sizes[1] <= 4
    across, down = sizes if sound else view.image.shape[:2]
    side = min(_SIDE[view.image.ndim], max(view.image.shape[:2]))
    return max(1, round(side * min(1, across / down))), max(1, round(side * min(1, down / across)))


def _flat(volume: Pixels, z: int | None) -> Pixels:
    """One slice, rows first, as screens want it."""
    return (volume if z is None else volume[..., z]).T


def _mosaic(tiles: Sequence[Pixels], columns: int, size: tuple[int, int], smooth: bool) -> Pixels:
    method = Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST
    small = [np.asarray(Image.fromarray(np.ascontiguousarray(tile)).resize(size, method)) for tile in tiles]
    small += [np.zeros_like(small[0])] * (-len(small) % columns)
    lines = [np.concatenate(small[n : n + columns], axis=1) for n in range(0, len(small), columns)]
    return np.concatenate(lines)


def _painted(mask: Pixels, labels: Sequence[Label]) -> Image.Image:
    """Each organ tinted, its outline in full colour, the rest transparent."""
    colours = {label.index: label.color for label in labels}
    entries: list[tuple[str, float]] = [("#000000", 0)]
    out = np.zeros(mask.shape, np.uint8)
    for index in np.unique(mask[mask > 0]):
        inside = mask == index
        colour = colours.get(int(index), _UNKNOWN)
        out[inside] = len(entries)
        out[inside & ~ndimage.binary_erosion(inside, border_value=1)] = len(entries) + 1
        entries += [(colour, OPACITY), (colour, 1)]
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
    picture.putpalette([value for colour, _ in entries for value in ImageColor.getrgb(colour)[:3]])
    picture.info["transparency"] = bytes(round(255 * alpha) for _, alpha in entries)
    return picture


def _uri(picture: Image.Image, kind: str) -> str:
    stream = BytesIO()
    options = {"quality": 78} if kind == "JPEG" else {"optimize": True}
    picture.save(stream, kind, **options)
    return f"data:image/{kind.lower()};base64,{b64encode(stream.getvalue()).decode('ascii')}"
