"""Measure the normalized intensities of training images, for the study that needs no network.

Reference:
    "How Can CNNs Use Image Position for Segmentation?", supplementary material.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medpos.metrics.intervals import estimate_mean
from medpos.statistics.criteria import Criterion
from medpos.statistics.judging import Part
from medpos.statistics.verdict import Finding, weigh_parts
from medpos.study.models import parse_bundle

BINS = 200


@dataclass(frozen=True, eq=False)
class Intensities:
    """Hold the normalized intensities of one data set's training images.

    Args:
        data: name of the data set.
        phantom: True for phantoms.
        edges: edges of the histogram's bins, in normalized intensity.
        density: share of pixels per unit of intensity, for each bin.
        percentiles: 1st and 99th percentile of each subject, [subjects, 2].
        images: number of images or slices.
    """

    data: str
    phantom: bool
    edges: npt.NDArray[np.float64]
    density: npt.NDArray[np.float64]
    percentiles: npt.NDArray[np.float64]
    images: int

    @property
    def half_range(self) -> npt.NDArray[np.float64]:
        """Half the range between the percentiles of each subject."""
        half: npt.NDArray[np.float64] = (self.percentiles[:, 1] - self.percentiles[:, 0]) / 2
        return half


def measure(data: str, bundle: Path, overrides: dict[str, Any]) -> Intensities:
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
    return Intensities(data, source.phantom, edges, density, percentiles, len(dataset))


def evaluate_criterion(measured: Intensities, criterion: Criterion) -> Finding:
    """Measure a criterion for the mean half range over subjects."""
    half = measured.half_range
    part = Part("training images", estimate_mean(half[:, None], range(half.size)), measured.images)
    return weigh_parts(measured.data, criterion, [part])
