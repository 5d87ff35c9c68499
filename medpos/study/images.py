"""Measure images alone, for the studies that need no network: normalized intensities, and degraded images.

Reference:
    "How Can CNNs Use Image Position for Segmentation?", supplementary material and figure 1.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from medpos.data.conditions import Condition
from medpos.metrics.intervals import estimate_mean
from medpos.statistics.criteria import Criterion
from medpos.statistics.judging import Part
from medpos.statistics.verdict import Finding, weigh_parts
from medpos.study.models import parse_bundle
from medpos.transforms.intensity.degradations import SEVERITIES, find_strengths

BINS = 200
Values = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ImageMeasures:
    """Hold what was measured on the images of one data set.

    Args:
        data: name of the data set.
        phantom: True for phantoms.
        images: number of images, slices or volumes.
    """

    data: str
    phantom: bool
    images: int
    split: ClassVar[str]

    @property
    def quantities(self) -> Mapping[str, Values]:
        """The values of each subject that criteria are about, [subjects], by the criterion's ``intensity``."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Intensities(ImageMeasures):
    """Hold the normalized intensities of one data set's training images.

    Args:
        edges: edges of the histogram's bins, in normalized intensity.
        density: share of pixels per unit of intensity, for each bin.
        percentiles: 1st and 99th percentile of each subject, [subjects, 2].
    """

    edges: Values
    density: Values
    percentiles: Values
    split: ClassVar[str] = "training"

    @property
    def quantities(self) -> Mapping[str, Values]:
        """``half_range``: half the range between the percentiles."""
        return {"half_range": (self.percentiles[:, 1] - self.percentiles[:, 0]) / 2}


@dataclass(frozen=True, eq=False)
class DegradedImages(ImageMeasures):
    """Hold an example of each degradation, and how much the degradations change one data set's test images.

    Args:
        case: name of the case that is shown.
        strengths: strengths of each kind for severity 1 to 5.
        examples: its image, clean and at each severity, [kinds, 1 + severities, X, Y] in [0, 1].
        changes: root mean square change of each subject's images, [subjects, kinds, severities].
    """

    case: str
    strengths: Mapping[str, Any]
    examples: npt.NDArray[np.float32]
    changes: Values
    split: ClassVar[str] = "test"

    @property
    def quantities(self) -> Mapping[str, Values]:
        """``growth``: the smallest increase of the change from one severity to the next, clean included."""
        return {"growth": np.diff(self.changes, axis=2, prepend=0).min(axis=(1, 2))}


def measure_intensities(data: str, bundle: Path, overrides: dict[str, Any]) -> Intensities:
    """Measure the intensities of a bundle's training images after its transforms.

    Args:
        data: name of the data set.
        bundle: path of a bundle without position channels.
        overrides: values for keys of the bundle.
    """
    parser, _ = parse_bundle(bundle, overrides)
    dataset = parser.get_parsed_content("train::dataset")
    source = parser.get_parsed_content("source")
    by_subject: dict[str, list[npt.NDArray[np.float32]]] = {}
    for n in range(len(dataset)):
        item = dataset[n]
        by_subject.setdefault(item["subject"], []).append(np.asarray(item["image"], dtype=np.float32).ravel())
    values = np.concatenate([pixels for images in by_subject.values() for pixels in images])
    low, high = np.percentile(values, [0.05, 99.95])
    density, edges = np.histogram(values, BINS, (float(low), float(high)), density=True)
    percentiles = np.array([np.percentile(np.concatenate(v), [1, 99]) for v in by_subject.values()])
    return Intensities(data, source.phantom, len(dataset), edges, density, percentiles)


def degrade_images(data: str, bundle: Path, overrides: dict[str, Any]) -> DegradedImages:
    """Degrade a bundle's test images by each kind and severity, before they are standardized.

    Args:
        data: name of the data set.
        bundle: path of a bundle.
        overrides: values for keys of the bundle.
    """
    parser, _ = parse_bundle(bundle, overrides)
    dataset, degrade = (parser.get_parsed_content(key) for key in ("dataset", "steps::degrade"))
    strengths = find_strengths(degrade.table)
    examples: list[npt.NDArray[np.float32]] = []
    by_subject: dict[str, list[Values]] = {}
    dataset.fill()
    for place in range(len(dataset.places)):
        item = dataset.decoded(place)
        series = torch.stack([_degrade_all(degrade, item, kind) for kind in strengths])
        change = (series[:, 1:] - series[:, :1]).square().flatten(2).mean(2).sqrt()
        by_subject.setdefault(item["subject"], []).append(change.double().numpy())
        if not place:
            shown = series[:, :, 0]
            examples.append((shown[..., shown.shape[-1] // 2] if shown.ndim == 5 else shown).numpy())
            case = item["case"]
    changes = np.array([np.mean(values, axis=0) for values in by_subject.values()])
    source = parser.get_parsed_content("source")
    return DegradedImages(data, source.phantom, len(dataset.places), case, strengths, examples[0], changes)


def _degrade_all(degrade: Callable[[dict[str, Any]], dict[str, Any]], item: dict[str, Any], kind: str) -> torch.Tensor:
    """Return an image clean and at each severity, [1 + severities, C, X, Y] or [..., Z]."""
    return torch.stack([degrade({**item, **Condition(kind, n).to_item()})["image"] for n in (0, *SEVERITIES)])


# Kind of figure -> function that measures the images of a data set for it.
MEASURES: Mapping[str, Callable[[str, Path, dict[str, Any]], ImageMeasures]] = {
    "intensities": measure_intensities,
    "degraded": degrade_images,
}


def evaluate_criterion(measured: ImageMeasures, criterion: Criterion) -> Finding:
    """Measure a criterion for the mean of its quantity over subjects."""
    values = measured.quantities[criterion.intensity]
    part = Part(f"{measured.split} images", estimate_mean(values[:, None], range(values.size)), measured.images)
    return weigh_parts(measured.data, criterion, [part])
