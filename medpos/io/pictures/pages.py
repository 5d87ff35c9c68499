"""Hold a page of a picture as stored, and say what its samples mean in an image and in a label map."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from medpos.core.errors import InputError
from medpos.io.scan import Array

Meaning = Literal["gray", "white is zero", "rgb", "palette", "cmyk"]
ALPHA_NOTE = "transparency (alpha) is left out"
UPRIGHT_NOTE = "turned upright as the EXIF orientation says"
# Whether to swap rows and columns, then to flip rows, to flip columns, by orientation (EXIF 2.3 and TIFF 6.0, tag 274).
TURNS = {2: (0, 0, 1), 3: (0, 1, 1), 4: (0, 1, 0), 5: (1, 0, 0), 6: (1, 0, 1), 7: (1, 1, 1), 8: (1, 1, 0)}
_COUNTS: dict[Meaning, int] = {"gray": 1, "white is zero": 1, "rgb": 3, "palette": 1, "cmyk": 4}
_LISTED = 5  # greatest number of values in a message


@dataclass(frozen=True, eq=False)
class Page:
    """Hold the samples of a page as the file stores them.

    Args:
        samples: samples [rows, columns, samples of a pixel], upright; those after the colors are left out.
        bits: bits of a sample; 0: floating point.
        meaning: what the first samples of a pixel are.
        colors: 8-bit colors [entries, 3] of a palette.
        notes: remarks, one per line.
    """

    samples: Array
    bits: int
    meaning: Meaning
    colors: Array | None = None
    notes: tuple[str, ...] = ()

    @property
    def has_alpha(self) -> bool:
        """Whether samples are left out."""
        return int(self.samples.shape[2]) > _COUNTS[self.meaning]

    @property
    def own(self) -> Array:
        """Samples [rows, columns, n] without those that are left out."""
        return self.samples[..., : _COUNTS[self.meaning]]


def turn_upright(samples: Array, orientation: int) -> tuple[Array, tuple[str, ...]]:
    """Turn a picture as its orientation says, and say so in a remark.

    Args:
        samples: samples [rows, columns, ...].
        orientation: value of the tag; one outside the standard means upright.

    Returns:
        The upright samples and the remarks.
    """
    if orientation not in TURNS:
        return samples, ()
    swap, *flips = TURNS[orientation]
    turned = samples.swapaxes(0, 1) if swap else samples
    return np.flip(turned, tuple(axis for axis in (0, 1) if flips[axis])), (UPRIGHT_NOTE,)


def to_image(place: object, page: Page) -> tuple[Array, tuple[str, ...]]:
    """Return what a page shows, high = bright, and the remarks.

    Black is 0; WhiteIsZero is inverted within its bits, a palette gives its colors, CMYK is converted to RGB, and
    samples of fewer than 8 bits are scaled to 8, as the standard of PNG has it.

    Args:
        place: name of the file, for the message.
        page: the page.

    Returns:
        Gray values [rows, columns], or red, green and blue [rows, columns, 3].

    Raises:
        InputError: the samples can't be inverted, or are no index of the palette.
    """
    notes = (*page.notes, *[ALPHA_NOTE] * page.has_alpha)
    samples = page.own
    if page.meaning == "palette":
        return _look_up(place, page), notes
    if page.meaning in ("white is zero", "cmyk") and (page.bits == 0 or samples.dtype.kind != "u"):
        raise InputError(f"{place}: expected black as 0 in floating point or signed values, got white; export it again")
    highest = (1 << page.bits) - 1
    if page.meaning == "white is zero":
        samples = highest - samples
        notes += ("inverted: the header says that 0 is white",)
    elif page.meaning == "cmyk":
        light = 1 - samples / highest
        samples = np.rint(light[..., :3] * light[..., 3:] * highest).astype(samples.dtype)
        notes += ("CMYK is converted to RGB",)
    if 0 < page.bits < 8 and samples.dtype == np.uint8:
        samples = np.rint(samples * (255 / highest)).astype(np.uint8)
    return (samples if samples.shape[2] > 1 else samples[..., 0]), notes


def _look_up(place: object, page: Page) -> Array:
    indices = page.own[..., 0]
    if page.colors is None or indices.max(initial=0) >= len(page.colors):
        raise InputError(f"{place}: expected a color for each index of its palette, got fewer; export it again")
    colors: Array = page.colors[indices]
    return colors


def to_labels(place: object, page: Page) -> tuple[Array, tuple[str, ...]]:
    """Return the numbers that a page stores for its pixels, and the remarks.

    A label map is numbers, however they are shown: a palette gives its indices, and WhiteIsZero changes nothing, as in
    ImageJ's masks. One bit alone holds no number but black or white, and white is 1.

    Args:
        place: name of the file, for the message.
        page: the page.

    Returns:
        Numbers [rows, columns].

    Raises:
        InputError: the page has colors.
    """
    notes = (*page.notes, *[ALPHA_NOTE] * page.has_alpha)
    samples = page.own
    first: Array = samples[..., 0]
    if page.meaning == "cmyk" or (samples.shape[2] > 1 and (samples != samples[..., :1]).any()):
        found = np.unique(samples.reshape(-1, samples.shape[2])[:10_000_000], axis=0)
        colors = list_values([" ".join(map(str, color)) for color in found.tolist()])
        raise InputError(
            f"{place}: expected a label map, one class per pixel, got colors ({colors}); convert it, each color to the "
            "number of its class"
        )
    if page.meaning == "white is zero" and page.bits == 1:
        return 1 - first, (
            *notes,
            "white, stored as 0, becomes 1, and black 0: a boolean mask written by tifffile comes out inverted",
        )
    if page.meaning == "white is zero":
        notes += ("label values are those stored, although the header says that 0 is white",)
    return first, notes


def list_values(values: list[str]) -> str:
    """Join the first values of a list for a message, with the number of the others."""
    more = len(values) - _LISTED
    return ", ".join(values[:_LISTED]) + (f" and {more} more" if more > 0 else "")
