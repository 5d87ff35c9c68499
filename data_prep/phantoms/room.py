"""Draw room phantoms and write them like A. Handa's copy of SUN RGB-D: pictures, and label maps with its 37 classes.

A room is modeled in meters and seen by the camera of the street phantoms. Furniture is a box, painted from far to near;
what hangs on the back wall is a rectangle. All share a few colors: size, place and neighbors tell what a thing is.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageFilter

from data_prep.datasets.sunrgbd import COUNTS, LABELS
from data_prep.phantoms.objects import COATS
from data_prep.phantoms.shapes import case_generator, smooth_noise
from data_prep.phantoms.street import FINE, Canvas, Color, png
from data_prep.phantoms.voc import jpeg
from medpos.core.files import write_bytes
from medpos.core.labels import SUNRGBD

KIND = 20
SIZES = ((561, 427), (730, 530), (640, 480), (681, 531))  # of the four cameras
PARTS = ("train", "test", "train", "train", "test", "train", "train")  # a length without common divisor with the rooms
NUMBERS = {label.name: label.index for label in SUNRGBD}
TALL = 2.6  # height of a room in meters
NEAR = 1.2  # distance of the nearest floor in meters


class Thing(NamedTuple):
    """Describe a thing: width, height and depth in meters, and the height of its lower edge on the wall."""

    wide: float
    tall: float
    deep: float
    up: float = 0.0


ON_THE_WALL = {
    "door": Thing(0.9, 2.0, 0), "window": Thing(1.2, 1.1, 0, 1.0), "picture": Thing(0.6, 0.5, 0, 1.3),
    "blinds": Thing(1.2, 1.2, 0, 0.95), "shelves": Thing(1.0, 0.9, 0, 1.2), "curtain": Thing(0.6, 2.1, 0, 0.2),
    "mirror": Thing(0.7, 0.9, 0, 1.1), "clothes": Thing(0.5, 1.0, 0, 0.8), "towel": Thing(0.35, 0.6, 0, 0.9),
    "shower_curtain": Thing(1.0, 1.9, 0, 0.2), "whiteboard": Thing(1.5, 1.0, 0, 1.0),
}  # fmt: skip
ON_THE_FLOOR = {
    "cabinet": Thing(0.9, 1.2, 0.5), "bed": Thing(1.6, 0.55, 1.6), "chair": Thing(0.5, 0.9, 0.5),
    "sofa": Thing(1.8, 0.8, 0.8), "table": Thing(1.2, 0.7, 0.8), "bookshelf": Thing(0.9, 1.9, 0.35),
    "counter": Thing(1.6, 0.9, 0.6), "desk": Thing(1.3, 0.75, 0.7), "dresser": Thing(1.0, 1.0, 0.5),
    "floor_mat": Thing(1.1, 0.02, 0.7), "refrigerator": Thing(0.7, 1.7, 0.7), "box": Thing(0.5, 0.4, 0.4),
    "person": Thing(0.5, 1.7, 0.3), "night_stand": Thing(0.45, 0.55, 0.4), "toilet": Thing(0.4, 0.75, 0.6),
    "bathtub": Thing(1.6, 0.55, 0.7), "bag": Thing(0.4, 0.4, 0.25),
}  # fmt: skip
ON_TOP = {
    "pillow": Thing(0.6, 0.18, 0.4), "books": Thing(0.4, 0.25, 0.3), "television": Thing(0.9, 0.55, 0.1),
    "paper": Thing(0.45, 0.03, 0.4), "sink": Thing(0.55, 0.15, 0.4), "lamp": Thing(0.3, 0.5, 0.3),
}  # fmt: skip
# What is in pictures 0, 1, 2 and so on: five in a row have every class. A thing after a plus stands on the one before.
ROOMS = (
    "window curtain picture clothes bed+pillow night_stand+lamp dresser+television floor_mat",
    "whiteboard blinds shelves desk+paper chair box person bag bookshelf",
    "mirror towel shower_curtain bathtub toilet counter+sink cabinet",
    "picture door curtain sofa+pillow table+books night_stand+lamp bookshelf person",
    "window door refrigerator counter+sink table+paper chair cabinet box",
)


def _box(c: Canvas, x: float, y: float, z: float, thing: Thing, name: str, color: Color) -> None:
    """Paint a box with the middle of its front's lower edge at (x, y, z)."""
    label, (wide, tall, deep, _) = NUMBERS[name], thing
    left, right, top, back = x - wide / 2, x + wide / 2, y + tall, z + deep
    near = left if x > 0 else right  # the side toward the middle of the picture
    shades = [tuple(part * by for part in color) for by in (0.75, 1.15)]
    c.polygon([(near, y, z), (near, y, back), (near, top, back), (near, top, z)], label, shades[0])  # type: ignore[arg-type]
    c.polygon([(left, top, z), (right, top, z), (right, top, back), (left, top, back)], label, shades[1])  # type: ignore[arg-type]
    c.rectangle(x, y, z, (wide, tall), label, color)


def _shell(c: Canvas, half: float, wall: float) -> None:
    """Paint walls, floor and ceiling of a room, ``half`` its width and ``wall`` the distance of its back in meters."""
    paint, boards = c.vary_color((0.75, 0.72, 0.66), 0.08), c.vary_color((0.48, 0.4, 0.32), 0.08)
    corners = [(-half, 0, wall), (half, 0, wall), (half, TALL, wall), (-half, TALL, wall)]
    c.polygon(corners, NUMBERS["wall"], paint)
    for side in (-half, half):
        face = [(side, 0, wall), (side, 0, 0.3), (side, TALL, 0.3), (side, TALL, wall)]
        c.polygon(face, NUMBERS["wall"], (paint[0] * 0.85, paint[1] * 0.85, paint[2] * 0.85))
    for up, name, color in ((0.0, "floor", boards), (TALL, "ceiling", c.vary_color((0.85, 0.85, 0.83)))):
        face = [(-half, up, wall), (half, up, wall), (half, up, 0.3), (-half, up, 0.3)]
        c.polygon(face, NUMBERS[name], color)


def _furnish(c: Canvas, names: list[str], half: float, wall: float) -> None:
    """Paint the things of a room, those on the wall first, then those on the floor from far to near."""
    rng = c.rng
    hung = [name for name in names if name in ON_THE_WALL]
    for place, name in zip(rng.permutation(len(hung)), hung, strict=True):
        thing, x = ON_THE_WALL[name], half * (2 * (place + 0.5) / len(hung) - 1)
        c.rectangle(float(x), thing.up, wall - 0.01, (thing.wide, thing.tall), NUMBERS[name], _coat(c))
    stood = [name for name in names if name not in hung]
    depths = np.sort(rng.uniform(NEAR + 1, wall - 0.6, len(stood)))[::-1]
    for place, z, pair in zip(rng.permutation(len(stood)), depths, rng.permutation(stood), strict=True):
        name, _, guest = str(pair).partition("+")
        thing, x = ON_THE_FLOOR[name], float(0.9 * half * (2 * (place + rng.uniform(0.3, 0.7)) / len(stood) - 1))
        _box(c, x, 0.0, float(z), thing, name, _coat(c))
        if guest:
            deep = float(z) + 0.3 * thing.deep
            _box(c, x, thing.tall, deep, ON_TOP[guest], guest, _coat(c))


def _coat(c: Canvas) -> Color:
    return c.vary_color(COATS[c.rng.integers(len(COATS))])


def draw(rng: np.random.Generator, size: tuple[int, int], room: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw one room.

    Args:
        rng: random generator of the case.
        size: (columns, rows) of the picture.
        room: what is in it, one of ``ROOMS``.

    Returns:
        Picture (rows, columns, 3) and classes (rows, columns), 0 for void.
    """
    c = Canvas(rng, size, void=0)
    half, wall = float(rng.uniform(1.8, 2.6)), float(rng.uniform(4.0, 5.5))
    _shell(c, half, wall)
    _furnish(c, room.split(), half, wall)
    labels = np.array(c.labels)[FINE // 2 :: FINE, FINE // 2 :: FINE]
    picture = np.array(c.picture.resize(size, Pillow.Resampling.BOX).filter(ImageFilter.GaussianBlur(0.6)))
    shape = size[::-1]
    light = rng.uniform(0.7, 1.1) + 0.08 * smooth_noise(rng, shape, 5) + 0.05 * smooth_noise(rng, shape, 60)
    pixels = picture * light[..., None] + rng.normal(0, 4, (*shape, 3))
    labels[smooth_noise(rng, shape, 9) > 1.6] = 0  # what nobody labeled
    return np.asarray(np.rint(np.clip(pixels, 0, 255)), np.uint8), labels


def write_case(out: Path, seed: int, index: int) -> None:
    """Write picture ``index`` (from 0) and its label map.

    Args:
        out: folder that gets the layout of the downloads.
        seed: random seed, >= 0.
        index: number of the case, from 0.
    """
    part = PARTS[index % len(PARTS)]
    rng = case_generator(seed, KIND, index)
    picture, labels = draw(rng, SIZES[index % len(SIZES)], ROOMS[index % len(ROOMS)])
    shift = COUNTS["test"] if part == "train" else 0
    write_bytes(out / f"SUNRGBD-{part}_images" / f"img-{index + 1:06d}.jpg", jpeg(picture))
    write_bytes(out / LABELS / f"img-{index + 1 + shift:06d}.png", png(labels))
