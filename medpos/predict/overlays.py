"""Draw image and prediction of a case side by side."""

from collections.abc import Sequence
from pathlib import Path

from medpos.core.files import write_bytes
from medpos.core.labels import Label
from medpos.io.scan import Array, Pixels
from medpos.plotting.overlay import draw_page, draw_panels, encode_png

_SIDE = 512  # largest side of a panel in pixels
_SLICES = 4  # number of slices of a volume to show


def write_overlay(path: Path, image: Array, prediction: Pixels, labels: Sequence[Label], lines: Sequence[str]) -> None:
    """Write a picture of image and prediction side by side, in training orientation.

    Args:
        path: PNG file to write.
        image: gray values [X, Y, Z].
        prediction: label map [X, Y, Z].
        labels: classes, background first.
        lines: lines of the title; they must not identify a patient.
    """
    step = -(-max(image.shape[:2]) // _SIDE)
    depth = image.shape[2]
    chosen = sorted({int((n + 0.5) * depth / _SLICES) for n in range(_SLICES)})
    rows = [draw_panels(image[::step, ::step, z], None, prediction[::step, ::step, z], labels) for z in chosen]
    note = f"slices {', '.join(str(z + 1) for z in chosen)} of {depth}" if depth > 1 else "prediction, not checked"
    page = draw_page(rows, labels, [*lines, note], ("image", "prediction"))
    write_bytes(path, encode_png(page))
