"""Draw the surroundings of the heart in a short-axis slice: chest wall, lungs, liver, stomach, vessels, spine.

Lengths are in mm, x to the right and y downward from the image's middle. In a small window much of it looks like the
heart, as in people: stomach, bowel and great vessels are bright with a gray wall, liver and muscle are as gray as the
myocardium.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_prep.phantoms.shapes import Image, ellipse_distance, gaussian_bump, smooth_noise, soft_step, upsample

Numbers = NDArray[np.float64]
LUNG, MUSCLE, LIVER, BLOOD = 0.07, 0.33, 0.34, 0.86


@dataclass(frozen=True)
class Torso:
    """Describe one person's torso.

    Args:
        heart: (2, 2), position of the LV's axis at the base, (x, y), and its drift toward the apex.
        reach: outer radius of the LV at the base, mm.
        rv_depth: depth of the right ventricle, mm.
        body: (2, 2), middle (x, y) and half axes.
        lobes: (2, 4), amplitudes and phases of the skin's 2nd to 5th harmonic.
        fat: mean thickness under the skin in mm, its relative change, the direction of its maximum, and its signal.
        muscle: thickness of the chest wall below the fat, mm.
        slope: slope of the diaphragm, mm per mm, and its curvature, 1/mm.
        loops: (n, 9), stomach, bowel, kidneys: x, y, half axes, angle, depth, extent in depth, signal, wall.
        vessels: atria and great arteries, same columns.
        dots: (m, 4), small vessels: x, y, radius, depth.
        warp: (2, 6, 6), displacement of hollow organs in mm at 6 x 6 knots.
    """

    heart: Numbers
    reach: float
    rv_depth: float
    body: Numbers
    lobes: Numbers
    fat: tuple[float, float, float, float]
    muscle: float
    slope: tuple[float, float]
    loops: Numbers
    vessels: Numbers
    dots: Numbers
    warp: Image


def _loops(rng: np.random.Generator, heart: Numbers, reach: float) -> Numbers:
    """Draw hollow organs under the diaphragm, many with size and brightness of a ventricle."""
    n = int(rng.integers(20, 27))
    x = rng.uniform(-90, 120, n) + heart[0]
    y = heart[1] + reach + rng.uniform(26, 140, n)
    long, short = rng.uniform(14, 36, n), rng.uniform(11, 28, n)
    signal = rng.choice((0.06, 0.6, BLOOD, BLOOD, BLOOD, BLOOD, BLOOD, BLOOD), n)
    depth, extent, wall = rng.uniform(0, 1, n), rng.uniform(0.25, 0.6, n), rng.uniform(3, 15, n)
    # The first six lie under the domes of the diaphragm and touch the lung, as the stomach's fundus does.
    aside = rng.uniform((45, 65, 85, 105, -115, -95), (70, 90, 110, 130, -85, -65))
    x[:6] = heart[0] + aside
    y[:6] = heart[1] + reach + 0.08 * aside + 0.001 * aside**2 + rng.uniform(-16, 10, 6)
    long[:6], short[:6], wall[:6] = rng.uniform(16, 34, 6), rng.uniform(14, 28, 6), rng.uniform(3, 14, 6)
    extent[:6], signal[:6] = rng.uniform(0.5, 1.2, 6), BLOOD
    return np.stack([x, y, long, short, rng.uniform(0, np.pi, n), depth, extent, signal, wall], 1)


def _vessels(rng: np.random.Generator, heart: Numbers, reach: float) -> Numbers:
    """Draw atria and great arteries at the base, the descending aorta at every depth."""
    rows = [[heart[0] + rng.uniform(15, 45), heart[1] + reach + rng.uniform(18, 40), 11, 11, 0, 0.5, 2, BLOOD, 5]]
    for x, y in ((-20, -25), (-35, 8), (12, -30), (20, 22), (-10, 0)):
        size = rng.uniform(13, 24, 2)
        at = (heart[0] + x + rng.normal(0, 6), heart[1] + y + rng.normal(0, 6))
        rows.append([*at, *size, rng.uniform(0, np.pi), rng.uniform(-0.25, 0.0), 0.16, BLOOD, rng.uniform(3, 9)])
    return np.asarray(rows)


def _fat(rng: np.random.Generator) -> tuple[float, float, float, float]:
    """Draw the fat of lean and obese people, about as bright as blood, thickest in front, below or behind."""
    return rng.uniform(8, 26), rng.uniform(0.1, 0.6), rng.uniform(-0.3, np.pi), rng.uniform(0.8, 0.96)


def make_torso(rng: np.random.Generator, reach: float, rv_depth: float) -> Torso:
    """Draw one person.

    Args:
        rng: random generator of the case.
        reach: outer radius of the LV at the base, mm.
        rv_depth: depth of the right ventricle, mm.
    """
    place = np.clip(rng.normal((8, -8), (8, 7)), (-10, -24), (26, 8))
    heart = np.stack([place, rng.normal((4, -4), 5)])
    body = np.stack([place + rng.normal((2, 22), 8), rng.uniform((132, 150), (162, 195))])
    lobes = np.stack([rng.normal((0.02, 0, 0.03, 0), (0.04, 0.025, 0.02, 0.012)), rng.uniform(0, 2 * np.pi, 4)])
    dots = rng.uniform((-120, -130, 1.5, 0), (120, 140, 4.5, 1), (90, 4)) + np.r_[place, 0, 0]
    return Torso(
        heart, reach, rv_depth, body, lobes, _fat(rng),
        rng.uniform(9, 16), (rng.normal(0.08, 0.1), rng.uniform(0.0005, 0.002)),
        _loops(rng, place, reach), _vessels(rng, place, reach), dots,
        rng.normal(0, 6, (2, 6, 6)).astype(np.float32),
    )  # fmt: skip


def _blend(picture: Image, where: Image, signal: float | Image) -> None:
    """Blend ``signal`` into the picture in place, with opacity ``where`` (0 to 1)."""
    picture += where * (signal - picture)


def _hollow(
    picture: Image, x: Image, y: Image, organs: Numbers, s: float, bend: tuple[Image, Image] | None = None
) -> None:
    """Paint the hollow organs at this depth, each with a gray wall, displaced by ``bend`` in mm."""
    bent_x, bent_y = (x, y) if bend is None else (x + bend[0], y + bend[1])
    for ox, oy, a, b, turn, middle, extent, signal, wall in organs:
        left = 1 - ((s - middle) / extent) ** 2
        if left <= 0.05:
            continue
        shrink = float(np.sqrt(left))
        a, b = a * shrink, b * shrink
        reach = max(a, b) + 22
        rows, columns = _window(x[:, 0], ox, reach), _window(y[0], oy, reach)
        if rows.stop - rows.start < 2 or columns.stop - columns.start < 2:
            continue
        here_x, here_y = bent_x[rows, columns], bent_y[rows, columns]
        rho = ellipse_distance(here_x, here_y, (ox, oy), (a, b), turn)
        inside = picture[rows, columns]
        edge = 0.8 / min(a, b)
        _blend(inside, soft_step(1 + wall / min(a, b) - rho, edge), MUSCLE)
        _blend(inside, soft_step(1 - rho, edge), float(signal))
        if wall > 7:  # folds of the stomach, as round as papillary muscles
            fold = ellipse_distance(here_x, here_y, (ox + 0.5 * a, oy - 0.35 * b), (0.22 * a, 0.22 * a))
            _blend(inside, soft_step(1 - fold, 0.3) * (rho < 1), MUSCLE)


def strands(rng: np.random.Generator, picture: Image) -> None:
    """Add mottle to the whole slice, and gray strands to all bright tissue, in place."""
    shape = (picture.shape[0], picture.shape[1])
    here = (smooth_noise(rng, shape, 8) > 0) & (smooth_noise(rng, shape, 48) > 1.1) & (picture > 0.6)
    picture[here] = 0.5
    picture *= 1 + 0.07 * smooth_noise(rng, shape, 48) + 0.07 * smooth_noise(rng, shape, 14)


def _window(axis: Image, middle: float, reach: float) -> slice:
    """Return the part of an axis within reach of a point."""
    first, last = np.searchsorted(axis, (middle - reach, middle + reach))
    return slice(int(first), int(last))


def _wall(t: Torso, x: Image, y: Image) -> tuple[Image, Image, Image]:
    """Compute depth below the skin and below the fat, in mm, and direction from the body's middle."""
    dx, dy = (x - t.body[0, 0]).astype(np.float32), (y - t.body[0, 1]).astype(np.float32)
    angle = np.arctan2(dy, dx)
    rho = (np.abs(dx / t.body[1, 0]) ** 2.6 + np.abs(dy / t.body[1, 1]) ** 2.6) ** (1 / 2.6)
    ripple = np.zeros_like(angle)
    for k, (a, p) in enumerate(t.lobes.T, 2):
        ripple += np.float32(a) * np.cos(k * angle - np.float32(p))
    depth = (1 + ripple - rho) * t.body[1].mean()
    thickness, change, most, _ = t.fat
    fat = thickness * (1 + change * np.cos(angle - most))
    return depth.astype(np.float32), (depth - fat).astype(np.float32), angle


def _inside(rng: np.random.Generator, t: Torso, x: Image, y: Image, s: float) -> Image:
    """Draw lungs, abdomen and mediastinum, without the chest wall."""
    cx, cy = t.heart[0] + s * t.heart[1]
    texture = smooth_noise(rng, x.shape, 40)
    picture = (LUNG + 0.02 * texture).astype(np.float32)
    dome = cy + 0.98 * t.reach - 14 * max(s, 0) ** 2 + t.slope[0] * (x - cx) + t.slope[1] * (x - cx) ** 2
    below = soft_step((y - dome).astype(np.float32), 1.5)
    liver = soft_step((t.body[0, 0] + 10 - 25 * s - x + 0.3 * (y - dome)).astype(np.float32), 2.0)
    folds = soft_step(smooth_noise(rng, x.shape, 22) + 0.3, 0.35)
    _blend(picture, below, MUSCLE + (BLOOD - MUSCLE) * folds)
    _blend(picture, below * liver, LIVER)
    pad = ellipse_distance(
        x, y, (cx - 0.5 * t.rv_depth, cy + 4), (t.reach + 0.65 * t.rv_depth, 1.15 * t.reach + 4), 0.1
    )
    pad = pad + 0.08 * smooth_noise(rng, x.shape, 6)
    fatty = soft_step(smooth_noise(rng, x.shape, 18) - 0.2, 0.3)
    _blend(picture, soft_step(1.03 - 0.35 * max(s, 0) - pad, 0.03), MUSCLE + (BLOOD + 0.02 - MUSCLE) * fatty)
    spine = ellipse_distance(x, y, (t.body[0, 0] - 5, t.body[0, 1] + 0.72 * t.body[1, 1]), (24, 20))
    _blend(picture, soft_step(1 - spine, 0.06), 0.45 + 0.05 * texture)
    bx, by = (upsample(knots, (x.shape[0], x.shape[1])) for knots in t.warp)
    _hollow(picture, x, y, t.loops, s, bend=(bx, by))
    return picture


def _dots(picture: Image, t: Torso, x: Image, y: Image, s: float) -> None:
    """Paint small vessels in cross-section in lungs and liver."""
    for ox, oy, radius, _ in t.dots[np.abs(t.dots[:, 3] - s) < 0.18]:
        rows, columns = _window(x[:, 0], ox, radius + 4), _window(y[0], oy, radius + 4)
        part = picture[rows, columns]
        distance = np.hypot(x[rows, columns] - np.float32(ox), y[rows, columns] - np.float32(oy))
        _blend(part, 0.9 * soft_step((radius - distance).astype(np.float32), 0.8), 0.75)


def paint_torso(rng: np.random.Generator, t: Torso, x: Image, y: Image, s: float) -> tuple[Image, tuple[float, float]]:
    """Draw one slice without the ventricles.

    Args:
        rng: random generator of this slice.
        t: the person's torso.
        x: distance to the right of the image's middle, mm, (nx, ny).
        y: distance below it, mm, (nx, ny).
        s: depth of the slice, 0 at the LV's base, 1 at its apex.

    Returns:
        Signal, 0 in air and 0.86 in blood, (nx, ny); and the position of the LV's axis in this slice, (x, y) in mm.
    """
    picture = _inside(rng, t, x, y, s)
    _dots(picture, t, x, y, s)
    _hollow(picture, x, y, t.vessels, s)
    skin, below_fat, angle = _wall(t, x, y)
    ribs = gaussian_bump(np.sin(9 * angle + 2.5 * s), 1.0, 0.25) * gaussian_bump(below_fat, 0.55 * t.muscle, 3.0)
    wall = soft_step(t.muscle - below_fat, 1.2)
    patches = soft_step(smooth_noise(rng, x.shape, 26) - 0.5, 0.3)
    _blend(picture, wall, MUSCLE + 0.35 * ribs + 0.4 * patches)
    _blend(picture, soft_step(-below_fat, 1.2), t.fat[3])
    _blend(picture, soft_step(-skin, 1.0), 0.0)
    cx, cy = t.heart[0] + s * t.heart[1]
    return picture, (float(cx), float(cy))
