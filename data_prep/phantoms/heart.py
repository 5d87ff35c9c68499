"""Draw short-axis cardiac MRI phantoms and write them like ACDC's training subjects.

Lengths are in mm; in a slice x runs to the right and y downward from the image's middle, as ACDC's slices are shown
(first array axis to the right), so the right ventricle is on the left. Depth runs from base to apex. Signal is 0.86 for
blood. Volumes and wall thicknesses follow the groups' definitions in Bernard et al., IEEE TMI 37(11), 2018.
"""

import gzip
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from data_prep.phantoms.shapes import Image, case_generator
from data_prep.phantoms.torso import BLOOD, MUSCLE, Torso, make_torso, paint_torso, strands
from medpos.core.files import write_bytes

KIND = 1
Phase = tuple[NDArray[np.int16], NDArray[np.uint8]]  # image and labels, (nx, ny, slices)
RV, MYOCARDIUM, LV = 1, 2, 3  # ACDC's label values


@dataclass(frozen=True)
class Group:
    """Describe a group of patients: means at end-diastole, and factors to end-systole.

    Args:
        radius: radius of the LV cavity near the base, mm.
        wall: thickness of the LV wall, mm.
        rv_depth: distance from septum to free wall of the RV, mm.
        squeeze: LV radius at end-systole divided by end-diastole.
        thicken: wall thickness at end-systole divided by end-diastole.
        rv_squeeze: RV depth at end-systole divided by end-diastole.
    """

    radius: float
    wall: float
    rv_depth: float
    squeeze: float
    thicken: float
    rv_squeeze: float


GROUPS = {
    "NOR": Group(23.5, 8.0, 31.0, 0.68, 1.45, 0.68),
    "MINF": Group(27.0, 8.5, 30.0, 0.85, 1.25, 0.72),
    "DCM": Group(33.0, 8.0, 32.0, 0.91, 1.12, 0.85),
    "HCM": Group(21.5, 15.0, 28.0, 0.62, 1.25, 0.65),
    "RV": Group(22.0, 7.5, 46.0, 0.72, 1.35, 0.90),
}


@dataclass(frozen=True)
class Ventricles:
    """Describe both ventricles of one person at one phase.

    Args:
        radius: radius of the LV cavity near the base, mm.
        wall: mean wall thickness, mm.
        rv_depth: distance from septum to RV free wall, mm.
        length: length of the LV cavity, mm.
        base: depth of its base, mm.
        septum: direction from the LV to the RV, radians from x toward y.
        lobes: amplitudes and phases of the outline's 2nd to 4th harmonic, (2, 3).
        scar: direction (radians), half width (radians) and thinning (0 to 1) of an infarct.
        papillary: directions of both papillary muscles, radians.
        rv_width: width of the RV divided by the LV's outer diameter.
    """

    radius: float
    wall: float
    rv_depth: float
    length: float
    base: float
    septum: float
    lobes: NDArray[np.float64]
    scar: tuple[float, float, float]
    papillary: tuple[float, float]
    rv_width: float


def _ventricles(rng: np.random.Generator, group: str) -> dict[str, Ventricles]:
    """Draw one person's ventricles at end-diastole and end-systole."""
    g = GROUPS[group]
    size = rng.normal(1, 0.07)
    radius, wall = g.radius * size * rng.normal(1, 0.03), g.wall * size * rng.normal(1, 0.07)
    depth, length = g.rv_depth * size * rng.normal(1, 0.08), 82 * size + 0.5 * (g.radius - 24)
    septum = np.pi + rng.normal(-0.12, 0.22)
    lobes = np.stack([np.abs(rng.normal(0, (0.06, 0.02, 0.015))), rng.uniform(0, 2 * np.pi, 3)])
    scar = (rng.uniform(0, 2 * np.pi), rng.uniform(0.6, 1.0), rng.uniform(0.4, 0.6) if group == "MINF" else 0.0)
    papillary = (septum + np.pi - rng.uniform(0.6, 1.1), septum + np.pi + rng.uniform(0.6, 1.1))
    width, beat = rng.normal(1.22, 0.07), rng.normal(1, 0.03)
    descent = rng.uniform(6, 12) if group != "DCM" else rng.uniform(2, 6)
    ed = Ventricles(radius, wall, depth, length, 0.0, septum, lobes, scar, papillary, width)
    es = Ventricles(
        radius * min(g.squeeze * beat, 0.95), wall * g.thicken, depth * min(g.rv_squeeze * beat, 0.95),
        length - descent, descent, septum, lobes, scar, papillary, 0.94 * width,
    )  # fmt: skip
    return {"ED": ed, "ES": es}


def _lv(v: Ventricles, depth: float, angle: Image) -> tuple[Image, Image]:
    """Compute radii of the LV cavity and its outer wall by direction, mm; 0 where the slice misses them."""
    s = (depth - v.base) / v.length
    reach = v.wall * 0.8 / v.length
    if not 0 <= s < 1 + reach:
        return np.zeros_like(angle), np.zeros_like(angle)
    ripple = np.zeros_like(angle)
    for k, (a, p) in enumerate(v.lobes.T, 2):
        ripple += np.float32(a) * np.cos(k * angle - np.float32(p))
    inner = v.radius * np.sqrt(max(1 - s**2.2, 0)) * (1 - 0.12 * np.exp(-s / 0.1)) * (1 + ripple)
    outer = (v.radius + v.wall) * np.sqrt(1 - (s / (1 + reach)) ** 2.2) * (1 - 0.08 * np.exp(-s / 0.1))
    outer = outer * (1 + 0.8 * ripple)
    where, half, thin = v.scar
    away = np.abs((angle - where + np.pi) % (2 * np.pi) - np.pi)
    thick = np.maximum(outer - inner, 3.0) * (1 - thin * np.exp(-0.5 * (away / half) ** 4))
    return inner.astype(np.float32), (inner + thick).astype(np.float32)


def _rv(v: Ventricles, depth: float, dx: Image, dy: Image, outer: float) -> Image:
    """Compute the normalized distance from the middle of the RV, 1 on its rim; the LV wall will cover a part."""
    s = (depth - v.base) / (0.86 * v.length)
    if not 0 <= s < 0.98 or outer == 0:
        return np.full_like(dx, 9.0)
    taper = float(np.sqrt(1 - s**1.8))
    c, n = np.cos(v.septum), np.sin(v.septum)
    along, across = c * dx + n * dy - 0.72 * outer, c * dy - n * dx
    reach = 0.28 * outer + v.rv_depth * taper
    half = v.rv_width * outer * taper**0.6 * np.clip(1 - 0.18 * along / reach, 0.6, 1.3)
    rho = np.sqrt(np.abs(along / reach) ** 2.4 + np.abs(across / half) ** 2.4)
    return np.asarray(rho, np.float32)


def _paint_heart(v: Ventricles, depth: float, dx: Image, dy: Image, picture: Image) -> NDArray[np.uint8]:
    """Paint the ventricles into a slice of the torso, in place.

    Args:
        v: the ventricles at this phase.
        depth: depth of the slice below the base at end-diastole, mm.
        dx: distance to the right of the LV's axis, mm, (nx, ny).
        dy: distance below it, mm, (nx, ny).
        picture: signal, (nx, ny), changed in place.

    Returns:
        ACDC's labels, (nx, ny).
    """
    angle, rho = np.arctan2(dy, dx), np.hypot(dx, dy)
    inner, outer = _lv(v, depth, angle)
    labels = np.zeros(dx.shape, np.uint8)
    rv = _rv(v, depth, dx, dy, float(outer.mean()))
    wall_of_rv = (rv < 1 + 3.0 / max(v.rv_depth, 12)) & (rv < 8)
    picture[wall_of_rv] = MUSCLE
    labels[rv < 1] = RV
    labels[rho < outer] = MYOCARDIUM
    labels[rho < inner] = LV
    picture[(labels == RV) | (labels == LV)] = BLOOD
    picture[labels == MYOCARDIUM] = MUSCLE
    mean = float(inner.mean())
    s = (depth - v.base) / v.length
    if mean > 6 and 0.25 < s < 0.9:
        for way in v.papillary:
            px, py = 0.68 * mean * np.cos(way), 0.68 * mean * np.sin(way)
            muscle = np.hypot(dx - px, dy - py) < 0.2 * mean + 0.1 * v.wall
            picture[muscle & (labels == LV)] = MUSCLE + 0.05
    return labels


def _scan(rng: np.random.Generator, clean: Image, bias: Image, sigma: float, gain: float) -> NDArray[np.int16]:
    """Simulate the scanner: point spread, coil sensitivity, Rician noise, rounding."""
    true = gaussian_filter(clean, 0.6) * bias
    noise = rng.standard_normal((2, *clean.shape), dtype=np.float32) * np.float32(sigma)
    return np.asarray(np.rint(gain * np.hypot(true + noise[0], noise[1])), np.int16)


def _grid(rng: np.random.Generator) -> tuple[Image, Image, float]:
    """Draw coordinates and pixel size of a slice: x and y from the image's middle, (nx, ny), mm."""
    nx, ny = int(rng.choice((208, 216, 224, 232, 240))), int(rng.choice((240, 248, 256)))
    pixel = round(float(rng.uniform(1.3, 1.7)), 4)
    axes = [((np.arange(n) - (n - 1) / 2) * pixel).astype(np.float32) for n in (nx, ny)]
    x, y = np.meshgrid(*axes, indexing="ij")
    return x, y, pixel


def _bias(rng: np.random.Generator, x: Image, y: Image) -> Image:
    """Draw the coil sensitivity: highest near the front chest wall, up and to the left."""
    tilt, bend = rng.normal((-0.0016, 0.0004), 0.0015), rng.uniform(0, 8e-6)
    return np.asarray(np.exp(tilt[0] * x + tilt[1] * y - bend * (x * x + y * y)), np.float32)


def draw(rng: np.random.Generator, group: str) -> tuple[dict[str, Phase], list[float]]:
    """Draw one person.

    Args:
        rng: random generator of the case.
        group: NOR, MINF, DCM, HCM or RV.

    Returns:
        Image and labels for ED and ES, (nx, ny, slices) from base to apex; and the spacing in mm, 3 numbers.
    """
    x, y, pixel = _grid(rng)
    hearts = _ventricles(rng, group)
    ed = hearts["ED"]
    gap = float(rng.choice((7.0, 8.0, 9.0, 10.0, 10.0)))
    first = rng.uniform(-1.4, 0.4) * gap
    slices = int(np.clip(np.ceil((ed.length + ed.wall - first) / gap + rng.integers(0, 2)), 6, 12))
    torso: Torso = make_torso(rng, ed.radius + ed.wall, ed.rv_depth)
    bias, sigma, gain = _bias(rng, x, y), rng.uniform(0.03, 0.06), rng.uniform(180, 600)
    stacks: dict[str, tuple[list[NDArray[np.int16]], list[NDArray[np.uint8]]]] = {"ED": ([], []), "ES": ([], [])}
    for k in range(slices):
        depth = first + k * gap
        background, (cx, cy) = paint_torso(rng, torso, x, y, depth / ed.length)
        for phase, ventricles in hearts.items():
            picture = background.copy()
            stacks[phase][1].append(_paint_heart(ventricles, depth, x - cx, y - cy, picture))
            strands(rng, picture)
            stacks[phase][0].append(_scan(rng, picture, bias, sigma, gain))
    return {p: (np.stack(i, -1), np.stack(m, -1)) for p, (i, m) in stacks.items()}, [pixel, pixel, gap]


def _nifti(volume: NDArray[np.int16] | NDArray[np.uint8], spacing: list[float]) -> bytes:
    """Encode a volume like ACDC, without a time stamp."""
    image = nib.Nifti1Image(volume, np.diag([*spacing, 1.0]))
    image.header.set_xyzt_units("mm", "sec")
    content: bytes = image.to_bytes()
    return gzip.compress(content, compresslevel=1, mtime=0)


def write_case(out: Path, seed: int, index: int) -> None:
    """Write subject ``index`` (from 0): Info.cfg, and image and labels at end-diastole and end-systole.

    Args:
        out: folder that gets the layout of the download's ``training``.
        seed: random seed, >= 0.
        index: number of the case, from 0 to 998.
    """
    rng = case_generator(seed, KIND, index)
    group = list(GROUPS)[index % len(GROUPS)]
    frames = int(rng.integers(20, 36))
    frame = {"ED": 1, "ES": round(frames * rng.uniform(0.32, 0.44))}
    height, weight = rng.normal(170, 9), rng.normal(75, 13)
    phases, spacing = draw(rng, group)
    name = f"patient{index + 1:03d}"
    for phase, (image, labels) in phases.items():
        stem = out / name / f"{name}_frame{frame[phase]:02d}"
        write_bytes(stem.with_name(stem.name + ".nii.gz"), _nifti(image, spacing))
        write_bytes(stem.with_name(stem.name + "_gt.nii.gz"), _nifti(labels, spacing))
    info = f"ED: {frame['ED']}\nES: {frame['ES']}\nGroup: {group}\n"
    info += f"Height: {height:.1f}\nNbFrame: {frames}\nWeight: {weight:.1f}\n"
    write_bytes(out / name / "Info.cfg", info.encode())
