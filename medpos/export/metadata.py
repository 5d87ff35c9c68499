"""Build ``configs/metadata.json`` of an exported bundle, which follows MONAI's schema."""

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
class ExportedRun:
    """Hold what is written about an exported run.

    Args:
        bundle: name of the bundle.
        run: name of the run.
        config: resolved configuration of the run.
        data: description of the training data.
        inputs: shape [C, X, Y] of the exported network's input.
        outputs: shape [C, X, Y] of its logits.
        slices: number of slices of a volume that it sees at a time.
        sees_position: whether the network of the run gets position channels, from its input or from the export.
        summary: content of the run's ``summary.json``; None: it wasn't tested.
        environment: last entry of the run's ``environment.json``; empty where it is missing.
    """

    bundle: str
    run: str
    config: Config
    data: TrainingData
    inputs: tuple[int, int, int]
    outputs: tuple[int, int, int]
    slices: int
    sees_position: bool
    summary: Config | None
    environment: Config

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels of the input: those of the image or its slices, then those of its position."""
        if self.slices > 1:
            near = self.slices // 2
            return tuple(f"slice z{place:+d}" if place else "slice z" for place in range(-near, near + 1))
        own = self.data.channels
        count = self.inputs[0] - len(own)
        known = _POSITION.get(str(self.config.get("encoding", "")), ())
        return (*own, *(known if len(known) == count else [f"position {n}" for n in range(1, count + 1)]))

    @property
    def appends_position(self) -> bool:
        """Whether the exported network appends the position channels itself."""
        return self.sees_position and self.inputs[0] == len(self.data.channels) * self.slices

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the channels of the logits, which may lack the background."""
        return tuple(label.name for label in self.data.labels)[-self.outputs[0] :]

    @property
    def organs(self) -> tuple[str, ...]:
        """Titles of the classes, without the background."""
        return tuple(label.title for label in self.data.labels[1:])

    @property
    def clean(self) -> Config | None:
        """Entry of the summary for unchanged images; None: the run wasn't tested on them."""
        conditions = (self.summary or {}).get("conditions", [])
        return next((entry for entry in conditions if not entry["severity"] and entry["shift"] == CLEAN.shift), None)


def describe_data(data: TrainingData) -> str:
    """Describe the origin of the training data in a sentence.

    Args:
        data: description of the training data.
    """
    real = SOURCES.get(data.name, f"{data.name}, a custom data set")
    return f"phantoms: images computed by medpos in the format of {data.name}; no patients" if data.phantom else real


def build_metadata(base: Config, exported: ExportedRun) -> Config:
    """Build all entries that MONAI's schema and tools require.

    Args:
        base: content of medpos's own ``metadata.json``.
        exported: the exported run.
    """
    data = exported.data
    changed = fragments.adapt_metadata(base, exported.channels, exported.classes)
    formats = changed["network_data_format"]
    formats["inputs"]["image"]["spatial_shape"] = list(exported.inputs[1:])
    formats["outputs"]["pred"]["spatial_shape"] = list(exported.outputs[1:])
    note = f" {PHANTOM}." if data.phantom else ""
    return {
        **changed,
        "changelog": {changed["version"]: f"exported from run {exported.run} of bundle {exported.bundle}"},
        "pytorch_version": torch.__version__.split("+")[0],
        "numpy_version": np.__version__,
        "required_packages_version": {**changed["required_packages_version"], "medpos": __version__},
        "name": exported.bundle,
        "task": f"2-D segmentation of {', '.join(exported.organs)}{note and ' (PHANTOMS)'}",
        "description": f"Network of the medpos bundle {exported.bundle}, trained on {data.name}.{note}",
        "authors": "the people who trained the run, with medpos",
        "copyright": "The medpos authors (code and configuration)",
        "data_source": describe_data(data),
        "image_classes": f"grey values{_position(exported)}",
        "pred_classes": ", ".join(f"{label.index}: {label.title}" for label in data.labels),
        "eval_metrics": _scores(exported.clean),
        "intended_use": f"{INTENDED}.{note}",
        "references": [PAPER],
    }


def _position(exported: ExportedRun) -> str:
    if exported.appends_position:
        return "; the network adds their position within the image itself"
    return "; further channels hold the position within the image" if exported.sees_position else ""


def _scores(condition: Config | None) -> Config:
    if condition is None:
        return {}
    organs = {f"dice_{organ}": metrics["dice"]["mean"] for organ, metrics in condition["organs"].items()}
    return {"mean_dice": condition["mean_foreground_dice"]["mean"], **organs}
