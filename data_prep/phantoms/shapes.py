"""Draw basic shapes of phantoms: smooth curves, soft edges, blobs, random fields."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image as Pillow
from scipy.interpolate import PchipInterpolator

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]
Numbers = NDArray[np.uint16]
# Fewest visible pixels of an object that is labeled.
MIN_OBJECT_PIXELS = 20


def case_generator(seed: int, kind: int, index: int) -> np.random.Generator:
    """Return the random generator of one case, whatever the number of cases or workers.

    Args:
        seed: random seed of the user, >= 0.
        kind: number of the kind of phantom, so that the kinds share no random numbers.
        index: number of the case, from 0.
    """
    return np.random.default_rng(np.random.SeedSequence([seed, kind, index]))


def soft_step(distance: NDArray[Any], width: float) -> Image:
    """Compute a soft step: 0 where ``distance`` is far below zero, 1 far above, 0.5 at zero.

    Args:
        distance: signed distance, any unit, positive inside.
        width: half the distance over which the step rises from 0.12 to 0.88, same unit.
    """
    return np.asarray(0.5 + 0.5 * np.tanh(distance / np.float32(width)), np.float32)


def gaussian_bump(x: NDArray[Any], center: float, width: float) -> Image:
    """Compute a Gaussian bump of height 1; ``width`` is its standard deviation."""
    return np.asarray(np.exp(-0.5 * ((x - np.float32(center)) / np.float32(width)) ** 2), np.float32)


def monotone_curve(x: Image, knots: ArrayLike, values: ArrayLike) -> Image:
    """Evaluate a monotone cubic through the knots, constant outside them, at every ``x``."""
    knots = np.asarray(knots, dtype=float)
    fine = np.linspace(knots[0], knots[-1], 257)
    return np.interp(x, fine, PchipInterpolator(knots, np.asarray(values, dtype=float))(fine)).astype(np.float32)


def ellipse_distance(
    x: Image, y: Image, center: tuple[float, float], radii: tuple[float, float], angle: float = 0.0
) -> Image:
    """Compute the normalized distance from the center of an ellipse: below 1 inside, 1 on the rim.

    Args:
        x: coordinates to the right, any unit.
        y: coordinates downward, same unit.
        center: (x, y) of the center.
        radii: half axes along the rotated x and y.
        angle: rotation of the first axis from x toward y, radians.
    """
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    dx, dy = x - np.float32(center[0]), y - np.float32(center[1])
    u = (c * dx + s * dy) / np.float32(radii[0])
    v = (c * dy - s * dx) / np.float32(radii[1])
    rho: Image = np.sqrt(u * u + v * v)
    return rho


def blob_distance(
    x: Image, y: Image, center: tuple[float, float], radii: tuple[float, float], angle: float, lobes: NDArray[Any]
) -> Image:
    """Compute the normalized distance from the center of a lobed ellipse: below 1 inside, 1 on the rim.

    Args:
        x: coordinates to the right, any unit.
        y: coordinates downward, same unit.
        center: (x, y) of the center.
        radii: half axes along the rotated x and y.
        angle: rotation of the first axis from x toward y, radians.
        lobes: (2, n) amplitudes, with a sum below 1, and phases of the rim's 2nd to (n + 1)th harmonic.
    """
    way = np.arctan2(y - np.float32(center[1]), x - np.float32(center[0]))
    waves = (a * np.cos(order * way + phase) for order, (a, phase) in enumerate(lobes.T.astype(np.float32), 2))
    rim: Image = sum(waves, np.ones_like(way))
    return np.asarray(ellipse_distance(x, y, center, radii, angle) / rim, np.float32)


class BlobScene:
    """Collect blobs in an image: the number of the nearest at each pixel, and its distance.

    Args:
        shape: (rows, columns).

    Attributes:
        number: (rows, columns), number of the nearest blob, from 0 in the order of adding.
        distance: (rows, columns), normalized distance from its center: 1 on its rim, infinite far from all.
        count: number of blobs.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self.number = np.zeros(shape, np.uint16)
        self.distance = np.full(shape, np.inf, np.float32)
        self.count = 0

    def add(self, at: NDArray[Any], radii: tuple[float, float], angle: float, lobes: NDArray[Any]) -> None:
        """Add a blob with its center ``at``, (x, y) in pixels; a pixel belongs to the nearest blob."""
        reach = 2.5 * max(radii)
        left, top = np.maximum(at - reach, 0).astype(int).tolist()
        window = (slice(top, max(int(at[1] + reach), 0)), slice(left, max(int(at[0] + reach), 0)))
        rows, columns = np.indices(self.distance[window].shape, np.float32)
        distance = blob_distance(columns + left, rows + top, (at[0], at[1]), radii, angle, lobes)
        nearer = distance < self.distance[window]
        self.number[window][nearer] = self.count
        self.distance[window][nearer] = distance[nearer]
        self.count += 1

    def instances(self, rim: float = 1.0) -> Numbers:
        """Return numbers of objects from 1, 0 outside, (rows, columns), without objects of too few visible pixels.

        Args:
            rim: normalized distance at which an object ends.
        """
        numbers = np.where(self.distance < rim, self.number + 1, 0).astype(np.uint16)
        few = np.flatnonzero(np.bincount(numbers.ravel()) < MIN_OBJECT_PIXELS)
        numbers[np.isin(numbers, few)] = 0
        return numbers


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], cells: int) -> Image:
    """Draw smooth noise of unit variance at its knots.

    Args:
        rng: random generator.
        shape: (rows, columns) of the field.
        cells: number of knots along each side, >= 2.
    """
    return upsample(rng.standard_normal((cells, cells)).astype(np.float32), shape)


def upsample(image: Image, shape: tuple[int, int]) -> Image:
    """Enlarge an image to a shape (rows, columns) by cubic interpolation."""
    large = Pillow.fromarray(image).resize((shape[1], shape[0]), Pillow.Resampling.BICUBIC)
    return np.array(large, dtype=np.float32)
