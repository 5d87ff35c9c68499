"""Draw the twenty kinds of objects of PASCAL VOC from polygons, ellipses and strokes.

All kinds share colors, legs, wheels and windows: only proportions, parts and surroundings, not color and small details,
distinguish a bus from a train or a dog from a cow. Lengths are in meters, y is up from the ground.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw

Color = tuple[float, float, float]
Point = tuple[float, float]
DARK, GLASS, METAL = (0.1, 0.1, 0.11), (0.2, 0.24, 0.3), (0.55, 0.56, 0.58)
COATS: tuple[Color, ...] = (
    (0.16, 0.15, 0.15), (0.9, 0.88, 0.84), (0.5, 0.34, 0.2), (0.72, 0.58, 0.38), (0.62, 0.18, 0.15),
    (0.2, 0.32, 0.55), (0.55, 0.55, 0.54), (0.25, 0.4, 0.28), (0.8, 0.62, 0.2),
)  # fmt: skip


class Canvas:
    """Hold a picture, and for each pixel the number of the visible object, 0 for none.

    Args:
        size: (columns, rows) of the picture.
        fine: oversampling of the drawing.
    """

    def __init__(self, size: tuple[int, int], fine: int = 2) -> None:
        self.size, self.fine = size, fine
        self.picture = Pillow.new("RGB", (size[0] * fine, size[1] * fine))
        self.numbers = Pillow.new("L", self.picture.size, 0)
        self.pens = ImageDraw.Draw(self.picture), ImageDraw.Draw(self.numbers)


class Pen:
    """Draw one object.

    Args:
        canvas: canvas to draw on.
        rng: random generator of the case.
        at: position on the ground, (column, row).
        scale: pixels per meter.
        number: number of the object, 0 for background.
        turn: rotation of the whole object, counterclockwise, radians.
    """

    def __init__(
        self, canvas: Canvas, rng: np.random.Generator, at: Point, scale: float, number: int = 0, turn: float = 0.0
    ) -> None:
        self.canvas, self.rng, self.number = canvas, rng, number
        self.at, self.scale = (at[0] * canvas.fine, at[1] * canvas.fine), scale * canvas.fine
        self.side = float(rng.choice((-1, 1)))  # facing left or right
        self.cos, self.sin = float(np.cos(turn)), float(np.sin(turn))
        self.coat = self.vary_color(COATS[rng.integers(len(COATS))])

    def vary_color(self, color: Color, spread: float = 0.04) -> Color:
        """Return a random color near the given one."""
        drift = self.rng.normal(0, spread) + self.rng.normal(0, spread / 3, 3)
        return (color[0] + drift[0], color[1] + drift[1], color[2] + drift[2])

    def project(self, points: Iterable[Point]) -> list[Point]:
        """Project points in meters to pixels."""
        turned = [(self.side * (x * self.cos - y * self.sin), x * self.sin + y * self.cos) for x, y in points]
        return [(self.at[0] + self.scale * x, self.at[1] - self.scale * y) for x, y in turned]

    def polygon(self, points: Iterable[Point], color: Color) -> None:
        """Paint a polygon."""
        seen = self.project(points)
        self.canvas.pens[0].polygon(seen, to_rgb(color))
        self.canvas.pens[1].polygon(seen, self.number)

    def box(self, x: float, y: float, width: float, height: float, color: Color, narrower: float = 0.0) -> None:
        """Paint a rectangle: x of its middle, y of its lower edge; ``narrower`` at the top on either side."""
        a, b, top = x - width / 2, x + width / 2, y + height
        self.polygon([(a, y), (b, y), (b - narrower, top), (a + narrower, top)], color)

    def disc(self, x: float, y: float, across: float, up: float, color: Color) -> None:
        """Paint an ellipse with these half axes."""
        ways = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        self.polygon([(x + across * np.cos(w), y + up * np.sin(w)) for w in ways], color)

    def line(self, points: Iterable[Point], width: float, color: Color) -> None:
        """Paint a stroke with round ends."""
        seen, wide = self.project(points), max(2, round(width * self.scale))
        paints: tuple[tuple[int, ...] | int, ...] = (to_rgb(color), self.number)
        for pen, paint in zip(self.canvas.pens, paints, strict=True):
            pen.line(seen, paint, wide, joint="curve")
            for x, y in (seen[0], seen[-1]):
                pen.ellipse((x - wide / 2, y - wide / 2, x + wide / 2, y + wide / 2), paint)


def to_rgb(color: Color) -> tuple[int, ...]:
    """Convert a color of 0 to 1 to Pillow's RGB."""
    return tuple(int(np.clip(round(255 * part), 0, 255)) for part in color)


def scale_color(color: Color, by: float) -> Color:
    """Scale a color: darker below 1, brighter above."""
    return (color[0] * by, color[1] * by, color[2] * by)


class Build(NamedTuple):
    """Describe the build of a four-legged animal in meters.

    Attributes:
        length: length of the trunk.
        height: height of the back.
        deep: half the trunk's thickness.
        neck: vector from the shoulder to the head.
        head: half axes of the head.
        ears: ``up``, ``down`` or ``horns``.
        tail: ``up``, ``down`` or ``none``.
    """

    length: float
    height: float
    deep: float
    neck: Point
    head: Point
    ears: str
    tail: str


CAT = Build(0.42, 0.27, 0.08, (0.06, 0.09), (0.085, 0.08), "up", "up")
COW = Build(1.6, 1.3, 0.38, (0.3, -0.02), (0.3, 0.16), "horns", "down")
DOG = Build(0.65, 0.55, 0.12, (0.12, 0.16), (0.15, 0.085), "down", "up")
HORSE = Build(1.5, 1.5, 0.27, (0.42, 0.6), (0.3, 0.12), "up", "down")
SHEEP = Build(0.95, 0.75, 0.29, (0.12, 0.0), (0.15, 0.1), "down", "none")


def _animal(p: Pen, b: Build) -> None:
    """Paint walking legs, trunk, neck, head, ears and tail; sheep have a fleece."""
    middle, half, thick = b.height - b.deep, b.length / 2, max(0.045 * b.height, 0.3 * b.deep)
    for x, far in ((-0.8, True), (0.72, True), (-0.72, False), (0.8, False)):
        swing, knee = p.rng.normal(0, 0.09) * b.height, 0.45 * middle
        leg = [(x * half, middle), (x * half + 0.6 * swing, knee), (x * half + swing, 0.0)]
        p.line(leg, thick, scale_color(p.coat, 0.7 if far else 0.9))
    p.disc(0, middle, 1.1 * half, b.deep, p.coat)
    if b.tail == "none":
        for way in np.linspace(0, 2 * np.pi, 14):
            p.disc(
                0.95 * half * np.cos(way), middle + 0.85 * b.deep * np.sin(way), 0.13, 0.12, p.vary_color(p.coat, 0.02)
            )
    nod = p.rng.uniform(-0.5, 0.3) * b.height * 0.3
    neck = (half * 0.85, middle + 0.4 * b.deep)
    head = (neck[0] + b.neck[0], neck[1] + b.neck[1] + nod)
    p.line([neck, head], 1.0 * b.deep, p.coat)
    p.disc(head[0] + 0.4 * b.head[0], head[1], *b.head, scale_color(p.coat, 1.08))
    p.disc(
        head[0] + 1.1 * b.head[0],
        head[1] - 0.2 * b.head[1],
        0.45 * b.head[0],
        0.6 * b.head[1],
        scale_color(p.coat, 0.8),
    )
    p.disc(head[0] + 0.5 * b.head[0], head[1] + 0.3 * b.head[1], *(2 * (0.16 * b.head[1],)), DARK)
    x, y, long = head[0] - 0.1 * b.head[0], head[1] + 0.7 * b.head[1], b.head[1]
    if b.ears == "down":
        p.disc(x, y - 0.8 * long, 0.35 * long, 0.8 * long, scale_color(p.coat, 0.65))
    for shift in (0, 0.6 * long) if b.ears != "down" else ():
        tip = (x + shift + (0.5 if b.ears == "horns" else -0.05) * long, y + long)
        p.polygon([(x + shift - 0.3 * long, y), (x + shift + 0.3 * long, y), tip], scale_color(p.coat, 0.8))
    if b.tail != "none":
        end = middle + b.height * (0.45 if b.tail == "up" else -0.4)
        p.line(
            [(-half, middle + 0.5 * b.deep), (-1.25 * half, middle + 0.3 * b.deep), (-1.4 * half, end)], thick, p.coat
        )


def _wheel(p: Pen, x: float, radius: float, spokes: bool = False) -> None:
    if spokes:
        ways = np.linspace(0, 2 * np.pi, 20)
        p.line([(x + radius * np.cos(w), radius + radius * np.sin(w)) for w in ways], 0.13 * radius, DARK)
        return
    p.disc(x, radius, radius, radius, DARK)
    p.disc(x, radius, 0.5 * radius, 0.5 * radius, METAL)


def _panes(p: Pen, first: float, last: float, low: float, high: float, count: int) -> None:
    """Paint a row of windows."""
    for x in np.linspace(first, last, count):
        p.box(float(x), low, 0.78 * (last - first) / max(count - 1, 1), high - low, GLASS)


def _aeroplane(p: Pen) -> None:
    p.polygon([(-4.6, 3.2), (-6, 5.2), (-5.1, 5.2), (-3, 3.2)], scale_color(p.coat, 0.85))
    p.polygon([(-6, 2.7), (-4, 3.3), (5, 3.3), (6.3, 2.7), (5.2, 2.2), (-3, 2.2)], p.coat)
    _panes(p, -3.2, 4.2, 2.75, 3.02, 14)
    p.polygon([(-1.2, 2.6), (1.4, 2.6), (-1.8, 0.7), (-2.9, 0.7)], scale_color(p.coat, 0.75))
    p.disc(0.5, 1.9, 0.7, 0.3, METAL)
    p.polygon([(-5.4, 2.9), (-4.3, 2.9), (-5.6, 2.1), (-6.2, 2.1)], scale_color(p.coat, 0.75))


def _bicycle(p: Pen) -> None:
    for x in (-0.52, 0.52):
        _wheel(p, x, 0.34, spokes=True)
    p.line([(-0.52, 0.34), (-0.1, 0.36), (0.38, 0.8), (-0.2, 0.78), (-0.52, 0.34)], 0.045, p.coat)
    p.line([(-0.1, 0.36), (-0.24, 0.92), (-0.36, 0.92), (-0.1, 0.93)], 0.045, DARK)
    p.line([(0.52, 0.34), (0.36, 0.98), (0.5, 1.02)], 0.045, p.coat)


def _motorbike(p: Pen) -> None:
    for x in (-0.66, 0.7):
        _wheel(p, x, 0.32)
    p.polygon([(-0.8, 0.78), (-0.2, 0.62), (0.3, 0.62), (0.42, 0.92), (0.1, 0.95), (-0.3, 0.76)], p.coat)
    p.box(0, 0.25, 0.6, 0.4, METAL)
    p.line([(0.7, 0.32), (0.42, 1.02), (0.22, 1.1)], 0.07, DARK)
    p.line([(-0.66, 0.32), (0.1, 0.36)], 0.1, METAL)


def _bird(p: Pen) -> None:
    flies = p.rng.random() < 0.5
    if not flies:
        for x in (-0.02, 0.04):
            p.line([(x, 0.12), (x, 0)], 0.014, (0.7, 0.45, 0.15))
    p.disc(0, 0.2, 0.17, 0.1, p.coat)
    p.polygon([(-0.12, 0.22), (-0.36, 0.14), (-0.34, 0.24)], scale_color(p.coat, 0.7))
    p.disc(0.16, 0.31, 0.075, 0.07, scale_color(p.coat, 1.05))
    p.polygon([(0.22, 0.33), (0.22, 0.28), (0.32, 0.29)], (0.8, 0.55, 0.15))
    p.disc(0.18, 0.33, 0.014, 0.014, DARK)
    tip = (-0.2, 0.62) if flies else (-0.26, 0.12)
    p.polygon([(0.09, 0.24), (-0.08, 0.2), tip], scale_color(p.coat, 0.75))


def _boat(p: Pen) -> None:
    p.polygon([(-2.6, 0), (2.2, 0), (3.1, 0.9), (-2.8, 0.9)], p.coat)
    if p.rng.random() < 0.5:
        p.line([(0, 0.9), (0, 5.2)], 0.09, METAL)
        p.polygon([(0.15, 1.2), (2.3, 1.2), (0.15, 5)], p.vary_color((0.88, 0.87, 0.84)))
        p.polygon([(-0.15, 1.2), (-1.6, 1.2), (-0.15, 4.4)], p.vary_color((0.8, 0.8, 0.8)))
        return
    p.box(-0.4, 0.9, 2.6, 1.0, p.vary_color((0.85, 0.84, 0.8)), 0.2)
    _panes(p, -1.2, 0.5, 1.2, 1.6, 4)


def _bottle(p: Pen) -> None:
    p.box(0, 0, 0.085, 0.18, p.coat)
    p.polygon([(-0.0425, 0.18), (0.0425, 0.18), (0.015, 0.235), (-0.015, 0.235)], p.coat)
    p.box(0, 0.23, 0.03, 0.07, scale_color(p.coat, 0.8))
    p.box(0, 0.05, 0.086, 0.08, p.vary_color((0.88, 0.86, 0.78)))


def _bus(p: Pen) -> None:
    p.box(0, 0.4, 10.5, 2.6, p.coat, 0.1)
    _panes(p, -4.4, 3.4, 1.6, 2.6, 7)
    p.box(4.7, 1.3, 0.8, 1.4, GLASS)
    p.box(3.7, 0.5, 0.8, 2.2, scale_color(GLASS, 1.4))
    for x in (-3.2, 2.4):
        _wheel(p, x, 0.5)


def _car(p: Pen) -> None:
    p.polygon([(-2.1, 0.3), (2.1, 0.3), (2.1, 0.75), (1.2, 0.92), (-2.0, 0.98)], p.coat)
    p.polygon([(-1.7, 0.95), (1.3, 0.9), (0.5, 1.48), (-1.2, 1.5)], scale_color(p.coat, 0.9))
    p.polygon([(-1.45, 0.97), (-0.3, 0.97), (-0.3, 1.4), (-1.1, 1.4)], GLASS)
    p.polygon([(-0.15, 0.97), (1.05, 0.95), (0.45, 1.4), (-0.15, 1.4)], GLASS)
    for x in (-1.3, 1.3):
        _wheel(p, x, 0.33)


def _train(p: Pen) -> None:
    for shift in (-13.4, 0.0):
        p.box(shift, 0.9, 13, 2.7, p.coat, 0.15)
        p.box(shift, 0.45, 12, 0.5, DARK)
        _panes(p, shift - 5.4, shift + 4.4, 2.0, 2.9, 7)
        p.box(shift, 1.5, 12.9, 0.22, scale_color(p.coat, 1.35))
        for x in (-4.6, -3.6, 3.6, 4.6):
            _wheel(p, shift + x, 0.42)
    p.polygon([(6.5, 0.9), (7.9, 0.9), (7.6, 2.0), (6.5, 3.5)], p.coat)
    p.polygon([(6.6, 2.2), (7.4, 2.2), (6.6, 3.2)], GLASS)


def _chair(p: Pen) -> None:
    for x, far in ((-0.14, 0.04), (0.24, 0.04), (-0.22, 0.0), (0.2, 0.0)):
        p.line([(x, 0.45), (x, far)], 0.045, scale_color(p.coat, 0.8))
    p.polygon([(-0.25, 0.43), (0.23, 0.43), (0.29, 0.52), (-0.17, 0.52)], p.coat)
    p.polygon([(-0.25, 0.48), (-0.17, 0.5), (-0.24, 1.0), (-0.32, 0.98)], scale_color(p.coat, 0.85))


def _dining_table(p: Pen) -> None:
    for x, far in ((-0.62, 0.1), (0.75, 0.1), (-0.75, 0.0), (0.62, 0.0)):
        p.line([(x, 0.72), (x, far)], 0.07, scale_color(p.coat, 0.75))
    p.polygon([(-0.85, 0.7), (0.7, 0.7), (0.88, 0.86), (-0.67, 0.86)], p.coat)
    p.box(-0.07, 0.66, 1.54, 0.05, scale_color(p.coat, 0.6))


def _sofa(p: Pen) -> None:
    p.box(0, 0.35, 1.9, 0.6, scale_color(p.coat, 0.85), 0.06)
    p.box(0, 0.08, 1.9, 0.36, p.coat)
    for x in (-0.4, 0.4):
        p.box(x, 0.4, 0.76, 0.14, scale_color(p.coat, 1.15), 0.03)
    for x in (-0.95, 0.95):
        p.box(x, 0.05, 0.24, 0.6, scale_color(p.coat, 0.7), 0.03)


def _potted_plant(p: Pen) -> None:
    for _ in range(11):
        x, y = p.rng.uniform(-0.28, 0.28), p.rng.uniform(0.45, 0.85)
        p.line([(0, 0.25), (0.5 * x, 0.7 * y), (x, y)], 0.05, p.vary_color((0.22, 0.38, 0.16), 0.07))
    p.polygon([(-0.13, 0), (0.13, 0), (0.18, 0.3), (-0.18, 0.3)], p.coat)


def _tv_monitor(p: Pen) -> None:
    p.box(0, 0, 0.34, 0.03, DARK)
    p.box(0, 0.02, 0.07, 0.1, DARK)
    p.box(0, 0.1, 0.8, 0.5, p.vary_color((0.13, 0.13, 0.14)))
    p.box(0, 0.14, 0.72, 0.42, p.coat)


def _person(p: Pen) -> None:
    """Paint a person who stands or walks."""
    swing, trousers, skin = (
        p.rng.uniform(-0.25, 0.25),
        p.vary_color(COATS[p.rng.integers(len(COATS))]),
        (0.66, 0.48, 0.38),
    )
    p.line([(-0.2, 1.38), (-0.28, 1.1), (-0.2 - swing, 0.85)], 0.1, scale_color(p.coat, 0.8))
    for side in (-1, 1):
        p.line(
            [(0.06 * side, 0.85), (0.08 * side + 0.5 * side * swing, 0.45), (side * (0.08 + swing), 0.03)],
            0.15,
            trousers,
        )
    p.polygon([(-0.2, 0.8), (0.2, 0.8), (0.24, 1.42), (0.1, 1.5), (-0.1, 1.5), (-0.24, 1.42)], p.coat)
    p.line([(0.2, 1.38), (0.27, 1.1), (0.22 + swing, 0.88)], 0.1, scale_color(p.coat, 1.1))
    p.disc(0.22 + swing, 0.85, 0.05, 0.05, skin)
    p.disc(0.01, 1.64, 0.1, 0.13, p.vary_color(skin, 0.08))
    p.disc(-0.02, 1.7, 0.11, 0.09, p.vary_color((0.2, 0.15, 0.1), 0.05))


def _built(build: Build) -> Callable[[Pen], None]:
    return lambda p: _animal(p, build)


class Kind(NamedTuple):
    """Describe a kind of object.

    Attributes:
        name: name in :data:`medpos.core.labels.VOC`.
        paint: function that draws it.
        size: larger side in meters.
    """

    name: str
    paint: Callable[[Pen], None]
    size: float


# In VOC's order: class n is KINDS[n - 1].
KINDS = (
    Kind("aeroplane", _aeroplane, 12.5), Kind("bicycle", _bicycle, 1.75), Kind("bird", _bird, 0.7),
    Kind("boat", _boat, 6.0), Kind("bottle", _bottle, 0.31), Kind("bus", _bus, 10.5), Kind("car", _car, 4.2),
    Kind("cat", _built(CAT), 0.7), Kind("chair", _chair, 1.0), Kind("cow", _built(COW), 2.4),
    Kind("dining_table", _dining_table, 1.7), Kind("dog", _built(DOG), 1.0), Kind("horse", _built(HORSE), 2.5),
    Kind("motorbike", _motorbike, 2.0), Kind("person", _person, 1.8), Kind("potted_plant", _potted_plant, 0.9),
    Kind("sheep", _built(SHEEP), 1.3), Kind("sofa", _sofa, 2.1), Kind("train", _train, 22.0),
    Kind("tv_monitor", _tv_monitor, 0.8),
)  # fmt: skip
