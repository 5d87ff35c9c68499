"""Encode the pictures of a case for the page, which draws overlays, outlines and differences from them itself.

The slices of a case stand below one another in a gray WebP picture, which loses a little, and in label maps of the same
size, which lose nothing. A page has a limit of bytes: of many cases it shows fewer and smaller slices.
"""

import zlib
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

from medpos.runs.cases import CaseView, Pixels

BYTES = 1_900_000  # of the pictures of a page, as text
_SAMPLE = 6  # cases by which a size is chosen
_QUALITY = 55  # of WebP, 0 to 100
# Colors of missed and extra pixels, not those of organs. Where one organ stands for another, both are mixed.
MISSED, EXTRA = "#CC79A7", "#FFFFFF"


@dataclass(frozen=True)
class Size:
    """Limit the pictures of a case.

    Args:
        side: greatest side of an image or slice in px.
        slices: greatest number of slices of a volume.
    """

    side: int
    slices: int


SIZES = (Size(320, 32), Size(256, 20), Size(192, 12), Size(144, 8), Size(128, 5), Size(96, 3))


@dataclass(frozen=True)
class Pictures:
    """Hold the pictures of one case.

    Args:
        image: gray picture, a WebP file as data URI.
        labels: truth [slices, Y, X] as bytes, and behind it the bits in which the prediction differs from the truth,
            compressed by zlib, in base64.
        entropy: picture of the entropy, white where it is greatest, a WebP file as data URI; empty where there is none.
        width: width of a slice in px.
        height: height of a slice in px.
        slices: numbers of the slices shown, from 1; empty for an image.
    """

    image: str
    labels: str
    entropy: str
    width: int
    height: int
    slices: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Size in the page."""
        return len(self.image) + len(self.labels) + len(self.entropy)


def choose_size(views: Sequence[CaseView], limit: int) -> Size:
    """Choose the largest size at which the pictures of a sample of cases fit a limit; the smallest where none does.

    Args:
        views: cases.
        limit: number of bytes per case, on average.
    """
    sample = views[:: max(1, len(views) // _SAMPLE)][:_SAMPLE]
    for size in SIZES[:-1]:
        if sum(draw_case(view, size).bytes for view in sample) <= limit * len(sample):
            return size
    return SIZES[-1]


def draw_case(view: CaseView, size: Size) -> Pictures:
    """Encode one case.

    Args:
        view: case with an image [X, Y] or a volume [X, Y, Z], x along the columns.
        size: limits of its pictures.
    """
    chosen = _choose_slices(view, size.slices)
    width, height = _shrink(view, size.side)
    image = _stack(view.image, chosen, (width, height), smooth=True)
    truth, prediction = (_stack(part, chosen, (width, height), smooth=False) for part in (view.truth, view.prediction))
    packed = zlib.compress(truth.tobytes() + (truth ^ prediction).tobytes(), 9)
    entropy = None if view.entropy is None else _stack(view.entropy, chosen, (width, height), smooth=True)
    return Pictures(
        _encode(image),
        b64encode(packed).decode("ascii"),
        "" if entropy is None else _encode(entropy),
        width,
        height,
        tuple(z + 1 for z in chosen),
    )


def _choose_slices(view: CaseView, most: int) -> tuple[int, ...]:
    """Choose slices, spread over those with an organ in the ground truth (over all where none has)."""
    if view.truth.ndim == 2:
        return ()
    held = np.flatnonzero(view.truth.any(axis=(0, 1)))
    if not held.size:
        held = np.arange(view.truth.shape[2])
    places = np.linspace(0, held.size - 1, min(most, held.size)).round().astype(int)
    return tuple(int(held[n]) for n in places)


def _shrink(view: CaseView, most: int) -> tuple[int, int]:
    """Return width and height of one slice in px, in the proportions of the body."""
    sizes = [n * s for n, s in zip(view.image.shape[:2], view.spacing_mm, strict=False)]
    plausible = len(sizes) == 2 and min(sizes) > 0 and 0.25 <= sizes[0] / sizes[1] <= 4
    across, down = sizes if plausible else view.image.shape[:2]
    side = min(most, max(view.image.shape[:2]))
    return max(1, round(side * min(1, across / down))), max(1, round(side * min(1, down / across)))


def _stack(volume: Pixels, chosen: Sequence[int], size: tuple[int, int], smooth: bool) -> Pixels:
    """Resize slices, and place them below one another, [slices times height, width]."""
    method = Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST
    tiles = [volume[..., z].T for z in chosen] if chosen else [volume.T]
    return np.concatenate([np.asarray(Image.fromarray(np.ascontiguousarray(t)).resize(size, method)) for t in tiles])


def _encode(picture: Pixels) -> str:
    stream = BytesIO()
    Image.fromarray(picture).save(stream, "WEBP", quality=_QUALITY, method=4)
    return f"data:image/webp;base64,{b64encode(stream.getvalue()).decode('ascii')}"
