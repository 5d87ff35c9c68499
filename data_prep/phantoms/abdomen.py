"""Draw phantoms of abdominal CT and write them like LiTS: ``volume-N.nii`` and ``segmentation-N.nii``.

Lengths are in mm, x toward the patient's left and y to the back from the middle of the body, z toward the head. Spleen,
kidneys, stomach and muscle have gray values near those of the liver; lesions in it are darker, vessels brighter.
"""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from data_prep.phantoms.shapes import case_generator
from medpos.core.files import write_bytes

KIND = 22
SIDE, SLICES = 192, 16
PIXEL, GAP = 2.0, 8.0  # mm
AIR, FAT, MUSCLE, LIVER, SPLEEN, KIDNEY, BONE, LESION = -1000.0, -100.0, 55.0, 105.0, 115.0, 130.0, 350.0, 55.0
Array = NDArray[Any]


def _inside(place: tuple[Array, ...], middle: tuple[float, ...], radii: tuple[float, ...]) -> Array:
    """Return the squared normalized distance from the middle of an ellipsoid: below 1 inside."""
    parts = [((p - m) / r) ** 2 for p, m, r in zip(place, middle, radii, strict=True)]
    found: Array = np.add(np.add(parts[0], parts[1]), parts[2])
    return found


def _wave(rng: np.random.Generator, place: tuple[Array, ...], amount: float) -> Array:
    """Draw a smooth displacement of outlines."""
    angles = [rng.normal(0, 1 / 60, 3) @ np.array([1, 1, 1]) * p + rng.uniform(0, 6) for p in place]
    found: Array = amount * (np.sin(angles[0]) + np.sin(angles[1]) + np.sin(angles[2]))
    return found


def draw(rng: np.random.Generator) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Draw one patient.

    Returns:
        Hounsfield units and labels (1 liver, 2 lesion), (192, 192, 16).
    """
    axes = [(np.arange(n) - (n - 1) / 2) * step for n, step in ((SIDE, PIXEL), (SIDE, PIXEL), (SLICES, GAP))]
    place = tuple(np.meshgrid(*axes, indexing="ij"))
    size = rng.normal(1, 0.07)
    image = np.full(place[0].shape, AIR)
    wide, deep = 165 * size, 118 * size
    image[_inside(place, (0, 0, 0), (wide, deep, 1e4)) < 1] = FAT
    image[_inside(place, (0, 3, 0), (wide - rng.uniform(12, 28), deep - rng.uniform(10, 22), 1e4)) < 1] = MUSCLE
    image[_inside(place, (0, 0, 0), (wide - 38, deep - 32, 1e4)) < 1] = FAT + 30
    for side in (-1, 1):
        image[_inside(place, (side * 62 * size, 52, -30), (27, 24, 55)) < 1] = KIDNEY
    image[_inside(place, (88 * size, 30, 25), (34, 42, 45)) < 1] = SPLEEN
    image[_inside(place, (45 * size, -38, 15), (48, 36, 50)) < 1] = rng.choice((20.0, 80.0, 120.0))  # stomach
    image[_inside(place, (0, 72 * size, 0), (24, 22, 1e4)) < 1] = BONE
    image[_inside(place, (8, 42, 0), (11, 11, 1e4)) < 1] = 150  # aorta
    label = np.zeros(image.shape, np.uint8)
    middle = (-60 * size + rng.normal(0, 6), -8 + rng.normal(0, 6), 10 + rng.normal(0, 8))
    rho = _inside(place, middle, (68 * size, 72 * size, rng.uniform(45, 58))) + _wave(rng, place, 0.07)
    left = _inside(place, (middle[0] + 62, middle[1] - 28, middle[2] + 8), (55, 34, 30))
    body = _inside(place, (0, 0, 0), (wide - 40, deep - 34, 1e4)) < 1
    label[((rho < 1) | (left < 1)) & body & (image != BONE)] = 1
    image[label == 1] = LIVER
    for _ in range(6):  # vessels
        at = [m + d for m, d in zip(middle, rng.normal(0, (30, 30, 20)), strict=True)]
        image[(_inside(place, tuple(at), (5, 5, 60)) < 1) & (label == 1)] = LIVER + 45
    for _ in range(int(rng.integers(0, 5))):
        at = [m + d for m, d in zip(middle, rng.normal(0, (35, 35, 20)), strict=True)]
        spot = (_inside(place, tuple(at), tuple(rng.uniform(8, 24, 3))) < 1) & (label == 1)
        label[spot], image[spot] = 2, LESION
    noisy = gaussian_filter(image, (0.6, 0.6, 0)) + rng.normal(0, 14, image.shape)
    return np.rint(noisy.clip(-1024, 1500)).astype(np.int16), label


def write_case(out: Path, seed: int, index: int) -> None:
    """Write volume ``index`` (from 0) and its segmentation.

    Args:
        out: folder that gets the layout of the download.
        seed: random seed, >= 0.
        index: number of the case, from 0 to 130.
    """
    image, label = draw(case_generator(seed, KIND, index))
    affine = np.diag([-PIXEL, -PIXEL, GAP, 1.0])
    for name, array in (("volume", image), ("segmentation", label)):
        stored = nib.Nifti1Image(array, affine)
        stored.header.set_xyzt_units("mm")
        folder = f"Training Batch {1 if index < 28 else 2}"
        write_bytes(out / folder / f"{name}-{index}.nii", stored.to_bytes())
