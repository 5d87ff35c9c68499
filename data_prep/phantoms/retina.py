"""Draw retina phantoms and write them like DRIVE: color photographs of the fundus, vessels and field of view.

Lengths are in pixels, x to the right and y downward from the image's middle. Vessels leave the optic disc, branch,
thin out and curve around the macula; choroid and hemorrhages look like them in a small window but aren't labeled.
"""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw
from scipy.ndimage import gaussian_filter

from data_prep.phantoms.shapes import Image, Mask, case_generator, gaussian_bump, smooth_noise, soft_step
from medpos.core.files import write_bytes

KIND = 3
WIDTH, HEIGHT = 565, 584
RADIUS = 268.0  # radius of the field of view
FINE = 3  # oversampling of the vessels
STEP = 5.0
THINNEST = 1.3


@dataclass
class Sprout:
    """Describe the growing end of a vessel.

    Args:
        x: position to the right, pixels.
        y: position down, pixels.
        way: direction in radians, from x toward y.
        width: width of the vessel, pixels.
        goal: direction in radians that the vessel bends toward.
        artery: True for arteries, which are lighter and have a reflex.
    """

    x: float
    y: float
    way: float
    width: float
    goal: float
    artery: bool


Line = tuple[list[tuple[float, float]], float, bool]  # points, width, artery


def _trunks(rng: np.random.Generator, disc: tuple[float, float], temporal: float) -> list[Sprout]:
    """Start an artery and a vein for each of the four quadrants at the disc's middle."""
    found = []
    for up in (-1, 1):
        for nasal in (False, True):
            for artery in (True, False):
                spread = rng.uniform(0.75, 1.15) if nasal else rng.uniform(1.0, 1.45)
                side = np.pi - temporal if nasal else temporal
                toward = np.cos(side)
                way = np.arctan2(up * np.sin(spread), toward * np.cos(spread))
                goal = np.arctan2(up * (0.75 if nasal else 0.08), toward)
                width = rng.uniform(4.5, 6.5) if artery else rng.uniform(6.0, 8.5)
                x, y = disc[0] + rng.normal(0, 4), disc[1] + rng.normal(0, 4)
                found.append(Sprout(x, y, way + rng.normal(0, 0.12), width * (0.75 if nasal else 1), goal, artery))
    return found


def _grow(rng: np.random.Generator, disc: tuple[float, float], macula: tuple[float, float]) -> list[Line]:
    """Grow all vessels as lines of one width each, trunks last."""
    temporal = 0.0 if macula[0] > disc[0] else np.pi
    sprouts = _trunks(rng, disc, temporal)
    lines: list[Line] = []
    while sprouts and len(lines) < 2500:
        s = sprouts.pop()
        points, start = [(s.x, s.y)], s.width
        while s.width > THINNEST:
            bend = np.arctan2(np.sin(s.goal - s.way), np.cos(s.goal - s.way))
            ahead = np.arctan2(macula[1] - s.y, macula[0] - s.x) - s.way
            away = np.hypot(s.x - macula[0], s.y - macula[1])
            avoid = -np.sign(np.sin(ahead)) * 0.16 * max(0.0, 1 - away / 120) * (s.width > 2.2)
            s.way += 0.045 * bend + avoid + rng.normal(0, 0.09)
            s.x, s.y = s.x + STEP * np.cos(s.way), s.y + STEP * np.sin(s.way)
            s.width *= 0.994
            points.append((s.x, s.y))
            if np.hypot(s.x, s.y) > RADIUS + 5 or away < 34:
                break
            off_disc = np.hypot(s.x - disc[0], s.y - disc[1]) > 36
            if off_disc and rng.random() < 0.13:
                turn = rng.choice((-1, 1)) * rng.uniform(0.5, 1.1)
                share = rng.uniform(0.35, 0.85)
                way = s.way + turn
                sprouts.append(Sprout(s.x, s.y, way, s.width * share, way + 0.5 * turn * rng.random(), s.artery))
                s.way -= 0.25 * turn * share
                s.width *= 1 - 0.16 * share
            if start - s.width > 0.35:
                lines.append((points, 0.5 * (start + s.width), s.artery))
                points, start = [points[-1]], s.width
        lines.append((points, start, s.artery))
    return sorted(lines, key=lambda line: line[1])


def _draw_lines(lines: list[Line], tone: bool) -> Image:
    """Draw the share of each pixel that is vessel, 0 to 1; with ``tone``, multiplied by the vessel's contrast."""
    canvas = Pillow.new("L", (WIDTH * FINE, HEIGHT * FINE))
    pen = ImageDraw.Draw(canvas)
    for points, width, artery in lines:
        contrast = min(1.0, 0.42 + 0.1 * width) * (0.8 if artery else 1.0) if tone else 1.0
        ink, broad = round(255 * contrast), max(round(width * FINE), 2)
        path = [((x + WIDTH / 2) * FINE, (y + HEIGHT / 2) * FINE) for x, y in points]
        pen.line(path, ink, broad, "curve")
        for x, y in (path[0], path[-1]):
            pen.ellipse((x - broad / 2, y - broad / 2, x + broad / 2, y + broad / 2), ink)
    small = canvas.resize((WIDTH, HEIGHT), Pillow.Resampling.BOX)
    return np.asarray(small, np.float32) / np.float32(255)


def _ground(rng: np.random.Generator, x: Image, y: Image, disc: Image, macula: Image) -> Image:
    """Draw the fundus without vessels, (rows, columns, 3) in 0 to 1."""
    shape = (HEIGHT, WIDTH)
    base = rng.normal((0.80, 0.44, 0.25), (0.06, 0.05, 0.05)).astype(np.float32)
    light = 1 - 0.28 * ((x - 30 * rng.normal()) ** 2 + (y - 30 * rng.normal()) ** 2) / np.float32(RADIUS**2)
    mottle = 0.06 * smooth_noise(rng, shape, 5) + 0.035 * smooth_noise(rng, shape, 22)
    # Choroidal vessels are visible as broad pale stripes.
    stripes = np.abs(smooth_noise(rng, shape, 14))
    choroid = rng.uniform(0.0, 0.09) * soft_step(0.25 - stripes, 0.15)
    picture = base * (light * (1 + mottle + choroid) * (1 - 0.38 * macula))[..., None]
    pale = np.array([1.0, 0.86, 0.55], np.float32) * np.float32(rng.uniform(0.88, 1.0))
    return np.asarray(picture + disc[..., None] * (pale - picture), np.float32)


def _lesions(rng: np.random.Generator, x: Image, y: Image, picture: Image) -> None:
    """Paint hemorrhages and exudates of a diabetic eye, in place."""
    for _ in range(int(rng.integers(6, 22))):
        far, way, size = rng.uniform(40, 240), rng.uniform(0, 2 * np.pi), rng.uniform(1.2, 4.5)
        spot = soft_step(size - np.hypot(x - far * np.cos(way), (y - far * np.sin(way)) * rng.uniform(0.6, 1.6)), 1.2)
        color = np.array([0.93, 0.8, 0.45] if rng.random() < 0.5 else [0.5, 0.16, 0.1], np.float32)
        picture += 0.8 * spot[..., None] * (color - picture)


def draw(rng: np.random.Generator) -> tuple[NDArray[np.uint8], Image, Mask]:
    """Draw one eye.

    Args:
        rng: random generator of the case.

    Returns:
        Photograph (584, 565, 3), share of each pixel that is vessel (584, 565), and field of view (584, 565).
    """
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    x, y = x - (WIDTH - 1) / 2, y - (HEIGHT - 1) / 2
    side = float(rng.choice((-1, 1)))  # left or right eye
    disc = (side * rng.uniform(150, 190), rng.normal(0, 14))
    macula = (disc[0] - side * rng.uniform(185, 205), disc[1] + rng.uniform(0, 22))
    lines = _grow(rng, disc, macula)
    radius = rng.uniform(33, 41)
    bright = soft_step(radius - np.hypot((x - disc[0]) * 1.08, y - disc[1]), 3.5)
    dark = gaussian_bump(np.hypot(x - macula[0], y - macula[1]), 0, 38)
    picture = _ground(rng, x, y, bright, dark)
    if rng.random() < 0.35:
        _lesions(rng, x, y, picture)
    share, tone = _draw_lines(lines, tone=False), _draw_lines(lines, tone=True)
    picture *= 1 - tone[..., None] * np.array([0.3, 0.5, 0.42], np.float32)
    reflex = _draw_lines(
        [(points, 0.3 * width, True) for points, width, artery in lines if artery and width > 3], False
    )
    picture *= 1 + 0.22 * reflex[..., None]
    for channel in range(3):
        picture[..., channel] = gaussian_filter(picture[..., channel], 0.8)
    grain = rng.normal(0, 0.012, picture.shape) + rng.normal(0, 0.01, (HEIGHT, WIDTH, 1))
    view = np.hypot(x, y) < RADIUS
    picture = np.where(view[..., None], picture + grain, 0.008 + 0.3 * np.abs(grain))
    return np.asarray(np.rint(255 * np.clip(picture, 0, 1)), np.uint8), share * view, view


def _picture(array: NDArray[np.uint8] | Mask, kind: str) -> bytes:
    buffer = BytesIO()
    Pillow.fromarray(array if array.dtype == np.uint8 else array.astype(np.uint8) * 255).save(buffer, kind)
    return buffer.getvalue()


def write_case(out: Path, seed: int, index: int) -> None:
    """Write photograph ``index`` (from 0) as 21_training, 01_test, 22_training, 02_test and so on.

    Args:
        out: folder that gets the layout of the download.
        seed: random seed, >= 0.
        index: number of the case, from 0 to 39.
    """
    photograph, share, view = draw(case_generator(seed, KIND, index))
    test = index % 2
    number, part = index // 2 + (1 if test else 21), "test" if test else "training"
    folder = out / part
    write_bytes(folder / "images" / f"{number:02d}_{part}.tif", _picture(photograph, "TIFF"))
    write_bytes(folder / "1st_manual" / f"{number:02d}_manual1.gif", _picture(share > 0.5, "GIF"))
    write_bytes(folder / "mask" / f"{number:02d}_{part}_mask.gif", _picture(view, "GIF"))
    if test:  # a second observer, without thin and faint vessels
        write_bytes(folder / "2nd_manual" / f"{number:02d}_manual2.gif", _picture(share > 0.8, "GIF"))
