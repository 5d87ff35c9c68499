"""Receptive field and output stride of networks: from their graph, and measured by gradients, in one table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn

from medpos.core.errors import InputError
from medpos.explain.layers import Layer, deepest, layers_of, scores, shadow_of
from medpos.explain.measured import windows
from medpos.explain.windows import UnknownOperationError

# Of an image, in px; a larger field than the last counts as the whole image. A run takes as long on any of them.
ROWS = (64, 1024, 4096)
HEAD = """\
# What each network sees

Made by `{command}`; do not edit. A test compares it with the networks.

- **Scores**: the convolution whose channels are the classes, by its name; where scores of several strides are added,
  the one on the coarsest grid. Its **stride** is the network's output stride, in px: by how much the fields of
  neighbouring scores differ. Where it isn't 1, the scores are enlarged to the image's size.
- **Field**: the receptive field, the side in px of the square of the image that one pixel of the features depends on,
  where no edge cuts it. Behind an upsampling it differs a little from pixel to pixel; the largest is given.
- **Coarsest features**: those on the coarsest grid; of them the ones that see most, by the name of the layer (`:2` is
  its second run). In a U-Net they lie at its bottom, in a SUNet inside a module.
- **Logits**: the output, one for each pixel of the image.

Each number was found twice: followed through every operation of a run (`medpos.explain.layers_of`), and measured, as
the pixels with a gradient other than 0 (`medpos.explain.measured`). Where they differ, both stand. For the measurement
weights were positive, so that nothing cancels; a mean stood in place of each max-pooling, of which only the maximum has
a gradient, and its unpooling gave all pixels of a window its value.

"""
COLUMNS = ("network", "scores", "stride", "field", "coarsest features", "stride", "field", "logits: field")


@dataclass(frozen=True)
class Field:
    """What a layer sees.

    Args:
        layer: its name.
        computed: stride and receptive field from the graph, px; None where the image is too small for it.
        measured: the same by gradients.
    """

    layer: str
    computed: tuple[int | None, int | None]
    measured: tuple[int | None, int | None]


@dataclass(frozen=True)
class Seen:
    """What a network sees.

    Args:
        scores: see ``HEAD``.
        coarsest: likewise.
        logits: likewise.
    """

    scores: Field
    coarsest: Field
    logits: Field


def fields(network: nn.Module, channels: int, columns: int = 32, narrow: nn.Module | None = None) -> Seen:
    """Finds what the scores, the coarsest features and the logits of a network see.

    Args:
        network: in evaluation mode; without values (on ``meta``) it does too, where ``narrow`` is given.
        channels: of its image.
        columns: of the image, as few as it takes; rows are added until the fields fit.
        narrow: the same with fewer channels and with values, which is measured instead: it sees as much.
    """
    shadow = shadow_of(network)
    shape, layers = with_room(shadow, channels, columns)
    coarsest = deepest(layers)
    step = coarsest.stride or 1
    chosen = (scores(shadow, layers), coarsest, layers[-1])
    return Seen(*(_field(narrow or network, layer, shape, step) for layer in chosen))


def with_room(network: nn.Module, channels: int, columns: int) -> tuple[tuple[int, int, int], list[Layer]]:
    """Runs a network on an image that is large enough for its fields.

    Args:
        network: in evaluation mode, from :func:`medpos.explain.layers.shadow_of`.
        channels: of the image.
        columns: of the image.

    Returns:
        Shape C, X, Y of an image with rows for two whole steps of the coarsest grid beside the fields; its layers.

    Raises:
        InputError: the network takes no such image.
        UnknownOperationError: it has an operation that can't be followed.
    """
    for rows in ROWS:
        shape, layers = _valid(network, channels, rows, columns)
        coarsest, output = deepest(layers), layers[-1]
        if output.windows is None or len(output.complete) > 2 * (coarsest.stride or ROWS[-1]):
            break
    return shape, layers


def _valid(network: nn.Module, channels: int, rows: int, columns: int) -> tuple[tuple[int, int, int], list[Layer]]:
    """The next number of rows that the network takes, or else the smallest, as of a mean mask."""
    for size in [*range(rows, rows + 256), *range(2, rows)]:
        found = _tried(network, (channels, size, columns))
        if isinstance(found, list):
            return (channels, size, columns), found
    assert isinstance(found, Exception)
    raise found


def _tried(network: nn.Module, shape: tuple[int, int, int]) -> list[Layer] | Exception:
    try:
        return layers_of(network, shape)
    except UnknownOperationError:
        raise
    except (InputError, RuntimeError) as refusal:  # PyTorch's own, for an image smaller than a kernel
        return refusal


def _field(network: nn.Module, layer: Layer, shape: tuple[int, int, int], step: int) -> Field:
    computed = (layer.stride, layer.field)
    if not layer.complete.size:
        return Field(layer.name, computed, computed if layer.windows is None else (None, None))
    widest = int(layer.complete[layer.sizes[layer.complete].argmax()])
    # As far apart as it goes, by whole steps of the coarsest grid, where the pattern of the fields repeats.
    last, period = int(layer.complete[-1]), max(step // max(layer.stride or 1, 1), 1)
    other = widest + (last - widest) // period * period
    if other == widest:
        other -= (widest - int(layer.complete[0])) // period * period
    (first, end), (far, far_end) = windows(network, layer.name, shape, [widest, other])
    stride = round((far + far_end - first - end) / 2 / (other - widest)) if other != widest else None
    return Field(layer.name, computed, (stride, end - first + 1))


def table(networks: Mapping[str, Callable[[], Seen]], command: str) -> str:
    """The page with the table of all networks.

    Args:
        networks: by name, what gives their fields.
        command: that makes the page.
    """
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    lines += [_row(name, find()) for name, find in networks.items()]
    return HEAD.format(command=command) + "\n".join(lines) + "\n"


def _row(name: str, seen: Seen) -> str:
    cells = [name]
    for field in (seen.scores, seen.coarsest):
        cells += [f"`{field.layer}`", *map(_cell, field.computed, field.measured)]
    return f"| {' | '.join([*cells, _cell(seen.logits.computed[1], seen.logits.measured[1])])} |"


def _cell(computed: int | None, measured: int | None) -> str:
    both = ["-" if value is None else str(value) for value in (computed, measured)]
    return both[0] if computed == measured else f"{both[0]}, **measured {both[1]}**"
