"""Explain a trained network: its first filters, the activations of a layer, and the image that a unit prefers.

Reference:
    G. Boracchi, "Fully Convolutional Networks" (lecture), "CNN Visualization".
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from medpos.core.errors import InputError
from medpos.explain import figures
from medpos.explain.ascent import GOALS, AscentResult, AscentSettings, ascend
from medpos.explain.field_table import trace_large_image
from medpos.explain.input_image import InputImage, find_case_files, prepare_input_image
from medpos.explain.layers import Layer, choose_layer, compute_features, find_convolutions, trace_layers, without_values
from medpos.networks.sunet.network import SUNet
from medpos.predict.model import Model
from medpos.runs.text import PHANTOM_NOTE

LARGEST = 256  # largest side in pixels of the ascent's image
_MOST_STEPS = 10_000  # of an ascent; a mistyped number would run for days


@dataclass(frozen=True)
class ExplainOptions:
    """Hold the user's choices of what to show.

    Args:
        layer: name of the layer, as :func:`medpos.explain.trace_layers` gives it; the deepest layer if empty.
        unit: channel of the layer, from 0; None: the channel with the largest mean activation.
        goal: quantity that the ascent maximizes: ``"mean"`` of the channel, or its pixel in the ``"center"``.
        settings: settings of the ascent.

    Raises:
        InputError: the goal is unknown, or there is no step or too many.
    """

    layer: str = ""
    unit: int | None = None
    goal: str = "mean"
    settings: AscentSettings = field(default_factory=AscentSettings)

    def __post_init__(self) -> None:
        if self.goal not in GOALS:
            raise InputError(f"--goal: expected one of {', '.join(GOALS)}, got {self.goal!r}; give one of these")
        if not 1 <= self.settings.steps <= _MOST_STEPS:
            raise InputError(
                f"--steps: expected 1 to {_MOST_STEPS}, got {self.settings.steps}; give a number such as 100"
            )


@dataclass(eq=False)
class Explanation:
    """Hold the figures and the record of an explanation.

    Args:
        figures: figures by file name, without suffix.
        record: content of ``explain.json``.
        activations: activation of the unit during the ascent.
        title: name of layer and unit.
    """

    figures: dict[str, Figure]
    record: dict[str, Any]
    activations: list[float]
    title: str


def explain_network(model: Model, image: InputImage, options: ExplainOptions) -> Explanation:
    """Explain the network of a run with one image.

    Args:
        model: model of the run.
        image: image to compute activations of.
        options: choices of what to show.

    Raises:
        InputError: the network has no filters, or lacks the layer or unit.
    """
    network = model.network
    name, weight = first_filters(network, image.values)
    _, layers = trace_large_image(without_values(network), len(image.values), int(image.values.shape[2]))
    layer = choose_layer(layers, options.layer)
    with torch.no_grad():
        features = compute_features(network, layer.name, image.values[None])[0]
    unit = _choose_unit(features, options.unit, layer.name)
    start = image.crop(_ascent_sides(network, image.values))
    scale = float(image.values[image.free].std()) or 1.0  # a constant image has 0
    found = ascend(network, layer.name, unit, start.values, image.free, options.goal, options.settings, scale)
    heads, seen = _title_lines(model), _describe_field(layer)
    drawn = {
        "filters": figures.draw_filters(name, weight, image, heads),
        **figures.draw_activations(features, [*heads, f"{layer.name} of {image.title}; {seen}"]),
        "ascent": figures.draw_preferred(found, start, [*heads, *_ascent_lines(layer, unit, options, found)]),
    }
    if isinstance(network, SUNet):
        drawn["levels"] = figures.draw_levels(network, image, heads)
    record = {
        "run": heads[0],
        "weights_sha256": model.identity,
        "phantom": model.data.phantom,
        "image": {"case": image.name, "slice": image.slice, "size": list(image.values.shape[1:])},
        "channels": list(image.channels),
        "filters": {"layer": name, "shape": list(weight.shape)},
        "activations": _activations_record(layer, features),
        "ascent": {**_ascent_record(unit, options, start, found), "scale": scale},
        "layers": [layer.name for layer in layers],
    }
    return Explanation(drawn, record, found.activations, f"{layer.name}/unit {unit}")


def _title_lines(model: Model) -> list[str]:
    run = model.run.resolve()
    return [f"{run.parent.name}/{run.name}", *([PHANTOM_NOTE.partition(":")[0]] if model.data.phantom else [])]


def _describe_field(layer: Layer) -> str:
    size = layer.receptive_field
    if size is None:
        return "sees the whole image"
    return f"stride {layer.stride} px, sees {size} px" if size else "sees nothing of the image"


def _ascent_lines(layer: Layer, unit: int, options: ExplainOptions, found: AscentResult) -> list[str]:
    start, end = found.activations[0], found.activations[-1]
    return [
        f"{layer.name}, unit {unit}: {GOALS[options.goal]} maximized by regularized gradient ascent; "
        f"{_describe_field(layer)}",
        f"activation {start:.3g} in noise, {end:.3g} after {options.settings.steps} steps",
    ]


def _activations_record(layer: Layer, features: Tensor) -> dict[str, Any]:
    return {
        "layer": layer.name,
        "shape": list(features.shape),
        "stride_px": layer.stride,
        "receptive_field_px": layer.receptive_field,
        "smallest": float(features.min()),
        "largest": float(features.max()),
    }


def _ascent_record(unit: int, options: ExplainOptions, start: InputImage, found: AscentResult) -> dict[str, Any]:
    return {
        "unit": unit,
        "goal": GOALS[options.goal],
        "size": list(start.values.shape[1:]),
        **asdict(options.settings),
        "activation": found.activations,
    }


def first_filters(network: nn.Module, image: Tensor) -> tuple[str, Tensor]:
    """Find the convolution that runs first.

    Args:
        network: network in evaluation mode.
        image: image [C, X, Y] that it accepts.

    Returns:
        Name and weight [filters, channels, X, Y] of the convolution.

    Raises:
        InputError: the network has no convolution.
    """
    if not _has_convolution(network):
        raise InputError(
            f"{type(network).__name__}: expected a network with convolutions, got one without filters and without "
            "layers that see the image; give a run of another network"
        )
    shape = int(image.shape[0]), int(image.shape[1]), int(image.shape[2])
    first = find_convolutions(network, trace_layers(network, shape))[0].name.partition(":")[0]
    return first, network.get_submodule(first).weight.detach()


def _has_convolution(network: nn.Module) -> bool:
    return any(isinstance(module, nn.Conv2d) for module in network.modules())


def _choose_unit(features: Tensor, chosen: int | None, layer: str) -> int:
    if chosen is None:
        return int(features.mean(dim=(1, 2)).argmax())
    if not 0 <= chosen < len(features):
        raise InputError(
            f"--unit: expected a channel of {layer}, 0 to {len(features) - 1}, got {chosen}; give one of these"
        )
    return chosen


def _ascent_sides(network: nn.Module, image: Tensor) -> list[int]:
    """Return the image's sides, each reduced to the largest that the network accepts up to ``LARGEST`` pixels."""
    empty, sides = without_values(network), list(image.shape[1:])
    for axis, side in enumerate(sides):
        shorter = (size for size in range(LARGEST, 0, -1) if _accepts(empty, len(image), sides, axis, size))
        sides[axis] = next(shorter, side) if side > LARGEST else side
    return sides


def _accepts(network: nn.Module, channels: int, sides: Sequence[int], axis: int, size: int) -> bool:
    rows, columns = (size, sides[1]) if axis == 0 else (sides[0], size)
    try:
        trace_layers(network, (channels, rows, columns))
    except InputError:
        return False
    return True


def load_input_image(model: Model, image: str, dataset_dir: Path | None) -> InputImage:
    """Load the image to explain a model with.

    Args:
        model: model of the run.
        image: path of a file, or name of a case of the data; the first test case if empty.
        dataset_dir: prepared data set to use in place of the one the run was trained on.

    Raises:
        InputError: the network has nothing to show, or the image isn't found or can't be used.
    """
    if not _has_convolution(model.network):
        first_filters(model.network, torch.empty(0))
    if model.classifies and not Path(image).is_file():
        raise InputError(
            f"--image: expected a file, as classification data have no prepared images, got {image!r}; give one such "
            "as val/n01440764/ILSVRC2012_val_00000293.JPEG of ImageNet"
        )
    return prepare_input_image(model, find_case_files(model.run, image, dataset_dir, model.data.channels))
