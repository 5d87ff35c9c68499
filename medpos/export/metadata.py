"""``configs/metadata.json`` of an exported bundle, by MONAI's schema."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from medpos import __version__
from medpos.bundle import fragments
from medpos.data.conditions import CLEAN
from medpos.data.training_data import TrainingData

Config = dict[str, Any]

PHANTOM = "TRAINED ON PHANTOMS (computed images, no patients): not fit for any clinical use"
INTENDED = "research on segmentation methods; not a medical device, not for clinical use"
PAPER = "How Can CNNs Use Image Position for Segmentation?, https://arxiv.org/abs/2005.03463"
SOURCES = {
    "jsrt": (
        "JSRT chest X-rays (Shiraishi et al., AJR 174, 2000) with the SCR masks (van Ginneken et al., Medical Image "
        "Analysis 10, 2006); both from their makers, on their terms"
    ),
    "acdc": ("ACDC short-axis cardiac MRI (Bernard et al., IEEE TMI 37(11), 2018); from its makers, on their terms"),
}
_POSITION = {"linear": ("x", "y"), "radial": ("distance", "cosine of the angle", "sine of the angle")}


@dataclass(frozen=True)
class Subject:
    """What is exported.

    Args:
        bundle: name of the bundle.
        run: name of the run.
        config: the run's configuration.
        data: what it was trained on.
        inputs: [C, X, Y] of what the network takes.
        outputs: [C, X, Y] of its logits.
        slices: of a volume that it sees at a time.
        summary: content of the run's ``summary.json``; None: it was not tested.
        environment: content of its ``environment.json``; empty where it is missing.
    """

    bundle: str
    run: str
    config: Config
    data: TrainingData
    inputs: tuple[int, int, int]
    outputs: tuple[int, int, int]
    slices: int
    summary: Config | None
    environment: Config

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the channels of its logits, which may lack the background."""
        return tuple(label.name for label in self.data.labels)[-self.outputs[0] :]

    @property
    def organs(self) -> tuple[str, ...]:
        """The classes as people read them, without the background."""
        return tuple(label.title for label in self.data.labels[1:])

    @property
    def clean(self) -> Config | None:
        """The part of the summary that is of unchanged images; None: it was not tested on them."""
        conditions = (self.summary or {}).get("conditions", [])
        return next((entry for entry in conditions if not entry["severity"] and entry["shift"] == CLEAN.shift), None)


def source_of(data: TrainingData) -> str:
    """Where the training data come from, in a sentence."""
    real = SOURCES.get(data.name, f"{data.name}, a data set of whoever trained this")
    return f"phantoms: images computed by medpos in the format of {data.name}; no patients" if data.phantom else real


def metadata(base: Config, subject: Subject) -> Config:
    """All that MONAI's schema and its tools ask for.

    Args:
        base: the project's own ``metadata.json``.
        subject: what is exported.
    """
    data = subject.data
    changed = fragments.metadata(base, _inputs(subject), subject.classes)
    formats = changed["network_data_format"]
    formats["inputs"]["image"]["spatial_shape"] = list(subject.inputs[1:])
    formats["outputs"]["pred"]["spatial_shape"] = list(subject.outputs[1:])
    note = f" {PHANTOM}." if data.phantom else ""
    return {
        **changed,
        "changelog": {changed["version"]: f"exported from run {subject.run} of bundle {subject.bundle}"},
        "pytorch_version": torch.__version__.split("+")[0],
        "numpy_version": np.__version__,
        "required_packages_version": {**changed["required_packages_version"], "medpos": __version__},
        "name": subject.bundle,
        "task": f"2-D segmentation of {', '.join(subject.organs)}{note and ' (PHANTOMS)'}",
        "description": f"Network of the medpos bundle {subject.bundle}, trained on {data.name}.{note}",
        "authors": "whoever trained the run, with medpos",
        "copyright": "The medpos authors (code and configuration)",
        "data_source": source_of(data),
        "image_classes": "grey values; further channels hold the position within the image",
        "pred_classes": ", ".join(f"{label.index}: {label.title}" for label in data.labels),
        "eval_metrics": _scores(subject.clean),
        "intended_use": f"{INTENDED}.{note}",
        "references": [PAPER],
    }


def _inputs(subject: Subject) -> Sequence[str]:
    """Names of the channels: the image's, or slices of it, and those of its position encoding."""
    if subject.slices > 1:
        near = subject.slices // 2
        return [f"slice z{place:+d}" if place else "slice z" for place in range(-near, near + 1)]
    own = subject.data.channels
    count = subject.inputs[0] - len(own)
    known = _POSITION.get(str(subject.config.get("encoding", "")), ())
    return (*own, *(known if len(known) == count else [f"position {n}" for n in range(1, count + 1)]))


def _scores(condition: Config | None) -> Config:
    if condition is None:
        return {}
    organs = {f"dice_{organ}": metrics["dice"]["mean"] for organ, metrics in condition["organs"].items()}
    return {"mean_dice": condition["mean_foreground_dice"]["mean"], **organs}
