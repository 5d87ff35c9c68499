"""Tabulate receptive field and output stride of networks, computed from their graph and measured by gradients."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn

from medpos.core.errors import InputError
from medpos.explain.field_rules import UnknownOperationError
from medpos.explain.layers import Layer, find_deepest, find_score_layer, trace_layers, without_values
from medpos.explain.measured_field import measure_fields

# Rows of the traced image, in pixels, tried in this order; a field larger than the last counts as the whole image.
ROWS = (64, 1024, 4096, 8192)
HEAD = """\
# Receptive fields of the networks

Made by `{command}`; do not edit. A test compares it with the networks.

- **Scores**: the convolution whose channels are the classes, by its name; where scores of several strides are added,
  the one on the coarsest grid. Its **stride** is the network's output stride, in px: by how much the fields of
  neighboring scores differ. Where it isn't 1, the scores are enlarged to the image's size.
- **Field**: the receptive field, the side in px of the square of the image that one pixel of the features depends on,
  where no edge cuts it. Behind an upsampling it differs a little from pixel to pixel; the largest is given.
- **Coarsest features**: those on the coarsest grid; of several the ones with the largest field, by the name of the
  layer (`:2` is its second call). In a U-Net they lie at its bottom, in a SUNet inside a module.
- **Logits**: the output, one for each pixel of the image.

Each number was found twice: computed through every operation of a forward pass (`medpos.explain.trace_layers`), and
measured, as the pixels with a nonzero gradient (`medpos.explain.measured_field`). Where they differ, both are given.
For the measurement all weights were positive, so that no gradients cancel; mean pooling replaced each max-pooling, in
which only the maximum has a gradient, and its unpooling gave all pixels of a window the window's value.

"""
COLUMNS = ("network", "scores", "stride", "field", "coarsest features", "stride", "field", "logits: field")


@dataclass(frozen=True)
class LayerField:
    """Hold the receptive field of a layer.

    Args:
        layer: name of the layer.
        computed: stride and receptive field from the graph, in pixels; None where the image is too small for them.
        measured: stride and receptive field by gradients, in pixels; None likewise.
    """

    layer: str
    computed: tuple[int | None, int | None]
    measured: tuple[int | None, int | None]


@dataclass(frozen=True)
class NetworkFields:
    """Hold the receptive fields of a network that ``HEAD`` describes.

    Args:
        scores: field of the convolution with the classes as channels.
        coarsest: field of the features on the coarsest grid.
        logits: field of the output.
    """

    scores: LayerField
    coarsest: LayerField
    logits: LayerField


def find_network_fields(
    network: nn.Module, channels: int, columns: int = 32, narrow: nn.Module | None = None
) -> NetworkFields:
    """Find the receptive fields of the scores, the coarsest features and the logits of a network.

    Args:
        network: network in evaluation mode; may be on ``meta`` where ``narrow`` is given.
        channels: number of channels of the image.
        columns: number of columns of the image, as few as the network accepts; rows are added until the fields fit.
        narrow: the same network with fewer channels and with values; measured in its place, as the fields are equal.
    """
    empty = without_values(network)
    shape, layers = trace_large_image(empty, channels, columns)
    coarsest = find_deepest(layers)
    step = coarsest.stride or 1
    chosen = (find_score_layer(empty, layers), coarsest, layers[-1])
    return NetworkFields(*(_field(narrow or network, layer, shape, step) for layer in chosen))


def trace_large_image(network: nn.Module, channels: int, columns: int) -> tuple[tuple[int, int, int], list[Layer]]:
    """Trace a network on an image that is large enough for its receptive fields.

    Args:
        network: network in evaluation mode, from :func:`medpos.explain.layers.without_values`.
        channels: number of channels of the image.
        columns: number of columns of the image.

    Returns:
        Shape C, X, Y of an image with rows for the fields and two whole steps of the coarsest grid; the layers.

    Raises:
        InputError: the network accepts no such image.
        UnknownOperationError: the network has an operation without a rule in :mod:`medpos.explain.field_rules`.
    """
    for rows in ROWS:
        shape, layers = _valid(network, channels, rows, columns)
        coarsest, output = find_deepest(layers), layers[-1]
        if output.row_fields is None or len(output.complete_rows) > 2 * (coarsest.stride or ROWS[-1]):
            break
    return shape, layers


def _valid(network: nn.Module, channels: int, rows: int, columns: int) -> tuple[tuple[int, int, int], list[Layer]]:
    """Trace the next larger number of rows that the network accepts, or else the smallest, as for a mean mask."""
    for size in [*range(rows, rows + 256), *range(2, rows)]:
        found = _try_shape(network, (channels, size, columns))
        if isinstance(found, list):
            return (channels, size, columns), found
    assert isinstance(found, Exception)
    raise found


def _try_shape(network: nn.Module, shape: tuple[int, int, int]) -> list[Layer] | Exception:
    try:
        return trace_layers(network, shape)
    except UnknownOperationError:
        raise
    except (InputError, RuntimeError) as error:  # PyTorch raises the latter for an image smaller than a kernel
        return error


def _field(network: nn.Module, layer: Layer, shape: tuple[int, int, int], step: int) -> LayerField:
    computed = (layer.stride, layer.receptive_field)
    if not layer.complete_rows.size:
        return LayerField(layer.name, computed, computed if layer.row_fields is None else (None, None))
    widest = int(layer.complete_rows[layer.field_sizes[layer.complete_rows].argmax()])
    # As far apart as possible, by whole steps of the coarsest grid, where the pattern of the fields repeats.
    last, period = int(layer.complete_rows[-1]), max(step // max(layer.stride or 1, 1), 1)
    other = widest + (last - widest) // period * period
    if other == widest:
        other -= (widest - int(layer.complete_rows[0])) // period * period
    (first, end), (far, far_end) = measure_fields(network, layer.name, shape, [widest, other])
    stride = round((far + far_end - first - end) / 2 / (other - widest)) if other != widest else None
    return LayerField(layer.name, computed, (stride, end - first + 1))


def render_table(networks: Mapping[str, Callable[[], NetworkFields]], command: str) -> str:
    """Render the page with the table of all networks, in Markdown.

    Args:
        networks: functions that find the fields of a network, by its name.
        command: command that writes the page, for its head.
    """
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    lines += [_row(name, find()) for name, find in networks.items()]
    return HEAD.format(command=command) + "\n".join(lines) + "\n"


def _row(name: str, seen: NetworkFields) -> str:
    cells = [name]
    for field in (seen.scores, seen.coarsest):
        cells += [f"`{field.layer}`", *map(_cell, field.computed, field.measured)]
    return f"| {' | '.join([*cells, _cell(seen.logits.computed[1], seen.logits.measured[1])])} |"


def _cell(computed: int | None, measured: int | None) -> str:
    both = ["-" if value is None else str(value) for value in (computed, measured)]
    return both[0] if computed == measured else f"{both[0]}, **measured {both[1]}**"
