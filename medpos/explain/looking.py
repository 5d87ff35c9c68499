"""Looking inside a trained network: its first filters, what a layer makes of an image, and what a unit looks for.

Reference:
    G. Boracchi, "Fully Convolutional Networks" (lecture), "CNN Visualization".
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from medpos.core.errors import InputError
from medpos.explain import drawing, subject
from medpos.explain.ascent import GOALS, Climbed, Settings, ascend
from medpos.explain.fields import with_room
from medpos.explain.layers import Layer, choose, convolutions, features_of, layers_of, shadow_of
from medpos.explain.subject import Subject, position_names
from medpos.networks.sunet.network import SUNet, select_strongest
from medpos.predict.model import Model
from medpos.runs.text import PHANTOM_NOTE

LARGEST = 256  # px of the ascent's image, a side
SHOWN = 99.5  # percentile of a colour picture's values that is white; its counterpart is black
LEVELS = ("stem", "block 1", "block 2", "block 3", "block 4", "prediction")  # of SUNet.levels


@dataclass(frozen=True)
class Wish:
    """What is to be shown.

    Args:
        layer: a name of :func:`medpos.explain.layers_of`; empty: the deepest.
        unit: channel of it, from 0; None: that which answers most to the image.
        goal: what the ascent maximises: ``"mean"`` or ``"centre"`` of the channel.
        settings: of the ascent.

    Raises:
        InputError: another goal, or no step.
    """

    layer: str = ""
    unit: int | None = None
    goal: str = "mean"
    settings: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        if self.goal not in GOALS:
            raise InputError(f"--goal is {self.goal!r}, needed is one of {', '.join(GOALS)}")
        if self.settings.steps < 1:
            raise InputError(f"--steps is {self.settings.steps}, needed is 1 or more, such as 100")


@dataclass(eq=False)
class Look:
    """What was seen.

    Args:
        figures: by file name, without suffix.
        record: what was done.
        rise: of the unit's activation over the ascent.
        title: of layer and unit.
    """

    figures: dict[str, Figure]
    record: dict[str, Any]
    rise: list[float]
    title: str


def look(model: Model, seen: Subject, wish: Wish) -> Look:
    """Look inside a run's network.

    Args:
        model: the run.
        seen: the image to look at.
        wish: what is to be shown.

    Raises:
        InputError: the network has no filters, or not this layer or unit.
    """
    network = model.network
    name, weight = first_filters(network, seen.values)
    _, layers = with_room(shadow_of(network), len(seen.values), int(seen.values.shape[2]))
    layer = choose(layers, wish.layer)
    with torch.no_grad():
        features = features_of(network, layer.name, seen.values[None])[0]
    unit = _unit(features, wish.unit, layer.name)
    start = seen.cut(_sides(network, seen.values))
    scale = float(seen.values[seen.free].std()) or 1.0  # that of an image of one value is 0
    found = ascend(network, layer.name, unit, start.values, seen.free, wish.goal, wish.settings, scale)
    heads, sees = _heads(model), _sees(layer)
    climb = f"activation {found.rise[0]:.3g} in noise, {found.rise[-1]:.3g} after {wish.settings.steps} steps"
    aim = f"{layer.name}, unit {unit}: {GOALS[wish.goal]} maximised by regularised gradient ascent"
    figures = {
        "filters": _filters_figure(name, weight, seen, heads),
        **_activation_figures(features, [*heads, f"{layer.name} of {seen.title}; {sees}"]),
        "ascent": drawing.ascent_figure(_pictures(found.image, start), found.rise, [*heads, f"{aim}; {sees}", climb]),
    }
    if isinstance(network, SUNet):
        figures["levels"] = _levels_figure(network, seen, heads)
    record = {
        "run": heads[0],
        "weights_sha256": model.identity,
        "phantom": model.data.phantom,
        "image": {"case": seen.name, "slice": seen.slice, "size": list(seen.values.shape[1:])},
        "channels": list(seen.channels),
        "filters": {"layer": name, "shape": list(weight.shape)},
        "activations": _activations_record(layer, features),
        "ascent": {**_ascent_record(unit, wish, start, found), "scale": scale},
        "layers": [layer.name for layer in layers],
    }
    return Look(figures, record, found.rise, f"{layer.name}/unit {unit}")


def _heads(model: Model) -> list[str]:
    run = model.run.resolve()
    return [f"{run.parent.name}/{run.name}", *([PHANTOM_NOTE.partition(":")[0]] if model.data.phantom else [])]


def _sees(layer: Layer) -> str:
    if layer.field is None:
        return "sees the whole image"
    return f"stride {layer.stride} px, sees {layer.field} px" if layer.field else "sees nothing of the image"


def _activations_record(layer: Layer, features: Tensor) -> dict[str, Any]:
    return {
        "layer": layer.name,
        "shape": list(features.shape),
        "stride_px": layer.stride,
        "receptive_field_px": layer.field,
        "smallest": float(features.min()),
        "largest": float(features.max()),
    }


def _ascent_record(unit: int, wish: Wish, start: Subject, found: Climbed) -> dict[str, Any]:
    size = list(start.values.shape[1:])
    return {"unit": unit, "goal": GOALS[wish.goal], "size": size, **asdict(wish.settings), "activation": found.rise}


def first_filters(network: nn.Module, image: Tensor) -> tuple[str, Tensor]:
    """The convolution that runs first: its name and weight [filters, channels, X, Y].

    Raises:
        InputError: there is none.
    """
    if not any(isinstance(module, nn.Conv2d) for module in network.modules()):
        raise InputError(
            f"{type(network).__name__}: has no filters and no layer that sees the image, so there is nothing to show; "
            "give a run of another network"
        )
    first = convolutions(network, layers_of(network, _shape(image)))[0].name.partition(":")[0]
    return first, network.get_submodule(first).weight.detach()


def _shape(image: Tensor) -> tuple[int, int, int]:
    return int(image.shape[0]), int(image.shape[1]), int(image.shape[2])


def _unit(features: Tensor, wanted: int | None, layer: str) -> int:
    if wanted is None:
        return int(features.mean(dim=(1, 2)).argmax())
    if not 0 <= wanted < len(features):
        raise InputError(f"--unit is {wanted}, needed is a channel of {layer}, 0 to {len(features) - 1}")
    return wanted


def _sides(network: nn.Module, image: Tensor) -> list[int]:
    """The sides of the ascent's image: those of the network's, or the largest below that it takes."""
    shadow, sides = shadow_of(network), list(image.shape[1:])
    for axis, side in enumerate(sides):
        shorter = (size for size in range(LARGEST, 0, -1) if _takes(shadow, len(image), sides, axis, size))
        sides[axis] = next(shorter, side) if side > LARGEST else side
    return sides


def _takes(shadow: nn.Module, channels: int, sides: Sequence[int], axis: int, size: int) -> bool:
    rows, columns = (size, sides[1]) if axis == 0 else (sides[0], size)
    try:
        layers_of(shadow, (channels, rows, columns))
    except InputError:
        return False
    return True


def _filters_figure(layer: str, weight: Tensor, seen: Subject, heads: Sequence[str]) -> Figure:
    tiles = weight.float().cpu().numpy()
    count, channels, *size = tiles.shape
    title = f"{layer}: {count} filters of {size[0]} x {size[1]} px"
    if seen.colours and channels == 3:
        colours = drawing.own_scales(tiles[:, seen.colours].transpose(0, 2, 3, 1))
        pages = {"red, green, blue": drawing.grid(colours)}
        return drawing.figure_of(pages, [*heads, f"{title}; each on its own scale"])
    # A network that holds the position encoding has channels of its own.
    names = [*seen.channels, *position_names(channels - len(seen.channels))]
    pages = {name: drawing.grid(tiles[:, place]) for place, name in enumerate(names[:channels])}
    most = float(np.abs(tiles).max())
    return drawing.figure_of(pages, [*heads, f"{title}; one scale for all"], "RdBu_r", (-most, most))


def _activation_figures(features: Tensor, lines: Sequence[str]) -> dict[str, Figure]:
    maps = features.float().cpu().numpy()
    ends = float(maps.min()), float(maps.max())
    shared, own = {"": drawing.grid(maps)}, {"": drawing.grid(drawing.own_scales(maps))}
    note = f"{len(maps)} maps of {maps.shape[1]} x {maps.shape[2]} px"
    return {
        "activations": drawing.figure_of(shared, [*lines, f"{note}, one scale for all"], "viridis", ends),
        "activations_own_scale": drawing.figure_of(own, [*lines, f"{note}, each on its own scale"], "viridis"),
    }


def _levels_figure(network: SUNet, seen: Subject, heads: Sequence[str]) -> Figure:
    """As figure 5 of paper 001."""
    with torch.no_grad():
        levels = [select_strongest(features)[0].float().cpu().numpy() for features in network.levels(seen.values[None])]
    pages = {title: drawing.grid(picture[None]) for title, picture in _pictures(seen.values, seen).items()}
    for name, values in zip(LEVELS, levels, strict=True):
        pages[f"{name}, {values.shape[0]} x {values.shape[1]} px"] = drawing.grid(values[None])
    title = f"{seen.title} at the end of each level: the map of the largest sum of magnitudes, each on its own scale"
    return drawing.figure_of(pages, [*heads, title], "viridis")


def _pictures(image: Tensor, seen: Subject) -> dict[str, drawing.Values]:
    """The channels that the ascent changed, by title."""
    values = image.float().cpu().numpy()
    if seen.colours:
        colours = values[seen.colours].transpose(1, 2, 0)
        ends = np.percentile(colours, (100 - SHOWN, SHOWN))  # a few px reach far beyond the others
        return {"red, green, blue": drawing.own_scales(np.clip(colours, *ends)[None])[0]}
    names = [(place, name) for place, name in enumerate(seen.channels) if seen.free[place]]
    return {f"{n}, {values[p].min():.2g} to {values[p].max():.2g}": values[p] for p, n in names}


def subject_of(model: Model, image: str, dataset_dir: Path | None) -> Subject:
    """The image that is meant by a file's name, a case's, or nothing: the first test case.

    Raises:
        InputError: the network has nothing to show, or the image isn't found or can't be used.
    """
    if not any(isinstance(module, nn.Conv2d) for module in model.network.modules()):
        first_filters(model.network, torch.empty(0))
    if model.classifies and not Path(image).is_file():
        raise InputError(
            f"--image is {image!r}, needed is a file: of a classification's images none is prepared; give one, such as "
            "val/n01440764/ILSVRC2012_val_00000293.JPEG of ImageNet"
        )
    return subject.look_at(model, subject.find(model.run, image, dataset_dir, model.data.channels))
