"""Write street phantoms like Cityscapes, a quarter as wide and high: pictures with label ids, 19 classes and others."""

from functools import partial
from pathlib import Path

import numpy as np

from data_prep.phantoms.shapes import case_generator
from data_prep.phantoms.street import (
    BUS,
    MOTORCYCLE,
    ROAD,
    TERRAIN,
    TRAIN,
    TRUCK,
    WALL,
    Canvas,
    Color,
    Thing,
    paint_street,
    png,
    render,
)
from medpos.core.files import write_bytes

KIND = 8
SIZE = (512, 256)
PARTS = ("train", "val", "train", "train", "val")
CITIES = {"train": ("aachen", "hamburg", "zurich"), "val": ("frankfurt", "munster")}
# Cityscapes' label ids in the order of the street's classes: sky, building, pole, road, pavement, tree, sign, fence,
# car, pedestrian, bicycle, void; rider, light, truck, bus, train, motorcycle, wall, terrain.
IDS = np.array([23, 11, 17, 7, 8, 21, 20, 13, 26, 24, 33, 0, 25, 19, 27, 28, 31, 32, 12, 22], np.uint8)
PAINTS: tuple[Color, ...] = (
    (0.6, 0.62, 0.64),
    (0.5, 0.1, 0.1),
    (0.12, 0.2, 0.4),
    (0.75, 0.6, 0.15),
    (0.2, 0.35, 0.22),
)


def _vehicle(c: Canvas, x: float, z: float, size: tuple[float, float, float], label: int, windows: bool) -> None:
    """Paint a tall vehicle from behind; ``size`` is its width, height and length in meters."""
    wide, tall, long = size
    paint = c.vary_color(PAINTS[c.rng.integers(len(PAINTS))])
    near = x - wide / 2 if x > 0 else x + wide / 2
    c.polygon(
        [(x - 1.6, 0, z), (x + 1.6, 0, z), (x + 1.6, 0, z + long), (x - 1.6, 0, z + long)], ROAD, (0.14, 0.14, 0.15)
    )
    side = (paint[0] * 0.75, paint[1] * 0.75, paint[2] * 0.75)
    c.polygon([(near, 0.4, z), (near, 0.4, z + long), (near, tall, z + long), (near, tall, z)], label, side)
    for at in np.arange(z + 0.5, z + long - 1, 1.5) if windows else ():
        pane = [(near, y, at + step) for y, step in ((0.5, 0), (0.5, 1.2), (0.8, 1.2), (0.8, 0))]
        c.polygon([(a, y * tall, b) for a, y, b in pane], label, (0.16, 0.18, 0.2))
    c.rectangle(x, 0.4, z, (wide, tall - 0.4), label, paint)
    if windows:
        c.rectangle(x, 0.55 * tall, z, (0.8 * wide, 0.3 * tall), label, (0.16, 0.18, 0.2))
    for shift in (-1, 1):
        c.rectangle(x + shift * 0.36 * wide, 0, z, (0.3, 0.5), label, (0.06,) * 3)


def _motorcycle(c: Canvas, x: float, z: float) -> None:
    """Paint a parked motorcycle from the side."""
    for shift in (-0.7, 0.7):
        c.ellipse(x + shift, 0.33, z, (0.33, 0.33), MOTORCYCLE, (0.08,) * 3)
        c.ellipse(x + shift, 0.33, z, (0.16, 0.16), MOTORCYCLE, (0.5,) * 3)
    body = [(x + a, y, z) for a, y in ((-0.7, 0.75), (-0.1, 0.3), (0.4, 0.3), (0.6, 1.0), (0.2, 0.95))]
    c.polygon(body, MOTORCYCLE, c.vary_color(PAINTS[c.rng.integers(len(PAINTS))]))


def _strip(c: Canvas, side: int, x: float, z: float, long: float, tall: float, label: int, color: Color) -> None:
    """Paint a wall of ``tall`` meters along the street, or grass if ``tall`` is 0."""
    a, b, wide = side * x, side * (x + (0 if tall else 2.0)), z + long
    c.polygon([(a, 0, z), (a, 0, wide), (b, tall, wide), (b, tall, z)], label, c.vary_color(color, 0.03))


def _further_things(c: Canvas, road: float, walk: float, index: int) -> list[Thing]:
    """List things of classes that CamVid lacks, a third of them in each picture."""
    rng, found = c.rng, list[Thing]()
    side = int(rng.choice((-1, 1)))

    def at(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    tall = ((TRUCK, (2.4, 3.2, 7.0), False), (BUS, (2.5, 3.1, 11.0), True), (TRAIN, (2.4, 3.4, 28.0), True))[index % 3]
    z = at(9, 18)
    found.append((z, partial(_vehicle, c, side * (road - 1.6), z, tall[1], tall[0], tall[2])))
    if index % 3 == 0:
        z = at(7, 14)
        found.append((z, partial(_motorcycle, c, -side * (road + 0.6), z)))
    stone, grass = (0.45, 0.43, 0.4), (0.38, 0.45, 0.2)
    if index % 3 == 1:
        z = at(5, 9)
        found.append((z + 9, partial(_strip, c, -side, road + walk - 0.4, z, 18.0, 1.9, WALL, stone)))
    else:
        found.append((90.0, partial(_strip, c, -side, road + 0.5, at(3, 6), 40.0, 0.0, TERRAIN, grass)))
    return found


def write_case(out: Path, seed: int, index: int) -> None:
    """Write picture ``index`` (from 0) and its label ids, under the name of a drive.

    Args:
        out: folder that gets the layout of the download.
        seed: random seed, >= 0.
        index: number of the case, from 0.
    """
    part = PARTS[index % len(PARTS)]
    city = CITIES[part][index % len(CITIES[part])]
    name = f"{city}_{index // 6:06d}_{19 + 30 * (index % 6):06d}"
    canvas = Canvas(case_generator(seed, KIND, index), SIZE)
    paint_street(canvas, partial(_further_things, index=index))
    picture, labels = render(canvas)
    write_bytes(out / "leftImg8bit" / part / city / f"{name}_leftImg8bit.png", png(picture))
    write_bytes(out / "gtFine" / part / city / f"{name}_gtFine_labelIds.png", png(IDS[labels]))
