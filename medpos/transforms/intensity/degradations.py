"""Degrade images with graded severity, identically for every model.

Each kind is a pure function of an image in [0, 1]; ``TABLES`` holds its strength for each severity. The random numbers
come from a generator seeded by case, kind, severity and seed, so they don't depend on order or number of workers.

Reference:
    "How Can CNNs Use Image Position for Segmentation?", section 2.3; its list of severities is garbled, so the
    tables are those of D. Hendrycks and T. Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions
    and Perturbations", ICLR 2019.
"""

import difflib
import hashlib
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

from medpos.core.errors import InputError
from medpos.transforms.base.lift import Item, Lifted
from medpos.transforms.position.probe import PROBES

Image = npt.NDArray[np.float32]
# Name of a table in TABLES, or the strengths of each kind.
Table = str | Mapping[str, Sequence[float]]

SEVERITIES = (1, 2, 3, 4, 5)

UNITS = {
    "gaussian_noise": "standard deviation, intensity in [0, 1]",
    "gaussian_blur": "standard deviation, px",
    "shot_noise": "photons at intensity 1",
}

SOURCES = {
    "study": "position study, section 2.3; equal to Tiny-ImageNet-C (hendrycks/robustness, make_tinyimagenet_c.py)",
    "imagenet_c": "ImageNet-C (hendrycks/robustness, make_imagenet_c.py)",
    "cifar_c": "CIFAR-10-C (hendrycks/robustness, make_cifar_c.py)",
}

# Strengths for severity 1 (mild) to 5 (strong); fewer photons are stronger noise.
TABLES: dict[str, dict[str, tuple[float, ...]]] = {
    "study": {
        "gaussian_noise": (0.04, 0.08, 0.12, 0.15, 0.18),
        "gaussian_blur": (0.5, 0.75, 1.0, 1.25, 1.5),
        "shot_noise": (250, 100, 50, 30, 15),
    },
    "imagenet_c": {
        "gaussian_noise": (0.08, 0.12, 0.18, 0.26, 0.38),
        "gaussian_blur": (1, 2, 3, 4, 6),
        "shot_noise": (60, 25, 12, 5, 3),
    },
    "cifar_c": {
        "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.10),
        "gaussian_blur": (0.4, 0.6, 0.7, 0.8, 1.0),
        "shot_noise": (500, 250, 100, 75, 50),
    },
}

_PART = 1 << 20  # pixels for which numbers are drawn at a time


def gaussian_noise(image: Image, sigma: float, rng: np.random.Generator) -> Image:
    """Add normal noise of standard deviation sigma to an image of any shape in [0, 1], and clip."""
    noisy = rng.standard_normal(image.shape, dtype=np.float32)
    noisy *= np.float32(sigma)
    noisy += image
    return np.clip(noisy, 0, 1, out=noisy)


def gaussian_blur(image: Image, sigma: float, rng: np.random.Generator) -> Image:
    """Blur every slice of [C, X, Y(, Z)] by sigma px, with radius 4 sigma and nearest border (``rng`` is unused)."""
    blurred = ndimage.gaussian_filter(image, sigma, mode="nearest", truncate=4.0, axes=(1, 2))
    return np.clip(blurred, 0, 1, out=blurred)


def shot_noise(image: Image, photons: float, rng: np.random.Generator) -> Image:
    """Draw photon counts for an image of any shape in [0, 1], with ``photons`` expected at intensity 1, and clip."""
    noisy = np.empty(image.shape, np.float32)
    expected, drawn = image.reshape(-1), noisy.reshape(-1)
    for first in range(0, image.size, _PART):  # the same numbers as at once, which would take 64 bits for each pixel
        part = slice(first, first + _PART)
        drawn[part] = rng.poisson(expected[part] * photons)
    noisy /= np.float32(photons)
    return np.minimum(noisy, 1, out=noisy)


KINDS: dict[str, Callable[[Image, float, np.random.Generator], Image]] = {
    "gaussian_noise": gaussian_noise,
    "gaussian_blur": gaussian_blur,
    "shot_noise": shot_noise,
}


def degrade(
    image: Any, kind: str, severity: int, case: str, seed: int = 0, table: Table = "study", quantise: bool = False
) -> Any:
    """Degrade an image reproducibly.

    Args:
        image: image [C, X, Y] or [C, X, Y, Z], tensor or array, intensities in [0, 1].
        kind: kind of degradation, a key of ``KINDS``, or ``"none"``.
        severity: severity, 1 (mild) to 5 (strong), or 0 for the unchanged image.
        case: name of the case; with kind, severity and seed it determines the random numbers.
        seed: random seed.
        table: a key of ``TABLES``, or for each kind its strengths for severity 1 to 5.
        quantise: whether the result is truncated to 8 bits, as in the original data sets.

    Returns:
        The degraded image in [0, 1], float32, tensor or array as given; ``image`` itself without a degradation.

    Raises:
        InputError: unknown kind, severity or table, or an image outside of [0, 1].
    """
    strength = _strength(kind, severity, table)
    if strength is None:
        return image
    pixels = np.ascontiguousarray(image.numpy(force=True) if isinstance(image, Tensor) else image, dtype=np.float32)
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= 0 and high <= 1):
        raise InputError(
            f"case {case}: {kind}: expected intensities in [0, 1], got {low:g} to {high:g}; scale before, standardize "
            "afterward"
        )
    degraded = KINDS[kind](pixels, strength, create_generator(case, kind, severity, seed))
    if quantise:
        # The originals truncate. The small term keeps n / 255 at n, because float32 may be just below.
        degraded = np.floor(degraded * np.float32(255) + np.float32(1e-3)) / np.float32(255)
    return torch.from_numpy(degraded).to(image.device) if isinstance(image, Tensor) else degraded


def create_generator(case: str, kind: str, severity: int, seed: int) -> np.random.Generator:
    """Create the random number generator of a degraded image, equal in every process (unlike ``hash`` of a string)."""
    digest = hashlib.sha256(f"{case}\n{kind}\n{int(severity)}\n{int(seed)}".encode()).digest()
    return np.random.Generator(np.random.SFC64(int.from_bytes(digest, "big")))


def find_strengths(table: Table) -> Mapping[str, Sequence[float]]:
    """Find the strengths of each kind of degradation for severity 1 (mild) to 5 (strong).

    Args:
        table: a key of ``TABLES``, or the strengths by kind.

    Raises:
        InputError: unknown table or kind, or a kind without one strength above 0 per severity.
    """
    if isinstance(table, str):
        _check_name("degradation table", table, TABLES)
        return TABLES[table]
    for kind, strengths in table.items():
        _check_name("degradation", kind, KINDS)
        if len(strengths) != len(SEVERITIES) or min(strengths) <= 0:
            raise InputError(
                f"degradation table: {kind}: expected {len(SEVERITIES)} numbers above 0, mild to strong, got "
                f"{list(strengths)}; correct them"
            )
    return table


def name_table(table: Table | None) -> Table | None:
    """Return the name of a table of strengths that is published; any other table as it is."""
    if table is None or isinstance(table, str):
        return table
    given = {kind: list(strengths) for kind, strengths in table.items()}
    names = (name for name, known in TABLES.items() if given == {kind: list(s) for kind, s in known.items()})
    return next(names, table)


def _strength(kind: str, severity: int, table: Table) -> float | None:
    """Look up the strength of a severity; None leaves the image unchanged."""
    strengths = find_strengths(table)
    _check_name("degradation", kind, ("none", *strengths))
    if severity not in (0, *SEVERITIES):
        raise InputError(f"severity: expected 0 (none) or 1 (mild) to {SEVERITIES[-1]} (strong), got {severity}")
    return None if kind == "none" or severity == 0 else strengths[kind][int(severity) - 1]


def _check_name(what: str, name: str, names: Iterable[str]) -> None:
    names = list(names)
    if name not in names:
        nearest = difflib.get_close_matches(str(name), names, n=1, cutoff=0.0)[0]
        raise InputError(f"{what}: expected one of {', '.join(names)}, got {name!r}; did you mean {nearest!r}?")


class Degraded(Lifted):
    """Degrade the image by the item's ``degradation`` and ``severity``; an item without them stays unchanged.

    Use it after scaling to [0, 1] and before standardization.

    Args:
        seed: random seed; with the item's ``case`` it determines the random numbers.
        table: ``"study"``, ``"imagenet_c"``, ``"cifar_c"``, or for each kind its strengths for severity 1 to 5.
        keys: entries to degrade, [C, X, Y] or [C, X, Y, Z] in [0, 1].
        quantise: whether the result is truncated to 8 bits, as in the original data sets.
        allow_missing_keys: whether keys that the item lacks are skipped.

    Raises:
        InputError: a wrong table; when called, unknown kind or severity, or an image outside of [0, 1].
    """

    by_slice = by_condition = on_host = True

    def __init__(
        self,
        seed: int = 0,
        table: Table = "study",
        keys: str | Sequence[str] = "image",
        quantise: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        find_strengths(table)
        self.seed, self.table, self.quantise = seed, table, quantise

    def apply(self, image: Tensor, item: Item, key: Hashable) -> Tensor:
        """Degrade one entry."""
        kind, severity = item.get("degradation", "none"), item.get("severity", 0)
        if kind in PROBES:
            return image  # probes only change position channels
        if kind != "none" and "case" not in item:
            raise InputError("Degraded: expected an item with 'case', the seed of the noise, got none; add it")
        how = self.seed, self.table, self.quantise
        if not isinstance(item.get("case"), list):
            return degrade(image, kind, severity, str(item.get("case")), *how)
        if _strength(kind, severity, self.table) is None:
            return image
        # A batch as a volume: each slice is the image of another case, with noise of its own.
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            images = pool.map(
                lambda part, case: degrade(part, kind, severity, case, *how), image.unbind(-1), item["case"]
            )
            return torch.stack(list(images)).movedim(0, -1)
