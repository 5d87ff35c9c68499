"""Detect images that are not like those of the training, by what a case's evidence says.

Every detector gives a score that rises with strangeness; ``light`` brings them to one scale.

References:
    K. Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples", NeurIPS 2018 (Mahalanobis
    distance of pooled features); Y. Sun et al., "Out-of-Distribution Detection with Deep Nearest Neighbors", ICML 2022.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from medpos.core.labels import title
from medpos.trust.evidence import LAYOUT, Evidence, Floats, find_center, find_offset

NEIGHBOR = 3  # distances to the training images are to the third-nearest
NEVER = 99.0  # score of an organ that isn't found, in standard deviations
_HARDLY = 0.1  # share of the smallest organ of the training, below which an organ counts as not found
_LEAST_SHRINKAGE = 0.05
_LEAST_SPREAD = 0.01  # standard deviation of an organ's place, as a share of the image's side


@dataclass(frozen=True, eq=False)
class Sample:
    """Hold the evidence of one case as numbers.

    Args:
        noise: decimal logarithm of the noise, [1].
        gray: shares of the pixels up to each gray value.
        features: mean features of each layer.
        centers: center of each organ in shares of the sides, [organs, 2]; NaN where it isn't found.
        sizes: share of the pixels that each organ has, [organs], 0 to 1.
        overlaps: mean share of training images that have the organ where it is, [organs], 0 to 1; empty where images
            differ in size.
        layout: :attr:`medpos.trust.evidence.Evidence.layout`; without rows where it isn't known, as in files of
            earlier versions.
    """

    noise: Floats
    gray: Floats
    features: tuple[Floats, ...]
    centers: Floats
    sizes: Floats
    overlaps: Floats
    layout: Floats

    @classmethod
    def of(cls, evidence: Evidence, mean_mask: torch.Tensor | None) -> "Sample":
        """Read the numbers off the evidence of a case.

        Args:
            evidence: the evidence, complete.
            mean_mask: share of training images that have an organ at each pixel, [organs, x, y]; None where images
                differ in size.
        """
        planes = evidence.planes
        if planes is None:
            raise ValueError("expected evidence of a case, got none; call add() first")
        return cls(
            np.array([evidence.noise]),
            evidence.gray,
            tuple(evidence.tap.mean()),
            np.array([find_center(plane) for plane in planes]),
            planes.double().mean((1, 2)).numpy(),
            np.array([]) if mean_mask is None or mean_mask.shape != planes.shape else overlap(planes, mean_mask),
            evidence.layout,
        )


def overlap(planes: torch.Tensor, mean_mask: torch.Tensor) -> Floats:
    """Return the mean of the mean mask over the pixels of each organ, [organs]; NaN for one without pixels."""
    total = planes.sum((1, 2))
    found: Floats = ((planes * mean_mask).sum((1, 2)) / total).double().numpy()
    return found


class Gaussian:
    """Score features by their Mahalanobis distance from those of the training.

    Features are standardized; their covariance is shrunk toward the identity by the estimator OAS, because there are
    often fewer images than features.

    Args:
        rows: features [images, C].

    Reference:
        Y. Chen et al., "Shrinkage Algorithms for MMSE Covariance Estimation", IEEE TSP 58(10), 2010.
    """

    def __init__(self, rows: Floats) -> None:
        self.mean = rows.mean(axis=0)
        spread = rows.std(axis=0)
        self.spread = np.maximum(spread, 1e-3 * max(float(spread.max(initial=0.0)), 1e-12))
        scaled = (rows - self.mean) / self.spread
        count, size = scaled.shape
        _, singular, self.axes = np.linalg.svd(scaled, full_matrices=False)
        variances = singular**2 / count
        mean = max(float(variances.mean() * len(variances) / size), 1e-12)
        square = float((variances**2).sum()) / size**2
        shrinkage = (square + mean**2) / ((count + 1) * max(square - mean**2 / size, 1e-12))
        self.shrinkage = float(np.clip(shrinkage, _LEAST_SHRINKAGE, 1))
        self.variances = (1 - self.shrinkage) * variances + self.shrinkage * mean
        self.rest = self.shrinkage * mean

    def score(self, row: Floats) -> float:
        """Return the distance of features [C], divided by the root of their number."""
        scaled = (row - self.mean) / self.spread
        along = self.axes @ scaled
        squares = (along**2 / self.variances).sum() + max(scaled @ scaled - along @ along, 0.0) / self.rest
        return float(np.sqrt(squares / len(row)))


class Neighbors:
    """Score features by the distance of their direction from the nearest ones of the training.

    Args:
        rows: features [images, C].
    """

    def __init__(self, rows: Floats) -> None:
        self.mean, self.spread = rows.mean(axis=0), np.maximum(rows.std(axis=0), 1e-12)
        self.rows = self._directions(rows)

    def _directions(self, rows: Floats) -> Floats:
        scaled = (rows - self.mean) / self.spread
        found: Floats = scaled / np.maximum(np.linalg.norm(scaled, axis=-1, keepdims=True), 1e-12)
        return found

    def score(self, row: Floats) -> float:
        """Return the distance of the direction of features [C] from that of the third-nearest training image."""
        distances = np.sort(np.linalg.norm(self.rows - self._directions(row), axis=1))
        return float(distances[min(NEIGHBOR, len(distances)) - 1])


class Place:
    """Score a place, such as the center of an organ, by its distance from where it was in training.

    Args:
        centers: places [images, 2] in shares of the sides; NaN where an image lacks the organ.
    """

    def __init__(self, centers: Floats) -> None:
        known = centers[np.isfinite(centers).all(axis=1)]
        self.is_common = len(known) >= 0.95 * len(centers) and len(known) > 0
        self.mean = known.mean(axis=0) if len(known) else np.full(2, np.nan)
        covariance = np.cov(known.T) if len(known) > 1 else np.zeros((2, 2))
        self.precision = np.linalg.inv(covariance + _LEAST_SPREAD**2 * np.eye(2))

    def score(self, center: Floats) -> float:
        """Return the distance in standard deviations; 0 for an organ that isn't found, or never was in training."""
        if not np.isfinite(center).all() or not np.isfinite(self.mean).all():
            return 0.0
        offset = center - self.mean
        return float(np.sqrt(offset @ self.precision @ offset))


class Offset:
    """Score an image by how far it must be moved to fit the mean of the training images best.

    Args:
        layouts: :attr:`medpos.trust.evidence.Evidence.layout` of the training images, [images, 32, 32].
    """

    def __init__(self, layouts: Floats) -> None:
        self.mean = layouts.mean(axis=0)
        # Each image is compared with the others alone, as a new one will be.
        others = (len(layouts) * self.mean - layouts) / max(len(layouts) - 1, 1)
        self.usual = Place(np.array([find_offset(*pair) for pair in zip(layouts, others, strict=True)]))

    def find(self, layout: Floats) -> Floats:
        """Return the offset of an image from the usual one, along x and y in shares of the sides, [2]."""
        offset: Floats = find_offset(layout, self.mean) - self.usual.mean
        return offset

    def score(self, layout: Floats) -> float:
        """Return this offset in standard deviations."""
        return self.usual.score(find_offset(layout, self.mean))


class Detectors:
    """Score a case by all detectors.

    Args:
        samples: evidence of the training cases; their centers, sizes and overlaps are those of the truth.
        organs: names of the organs.
    """

    def __init__(self, samples: Sequence[Sample], organs: Sequence[str]) -> None:
        self.organs = tuple(organs)
        self.noise = np.array([sample.noise[0] for sample in samples])
        self.gray = np.mean([sample.gray for sample in samples], axis=0)
        layers = [np.stack(rows) for rows in zip(*(sample.features for sample in samples), strict=True)]
        self.gaussians = [Gaussian(rows) for rows in layers]
        self.neighbors = Neighbors(layers[-1]) if layers else None
        layouts = np.stack([s.layout for s in samples])
        self.offset = Offset(layouts) if layouts.size else None
        self.places = [Place(np.stack([s.centers[n] for s in samples])) for n in range(len(organs))]
        sizes = np.stack([s.sizes for s in samples])
        smallest = np.where(sizes > 0, sizes, np.inf).min(axis=0)
        self._least = np.where(np.isfinite(smallest), _HARDLY * smallest, 0)
        self.overlaps = np.nanmean([s.overlaps for s in samples], axis=0) if samples[0].overlaps.size else None

    @cached_property
    def names(self) -> list[str]:
        """Names of the detectors, in the order of :meth:`score`."""
        deep = [f"features {n}" for n in range(len(self.gaussians))] + (["neighbors"] if self.neighbors else [])
        masks = [f"mean mask {organ}" for organ in self.organs] if self.overlaps is not None else []
        offset = ["offset"] if self.offset else []
        return ["noise", "blur", "gray values", *offset, *deep, *(f"place {organ}" for organ in self.organs), *masks]

    def find_lost(self, sample: Sample) -> list[int]:
        """Return the organs that nearly every training image has and that a case lacks.

        An organ of less than a tenth of the smallest one of the training counts as not found.
        """
        found = np.isfinite(sample.centers).all(axis=1) & ~(sample.sizes < self._least)
        return [n for n, place in enumerate(self.places) if place.is_common and not found[n]]

    def score(self, sample: Sample) -> Floats:
        """Score a case by every detector.

        Args:
            sample: evidence of the case.

        Returns:
            Scores [detectors], higher for stranger cases; 0 where a detector lacks its evidence, ``NEVER`` for the
            place of an organ that :meth:`find_lost` returns.
        """
        center, spread = np.median(self.noise), max(float(self.noise.std()), 0.02)
        level = float((sample.noise[0] - center) / spread)
        found = [level, -level, float(np.abs(sample.gray - self.gray).mean())]
        if self.offset is not None:
            found.append(self.offset.score(sample.layout))
        known = len(sample.features) == len(self.gaussians)
        found += [g.score(sample.features[n]) if known else 0.0 for n, g in enumerate(self.gaussians)]
        if self.neighbors is not None:
            found.append(self.neighbors.score(sample.features[-1]) if known else 0.0)
        lost = self.find_lost(sample)
        found += [NEVER if n in lost else place.score(sample.centers[n]) for n, place in enumerate(self.places)]
        if self.overlaps is not None:
            own = sample.overlaps if sample.overlaps.size else self.overlaps
            found += np.nan_to_num(self.overlaps - own).tolist()
        return np.array(found)

    def describe(self, detector: int, sample: Sample, sides: Sequence[int]) -> str:
        """Say in plain words why a detector raises an alarm.

        Args:
            detector: index of the detector.
            sample: evidence of the case.
            sides: x and y of the network's grid in pixels.
        """
        name = self.names[detector]
        kind, _, rest = name.partition(" ")
        organ = title(name.removeprefix("place ").removeprefix("mean mask "))
        if name in ("noise", "blur"):
            level, usual = 10 ** sample.noise[0], 10 ** float(np.median(self.noise))
            what = "noise above" if name == "noise" else "fine detail below"
            return f"{what} what the network was trained on ({level / usual:.2g} times the usual level)"
        if name == "gray values":
            return "gray values are spread unlike those of the training images"
        if name == "offset" and self.offset is not None:
            moved = _pixels(self.offset.find(sample.layout), sides)
            return f"image fits those of the training best when moved {moved}{_grid(sides)}"
        if kind == "features":
            return (
                f"unlike the training images in the network's features, depth {int(rest) + 1} of {len(self.gaussians)}"
            )
        if kind == "neighbors":
            return "far from every training image in the network's deepest features"
        if kind == "mean":
            return f"{organ} predicted where it rarely was in training"
        return self._describe_place(self.organs.index(name.removeprefix("place ")), organ, sample, sides)

    def _describe_place(self, number: int, organ: str, sample: Sample, sides: Sequence[int]) -> str:
        if number in self.find_lost(sample):
            return f"{organ} not found, though it is in nearly every training image"
        offset = sample.centers[number] - self.places[number].mean
        return f"{organ} predicted {_pixels(offset, sides)} from where it was in training{_grid(sides)}"


def _pixels(offset: Floats, sides: Sequence[int]) -> str:
    """Say how long an offset in shares of the sides is, in pixels of the network's grid."""
    return f"{np.hypot(*(offset * np.array(sides[:2]))):.0f} px"


def _grid(sides: Sequence[int]) -> str:
    return f" (the network sees {sides[0]} x {sides[1]} px)"


def pack(samples: Sequence[Sample]) -> dict[str, Any]:
    """Return samples as arrays with a row for each case, by name."""
    layers = {
        f"features_{n}": np.stack(rows) for n, rows in enumerate(zip(*(s.features for s in samples), strict=True))
    }
    names = ("noise", "gray", "centers", "sizes", "overlaps", "layout")
    return {**{name: np.stack([getattr(s, name) for s in samples]) for name in names}, **layers}


def unpack(arrays: dict[str, Any]) -> list[Sample]:
    """Reverse :func:`pack`."""
    layers = [arrays[f"features_{n}"] for n in range(sum(name.startswith("features_") for name in arrays))]
    cases, organs = arrays["centers"].shape[:2]
    # Earlier versions kept no sizes, without which only an organ without any pixel is lost, and no layout.
    sizes = _of_shape("sizes", arrays.get("sizes", np.zeros((cases, organs))), (cases, organs))
    layout = arrays.get("layout", np.zeros(0))
    layout = _of_shape("layout", layout, (cases, LAYOUT, LAYOUT)) if layout.size else np.zeros((cases, 0, 0))
    rows = zip(arrays["noise"], arrays["gray"], arrays["centers"], sizes, arrays["overlaps"], layout, strict=True)
    return [
        Sample(noise, gray, tuple(layer[n] for layer in layers), centers, sizes, overlaps, layout)
        for n, (noise, gray, centers, sizes, overlaps, layout) in enumerate(rows)
    ]


def _of_shape(name: str, values: Floats, shape: tuple[int, ...]) -> Floats:
    if values.shape != shape:
        raise ValueError(f"expected {name} {shape} of the training cases, got {values.shape}")
    return values
