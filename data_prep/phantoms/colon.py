"""Draw colonoscopy phantoms and write them like CVC-ClinicDB: ``Original/1.tif`` and ``Ground Truth/1.tif``.

A fold of the mucosa and a polyp have the same color; a polyp is round, lit like a ball, and has a shadow beside it.
"""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from data_prep.datasets.polyp import SEQUENCES
from data_prep.phantoms.shapes import Mask, blob_distance, case_generator, smooth_noise, soft_step
from medpos.core.files import write_bytes

KIND = 21
WIDTH, HEIGHT = 384, 288
FRAMES = 3  # of one video


def draw(video: np.random.Generator, frame: np.random.Generator) -> tuple[NDArray[np.uint8], Mask]:
    """Draw one frame.

    Args:
        video: random generator of the video, which all its frames share: colors, size and outline of the polyp.
        frame: random generator of the frame: where the polyp is, folds and noise.

    Returns:
        Picture (288, 384, 3), and the polyp (288, 384).
    """
    shape = (HEIGHT, WIDTH)
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    color = np.array([0.78, 0.42, 0.34], np.float32) * (1 + video.normal(0, 0.06, 3)).astype(np.float32)
    size, long, turn = video.uniform(22, 52), video.uniform(1, 1.4), video.uniform(0, np.pi)
    lobes = np.stack([video.normal(0, (0.05, 0.04, 0.02)), video.uniform(0, 2 * np.pi, 3)])
    at = frame.uniform((90, 80), (WIDTH - 90, HEIGHT - 80))
    rho = blob_distance(x, y, (at[0], at[1]), (size * long, size / long), turn, lobes)
    depth = np.hypot(x - frame.uniform(120, 260), y - frame.uniform(90, 200)) / 260  # the dark end of the bowel
    folds = np.abs(smooth_noise(frame, shape, 7))
    light = 0.25 + 0.75 * depth.clip(0, 1) + 0.18 * soft_step(0.25 - folds, 0.1) - 0.1
    shadow = 1 - 0.35 * soft_step(1.25 - blob_distance(x - 6, y - 8, (at[0], at[1]), (size, size), 0, lobes), 0.15)
    ball = np.sqrt((1 - rho**2).clip(0, 1))
    inside = soft_step(1 - rho, 0.05)
    light = light * shadow * (1 - inside) + inside * (0.45 + 0.5 * ball + 0.05 * smooth_noise(frame, shape, 40))
    shine = soft_step(smooth_noise(frame, shape, 30) - 1.9, 0.1)[..., None]
    veins = 1 - 0.12 * soft_step(0.08 - np.abs(smooth_noise(frame, shape, 18)), 0.05)
    picture = color * (light * veins)[..., None] * np.array([1, 1, 1], np.float32)
    picture = picture + shine * (1 - picture) + frame.normal(0, 0.015, (*shape, 3))
    border = np.maximum(np.abs(x - WIDTH / 2) / (WIDTH / 2 - 8), np.abs(y - HEIGHT / 2) / (HEIGHT / 2 - 6)) > 1
    picture[border] = 0.02
    return np.asarray(np.rint(255 * picture.clip(0, 1)), np.uint8), (rho < 1) & ~border


def write_case(out: Path, seed: int, index: int) -> tuple[int, int]:
    """Write frame ``index`` (from 0) as number ``index + 1``; three in a row are of one video.

    Args:
        out: folder that gets the layout of the download.
        seed: random seed, >= 0.
        index: number of the case, from 0.

    Returns:
        Number of the frame, and of its video.
    """
    picture, mask = draw(case_generator(seed, KIND, index // FRAMES), case_generator(seed, KIND + 100, index))
    for folder, array in (("Original", picture), ("Ground Truth", np.uint8(255) * mask)):
        buffer = BytesIO()
        Pillow.fromarray(array).save(buffer, "TIFF")
        write_bytes(out / folder / f"{index + 1}.tif", buffer.getvalue())
    return index + 1, index // FRAMES + 1


def write_sequences(out: Path, written: Sequence[tuple[int, int]]) -> None:
    """Write the table of the videos of the frames that :func:`write_case` wrote, which the download lacks."""
    lines = ["frame,sequence", *(f"{frame},{video}" for frame, video in sorted(written))]
    write_bytes(out / SEQUENCES, "\n".join([*lines, ""]).encode())
