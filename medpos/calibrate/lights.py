"""Fit the detectors of a run on its training split, and set their threshold on its validation split."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy.stats import binomtest

from medpos.calibrate.outputs import Output, run_split
from medpos.core.arrays import save_arrays
from medpos.core.errors import InputError
from medpos.data.folder import DataFolder
from medpos.predict.model import Model
from medpos.runs.files import DETECTORS
from medpos.trust.detectors import Detectors, Sample, overlap
from medpos.trust.evidence import Evidence, Floats, count_planes, find_center
from medpos.trust.light import ALARM_RATE, GREEN, TrafficLight

_MOST_CASES = 128  # of a split
_DEPTHS = 4  # layers whose features are looked at
_PARTS = 5  # into which training cases are divided, to score each by the others
_ENOUGH = round(1 / ALARM_RATE) - 1  # familiar cases that a rate of false alarms needs


def fit_detectors(model: Model, source: DataFolder) -> TrafficLight:
    """Fit the detectors of a run, measure their false alarms on its test split, and write ``detectors.npz`` into it.

    With fewer than 19 validation cases, which can't fix a rate of 5 %, training cases are familiar cases too, each
    scored by detectors that were fitted to other subjects.

    Args:
        model: model of the run.
        source: its training data.

    Raises:
        InputError: there are fewer than two training cases, or the run can't be written to.
    """
    layers, organs = _choose_layers(model, source), [label.name for label in source.labels[1:]]
    training = list(_collect(model, source, "training", layers))
    if len(training) < 2:
        raise InputError(f"{source.folder}: expected two training cases or more, to fit detectors, got {len(training)}")
    masks = [_mask(output, len(organs)) for output, _ in training]
    total = torch.stack(masks).sum(0) if len({mask.shape for mask in masks}) == 1 else None
    mean_mask = None if total is None else total / len(masks)
    # A training case is compared with the others alone, as a new case will be.
    others = [None if total is None else (total - mask) / (len(masks) - 1) for mask in masks]
    predicted = [Sample.of(evidence, prior) for (_, evidence), prior in zip(training, others, strict=True)]
    fitting = [_with_truth(*parts) for parts in zip(predicted, masks, others, strict=True)]
    detectors = Detectors(fitting, organs)
    known = [Sample.of(evidence, mean_mask) for _, evidence in _collect(model, source, "validation", layers)]
    familiar, validation = [detectors.score(sample) for sample in known], len(known)
    if validation < _ENOUGH:
        subjects = [output.image.case["subject"] for output, _ in training]
        familiar += list(_score_by_others(fitting, predicted, subjects, organs))
    about = {
        "weights": model.identity,
        "layers": layers,
        "organs": organs,
        "validation": validation,
        "training": len(familiar) - validation,
    }
    prior = np.zeros(0) if mean_mask is None else mean_mask.double().numpy()
    light = TrafficLight(about, fitting, np.stack(familiar), prior)
    tested = [light.judge(evidence).color for _, evidence in _collect(model, source, "test", layers)]
    light.about |= {"test_cases": len(tested), "test_alarms": len(tested) - tested.count(GREEN)}
    save_arrays(model.home / DETECTORS, light.to_arrays())
    return light


def _choose_layers(model: Model, source: DataFolder) -> list[int]:
    """Choose convolutions at equal depths, without the last one, which gives the classes; none for other backends."""
    evidence = Evidence((), len(source.labels) - 1)
    next(iter(run_split(model, source, "training", 1, lambda: evidence)))
    count = evidence.tap.count
    return sorted({int(place) for place in np.linspace(0, count - 2, _DEPTHS).round()}) if count > 1 else []


def _collect(model: Model, source: DataFolder, split: str, layers: Sequence[int]) -> Iterator[tuple[Output, Evidence]]:
    for output in run_split(model, source, split, _MOST_CASES, lambda: Evidence(layers, len(source.labels) - 1)):
        if output.evidence is not None:
            yield output, output.evidence


def _mask(output: Output, organs: int) -> torch.Tensor:
    """Return the share of slices of a case that have each organ at each pixel, by the truth, [organs, x, y]."""
    classes = torch.arange(organs + 1).view(-1, *[1] * (output.image.truth.ndim - 1))
    slices = output.image.truth.shape[3] if output.image.truth.ndim == 4 else 1
    return count_planes(output.image.truth == classes) / slices


def _with_truth(sample: Sample, mask: torch.Tensor, prior: torch.Tensor | None) -> Sample:
    """Return a sample with the centers, sizes and overlaps of the truth."""
    centers, sizes = np.array([find_center(plane) for plane in mask]), mask.double().mean((1, 2)).numpy()
    overlaps = np.array([]) if prior is None else overlap(mask, prior)
    return replace(sample, centers=centers, sizes=sizes, overlaps=overlaps)


def _score_by_others(
    fitting: Sequence[Sample], predicted: Sequence[Sample], subjects: Sequence[Any], organs: Sequence[str]
) -> Iterator[Floats]:
    """Score every training case by detectors that were fitted to other subjects."""
    names = list(dict.fromkeys(subjects))
    parts = [names.index(subject) % min(_PARTS, len(names)) for subject in subjects]
    for part in sorted(set(parts)):
        others = [sample for sample, own in zip(fitting, parts, strict=True) if own != part]
        if len(others) > 1:
            detectors = Detectors(others, organs)
            yield from (detectors.score(s) for s, own in zip(predicted, parts, strict=True) if own == part)


def describe_light(light: TrafficLight) -> str:
    """Say what the threshold was set on, and how many test images of the run don't get a green light."""
    about = light.about
    counts = [f"{about[split]} {split} cases" for split in ("validation", "training") if about[split]]
    stated = f"at most {light.rate:.1%} of images like those of the training aren't green, by {' and '.join(counts)}"
    if light.lost:
        stated += f"; in {light.lost} of them an organ isn't found, which is always red"
    lines = [f"detectors: {', '.join(light.detectors.names)}", stated]
    if about["test_cases"]:
        found = binomtest(about["test_alarms"], about["test_cases"])
        low, high = found.proportion_ci()
        count = f"{about['test_alarms']} of {about['test_cases']}"
        lines.append(
            f"on the test images {count} aren't green: {found.statistic:.1%} (95 % interval {low:.1%} to {high:.1%})"
        )
    return "\n".join(lines)
