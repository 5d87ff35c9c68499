"""Draw street phantoms and write them like the SegNet tutorial's CamVid: pictures from a car, a class for each pixel.

A street is modeled in meters and seen by a camera: x to the right, y up from the ground, z ahead. Things are painted
from far to near, so that near ones occlude far ones. Windows, lane markings and shadows have the class below them.
"""

from collections.abc import Callable, Iterable
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFilter

from data_prep.phantoms.shapes import Image, case_generator, smooth_noise
from medpos.core.files import write_bytes

KIND = 4
WIDTH, HEIGHT = 480, 360
FINE = 2  # oversampling of the drawing
SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST, VOID = range(12)  # SegNet's values
RIDER, LIGHT, TRUCK, BUS, TRAIN, MOTORCYCLE, WALL, TERRAIN = range(12, 20)  # further classes of Cityscapes
COARSE = np.array([*range(12), BICYCLIST, SIGN, CAR, CAR, CAR, BICYCLIST, FENCE, TREE], np.uint8)
GRAIN = np.array([0.01, 0.05, 0.03, 0.05, 0.06, 0.22, 0.02, 0.08, 0.03, 0.05, 0.05, 0.04], np.float32)
NEAR, FAR = 2.5, 110.0
# Folders of the tutorial with their sequences; seven pictures in a row have about the published shares 367, 101, 233.
PARTS = ("train", "test", "train", "val", "train", "test", "train")
DRIVES = {"train": ("0001TP_{:06d}", "0006R0_f{:05d}", "0016E5_{:05d}"), "val": ("0016E5_{:05d}",),
          "test": ("0001TP_{:06d}", "Seq05VD_f{:05d}")}  # fmt: skip
Color = tuple[float, float, float]
Point = tuple[float, float, float]
Thing = tuple[float, Callable[[], None]]  # distance in meters, and function that paints it


class Canvas:
    """Hold picture and label map seen by one camera.

    Args:
        rng: random generator of the case.
        size: (columns, rows) of the picture.
        void: label of pixels that nothing is painted on.
    """

    def __init__(self, rng: np.random.Generator, size: tuple[int, int] = (WIDTH, HEIGHT), void: int = VOID) -> None:
        self.rng, self.size = rng, size
        self.unit = size[1] / HEIGHT  # lengths in the picture grow with it
        fine = FINE * self.unit
        self.focus, self.eye = 400 * fine, rng.uniform(1.25, 1.6)
        self.middle = FINE * size[0] / 2 + fine * rng.normal(0, 25), fine * rng.uniform(150, 180)
        self.picture = Pillow.new("RGB", (size[0] * FINE, size[1] * FINE))
        self.labels = Pillow.new("L", self.picture.size, void)
        self.pens = ImageDraw.Draw(self.picture), ImageDraw.Draw(self.labels)

    def project(self, point: Point) -> tuple[float, float]:
        """Project a point in meters to pixels."""
        x, y, z = point
        return self.middle[0] + self.focus * x / z, self.middle[1] + self.focus * (self.eye - y) / z

    def polygon(self, points: Iterable[Point], label: int, color: Color) -> None:
        """Paint a polygon."""
        seen = [self.project(point) for point in points]
        ink = tuple(int(np.clip(round(255 * part), 0, 255)) for part in color)
        self.pens[0].polygon(seen, ink)
        self.pens[1].polygon(seen, label)

    def rectangle(self, x: float, y: float, z: float, size: tuple[float, float], label: int, color: Color) -> None:
        """Paint a rectangle that faces the camera: x of its middle, y of its lower edge, width and height."""
        a, b = x - size[0] / 2, x + size[0] / 2
        self.polygon([(a, y, z), (b, y, z), (b, y + size[1], z), (a, y + size[1], z)], label, color)

    def ellipse(self, x: float, y: float, z: float, radii: tuple[float, float], label: int, color: Color) -> None:
        """Paint an ellipse that faces the camera, around (x, y)."""
        ways = np.linspace(0, 2 * np.pi, 20, endpoint=False)
        self.polygon([(x + radii[0] * np.cos(w), y + radii[1] * np.sin(w), z) for w in ways], label, color)

    def vary_color(self, color: Color, spread: float = 0.06) -> Color:
        """Return a random color near the given one."""
        drift = self.rng.normal(0, spread) + self.rng.normal(0, spread / 3, 3)
        return (color[0] + drift[0], color[1] + drift[1], color[2] + drift[2])


def _scale_color(color: Color, by: float) -> Color:
    return (color[0] * by, color[1] * by, color[2] * by)


def _ground(c: Canvas, road: float) -> None:
    """Paint sky, road with its markings, and sidewalks."""
    rng, tall = c.rng, 60 * FAR / 40
    gray = rng.uniform(0.75, 0.98)
    for k in range(12):  # paler toward the horizon
        part = (gray - 0.02 * k, gray - 0.012 * k, min(1.0, gray + 0.02))
        c.polygon(
            [(-200, k * tall / 12, FAR), (200, k * tall / 12, FAR), (200, tall, FAR), (-200, tall, FAR)], SKY, part
        )
    stone, asphalt = c.vary_color((0.5, 0.48, 0.46)), c.vary_color((0.33, 0.33, 0.35), 0.04)
    c.polygon([(-90, 0, FAR), (90, 0, FAR), (90, 0, 0.8), (-90, 0, 0.8)], PAVEMENT, stone)
    c.polygon([(-road, 0, FAR), (road, 0, FAR), (road, 0, 0.8), (-road, 0, 0.8)], ROAD, asphalt)
    for side in (-1, 1):
        curb = [(side * road, 0, FAR), (side * (road + 0.18), 0, FAR), (side * (road + 0.18), 0, 0.8)]
        c.polygon([*curb, (side * road, 0, 0.8)], PAVEMENT, _scale_color(stone, 1.2))
    middle = rng.uniform(-0.25, 0.6) * road
    for z in np.arange(rng.uniform(2, 5), 60, 5.0):
        c.polygon(
            [(middle, 0, z), (middle + 0.14, 0, z), (middle + 0.14, 0, z + 2), (middle, 0, z + 2)], ROAD, (0.8,) * 3
        )
    for z in rng.uniform(5, 40, 4):  # patches and manholes
        c.polygon(
            [(x, 0, z + d) for x, d in ((-1, 0), (1, 0), (1.1, 1.5), (-0.9, 1.5))], ROAD, c.vary_color(asphalt, 0.05)
        )


def _house(c: Canvas, side: int, face: float, z: float, length: float) -> None:
    """Paint a house along the street with windows and its gable toward the camera."""
    tall = c.rng.uniform(5, 13)
    wall = c.vary_color(((0.52, 0.36, 0.28), (0.6, 0.55, 0.47), (0.68, 0.65, 0.6))[c.rng.integers(3)], 0.05)
    x, deep, end = side * face, side * (face + 9), z + length
    c.polygon([(x, 0, z), (deep, 0, z), (deep, tall, z), (x, tall, z)], BUILDING, _scale_color(wall, 0.8))
    c.polygon([(x, 0, z), (x, 0, end), (x, tall, end), (x, tall, z)], BUILDING, wall)
    glass = c.vary_color((0.2, 0.22, 0.26), 0.04)
    for low in np.arange(0.9, tall - 2, 3.0):
        for first in np.arange(z + 1, end - 1.3, 2.6):
            pane = [(x, low, first), (x, low, first + 1.2), (x, low + 1.6, first + 1.2), (x, low + 1.6, first)]
            c.polygon(pane, BUILDING, glass)


def _fence(c: Canvas, side: int, face: float, z: float, length: float) -> None:
    """Paint a fence or wall in front of the houses, or alone between them."""
    x, tall, color = side * (face - 0.25), c.rng.uniform(0.9, 1.7), c.vary_color((0.36, 0.31, 0.26), 0.08)
    c.polygon([(x, 0, z), (x, 0, z + length), (x, tall, z + length), (x, tall, z)], FENCE, color)
    for at in np.arange(z, z + length, 0.7):
        c.polygon(
            [(x, 0, at), (x, 0, at + 0.12), (x, tall, at + 0.12), (x, tall, at)], FENCE, _scale_color(color, 1.45)
        )


def _tree(c: Canvas, x: float, z: float) -> None:
    tall, leaf = c.rng.uniform(4.5, 9), c.vary_color((0.2, 0.3, 0.13), 0.05)
    c.rectangle(x, 0, z, (0.35, 0.6 * tall), TREE, (0.24, 0.19, 0.15))
    wide = 0.3 * tall
    for _ in range(45):
        way, far = c.rng.uniform(0, 2 * np.pi), wide * np.sqrt(c.rng.random())
        at = (x + far * np.cos(way), 0.68 * tall + 0.95 * far * np.sin(way))
        c.ellipse(*at, z, tuple(wide * c.rng.uniform(0.1, 0.3, 2)), TREE, _scale_color(leaf, c.rng.uniform(0.6, 1.5)))


def _pole(c: Canvas, x: float, z: float) -> None:
    """Paint a street lamp or a post."""
    tall, color = c.rng.uniform(4, 8), c.vary_color((0.32, 0.33, 0.33))
    c.rectangle(x, 0, z, (max(0.14, 3 * z / 400), tall), POLE, color)
    if c.rng.random() < 0.6:
        c.rectangle(x - np.sign(x) * 0.7, tall - 0.1, z, (1.5, 0.18), POLE, color)


def _sign(c: Canvas, x: float, z: float) -> None:
    """Paint a traffic sign or a traffic light on its post."""
    c.rectangle(x, 0, z, (max(0.09, 2.2 * z / 400), 2.3), POLE, (0.42, 0.42, 0.42))
    if c.rng.random() < 0.4:
        c.rectangle(x, 2.1, z, (0.36, 0.95), LIGHT, (0.1, 0.1, 0.1))
        c.ellipse(x, 2.9, z, (0.12, 0.12), LIGHT, (0.9, 0.15, 0.1))
        return
    rim, face = (
        ((0.75, 0.1, 0.12), (0.9, 0.9, 0.88)) if c.rng.random() < 0.6 else ((0.1, 0.25, 0.6), (0.15, 0.35, 0.75))
    )
    c.ellipse(x, 2.6, z, (0.36, 0.36), SIGN, rim)
    c.ellipse(x, 2.6, z, (0.26, 0.26), SIGN, face)


def _car(c: Canvas, x: float, z: float) -> None:
    """Paint a car from behind, with its side toward the middle of the street."""
    paint = c.vary_color(((0.12, 0.13, 0.15), (0.6, 0.62, 0.64), (0.5, 0.1, 0.1), (0.12, 0.2, 0.4))[c.rng.integers(4)])
    tall, half, end = c.rng.uniform(1.35, 1.7), 0.87, z + c.rng.uniform(3.4, 4.4)
    c.polygon([(x - 1, 0, z), (x + 1, 0, z), (x + 1, 0, end), (x - 1, 0, end)], ROAD, (0.14, 0.14, 0.15))  # shadow
    near = x - half if x > 0 else x + half
    c.polygon([(near, 0.3, z), (near, 0.3, end), (near, 0.9, end), (near, 0.95, z)], CAR, _scale_color(paint, 0.75))
    c.polygon(
        [(near, 0.95, z), (near, 0.9, end - 0.9), (near, tall, end - 1.6), (near, tall, z + 0.3)], CAR, (0.13,) * 3
    )
    c.rectangle(x, 0.28, z, (2 * half, 0.72), CAR, paint)
    roof = [(x - half, 1, z), (x + half, 1, z), (x + 0.7, tall, z + 0.3), (x - 0.7, tall, z + 0.3)]
    c.polygon(roof, CAR, _scale_color(paint, 0.9))
    pane = [(x - 0.66, 1.02, z), (x + 0.66, 1.02, z), (x + 0.56, tall - 0.12, z), (x - 0.56, tall - 0.12, z)]
    c.polygon(pane, CAR, (0.16, 0.18, 0.2))
    for side in (-1, 1):
        c.rectangle(x + side * 0.7, 0.68, z, (0.26, 0.18), CAR, (0.6, 0.06, 0.06))
        c.rectangle(x + side * 0.66, 0, z, (0.24, 0.32), CAR, (0.06,) * 3)


def _person(c: Canvas, x: float, z: float, label: int = PEDESTRIAN, up: float = 0.0) -> None:
    """Paint legs, trunk and head of a person who stands, or sits on a bicycle."""
    tall = c.rng.uniform(1.55, 1.85)
    coat = c.vary_color(
        ((0.15, 0.15, 0.2), (0.5, 0.15, 0.15), (0.25, 0.3, 0.45), (0.7, 0.68, 0.6))[c.rng.integers(4)], 0.05
    )
    for side in (-1, 1):
        c.rectangle(x + side * 0.1, up, z, (0.17, 0.48 * tall), label, c.vary_color((0.14, 0.15, 0.2), 0.03))
    c.ellipse(x, up + 0.64 * tall, z, (0.25, 0.22 * tall), label, coat)
    c.ellipse(x, up + 0.92 * tall, z, (0.11, 0.13), label, (0.62, 0.46, 0.38))


def _bicyclist(c: Canvas, x: float, z: float) -> None:
    for shift in (-0.18, 0.22):
        c.ellipse(x + shift, 0.34, z, (0.3, 0.34), BICYCLIST, (0.1, 0.1, 0.11))
        c.ellipse(x + shift, 0.34, z, (0.21, 0.25), BICYCLIST, (0.3, 0.3, 0.31))
    _person(c, x, z, RIDER, up=0.25)


def _bin(c: Canvas, x: float, z: float) -> None:
    """Paint a trash can, which has none of the classes."""
    c.rectangle(x, 0, z, (0.55, 1.0), VOID, c.vary_color((0.2, 0.28, 0.24)))


def _things(c: Canvas, road: float, walk: float) -> list[Thing]:
    """List the things in the street, each with its distance."""
    rng, found = c.rng, list[Thing]()
    for side in (-1, 1):
        z = rng.uniform(3.0, 7.0)
        while z < 75:
            length, face = rng.uniform(7, 18), road + walk + rng.choice((0.0, 0.0, 1.5, 4.0))
            kind = rng.random()
            if kind < 0.82:
                found.append((z + length, partial(_house, c, side, face, z, length)))
            if kind > 0.55:
                found.append((z + length / 2, partial(_fence, c, side, road + walk, z, length)))
            z += length + rng.choice((0.0, 0.0, 3.0, 8.0))
    rows: tuple[tuple[Callable[..., None], int, tuple[float, float], tuple[float, float]], ...] = (
        (_tree, int(rng.integers(4, 13)), (road + 0.8 * walk, road + walk + 5), (9, 80)),
        (_pole, int(rng.integers(3, 7)), (road + 0.3, road + 0.6), (6, 50)),
        (_sign, int(rng.integers(1, 4)), (road + 0.3, road + 0.8), (7, 26)),
        (_car, int(rng.integers(3, 8)), (road - 1.3, road - 1.0), (7, 55)),
        (_person, int(rng.integers(2, 8)), (road + 0.5, road + 0.9 * walk), (6, 30)),
        (_bicyclist, int(rng.integers(1, 3)), (road - 2.8, road - 2.3), (7, 24)),
        (_bin, int(rng.integers(0, 3)), (road + 0.4, road + walk), (6, 25)),
    )
    for paint, count, across, ahead in rows:
        for _ in range(count):
            x, z = rng.choice((-1, 1)) * rng.uniform(*across), rng.uniform(*ahead)
            found.append((z, partial(paint, c, x, z)))
    return found


def draw(rng: np.random.Generator, dusk: bool = False) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw one picture.

    Args:
        rng: random generator of the case.
        dusk: True for a dark and warm picture, like sequence 0001TP.

    Returns:
        Picture (360, 480, 3) and classes (360, 480), 0 to 10 and 11 for void.
    """
    c = Canvas(rng)
    paint_street(c)
    picture, labels = render(c, dusk)
    return picture, COARSE[labels]


def paint_street(c: Canvas, more: Callable[[Canvas, float, float], list[Thing]] = lambda c, road, walk: []) -> None:
    """Paint a street.

    Args:
        c: empty canvas.
        more: function that lists further things, from the canvas, half the road's width and the sidewalk's width in
            meters.
    """
    road, walk = c.rng.uniform(3.3, 4.8), c.rng.uniform(2.4, 4.6)
    _ground(c, road)
    for _, paint in sorted([*_things(c, road, walk), *more(c, road, walk)], key=lambda thing: -thing[0]):
        paint()


def render(c: Canvas, dusk: bool = False) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Add light, grain and noise.

    Returns:
        Picture (rows, columns, 3) and classes (rows, columns), 0 to 19.
    """
    rng, shape = c.rng, c.size[::-1]
    labels = np.array(c.labels)[FINE // 2 :: FINE, FINE // 2 :: FINE]
    picture = np.array(c.picture.resize(c.size, Pillow.Resampling.BOX).filter(ImageFilter.GaussianBlur(0.5)))
    grain = rng.normal(0, 1, shape) + smooth_noise(rng, shape, 90)
    light = 1 + GRAIN[COARSE[labels]] * grain + 0.06 * smooth_noise(rng, shape, 5)
    tone: Image = np.array((0.62, 0.52, 0.45) if dusk else (1, 1, 1), np.float32) * np.float32(rng.uniform(0.85, 1.1))
    scene = picture * light[..., None] * tone + rng.normal(0, 3, (*shape, 1))
    _hide(rng, scene, labels, c.unit)
    return np.asarray(np.rint(np.clip(scene, 0, 255)), np.uint8), labels


def _hide(rng: np.random.Generator, scene: NDArray[np.float64], labels: NDArray[np.uint8], unit: float) -> None:
    """Mark unlabeled pixels in place: the picture's border, and often the hood of the camera's car."""
    rim = int(rng.integers(1, 4))
    inner = labels[rim:-rim, rim:-rim].copy()
    labels[:] = VOID
    labels[rim:-rim, rim:-rim] = inner
    if rng.random() < 0.5:
        height, width = labels.shape
        y, x = np.mgrid[:height, :width] / unit
        hood = ((x - width / unit / 2) / 330) ** 2 + ((y - HEIGHT - 60) / rng.uniform(75, 90)) ** 2 < 1
        scene[hood] = 0.4 * scene[hood] + 25
        labels[hood] = VOID


def png(array: NDArray[np.uint8]) -> bytes:
    """Encode a picture or label map as PNG."""
    buffer = BytesIO()
    Pillow.fromarray(array).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def write_case(out: Path, seed: int, index: int) -> None:
    """Write picture ``index`` (from 0) and its label map under the folder and name of a real drive.

    Args:
        out: folder that gets the layout of the tutorial's ``CamVid``.
        seed: random seed, >= 0.
        index: number of the case, from 0 to 700.
    """
    part = PARTS[index % len(PARTS)]
    drives = DRIVES[part]
    name = drives[index // 2 % len(drives)].format(30 * index)
    picture, labels = draw(case_generator(seed, KIND, index), dusk=name.startswith("0001TP"))
    write_bytes(out / part / f"{name}.png", png(picture))
    write_bytes(out / f"{part}annot" / f"{name}.png", png(labels))
