"""Build ``configs/metadata.json`` of an exported bundle, which follows MONAI's schema."""

from dataclasses import dataclass

import numpy as np
import torch

from medpos import __version__
from medpos.bundle import fragments
from medpos.export.facts import INTENDED, PAPER, PHANTOM, Config, RunFacts, describe_data

_POSITION = {"linear": ("x", "y"), "radial": ("distance", "cosine of the angle", "sine of the angle")}


@dataclass(frozen=True)
class ExportedRun:
    """Hold what is written about an exported run.

    Args:
        facts: what the run knows about itself.
        inputs: shape [C, X, Y] of the exported network's input.
        outputs: shape [C, X, Y] of its logits.
    """

    facts: RunFacts
    inputs: tuple[int, int, int]
    outputs: tuple[int, int, int]

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels of the input: those of the image or its slices, then those of its position."""
        if self.facts.slices > 1:
            near = self.facts.slices // 2
            return tuple(f"slice z{place:+d}" if place else "slice z" for place in range(-near, near + 1))
        own = self.facts.data.channels
        count = self.inputs[0] - len(own)
        known = _POSITION.get(str(self.facts.config.get("encoding", "")), ())
        return (*own, *(known if len(known) == count else [f"position {n}" for n in range(1, count + 1)]))

    @property
    def appends_position(self) -> bool:
        """Whether the exported network appends the position channels itself."""
        facts = self.facts
        return facts.sees_position and self.inputs[0] == len(facts.data.channels) * facts.slices

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the channels of the logits, which may lack the background."""
        return tuple(label.name for label in self.facts.data.labels)[-self.outputs[0] :]


def build_metadata(base: Config, exported: ExportedRun) -> Config:
    """Build all entries that MONAI's schema and tools require.

    Args:
        base: content of medpos's own ``metadata.json``.
        exported: the exported run.
    """
    facts = exported.facts
    data = facts.data
    changed = fragments.adapt_metadata(base, exported.channels, exported.classes)
    formats = changed["network_data_format"]
    formats["inputs"]["image"]["spatial_shape"] = list(exported.inputs[1:])
    formats["outputs"]["pred"]["spatial_shape"] = list(exported.outputs[1:])
    note = f" {PHANTOM}." if data.phantom else ""
    return {
        **changed,
        "changelog": {changed["version"]: f"exported from run {facts.run} of bundle {facts.bundle}"},
        "pytorch_version": torch.__version__.split("+")[0],
        "numpy_version": np.__version__,
        "required_packages_version": {**changed["required_packages_version"], "medpos": __version__},
        "name": facts.bundle,
        "task": f"2-D segmentation of {', '.join(facts.organs)}{note and ' (PHANTOMS)'}",
        "description": f"Network of the medpos bundle {facts.bundle}, trained on {data.name}.{note}",
        "authors": "the people who trained the run, with medpos",
        "copyright": "The medpos authors (code and configuration)",
        "data_source": describe_data(data),
        "image_classes": f"gray values{_position(exported)}",
        "pred_classes": ", ".join(f"{label.index}: {label.title}" for label in data.labels),
        "eval_metrics": _scores(facts.clean),
        "intended_use": f"{INTENDED}.{note}",
        "references": [PAPER],
    }


def _position(exported: ExportedRun) -> str:
    if exported.appends_position:
        return "; the network adds their position within the image itself"
    return "; further channels hold the position within the image" if exported.facts.sees_position else ""


def _scores(condition: Config | None) -> Config:
    if condition is None:
        return {}
    organs = {f"dice_{organ}": metrics["dice"]["mean"] for organ, metrics in condition["organs"].items()}
    return {"mean_dice": condition["mean_foreground_dice"]["mean"], **organs}
