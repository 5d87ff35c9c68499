"""What phantoms are drawn with: random numbers of one case, smooth curves, soft edges, random fields."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image as Pillow
from scipy.interpolate import PchipInterpolator

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]
Numbers = NDArray[np.uint16]
# Fewest pixels of an object that somebody would outline.
FEWEST = 20


def generator(seed: int, kind: int, index: int) -> np.random.Generator:
    """The random numbers of one case: the same whatever the number of cases or workers.

    Args:
        seed: the user's seed, >= 0.
        kind: number of the kind of phantom, so that the kinds share no numbers.
        index: number of the case, from 0.
    """
    return np.random.default_rng(np.random.SeedSequence([seed, kind, index]))


def soft(distance: NDArray[Any], width: float) -> Image:
    """A soft step: 0 where ``distance`` is far below zero, 1 far above, 0.5 at zero.

    Args:
        distance: signed distance, any unit, positive inside.
        width: from 0.12 to 0.88 in twice this length, same unit.
    """
    return np.asarray(0.5 + 0.5 * np.tanh(distance / np.float32(width)), np.float32)


def bell(x: NDArray[Any], centre: float, width: float) -> Image:
    """A Gaussian bump of height 1 (``width`` is its standard deviation)."""
    return np.asarray(np.exp(-0.5 * ((x - np.float32(centre)) / np.float32(width)) ** 2), np.float32)


def curve(x: Image, knots: ArrayLike, values: ArrayLike) -> Image:
    """A monotone-preserving cubic through the knots, held constant outside them, at every ``x``."""
    knots = np.asarray(knots, dtype=float)
    fine = np.linspace(knots[0], knots[-1], 257)
    return np.interp(x, fine, PchipInterpolator(knots, np.asarray(values, dtype=float))(fine)).astype(np.float32)


def ellipse(x: Image, y: Image, centre: tuple[float, float], radii: tuple[float, float], angle: float = 0.0) -> Image:
    """Normalised distance from the centre: below 1 inside, 1 on the rim.

    Args:
        x: coordinates to the right, any unit.
        y: coordinates downwards, same unit.
        centre: (x, y) of the centre.
        radii: half axes along the turned x and y.
        angle: turn of the first axis from x towards y, radians.
    """
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    dx, dy = x - np.float32(centre[0]), y - np.float32(centre[1])
    u = (c * dx + s * dy) / np.float32(radii[0])
    v = (c * dy - s * dx) / np.float32(radii[1])
    rho: Image = np.sqrt(u * u + v * v)
    return rho


def blob(
    x: Image, y: Image, centre: tuple[float, float], radii: tuple[float, float], angle: float, lobes: NDArray[Any]
) -> Image:
    """Normalised distance from the centre of a dented ellipse: below 1 inside, 1 on the rim.

    Args:
        x: coordinates to the right, any unit.
        y: coordinates downwards, same unit.
        centre: (x, y) of the centre.
        radii: half axes along the turned x and y.
        angle: turn of the first axis from x towards y, radians.
        lobes: (2, n) amplitudes, below 1 in sum, and phases of the rim's 2nd to (n + 1)th harmonic.
    """
    way = np.arctan2(y - np.float32(centre[1]), x - np.float32(centre[0]))
    waves = (a * np.cos(order * way + phase) for order, (a, phase) in enumerate(lobes.T.astype(np.float32), 2))
    rim: Image = sum(waves, np.ones_like(way))
    return np.asarray(ellipse(x, y, centre, radii, angle) / rim, np.float32)


class Scene:
    """Blobs in an image: which is the nearest at each pixel, and how far off it is.

    Args:
        shape: (rows, columns).

    Attributes:
        number: (rows, columns), of the nearest blob, from 0 in the order of adding.
        distance: (rows, columns), normalised, from that blob's centre: 1 on its rim, infinite far from all.
        count: of blobs.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self.number = np.zeros(shape, np.uint16)
        self.distance = np.full(shape, np.inf, np.float32)
        self.count = 0

    def add(self, at: NDArray[Any], radii: tuple[float, float], angle: float, lobes: NDArray[Any]) -> None:
        """Add a :func:`blob` whose centre is ``at``, (x, y) in pixels; where two meet, the nearer has the pixel."""
        reach = 2.5 * max(radii)
        left, top = np.maximum(at - reach, 0).astype(int).tolist()
        window = (slice(top, max(int(at[1] + reach), 0)), slice(left, max(int(at[0] + reach), 0)))
        rows, columns = np.indices(self.distance[window].shape, np.float32)
        distance = blob(columns + left, rows + top, (at[0], at[1]), radii, angle, lobes)
        nearer = distance < self.distance[window]
        self.number[window][nearer] = self.count
        self.distance[window][nearer] = distance[nearer]
        self.count += 1

    def instances(self, rim: float = 1.0) -> Numbers:
        """Objects by number from 1, 0 outside, (rows, columns); those of which too little is seen are left out.

        Args:
            rim: the distance at which an object ends.
        """
        numbers = np.where(self.distance < rim, self.number + 1, 0).astype(np.uint16)
        few = np.flatnonzero(np.bincount(numbers.ravel()) < FEWEST)
        numbers[np.isin(numbers, few)] = 0
        return numbers


def smooth_field(rng: np.random.Generator, shape: tuple[int, int], cells: int) -> Image:
    """Smooth noise of unit variance at its knots.

    Args:
        rng: source of the noise.
        shape: (rows, columns) of the field.
        cells: number of knots along each side, >= 2.
    """
    return enlarge(rng.standard_normal((cells, cells)).astype(np.float32), shape)


def enlarge(image: Image, shape: tuple[int, int]) -> Image:
    """Cubic interpolation of an image to a larger shape, (rows, columns)."""
    large = Pillow.fromarray(image).resize((shape[1], shape[0]), Pillow.Resampling.BICUBIC)
    return np.array(large, dtype=np.float32)
