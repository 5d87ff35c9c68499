"""Choose the gray values that are black and white in an image."""

from collections.abc import Sequence

import numpy as np

from medpos.io.dicom.planes import Plane, Range
from medpos.io.dicom.values import read_numbers, read_text

_NARROW = 0.25  # share of the range below which an image is said not to fill it
_SAMPLE = 20_000  # number of pixels that tell the range of an image
_TAILS = (0.5, 99.5)  # percentiles between which an image's values lie, without labels burnt in


def choose_range(planes: Sequence[Plane]) -> tuple[Range, list[str]]:
    """Choose black and white of an image: those of its stored bits, of fewer bits, or of its window.

    Files of 12 bits are often said to have 16 (BitsStored), and look black then.

    Args:
        planes: planes of the image.

    Returns:
        Black and white, and remarks where they aren't those of the stored bits.

    Raises:
        InputError: the window is malformed.
    """
    allowed = _union([plane.allowed for plane in planes])
    # A slice without negative values may belong to an image that has some.
    is_signed = any(plane.used == plane.used_signed for plane in planes)
    used = _union([plane.used_signed if is_signed else plane.used for plane in planes])
    step = 1 + sum(plane.values.size for plane in planes) // _SAMPLE
    sample = np.concatenate([plane.values.reshape(-1)[::step] for plane in planes])
    low, high = np.percentile(sample, _TAILS)
    if high - low < _NARROW * (used[1] - used[0]):
        window = _window(planes[0])
        if window is not None and window[0] < high and low < window[1] and window[1] - window[0] < used[1] - used[0]:
            return window, [f"gray values fill little of the stored range: window {_format(window)} taken"]
    if used == allowed:
        return allowed, []
    return used, [f"gray values need fewer bits than the header says: {_format(used)} taken as black and white"]


def _union(ranges: Sequence[Range]) -> Range:
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def _window(plane: Plane) -> Range | None:
    """Return the ends of the first window: PS3.3, C.11.2.1.2 and C.11.2.1.3.2."""
    found = [read_numbers(plane.place, plane.header, key, 0) for key in ("WindowCenter", "WindowWidth")]
    if found[0] is None or found[1] is None or found[1][0] <= 1:
        return None
    center, width = found[0][0], found[1][0]
    if read_text(plane.header, "VOILUTFunction") == "LINEAR_EXACT":
        return center - width / 2, center + width / 2
    return center - 0.5 - (width - 1) / 2, center - 0.5 + (width - 1) / 2


def _format(ends: Range) -> str:
    return f"{ends[0]:g} to {ends[1]:g}"
