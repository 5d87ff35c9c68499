"""Show what the padding of VGG-16 does to a constant image, which has no content that could hide it.

Reference:
    "How Can CNNs Use Image Position for Segmentation?", section 3.4: without padding, pool5 of VGG-16 shrinks from
    7 x 7 to 1 x 1; zero padding makes edges at the border, which reflection doesn't.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from medpos.core.errors import InputError
from medpos.networks.fully_convolutional.vgg import STAGES
from medpos.networks.layers.blocks import PADDING_MODES, initialize_he, scale_channels
from medpos.plotting.style import Drawing, styled

WITHOUT = "none"
MODES = (*PADDING_MODES, WITHOUT)
SIZE = 224  # side of the images that VGG-16 was trained on, px
_LEAST_CHANGE = 1e-4  # relative; rounding in float32 stays below


@dataclass(frozen=True, eq=False)
class PaddingEffect:
    """Hold how far the features of a constant image are from constant after one pooling.

    Args:
        mode: padding of every convolution, one of ``MODES``.
        layer: name of the pooling, ``pool1`` to ``pool5``.
        change: mean absolute difference from the feature at the center, relative to its mean magnitude, [X, Y].
    """

    mode: str
    layer: str
    change: npt.NDArray[np.float64]

    @property
    def changed(self) -> float:
        """Share of the positions whose features differ from those at the center."""
        return float((self.change > _LEAST_CHANGE).mean())


def build_vgg16(mode: str, in_channels: int = 3, width: float = 1.0) -> nn.Sequential:
    """Build the convolutions and poolings of VGG-16 with random weights.

    Args:
        mode: padding of every convolution, one of ``MODES``.
        in_channels: channels of the image.
        width: factor of the channels, 1 for the paper's.

    Returns:
        Layers ``conv1_1``, ``relu1_1`` ... ``pool5``.

    Raises:
        InputError: unknown mode, or a width that isn't above 0.
    """
    if mode not in MODES:
        raise InputError(f"padding: expected one of {', '.join(MODES)}, got {mode!r}; choose one of them")
    padding, padding_mode = (0, "zeros") if mode == WITHOUT else (1, mode)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, channels in enumerate(STAGES.values(), start=1):
        for n, wide in enumerate(channels, start=1):
            out_channels = scale_channels(wide, width)
            conv = nn.Conv2d(in_channels, out_channels, 3, padding=padding, padding_mode=padding_mode)
            layers[f"conv{number}_{n}"] = conv
            layers[f"relu{number}_{n}"] = nn.ReLU()
            in_channels = out_channels
        layers[f"pool{number}"] = nn.MaxPool2d(2)
    network = nn.Sequential(layers)
    initialize_he(network)
    return network


def measure_padding(
    modes: Sequence[str] = MODES, size: int = SIZE, width: float = 1.0, seed: int = 0
) -> list[PaddingEffect]:
    """Measure the features of a constant image after each pooling of VGG-16, with the same weights for each padding.

    Args:
        modes: paddings to compare, of ``MODES``.
        size: side of the image in px.
        width: factor of the channels, 1 for the paper's.
        seed: random seed of the weights.

    Raises:
        InputError: unknown mode, or an image that is too small for a network without padding.
    """
    found = []
    for mode in modes:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = build_vgg16(mode, width=width)
        features = torch.ones(1, 3, size, size)
        for name, layer in network.named_children():
            try:
                with torch.no_grad():
                    features = layer(features)
            except RuntimeError as error:  # smaller than the kernel
                raise InputError(
                    f"size: {name} gets {features.shape[2]} x {features.shape[3]} px with padding {mode}, less than it "
                    f"needs; take a larger image, such as {SIZE}"
                ) from error
            if name.startswith("pool"):
                found.append(PaddingEffect(mode, name, _change(features[0])))
    return found


def _change(features: Tensor) -> npt.NDArray[np.float64]:
    center = features[:, features.shape[1] // 2, features.shape[2] // 2, None, None]
    relative = (features - center).abs().mean(0) / center.abs().mean().clamp(min=1e-12)
    change: npt.NDArray[np.float64] = relative.double().numpy()
    return change


def draw_padding(effects: Sequence[PaddingEffect], size: int) -> Drawing:
    """Draw the changes: a row for each padding, a column for each pooling.

    Args:
        effects: results of :func:`measure_padding`.
        size: side of the image in px.
    """
    modes, layers = (list(dict.fromkeys(names)) for names in zip(*((e.mode, e.layer) for e in effects), strict=True))
    by_place = {(effect.mode, effect.layer): effect.change for effect in effects}
    most = max(float(change.max()) for change in by_place.values())
    with styled(**{"axes.grid": False}):
        figure = Figure(figsize=(1.7 * len(layers) + 1.4, 1.9 * len(modes)), layout="constrained")
        grid = figure.subplots(len(modes), len(layers), squeeze=False)
        for mode, row in zip(modes, grid, strict=True):
            for layer, axes in zip(layers, row, strict=True):
                change = by_place[mode, layer]
                shown = axes.imshow(change.T, cmap="cividis", vmin=0, vmax=most or 1, interpolation="nearest")
                axes.spines[:].set_visible(False)
                axes.set(xticks=[], yticks=[], title=f"{layer}, {change.shape[0]} x {change.shape[1]}")
            row[0].set_ylabel(mode)
        figure.colorbar(shown, ax=list(grid.flat), label="difference from the center / magnitude there", shrink=0.6)
    caption = f"Features of a constant image of {size} x {size} px after the poolings of VGG-16, by padding"
    last = [effect for effect in effects if effect.layer == layers[-1]]
    words = "; ".join(f"{e.mode}: {e.change.shape[0]} x {e.change.shape[1]}, {e.changed:.0%} changed" for e in last)
    return Drawing("padding", caption, f"{caption}. {layers[-1]}: {words}", figure)
