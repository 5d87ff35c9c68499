"""Draw phantom nuclei and write them like the Data Science Bowl 2018: ``ID/images/ID.png`` and ``ID/masks/*.png``.

Three looks: fluorescence, bright on dark; bright field, dark on light; stained tissue, purple on pink. The nuclei of an
image vary widely in brightness, the dimmest are hardly brighter than haze and specks around them, and many touch.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from scipy.ndimage import gaussian_filter

from data_prep.phantoms.shapes import BlobScene, Image, Numbers, case_generator, smooth_noise, soft_step
from medpos.core.files import write_bytes

KIND = 2
# Absorption of red, green and blue per unit of stain: Ruifrok and Johnston, Anal. Quant. Cytol. Histol. 23(4), 2001.
HEMATOXYLIN = np.array([0.650, 0.704, 0.286], np.float32)
EOSIN = np.array([0.072, 0.990, 0.105], np.float32)
RADIUS = 10.0


@dataclass(frozen=True)
class Look:
    """Describe the appearance of one kind of image.

    Args:
        paint: function that maps a random generator and a scene to an image, (rows, columns, 3), 0 to 1.
        shape: (rows, columns).
        radius: median radius of the nuclei, pixels.
        count: minimum and maximum number of nuclei.
    """

    paint: Callable[[np.random.Generator, BlobScene], Image]
    shape: tuple[int, int]
    radius: float
    count: tuple[int, int]


def scatter(rng: np.random.Generator, shape: tuple[int, int], count: int, radius: float) -> BlobScene:
    """Scatter nuclei over an image, half of them beside another one, so that they touch.

    Args:
        rng: random generator of the case.
        shape: (rows, columns).
        count: number of nuclei to try; those on top of another are left out.
        radius: median radius, pixels.
    """
    scene = BlobScene(shape)
    placed = np.empty((0, 3))
    for _ in range(count):
        size = radius * float(np.clip(rng.lognormal(0, 0.25), 0.55, 1.7))
        at = rng.uniform((0, 0), shape[::-1])
        if len(placed) and rng.random() < 0.5:
            other, way = placed[rng.integers(len(placed))], rng.uniform(0, 2 * np.pi)
            at = other[:2] + (other[2] + size) * rng.uniform(0.9, 1.0) * np.array([np.cos(way), np.sin(way)])
        long, turn = rng.uniform(1, 1.35), rng.uniform(0, np.pi)
        lobes = np.stack([rng.normal(0, (0.03, 0.04, 0.02)), rng.uniform(0, 2 * np.pi, 3)])
        near = np.hypot(*(placed[:, :2] - at).T) < 0.85 * (placed[:, 2] + size)
        if not near.any() and 0 <= at[0] < shape[1] and 0 <= at[1] < shape[0]:
            scene.add(at, (size * long, size / long), turn, lobes)
            placed = np.vstack([placed, [*at, size]])
    return scene


def _grain(rng: np.random.Generator, image: NDArray[Any], amount: float) -> Image:
    """Add noise that grows with the light, like shot noise."""
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    return np.asarray(image + amount * np.sqrt(0.1 + image.clip(0)) * noise, np.float32)


def _body(rng: np.random.Generator, scene: BlobScene, spread: float, edge: float) -> Image:
    """Draw the density of the nuclei: 0 outside, about 1 inside, different in each, with clumps of chromatin."""
    amount = np.clip(rng.lognormal(0, spread, max(scene.count, 1)), 0.25, 2).astype(np.float32)
    clumps = 1 + 0.18 * gaussian_filter(rng.standard_normal(scene.shape, dtype=np.float32), 1.5) * 3
    return np.asarray(amount[scene.number] * soft_step(1 - scene.distance, edge) * clumps, np.float32)


def _haze(rng: np.random.Generator, shape: tuple[int, int], radius: float) -> Image:
    """Draw nuclei out of focus and specks, which aren't labeled; 0 to about 1."""
    away = scatter(rng, shape, int(rng.integers(2, 8)), 1.4 * radius)
    dirt = scatter(rng, shape, int(rng.integers(3, 12)), 0.14 * radius)
    blurred = gaussian_filter(soft_step(1 - away.distance, 0.3), 0.5 * radius)
    return np.asarray(0.7 * blurred + 1.2 * soft_step(1 - dirt.distance, 0.3), np.float32)


def fluorescence(rng: np.random.Generator, scene: BlobScene) -> Image:
    """Paint fluorescence: bright on dark, often dim."""
    glow = 0.06 + 0.025 * smooth_noise(rng, scene.shape, 4).clip(-1.5, 1.5)
    light = _body(rng, scene, 0.55, 0.15) + 0.5 * _haze(rng, scene.shape, RADIUS)
    gray = gaussian_filter(glow + rng.uniform(0.12, 0.5) * light, rng.uniform(0.6, 1.2))
    return np.repeat(_grain(rng, gray, rng.uniform(0.01, 0.04))[..., None], 3, axis=-1)


def bright_field(rng: np.random.Generator, scene: BlobScene) -> Image:
    """Paint bright field: gray, dark on light."""
    depth = 0.5 * _body(rng, scene, 0.4, 0.12) + 0.3 * _haze(rng, scene.shape, RADIUS)
    gray = 0.8 * np.exp(-gaussian_filter(depth + 0.06 * smooth_noise(rng, scene.shape, 6), 1.0))
    return np.repeat(_grain(rng, gray, 0.015)[..., None], 3, axis=-1)


def stained(rng: np.random.Generator, scene: BlobScene) -> Image:
    """Paint hematoxylin and eosin by Beer and Lambert's law: purple nuclei in pink tissue with white gaps."""
    tissue = soft_step(smooth_noise(rng, scene.shape, 9) + 1.0, 0.4)
    fibers = gaussian_filter(rng.standard_normal(scene.shape, dtype=np.float32), (1.2, 4.0)) * 5
    purple = 0.75 * _body(rng, scene, 0.35, 0.12) + tissue * (0.12 + 0.25 * _haze(rng, scene.shape, RADIUS))
    pink = tissue * (0.35 + 0.12 * fibers).clip(0.05) * (1 - 0.5 * soft_step(1 - scene.distance, 0.12))
    depth = gaussian_filter(purple, 0.8)[..., None] * HEMATOXYLIN + gaussian_filter(pink, 0.8)[..., None] * EOSIN
    return _grain(rng, 0.95 * np.exp(-rng.uniform(0.8, 1.3) * depth), 0.015)


# Used in turn. Shares and sizes follow the real images: half are 256 x 256 in fluorescence, a sixth stained tissue.
LOOKS = (
    Look(fluorescence, (256, 256), RADIUS, (15, 60)),
    Look(stained, (256, 320), RADIUS, (25, 60)),
    Look(fluorescence, (256, 256), 0.7 * RADIUS, (30, 80)),
    Look(fluorescence, (360, 360), 1.2 * RADIUS, (10, 40)),
    Look(fluorescence, (256, 256), RADIUS, (15, 60)),
    Look(bright_field, (512, 640), RADIUS, (80, 180)),
    Look(fluorescence, (520, 696), 1.2 * RADIUS, (80, 200)),
)


def draw(rng: np.random.Generator, look: Look) -> tuple[NDArray[np.uint8], Numbers]:
    """Draw one phantom.

    Returns:
        (rows, columns, 3) colors; (rows, columns) numbers of the nuclei, 0 outside.
    """
    scene = scatter(rng, look.shape, int(rng.integers(*look.count)), look.radius)
    light = look.paint(rng, scene)
    return np.rint(255 * light.clip(0, 1)).astype(np.uint8), scene.instances()


def _png(pixels: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Pillow.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def write_case(out: Path, seed: int, index: int) -> None:
    """Write case ``index`` (from 0): one RGBA image and the masks.

    Args:
        out: folder that gets the layout of the download.
        seed: random seed, >= 0.
        index: number of the case, from 0.
    """
    colors, instances = draw(case_generator(seed, KIND, index), LOOKS[index % len(LOOKS)])
    name = sha256(f"{seed}/{index}".encode()).hexdigest()
    for number in np.unique(instances[instances > 0]).tolist():
        mask = sha256(f"{name}/{number}".encode()).hexdigest()
        write_bytes(out / name / "masks" / f"{mask}.png", _png(np.uint8(255) * (instances == number)))
    opaque = np.full_like(colors[..., :1], 255)
    write_bytes(out / name / "images" / f"{name}.png", _png(np.concatenate([colors, opaque], axis=-1)))
