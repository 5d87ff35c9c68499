"""Draw brain phantoms and write them like IBSR-18: T1-weighted, without the skull, CSF, gray and white matter.

Lengths are in mm from the brain's middle: x to the left, y to the front, z up. Odd numbers are written as Analyze
pairs, even ones as NIfTI. As in IBSR, the narrow fluid in the sulci counts as gray matter, and gaps between the lobes
are background (CSF in ``segTRI_fill``).
"""

import gzip
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from data_prep.phantoms.shapes import Image, Mask, case_generator
from medpos.core.files import write_bytes

KIND = 2
SHAPE = (256, 128, 256)
CSF, GRAY, WHITE = 1, 2, 3  # IBSR's label values
SIGNAL = np.array([0.2, 0.2, 0.55, 0.8], np.float32)  # of gaps, CSF, gray and white matter
REACH = (76.0, 96.0, 78.0)  # half sides of a box around every brain, mm
Labels = NDArray[np.uint8]
Volume = NDArray[np.int16] | Labels


class Grid(NamedTuple):
    """Hold the coordinates of a box of voxels in mm, each along its own axis."""

    x: Image
    y: Image
    z: Image

    def field(self, rng: np.random.Generator, knots: float) -> Image:
        """Draw smooth noise of unit variance with knots every ``knots`` mm."""
        axes = [axis.ravel() for axis in self]
        counts = [int(np.ceil(np.ptp(axis) / knots)) + 3 for axis in axes]
        noise = rng.standard_normal(counts).astype(np.float32)
        for axis, count in zip(axes, counts, strict=True):
            away = (axis[:, None] - axis[0]) / knots + 1 - np.arange(count)
            bumps = np.exp(-0.5 * (away / 0.6) ** 2).astype(np.float32)
            bumps /= np.sqrt(np.square(bumps).sum(1, keepdims=True))
            noise = np.tensordot(noise, bumps, (0, 1))  # three steps rotate the axes back
        return np.asarray(noise, np.float32)


def _over(value: Image) -> Image:
    return np.maximum(value, np.float32(0))


def _ball(g: Grid, center: tuple[float, float, float], radii: tuple[float, float, float], power: float = 2) -> Image:
    """Compute the normalized distance from the center, 1 on the rim; mirrored unless centered on the midline."""
    x = np.abs(g.x) if center[0] else g.x
    parts = [np.abs((a - c) / r) ** power for a, c, r in zip((x, g.y, g.z), center, radii, strict=True)]
    return np.asarray((parts[0] + parts[1] + parts[2]) ** (1 / power), np.float32)


def _warped(rng: np.random.Generator, g: Grid) -> Grid:
    """Draw the coordinates in the standard brain of each voxel of this person."""
    size = rng.normal(1, 0.035, 3)
    bend = [g.field(rng, 34) for _ in range(3)]
    x, y, z = (np.asarray(axis / s + 2.2 * b, np.float32) for axis, s, b in zip(g, size.tolist(), bend, strict=True))
    return Grid(x, y, z)


def _outer(g: Grid) -> tuple[Image, Image]:
    """Compute the depth below the cerebrum's hull, and below hull and large fissures, mm."""
    narrow: Image = np.asarray(1 - 0.10 * g.y / 84 - 0.07 * (g.y / 84) ** 2, np.float32)
    base = np.where(g.z < 0, 1.28 + 0.75 * np.exp(-((g.x / 21) ** 2)) + 0.2 * _over(-g.y - 30) / 50, 1)
    flat = np.asarray(g.z * base, np.float32)
    hull = (1 - _ball(Grid(g.x / narrow, g.y, flat), (0, 0, 0), (67, 85, 61), 2.3)) * 64
    joined = 1 - np.hypot((g.y + 4) / 40, (g.z - 3) / 23)  # corpus callosum and what lies below
    middle = np.abs(g.x) + 40 * _over(joined) - 1.1
    slope = np.abs(g.z + 3 - 0.25 * (g.y + 20))
    sylvian = slope + _over(36 - np.abs(g.x)) + _over(np.abs(g.y - 2) - 34) - 0.9
    return hull.astype(np.float32), np.minimum(np.minimum(hull, middle), sylvian).astype(np.float32)


def _cortex(rng: np.random.Generator, true: Grid, outer: Image) -> Image:
    """Draw the distance from the folded surface, mm; below 0 in sulci, the zero sheets of a random field."""
    folds = true.field(rng, 5.2)
    steps = [float(axis.ravel()[1] - axis.ravel()[0]) for axis in true]
    steep = np.sqrt(sum(np.square(part) for part in np.gradient(folds, *steps)))
    sheet = np.abs(folds) / (steep + np.float32(0.02))
    deepest = 15 + 2.5 * true.field(rng, 18)
    return np.asarray(np.minimum(outer, sheet + 1.5 * _over(outer - deepest) - 0.45), np.float32)


def _fluid(g: Grid, size: float) -> Mask:
    """Draw lateral, third and fourth ventricles."""
    x0 = 6.5 + 0.09 * _over(-g.y - 5) + 0.12 * _over(g.y - 8)
    z0 = 15 - 0.0045 * (g.y + 4) ** 2
    taper = 1 - ((g.y + 10) / 45) ** 2
    wide = np.hypot((np.abs(g.x) - x0) / (4.2 * size), (g.z - z0) / (6.2 * size**0.7)) ** 2
    third = _ball(g, (0, -6, 1), (1.5 * size + 0.5, 14, 10))
    fourth = _ball(g, (0, -37, -31), (6 * size**0.5, 4, 6))
    return np.asarray((wide < taper) & (np.abs(g.x) > 0.8) | (third < 1) | (fourth < 1))


def _nuclei(g: Grid) -> Mask:
    """Draw thalamus, caudate, putamen with pallidum, hippocampus."""
    places = (
        ((11, -14, 5), (9, 15, 9)),
        ((14, 17, 9), (5, 14, 9)),
        ((25, 4, 1), (6.5, 18, 11)),
        ((27, -22, -17), (6, 17, 6)),
    )
    return np.asarray(np.minimum.reduce([_ball(g, *place) for place in places]) < 1)


def _hindbrain(rng: np.random.Generator, true: Grid, g: Grid) -> tuple[Image, Mask, Mask]:
    """Draw the depth below the cerebellum's hull, mm, its fine folds, and the brain stem."""
    hull = (1 - _ball(g, (0, -48, -40), (50, 32, 25), 2.2)) * 28 - 5 * np.exp(-((g.x / 6) ** 2)) * _over(-g.y - 55) / 25
    waves = np.sin((g.z + 40 + 0.35 * (g.y + 48) + 0.002 * g.x**2) * 1.25 + 1.3 * true.field(rng, 14))
    pons = _ball(g, (0, -18, -32), (16, 13, 14)) < 1
    stem = np.hypot(g.x / 10.5, (g.y + 25 - 0.12 * g.z) / 9) < 1
    return hull.astype(np.float32), waves < -0.82, pons | (stem & (g.z < -2) & (g.z > -74))


def _paint(rng: np.random.Generator, true: Grid) -> tuple[Labels, Mask, Mask]:
    """Draw tissue labels, thin fluid within gray matter, and the brain mask with its gaps, each (nx, ny, nz)."""
    g = _warped(rng, true)
    hull, outer = _outer(g)
    cortex = _cortex(rng, true, outer)
    below, folia, stem = _hindbrain(rng, true, g)
    small = (below > 0) & (hull < -1)
    labels = np.zeros(hull.shape, np.uint8)
    thickness = 2.7 + 0.35 * true.field(rng, 12)
    labels[outer > 0] = np.where(cortex < thickness, GRAY, WHITE)[outer > 0]
    labels[_nuclei(g) & (outer > 2)] = GRAY
    labels[small] = np.where(below > 12 + 2.5 * true.field(rng, 6), WHITE, GRAY)[small]
    labels[stem] = WHITE
    thin = ((cortex < 0) & (outer > 0) & ~stem) | (small & folia & (labels == GRAY))
    wet = _fluid(g, float(np.exp(rng.normal(0.1, 0.3)))) & ((outer > 3) | stem | small)
    labels[wet] = CSF
    return labels, thin & ~wet, (hull > -0.8) | (below > -0.8) | stem


def draw(rng: np.random.Generator) -> tuple[NDArray[np.int16], Labels, Labels, tuple[float, float, float]]:
    """Draw one person.

    Args:
        rng: random generator of the case.

    Returns:
        Image, labels and labels with filled gaps, (256, 128, 256); and the spacing in mm.
    """
    side = float(rng.choice((0.837, 0.9375, 0.9375, 1.0)))
    spacing = (side, 1.5, side)
    half = [int(reach / size) for reach, size in zip(REACH, spacing, strict=True)]
    half[1] = min(half[1], SHAPE[1] // 2)
    axes = [((np.arange(2 * n) - n + 0.5) * size).astype(np.float32) for n, size in zip(half, spacing, strict=True)]
    true = Grid(axes[0][:, None, None], axes[1][None, :, None], axes[2][None, None, :])
    labels, thin, mask = _paint(rng, true)
    signal = SIGNAL[np.where(thin, 0, labels)] * (1 + 0.03 * true.field(rng, 9))
    signal = gaussian_filter(signal, [0.55 / size for size in spacing], truncate=3)  # partial volume
    signal *= 1 + 0.07 * true.field(rng, 50)  # residual of IBSR's bias correction
    noise = rng.standard_normal((2, *labels.shape), dtype=np.float32) * np.float32(rng.uniform(0.025, 0.05))
    image = np.rint(rng.uniform(120, 700) * np.hypot(signal + noise[0], noise[1])) * mask
    shift = rng.integers(-4, 5, 3) * (1, 0, 1)
    box = tuple(slice(n // 2 - h + s, n // 2 + h + s) for n, h, s in zip(SHAPE, half, shift.tolist(), strict=True))
    whole, tissue, filled = np.zeros(SHAPE, np.int16), np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    whole[box], tissue[box] = image, labels * mask
    filled[box] = np.where(mask & (labels == 0), CSF, tissue[box])
    return whole, tissue, filled, spacing


def _affine(spacing: tuple[float, float, float]) -> NDArray[np.float64]:
    """Return an affine with the first axis to the left and the origin in the volume's middle."""
    affine = np.diag([-spacing[0], spacing[1], spacing[2], 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(SHAPE) - 1) / 2)
    return affine


def _nifti(volume: Volume, spacing: tuple[float, float, float]) -> bytes:
    """Encode a volume like IBSR's NIfTI release, with a fourth axis of length 1."""
    image = nib.Nifti1Image(volume[..., None], _affine(spacing))
    image.header.set_xyzt_units("mm", "sec")
    content: bytes = image.to_bytes()
    return gzip.compress(content, compresslevel=1, mtime=0)


def _analyze(volume: Volume, spacing: tuple[float, float, float]) -> dict[str, bytes]:
    """Encode a volume as a big-endian Analyze 7.5 pair, by suffix."""
    header = nib.AnalyzeHeader(endianness=">")
    header.set_data_dtype(volume.dtype)
    header.set_data_shape(volume.shape)
    header.set_zooms(spacing)
    image = nib.AnalyzeImage(volume, None, header)
    parts = {".hdr": image.file_map["header"], ".img": image.file_map["image"]}
    for part in parts.values():
        part.fileobj = BytesIO()
    image.to_file_map()
    return {suffix: part.fileobj.getvalue() for suffix, part in parts.items()}


def write_case(out: Path, seed: int, index: int) -> None:
    """Write volume ``index`` (from 0): skull-stripped image, labels, and labels with filled gaps.

    Args:
        out: folder that gets the layout of the download.
        seed: random seed, >= 0.
        index: number of the case, from 0 to 17.
    """
    image, labels, filled, spacing = draw(case_generator(seed, KIND, index))
    name = f"IBSR_{index + 1:02d}"
    volumes: dict[str, Volume] = {"ana_strip": image, "segTRI_ana": labels, "segTRI_fill_ana": filled}
    for kind, volume in volumes.items():
        if index % 2:
            write_bytes(out / name / f"{name}_{kind}.nii.gz", _nifti(volume, spacing))
            continue
        folder = out / name / ("images" if kind == "ana_strip" else "segmentation") / "analyze"
        for suffix, content in _analyze(volume, spacing).items():
            write_bytes(folder / f"{name}_{kind}{suffix}", content)
