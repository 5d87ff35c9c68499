"""Draw chest X-ray phantoms and write them like JSRT images and SCR masks.

Lengths are in half sides of the image (175 mm): x from -1 to 1 to the right, y from -1 to 1 downward, so the patient's
right lung has negative x. Path lengths through tissue are summed to one attenuation, which a film curve maps to a gray
value.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw
from scipy.ndimage import distance_transform_edt, gaussian_filter

from data_prep.phantoms.shapes import (
    Image,
    Mask,
    case_generator,
    ellipse_distance,
    gaussian_bump,
    monotone_curve,
    smooth_noise,
    soft_step,
    upsample,
)
from medpos.core.files import write_bytes

KIND = 0
DRAWN = 512  # side at which shapes are drawn
FILM = 2048  # side of a JSRT image, 0.175 mm a pixel
SCR = 1024  # side of an SCR mask
NODULE_CASES = 154  # JPCLN001 to JPCLN154 have a lung nodule, JPCNN001 to JPCNN093 have none
WHITE = 4095  # 12 bits; the files store 4095 - gray, high = dark
SIDES = {"right": -1.0, "left": 1.0}

# Tissue in front and behind, with a spectrum of about 1/f: (attenuation, knots per side).
CLUTTER = ((0.16, 6), (0.1, 10), (0.1, 20), (0.1, 40), (0.06, 64), (0.03, 128))
LUNG_T = (0.0, 0.03, 0.1, 0.22, 0.4, 0.6, 0.8, 1.0, 1.3)  # from apex to dome of the diaphragm, and the recess below
LUNG_OUT = (0.26, 0.36, 0.46, 0.58, 0.68, 0.735, 0.765, 0.78, 0.79)
LUNG_IN = (0.26, 0.17, 0.125, 0.11, 0.12, 0.125, 0.13, 0.16, 0.18)


@dataclass(frozen=True)
class Chest:
    """Describe one person.

    Args:
        x: distance from the middle of the spine, bent with it, (512, 512).
        y: height, (512, 512).
        apex: y of the tops of the lungs.
        dome: y of the domes of the diaphragm, by side.
        width: scale factor of the lungs' width, by side.
        heart: normalized distance from the heart's center, 1 on its rim, (512, 512).
        outer: distance from the spine to the thoracic wall at each height, by side, (512, 512).
        lungs: masks by side, (512, 512).
    """

    x: Image
    y: Image
    apex: float
    dome: dict[str, float]
    width: dict[str, float]
    heart: Image
    outer: dict[str, Image]
    lungs: dict[str, Mask]


def _frame(rng: np.random.Generator) -> tuple[Image, Image]:
    """Draw coordinates of a person slightly rotated, shifted and scaled, with a curved spine."""
    axis = ((np.arange(DRAWN, dtype=np.float32) + 0.5) / DRAWN * 2 - 1).astype(np.float32)
    v, u = np.meshgrid(axis, axis, indexing="ij")
    angle, scale = np.clip(rng.normal(0, 0.04), -0.1, 0.1), rng.uniform(0.84, 1.10)
    dx, dy = np.clip(rng.normal(0, (0.05, 0.06)), -0.14, 0.14)
    c, s = np.cos(angle) / scale, np.sin(angle) / scale
    x, y = c * (u - dx) + s * (v - dy), c * (v - dy) - s * (u - dx)
    x, y = x + 0.015 * smooth_noise(rng, x.shape, 4), y + 0.015 * smooth_noise(rng, x.shape, 4)
    scoliosis = rng.normal(0, 0.012) + (rng.random() < 0.15) * rng.choice((-1.0, 1.0)) * rng.uniform(0.03, 0.06)
    x = x - scoliosis * np.sin(2.4 * (y + rng.uniform(-0.3, 0.3)))
    return x.astype(np.float32), y.astype(np.float32)


def _heart(rng: np.random.Generator, x: Image, y: Image, dome: float) -> Image:
    """Draw a pear on the diaphragm with its apex to the patient's left; large in one of six people."""
    size = rng.normal(1, 0.07) * (rng.uniform(1.2, 1.42) if rng.random() < 1 / 6 else 1.0)
    tilt = rng.uniform(0.45, 0.85)
    cx, cy = rng.normal(0.085, 0.015) + 0.08 * (size - 1), dome - rng.normal(0.145, 0.02)
    a, b, pear = size * rng.uniform(0.32, 0.36), size * rng.uniform(0.225, 0.265), rng.uniform(-0.15, 0.1)
    c, s = np.cos(tilt), np.sin(tilt)
    u, v = (c * (x - cx) + s * (y - cy)) / a, (c * (y - cy) - s * (x - cx)) / b
    v = v / np.clip(1 + pear * u, 0.4, None)
    return np.asarray(np.sqrt(u * u + v * v), np.float32)


def _person(rng: np.random.Generator) -> Chest:
    """Draw one person's size, breath, asymmetry and organs."""
    x, y = _frame(rng)
    apex, breath = rng.normal(-0.79, 0.03), rng.normal(0.40, 0.07)
    dome = {"right": breath, "left": breath + rng.normal(0.045, 0.03)}  # the liver lifts the right dome
    girth = rng.normal(1, 0.05)
    width = {side: girth * rng.normal(1, 0.03) for side in SIDES}
    heart = _heart(rng, x, y, breath)
    outer, lungs = {}, {}
    for side, sign in SIDES.items():
        t = (y - apex) / (dome[side] - apex)
        wiggle = rng.normal(0, 0.012, (2, len(LUNG_T) - 1))
        outs = np.asarray(LUNG_OUT) * width[side] + np.r_[0, wiggle[0]]
        knob = 0.045 * np.exp(-0.5 * ((np.asarray(LUNG_T) - 0.4) / 0.06) ** 2) if side == "left" else 0.0
        ins = np.asarray(LUNG_IN) + np.r_[outs[0] - LUNG_IN[0], 0.6 * wiggle[1]] + knob
        outer[side] = monotone_curve(t, LUNG_T, outs)
        ax = sign * x
        drop = rng.uniform(0.11, 0.2) * ((ax - rng.uniform(0.28, 0.36)) / 0.36) ** 2
        inside = np.minimum(outer[side] - ax, ax - monotone_curve(t, LUNG_T, ins))
        lungs[side] = (np.minimum(inside, dome[side] + drop - y) > 0) & (t > 0) & (heart > 0.985)
    return Chest(x, y, apex, dome, width, heart, outer, lungs)


def _body(rng: np.random.Generator, p: Chest) -> Image:
    """Draw soft tissue from front to back: trunk, neck, shoulders, arms; zero in the air."""
    ax = np.abs(p.x)
    girth = 0.5 * (p.width["right"] + p.width["left"])
    trunk_half = (0.97 + rng.uniform(-0.03, 0.08)) * girth + 0.05 * p.y
    trunk = np.sqrt(np.clip(1 - (ax / trunk_half) ** 12, 0, None)) * soft_step(p.y - p.apex - 0.02, 0.08)
    slope = p.apex - rng.uniform(0.08, 0.2) + rng.uniform(0.1, 0.25) * ax**2
    shoulder = np.sqrt(np.clip((p.y - slope) / 0.3, 0, 1)) * soft_step(0.02 - p.y, 0.3)
    shoulder *= soft_step(rng.uniform(1.05, 1.25) - ax, 0.04)
    neck = 0.62 * np.sqrt(np.clip(1 - (ax / 0.24) ** 2, 0, None)) * soft_step(p.apex + 0.3 - p.y, 0.1)
    lean, gap = rng.uniform(0.05, 0.3), rng.uniform(1.02, 1.2)
    across = (ax - gap - lean * (p.y + 0.4)) / 0.15
    arm = 0.62 * np.sqrt(np.clip(1 - across**2, 0, None)) * soft_step(p.y + 0.55, 0.08)
    return np.asarray(np.maximum.reduce([trunk, 0.7 * shoulder, neck, arm]), np.float32)


def _air(mask: Mask) -> Image:
    """Compute the depth of a lung at each point, 0 to 1, rounded toward its rim."""
    depth = distance_transform_edt(mask) / (0.06 * DRAWN / 2)
    return np.sqrt(np.clip(1 - (1 - np.clip(depth, 0, 1)) ** 2, 0, None)).astype(np.float32)


def _ribs(rng: np.random.Generator, p: Chest) -> Image:
    """Draw ribs as hollow bands: posterior ones descend from the spine, anterior ones from the side."""
    total = np.zeros_like(p.x)
    space = rng.uniform(0.125, 0.15)
    start, fall = rng.uniform(-0.5, 0.5), rng.uniform(0.24, 0.36)
    for side, sign in SIDES.items():
        ax = sign * p.x
        shift = start + rng.normal(0, 0.06)
        edge = soft_step(p.outer[side] + 0.025 - ax, 0.012) * soft_step(p.y - p.apex - 0.01, 0.02)
        edge *= soft_step(p.dome[side] + 0.25 - p.y, 0.1)
        arc = fall * ax**2 * (1 - 0.2 * p.y)
        for phase, near in (((p.y - arc) / space, 0.05), ((p.y + arc) / space, 0.13)):
            phase = phase + shift + 3 * near
            q = np.abs(phase - np.floor(phase) - 0.5) / 0.19
            band = 0.45 * np.sqrt(np.clip(1 - q * q, 0, None)) + gaussian_bump(q, 0.93, 0.09)
            total += 0.42 * band * edge * soft_step(ax - near, 0.03)
    return total


def _clavicles(rng: np.random.Generator, p: Chest) -> dict[str, tuple[Image, Mask]]:
    """Draw both clavicles: attenuation and mask by side."""
    bones = {}
    base = p.apex + rng.uniform(0.08, 0.2)
    for side, sign in SIDES.items():
        ax = sign * p.x
        rise, bend = rng.uniform(0.1, 0.26), rng.uniform(0.02, 0.04)
        middle = base + rng.normal(0, 0.01) - rise * (ax - 0.06) + bend * np.sin(2 * np.pi * (ax - 0.06) / 0.72)
        half = 0.026 + 0.012 * np.exp(-np.clip(ax - 0.06, 0, None) / 0.06)
        q = (p.y - middle) / half
        mask = (np.abs(q) < 1) & (ax > 0.06) & (ax < 0.78)
        bone = 0.75 * np.sqrt(np.clip(1 - q * q, 0, None)) + 0.35 * gaussian_bump(np.abs(q), 0.92, 0.12)
        bones[side] = (bone * soft_step(ax - 0.055, 0.01) * soft_step(0.8 - ax, 0.02), mask)
    return bones


def _skeleton(rng: np.random.Generator, p: Chest) -> Image:
    """Draw spine, shoulder blades and heads of the humeri."""
    phase = p.y / 0.115 + rng.random()
    disc = gaussian_bump(phase - np.floor(phase), 0.5, 0.1)
    ax = np.abs(p.x)
    spine = soft_step(0.085 + 0.012 * disc - ax, 0.012) * (0.75 - 0.35 * disc) + 0.25 * gaussian_bump(p.x, 0, 0.015)
    spine += 0.25 * soft_step(0.14 - ax, 0.02) * gaussian_bump(phase - np.floor(phase), 0.1, 0.12)
    blades = np.zeros_like(p.x)
    for sign in SIDES.values():
        x, top = sign * p.x, p.apex + rng.uniform(0.05, 0.2)
        inner = rng.uniform(0.7, 0.82) + 0.25 * np.abs(p.y - top - 0.25)
        blade = (
            soft_step(x - inner, 0.012) * soft_step(0.98 - 0.25 * (p.y - top) - x, 0.02) * soft_step(p.y - top, 0.02)
        )
        head = np.sqrt(np.clip(1 - ellipse_distance(x, p.y, (1.0, p.apex + 0.17), (0.13, 0.12)) ** 2, 0, None))
        blades += 0.3 * blade * (1 + 0.8 * gaussian_bump(x - inner, 0.01, 0.012)) + 0.7 * head
    return np.asarray(spine + blades, np.float32)


def _branch(
    rng: np.random.Generator, draw: ImageDraw.ImageDraw, at: tuple[float, float], way: float, size: float
) -> None:
    """Draw one vessel and, recursively, its two branches."""
    if size < 0.75:
        return
    length = DRAWN * rng.uniform(0.025, 0.05) * (0.5 + size / 6)
    end = (at[0] + length * np.cos(way), at[1] + length * np.sin(way))
    draw.line([at, end], fill=int(min(255, 60 + 28 * size)), width=max(1, round(size * 0.8)))
    for turn in rng.normal((-0.35, 0.35), 0.2):
        _branch(rng, draw, end, way + turn, size * rng.uniform(0.7, 0.86))


def _vessels(rng: np.random.Generator, p: Chest) -> Image:
    """Draw vessels that branch from both hila, 0 to about 1."""
    canvas = Pillow.new("L", (DRAWN, DRAWN))
    draw = ImageDraw.Draw(canvas)
    hila = np.zeros_like(p.x)
    for side, sign in SIDES.items():
        hx, hy = sign * rng.uniform(0.15, 0.19), p.dome[side] - rng.uniform(0.4, 0.48)
        hila += 0.45 * np.exp(-0.5 * (((p.x - hx) / 0.045) ** 2 + ((p.y - hy) / 0.1) ** 2))
        row, column = divmod(int(np.argmin((p.x - hx) ** 2 + (p.y - hy) ** 2)), DRAWN)
        for way in np.linspace(-1.35, 1.35, 8) + rng.normal(0, 0.1, 8):
            _branch(rng, draw, (column, row), way if sign > 0 else np.pi - way, rng.uniform(3.2, 5.2))
    return np.asarray(gaussian_filter(np.asarray(canvas, np.float32) / 255, 0.8) + hila, np.float32)


def _abdomen(rng: np.random.Generator, p: Chest) -> Image:
    """Draw liver and bowel below the diaphragm with gas of stomach and colon, and breasts in half of the people."""
    gas = np.zeros_like(p.x)
    for _ in range(rng.integers(1, 4)):
        center = (rng.uniform(0.2, 0.5), p.dome["left"] + rng.uniform(0.08, 0.3))
        rho = ellipse_distance(
            p.x, p.y, center, (rng.uniform(0.06, 0.15), rng.uniform(0.04, 0.09)), rng.uniform(-0.4, 0.4)
        )
        gas = np.maximum(gas, soft_step(1 - rho, 0.12))
    belly = 0.25 * soft_step(p.y - 0.5 * (p.dome["right"] + p.dome["left"]), 0.12) - rng.uniform(0.5, 1.3) * gas
    if rng.random() < 0.5:
        size, low = rng.uniform(0.2, 0.3), rng.uniform(0.15, 0.35)
        for sign in SIDES.values():
            rho = ellipse_distance(p.x, p.y, (sign * rng.uniform(0.4, 0.5), low), (size, size * 1.1))
            belly += 0.45 * np.sqrt(np.clip(1 - rho * rho, 0, None)) * soft_step(p.y - low + 0.1, 0.15)
    return np.asarray(belly, np.float32)


def _attenuation(rng: np.random.Generator, p: Chest, bones: Image, nodule: bool) -> Image:
    """Sum the attenuation along the rays: about 0 in air, 1 in lung, 3 in the heart, 4 in the spine."""
    body = _body(rng, p)
    air = _air(p.lungs["right"]) + _air(p.lungs["left"])
    lung = p.lungs["right"] | p.lungs["left"]
    total = rng.uniform(2.7, 3.3) * body + body.clip(0, 0.4) * _skeleton(rng, p) * 2
    total += (body > 0) * _abdomen(rng, p) + _ribs(rng, p) * (body > 0.1) + bones
    total += 0.25 * soft_step(1 - p.heart, 0.12) + 0.15 * soft_step(0.11 - np.abs(p.x), 0.03) * soft_step(
        p.dome["right"] - p.y, 0.1
    )
    total -= (
        rng.uniform(1.75, 2.15) * air * np.clip(body * 1.25, 0, 1) - rng.uniform(0.3, 0.55) * _vessels(rng, p) * lung
    )
    trachea = soft_step(0.035 - np.abs(p.x + 0.01), 0.01) * soft_step(p.apex + 0.48 - p.y, 0.03)
    total -= 0.9 * trachea * (body > 0.2)
    for side, sign in SIDES.items():  # rays tangential to muscle and ribs make the side wall as white as the middle
        beyond = sign * p.x - p.outer[side]
        graze = rng.uniform(0.2, 1.3) * soft_step(beyond, 0.02) + rng.uniform(0, 0.6) * gaussian_bump(beyond, 0, 0.08)
        total += graze * soft_step(p.y - p.apex - 0.1, 0.08) * np.clip(body * 1.5 - 0.5, 0, 1)
    if nodule:
        row, column = rng.choice(np.argwhere(lung))
        radii = (rng.uniform(0.03, 0.09), rng.uniform(0.03, 0.09))  # 5 to 16 mm
        rho = ellipse_distance(p.x, p.y, (p.x[row, column], p.y[row, column]), radii)
        total += rng.uniform(0.2, 0.5) * np.sqrt(np.clip(1 - rho * rho, 0, None))
    clutter = sum((a * smooth_noise(rng, p.x.shape, n) for a, n in CLUTTER), np.zeros_like(total))
    total += rng.uniform(0.7, 1.2) * clutter * np.clip(body * 3, 0, 1) * (0.5 + 0.5 * lung)
    fog = rng.uniform(0.5, 1.15) + 0.1 * smooth_noise(rng, p.x.shape, 3)  # scattered radiation on the unshielded film
    fog *= 1.5 - 0.5 * np.clip(body * 3, 0, 1)
    return np.asarray(0.2 * np.logaddexp(gaussian_filter(total, 1.1) / 0.2, fog / 0.2), np.float32)


def _film(rng: np.random.Generator, attenuation: Image) -> Image:
    """Apply the film's S-shaped curve, exposure and grain; gray values 0 to 4095, high = white, (2048, 2048)."""
    middle, contrast = rng.normal(1.85, 0.15), rng.uniform(0.6, 0.85)
    gray = 1 / (1 + np.exp(-(attenuation - middle) / contrast))
    gray = rng.uniform(0.02, 0.12) + rng.uniform(0.75, 0.88) * gray + 0.015 * smooth_noise(rng, gray.shape, 128)
    if rng.random() < 0.3:  # collimator: unexposed film is white
        rim = rng.integers(2, 14, 4)
        gray[: rim[0]] = gray[DRAWN - rim[1] :] = gray[:, : rim[2]] = gray[:, DRAWN - rim[3] :] = 0.95
    large = upsample(gray.astype(np.float32), (FILM, FILM))
    grain = rng.standard_normal((FILM, FILM), dtype=np.float32) * np.float32(rng.uniform(0.008, 0.02))
    return np.asarray(np.clip((large + grain) * WHITE, 0, WHITE), np.float32)


def draw(rng: np.random.Generator, nodule: bool) -> tuple[Image, dict[str, Mask]]:
    """Draw one phantom.

    Args:
        rng: random generator of the case.
        nodule: True if one lung has a nodule.

    Returns:
        Gray values from 0 to 4095, high = white, (2048, 2048); and masks by SCR's folder names, (512, 512).
    """
    person = _person(rng)
    clavicles = _clavicles(rng, person)
    masks = {"heart": person.heart < 1}
    masks |= {f"{side} lung": mask for side, mask in person.lungs.items()}
    masks |= {f"{side} clavicle": mask for side, (_, mask) in clavicles.items()}
    bones = clavicles["right"][0] + clavicles["left"][0]
    return _film(rng, _attenuation(rng, person, bones, nodule)), masks


def _gif(mask: Mask) -> bytes:
    """Encode a mask like SCR: GIF, 1024 x 1024, 8 bits, 0 or 255."""
    soft_mask = Pillow.fromarray((mask * 255).astype(np.uint8)).resize((SCR, SCR), Pillow.Resampling.BICUBIC)
    stream = io.BytesIO()
    soft_mask.point([0] * 128 + [255] * 128).save(stream, format="GIF", optimize=False)
    return stream.getvalue()


def write_case(out: Path, seed: int, index: int) -> None:
    """Write case ``index`` (from 0): one ``.IMG`` and five masks.

    Args:
        out: folder that gets the layout of the download.
        seed: random seed, >= 0.
        index: number of the case, from 0 to 246.
    """
    number = index + 1
    nodule = number <= NODULE_CASES
    name = f"JPCLN{number:03d}" if nodule else f"JPCNN{number - NODULE_CASES:03d}"
    gray, masks = draw(case_generator(seed, KIND, index), nodule)
    stored = (WHITE - np.rint(gray)).astype(">u2")
    fold = out / "scratch" / ("fold1" if number % 2 else "fold2") / "masks"
    for organ, mask in masks.items():
        write_bytes(fold / organ / f"{name}.gif", _gif(mask))
    write_bytes(out / "All247images" / f"{name}.IMG", stored.tobytes())
