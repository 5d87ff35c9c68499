"""Pictures of a case: image, truth and prediction side by side, every organ in its own colour."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageColor, ImageDraw, ImageFont
from scipy import ndimage

from medpos.core.labels import Label

Pixels = npt.NDArray[np.uint8]
TITLES = ("image", "truth", "prediction")
OPACITY = 0.35  # of the tint within an organ
_BAR = 22  # height of a text line, px
_SIDE = 256  # a panel is enlarged to at least this, px


def panels(image: npt.NDArray[Any], truth: Pixels | None, prediction: Pixels, labels: Sequence[Label]) -> Pixels:
    """Image, truth and prediction beside each other.

    Args:
        image: grey values [X, Y] of any range, x along the columns.
        truth: label map [X, Y]; None: there is none, and its panel is left out.
        prediction: label map [X, Y].
        labels: the classes, background first.

    Returns:
        RGB picture [Y, 3 X, 3] ([Y, 2 X, 3] without truth), 0 to 255, rows first, as screens want it.
    """
    low, high = np.percentile(image, [0.5, 99.5])
    grey = np.clip((image - low) / max(high - low, 1e-6), 0, 1).T * 255
    plain = np.repeat(grey[..., None], 3, axis=2)
    parts = [plain, *(_painted(plain, mask.T, labels) for mask in (truth, prediction) if mask is not None)]
    return np.concatenate(parts, axis=1).round().astype(np.uint8)


def _painted(grey: npt.NDArray[Any], mask: Pixels, labels: Sequence[Label]) -> npt.NDArray[Any]:
    """Tint each organ and draw its outline in full colour."""
    out = grey.copy()
    for label in labels[1:]:
        inside = mask == label.index
        colour = np.array(ImageColor.getrgb(label.colour), float)
        out[inside] = (1 - OPACITY) * out[inside] + OPACITY * colour
        out[inside & ~ndimage.binary_erosion(inside)] = colour
    return out


def picture(
    rows: Sequence[Pixels], labels: Sequence[Label], lines: Sequence[str], titles: Sequence[str] = TITLES
) -> Image.Image:
    """One page: panels below each other, text and colour key above.

    Args:
        rows: what :func:`panels` gives, equal shapes.
        labels: the classes, for the key.
        lines: text above the panels.
        titles: of the panels, left to right.
    """
    stack = Image.fromarray(np.concatenate(list(rows)))
    enlarge = max(1, -(-_SIDE * len(titles) // stack.width))
    stack = stack.resize((stack.width * enlarge, stack.height * enlarge), Image.Resampling.NEAREST)
    page = Image.new("RGB", (stack.width, stack.height + _BAR * (len(lines) + 2)), "#101010")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(14)
    for n, line in enumerate(lines):
        draw.text((6, 3 + n * _BAR), line, "white", font)
    x, y = 6.0, 3 + len(lines) * _BAR
    for label in labels[1:]:
        draw.rectangle((x, y + 2, x + 12, y + 14), label.colour)
        draw.text((x + 18, y), label.title, "white", font)
        x += 18 + draw.textlength(label.title, font) + 18
    for n, title in enumerate(titles):
        draw.text((6 + n * stack.width / len(titles), y + _BAR), title, "#bbbbbb", font)
    page.paste(stack, (0, _BAR * (len(lines) + 2)))
    return page
