"""Draw phantom cells and write them like PhC-C2DH-U373 of the Cell Tracking Challenge: two phase contrast sequences.

A cell has a bright halo, a dark rim, and inside the same gray as its surroundings. Cells move back and forth, so
neighboring frames are nearly equal, as in the real sequences.
"""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from scipy.ndimage import gaussian_filter

from data_prep.phantoms.shapes import BlobScene, Image, Numbers, case_generator, gaussian_bump, smooth_noise, soft_step
from medpos.core.files import write_bytes

KIND = 3
SHAPE = (520, 696)
CELLS = 8  # one in each field of a grid of 2 x 4
# Every second frame has a gold truth; the silver truth has all frames, with slightly smaller cells.
STEP = 2
SILVER_RIM = 0.96


def arrange(rng: np.random.Generator, frame: int) -> BlobScene:
    """Place the cells of one frame.

    Args:
        rng: random generator of the sequence.
        frame: number of the frame, from 0.
    """
    field = np.array([SHAPE[1] / 4, SHAPE[0] / 2])
    scene = BlobScene(SHAPE)
    for cell in range(CELLS):
        home = (np.array([cell % 4, cell // 4]) + rng.uniform(0.3, 0.7, 2)) * field
        size, long, turn = rng.uniform(32, 46), rng.uniform(1.05, 1.5), rng.uniform(0, np.pi)
        reach, speed, start = rng.uniform(15, 55, 2), rng.uniform(0.01, 0.04, 2), rng.uniform(0, 2 * np.pi, 2)
        lobes = np.stack([rng.uniform(0.02, (0.22, 0.2, 0.14, 0.08)), rng.uniform(0, 2 * np.pi, 4)])
        lobes[1] += frame * rng.normal(0, 0.02, 4)
        at = home + reach * np.sin(start + speed * frame)
        scene.add(at, (size * long, size / long), turn + frame * rng.normal(0, 0.01), lobes)
    return scene


def _specks(rng: np.random.Generator) -> BlobScene:
    """Draw dead cells and dirt, which aren't labeled."""
    scene = BlobScene(SHAPE)
    for at in rng.uniform((0, 0), SHAPE[::-1], (int(rng.integers(10, 25)), 2)):
        size = rng.uniform(2, 6)
        scene.add(at, (size, size), 0.0, np.stack([rng.normal(0, (0.05, 0.05)), rng.uniform(0, 6, 2)]))
    return scene


def paint(fixed: np.random.Generator, passing: np.random.Generator, scene: BlobScene) -> Image:
    """Draw the light from 0 to 1, (rows, columns).

    Args:
        fixed: random generator of what stays the same in a sequence: ground, specks, grains.
        passing: random generator of the camera noise in this frame.
        scene: cells of the frame.
    """
    far = np.minimum(scene.distance, 9)
    ground = 0.42 + 0.03 * smooth_noise(fixed, SHAPE, 4) + 0.015 * smooth_noise(fixed, SHAPE, 24)
    grains = gaussian_filter(fixed.standard_normal(SHAPE, dtype=np.float32), 1.6) * 5
    dirt = np.minimum(_specks(fixed).distance, 9)
    inside = soft_step(1 - far, 0.04)
    light = ground + inside * (0.05 * grains - 0.02)
    light += 0.3 * gaussian_bump(far, 1.07, 0.05) - 0.16 * gaussian_bump(far, 0.95, 0.05)
    light += (
        0.1 * gaussian_bump(far, 0.42, 0.04) - 0.05 * soft_step(0.4 - far, 0.05) + 0.2 * gaussian_bump(far, 0.0, 0.09)
    )
    light += 0.4 * soft_step(0.8 - dirt, 0.3) - 0.15 * gaussian_bump(dirt, 1.4, 0.3)
    return np.asarray(gaussian_filter(light, 0.8) + 0.012 * passing.standard_normal(SHAPE, dtype=np.float32))


def _tiff(pixels: NDArray[np.uint8] | Numbers) -> bytes:
    stream = io.BytesIO()
    Pillow.fromarray(pixels).save(stream, format="TIFF", compression="tiff_lzw")
    return stream.getvalue()


def write_case(out: Path, seed: int, index: int) -> None:
    """Write case ``index`` (from 0): a frame with gold and silver truth, and the next one with silver truth only.

    Args:
        out: folder that gets the layout of the download.
        seed: random seed, >= 0.
        index: number of the case, from 0 to 999; the two sequences take turns.
    """
    sequence, first = index % 2 + 1, index // 2 * STEP
    for frame in range(first, first + STEP):
        scene = arrange(case_generator(seed, KIND, sequence), frame)
        light = paint(
            case_generator(seed, KIND, 2 + sequence), case_generator(seed, KIND, 10 * (frame + 1) + sequence), scene
        )
        markers = np.where(scene.distance < 0.25, scene.instances(), 0).astype(np.uint16)
        gold, silver = out / f"{sequence:02d}_GT", out / f"{sequence:02d}_ST"
        write_bytes(gold / "TRA" / f"man_track{frame:03d}.tif", _tiff(markers))
        write_bytes(silver / "SEG" / f"man_seg{frame:03d}.tif", _tiff(scene.instances(SILVER_RIM)))
        if frame == first:
            write_bytes(gold / "SEG" / f"man_seg{frame:03d}.tif", _tiff(scene.instances()))
        gray = np.rint(255 * light.clip(0, 1)).astype(np.uint8)
        write_bytes(out / f"{sequence:02d}" / f"t{frame:03d}.tif", _tiff(gray))
