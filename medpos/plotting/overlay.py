"""Draw image, ground truth and prediction of a case side by side, every organ in its own color."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageColor, ImageDraw, ImageFont

from medpos.core.labels import Label

Pixels = npt.NDArray[np.uint8]
TITLES = ("image", "truth", "prediction")
OPACITY = 0.35  # of the color within an organ
_BAR = 22  # height of a text line, px
_SIDE = 256  # least width of a panel, px


def draw_panels(image: npt.NDArray[Any], truth: Pixels | None, prediction: Pixels, labels: Sequence[Label]) -> Pixels:
    """Draw image, ground truth and prediction side by side.

    Args:
        image: gray values [X, Y] of any range, x along the columns.
        truth: label map [X, Y] of the ground truth; None leaves its panel out.
        prediction: predicted label map [X, Y].
        labels: the classes, background first.

    Returns:
        RGB picture [Y, 3 X, 3] ([Y, 2 X, 3] without ground truth), 0 to 255, rows first.
    """
    low, high = np.percentile(image, [0.5, 99.5])
    gray = np.clip((image - low) / max(high - low, 1e-6), 0, 1).T * 255
    plain = np.repeat(gray[..., None], 3, axis=2)
    parts = [plain, *(_paint(plain, mask.T, labels) for mask in (truth, prediction) if mask is not None)]
    return np.concatenate([part.round().astype(np.uint8) for part in parts], axis=1)


def _paint(gray: npt.NDArray[Any], mask: Pixels, labels: Sequence[Label]) -> npt.NDArray[Any]:
    """Tint each organ and draw its outline in full color."""
    colors, opacity = np.zeros((256, 3), gray.dtype), np.zeros(256, gray.dtype)
    for label in labels[1:]:
        colors[label.index], opacity[label.index] = ImageColor.getrgb(label.color), OPACITY
    around = np.pad(mask, 1)  # so that an organ has an outline at the frame
    sides = (around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:])
    share = opacity[mask]
    share[np.logical_or.reduce([side != mask for side in sides]) & (share > 0)] = 1
    painted: npt.NDArray[Any] = gray + share[..., None] * (colors[mask] - gray)
    return painted


def draw_page(
    rows: Sequence[Pixels], labels: Sequence[Label], lines: Sequence[str], titles: Sequence[str] = TITLES
) -> Image.Image:
    """Draw a page: rows of panels one below the other, with text and a color key above them.

    Args:
        rows: pictures from :func:`draw_panels`, of equal shapes.
        labels: the classes, for the key.
        lines: lines of text above the panels.
        titles: titles of the panels, left to right.
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
        draw.rectangle((x, y + 2, x + 12, y + 14), label.color)
        draw.text((x + 18, y), label.title, "white", font)
        x += 18 + draw.textlength(label.title, font) + 18
    for n, title in enumerate(titles):
        draw.text((6 + n * stack.width / len(titles), y + _BAR), title, "#bbbbbb", font)
    page.paste(stack, (0, _BAR * (len(lines) + 2)))
    return page


def encode_png(page: Image.Image) -> bytes:
    """Encode a picture as PNG, at the fastest level of compression: on noisy images the others save no space."""
    buffer = io.BytesIO()
    page.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
