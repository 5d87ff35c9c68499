"""Draw the picture of a predicted case."""

from collections.abc import Sequence
from pathlib import Path

from medpos.core.files import write_atomically
from medpos.core.labels import Label
from medpos.io.scan import Array, Pixels
from medpos.plotting.overlay import draw_page, draw_panels

_SIDE = 512  # an overlay's panel is reduced to at most this, px
_SLICES = 4  # of a volume, in its overlay


def write_overlay(path: Path, image: Array, prediction: Pixels, labels: Sequence[Label], lines: Sequence[str]) -> None:
    """Write a picture of image and prediction beside each other, in training's orientation.

    Args:
        path: of the PNG.
        image: grey values [X, Y, Z].
        prediction: label map of the same shape.
        labels: the classes, background first.
        lines: stand above; nothing of a patient.
    """
    step = -(-max(image.shape[:2]) // _SIDE)
    depth = image.shape[2]
    chosen = sorted({int((n + 0.5) * depth / _SLICES) for n in range(_SLICES)})
    rows = [draw_panels(image[::step, ::step, z], None, prediction[::step, ::step, z], labels) for z in chosen]
    note = f"slices {', '.join(str(z + 1) for z in chosen)} of {depth}" if depth > 1 else "prediction, not checked"
    page = draw_page(rows, labels, [*lines, note], ("image", "prediction"))
    write_atomically(path, lambda partial: page.save(partial, format="PNG"))
