"""Draw scenes with objects that occlude each other: in a street, on a meadow, in a room, on water or in the air."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFilter
from scipy.ndimage import maximum_filter, minimum_filter

from data_prep.phantoms.objects import COATS, KINDS, Canvas, Color, Pen, scale_color
from data_prep.phantoms.shapes import MIN_OBJECT_PIXELS, smooth_noise
from medpos.core.labels import IGNORED

RIM = 5  # width of the ignored border of VOC's objects, pixels
SETTINGS = {
    "street": ("bus", "car", "motorbike", "bicycle", "train", "person", "dog"),
    "meadow": ("cow", "horse", "sheep", "dog", "bird", "cat", "person"),
    "room": ("chair", "dining_table", "sofa", "tv_monitor", "potted_plant", "bottle", "cat", "dog", "person"),
    "water": ("boat", "bird", "person", "aeroplane"),
    "air": ("aeroplane", "bird"),
}
# Setting and guaranteed objects of pictures 0, 1, 2 and so on: nine pictures in a row have every class.
CASTS = (
    ("street", "bus", "car", "person"),
    ("meadow", "cow", "horse", "dog"),
    ("room", "chair", "dining_table", "bottle"),
    ("water", "boat", "bird", "person"),
    ("street", "train", "motorbike", "bicycle"),
    ("room", "sofa", "tv_monitor", "cat"),
    ("meadow", "sheep", "bird", "person"),
    ("air", "aeroplane", "bird"),
    ("room", "potted_plant", "chair", "person"),
)
NUMBERS = {kind.name: number for number, kind in enumerate(KINDS, 1)}


@dataclass(frozen=True, eq=False)
class Scene:
    """Hold a picture and its objects.

    Args:
        picture: (rows, columns, 3) colors.
        numbers: (rows, columns), number of the visible object, from 1; 0 for none.
        rim: (rows, columns), True within 2.5 px of the border of an object.
        classes: classes of the objects by number; 0 at index 0.
        horizon: row in which the ground begins.
    """

    picture: NDArray[np.uint8]
    numbers: NDArray[np.uint8]
    rim: NDArray[np.bool_]
    classes: NDArray[np.uint8]
    horizon: float = 0.0

    @property
    def label(self) -> NDArray[np.uint8]:
        """Label map with VOC's classes, 255 on the borders."""
        return np.where(self.rim, np.uint8(IGNORED), self.classes[self.numbers])


def draw(rng: np.random.Generator, size: tuple[int, int], cast: tuple[str, ...], extras: int = 3) -> Scene:
    """Draw one scene.

    Args:
        rng: random generator of the case.
        size: (columns, rows) of the picture.
        cast: setting, and the objects that are certainly in it.
        extras: greatest number of further objects of the setting.
    """
    canvas, (setting, *names) = Canvas(size), cast
    horizon = size[1] * rng.uniform(0.35, 0.55)
    paint_backdrop(canvas, rng, setting, horizon)
    names += rng.choice(SETTINGS[setting], rng.integers(0, extras + 1)).tolist()
    kinds = _paint_objects(canvas, rng, setting, horizon, names)
    return replace(render(canvas, rng, np.array([0, *kinds], np.uint8)), horizon=horizon)


def _paint_objects(
    canvas: Canvas, rng: np.random.Generator, setting: str, horizon: float, names: list[str]
) -> list[int]:
    """Paint overlapping objects from far to near, and return their classes."""
    columns, rows = canvas.size
    order = rng.permutation(len(names))
    places = (np.arange(len(names)) + rng.uniform(0.25, 0.75, len(names))) / len(names)
    near = np.sort(rng.uniform(0.15, 1, len(names)))
    kinds = []
    for number, (name, place, close) in enumerate(
        zip([names[n] for n in order], rng.permutation(places), near, strict=True), 1
    ):
        kind = KINDS[NUMBERS[name] - 1]
        long = min(columns, rows) * rng.uniform(0.35, 0.6) * (0.6 + 0.6 * close)
        foot = horizon + (rows * 0.98 - horizon) * close
        turn = rng.normal(0, 0.03)
        if setting == "air" or (name in ("bird", "aeroplane") and rng.random() < 0.4):
            foot, turn = rows * rng.uniform(0.35, 0.9), rng.normal(0, 0.2)
        if setting == "room" and name in ("bottle", "tv_monitor"):
            foot, long = min(foot, rows * 0.75), 0.8 * long
        scale = long / kind.size * (1.6 if name in ("bus", "train") else 1)
        pen = Pen(canvas, rng, (columns * place, foot), scale, number, turn)
        if setting not in ("air", "water"):
            _shadow(canvas, (columns * place, foot), 0.45 * long)
        kind.paint(pen)
        kinds.append(NUMBERS[name])
    return kinds


def _shadow(canvas: Canvas, at: tuple[float, float], wide: float) -> None:
    """Darken the ground below an object; a shadow has the class of the ground."""
    fine = canvas.fine
    size = (max(round(2 * fine * wide), 2), max(round(0.14 * fine * wide), 2))
    corner = (round(fine * (at[0] - wide)), round(fine * (at[1] - 0.05 * wide)))
    mask = Pillow.new("L", size, 0)
    ImageDraw.Draw(mask).ellipse((0, 0, size[0] - 1, size[1] - 1), 110)
    canvas.picture.paste((0, 0, 0), corner, mask)


def paint_backdrop(canvas: Canvas, rng: np.random.Generator, setting: str, horizon: float) -> None:
    """Paint sky or wall, ground, and things without a class in the colors of the objects."""
    columns, rows = canvas.size
    upper: dict[str, Color] = {"room": COATS[rng.integers(len(COATS))], "air": (0.5, 0.68, 0.88)}
    lower: dict[str, Color] = {
        "street": (0.4, 0.4, 0.41), "meadow": (0.36, 0.48, 0.22), "room": (0.52, 0.42, 0.33), "water": (0.24, 0.4, 0.5),
        "air": (0.6, 0.74, 0.9),
    }  # fmt: skip
    pen = Pen(canvas, rng, (0, horizon), 1.0)
    pen.side = 1.0
    above, below = pen.vary_color(upper.get(setting, (0.68, 0.78, 0.9)), 0.06), pen.vary_color(lower[setting], 0.05)
    for k in range(10):  # paler above and below toward the horizon
        pen.box(columns / 2, horizon * k / 10, columns, horizon / 10 + 1, scale_color(above, 1.06 - 0.02 * k))
        deep = rows - horizon
        pen.box(columns / 2, -deep * (k + 1) / 10, columns, deep / 10 + 1, scale_color(below, 1.1 - 0.03 * k))
    if setting == "street":
        _houses(pen, columns, horizon)
    elif setting == "room":
        for x in rng.uniform(0, columns, 3):
            _frame(pen, float(x), float(rng.uniform(0.3, 0.6)) * horizon, 0.3 * horizon)
    elif setting == "meadow":
        for _ in range(14):
            x, wide = rng.uniform(0, columns), rng.uniform(0.04, 0.14) * columns
            pen.disc(x, 0.2 * wide, wide, 0.6 * wide, pen.vary_color((0.25, 0.36, 0.18), 0.08))
    _patches(pen, setting, columns, rows - horizon)


def _patches(pen: Pen, setting: str, columns: float, deep: float) -> None:
    """Paint waves, tufts, clouds, stains: ellipses that aren't objects."""
    rng, lifted = pen.rng, setting == "air"
    for _ in range(40):
        x, y = rng.uniform(0, columns), deep * rng.uniform(-1, 1 if lifted else 0)
        wide = columns * rng.uniform(0.01, 0.1 if lifted else 0.06)
        color = (0.92, 0.93, 0.95) if lifted else pen.vary_color((0.4, 0.45, 0.38), 0.12)
        pen.disc(x, y, wide, wide * (0.4 if lifted else 0.12), color)
    if setting in ("street", "room", "meadow"):  # boxes, stones and posts in the objects' colors
        for _ in range(int(rng.integers(1, 5))):
            x, y, wide = rng.uniform(0, columns), -deep * rng.uniform(0, 0.6), columns * rng.uniform(0.02, 0.07)
            pen.box(x, y, wide, wide * rng.uniform(0.6, 3.5), pen.vary_color(COATS[rng.integers(len(COATS))]))


def _houses(pen: Pen, columns: float, horizon: float) -> None:
    """Paint a row of houses with windows like those of a bus."""
    x = -0.1 * columns
    while x < columns:
        wide, tall = pen.rng.uniform(0.15, 0.4) * columns, pen.rng.uniform(0.45, 0.95) * horizon
        wall = pen.vary_color(COATS[pen.rng.integers(len(COATS))], 0.06)
        pen.box(x + wide / 2, 0, wide, tall, wall)
        for low in np.arange(0.12, 0.85, 0.24) * tall:
            for at in np.arange(0.15, 0.95, 0.2) * wide:
                pen.box(x + at, float(low), 0.11 * wide, 0.14 * tall, (0.2, 0.24, 0.3))
        x += wide * pen.rng.uniform(1, 1.2)


def _frame(pen: Pen, x: float, y: float, tall: float) -> None:
    """Paint a picture or a window on the wall, much like a screen."""
    wide = tall * pen.rng.uniform(0.8, 1.6)
    pen.box(x, y, wide, tall, pen.vary_color((0.2, 0.17, 0.14), 0.08))
    pen.box(x, y + 0.08 * tall, 0.88 * wide, 0.84 * tall, pen.vary_color(COATS[pen.rng.integers(len(COATS))]))


def render(canvas: Canvas, rng: np.random.Generator, classes: NDArray[np.uint8]) -> Scene:
    """Add light, grain and noise on the final grid; hardly visible objects become background.

    Args:
        canvas: canvas with all objects.
        rng: random generator of the case.
        classes: classes of the objects by number; 0 at index 0.
    """
    (columns, rows), fine = canvas.size, canvas.fine
    drawn = np.array(canvas.numbers)
    few = np.flatnonzero(np.bincount(drawn.ravel(), minlength=classes.size) < MIN_OBJECT_PIXELS * fine**2)
    drawn[np.isin(drawn, few)] = 0
    reach = RIM * fine + 1  # a window of this size spans RIM * fine edges between pixels
    rim = maximum_filter(drawn, reach) != minimum_filter(drawn, reach)
    middle = (slice(fine // 2, None, fine),) * 2
    picture = np.array(
        canvas.picture.resize((columns, rows), Pillow.Resampling.BOX).filter(ImageFilter.GaussianBlur(0.6))
    )
    grain = rng.uniform(0.02, 0.12, classes.size)[drawn[middle]]
    light = 1 + grain * smooth_noise(rng, (rows, columns), 60) + 0.1 * smooth_noise(rng, (rows, columns), 4)
    tone = rng.uniform(0.75, 1.15) * (1 + rng.normal(0, 0.04, 3))
    pixels = picture * light[..., None] * tone + rng.normal(0, 5, (rows, columns, 3))
    return Scene(np.rint(pixels.clip(0, 255)).astype(np.uint8), drawn[middle], rim[middle], classes)
