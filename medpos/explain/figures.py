"""Draw the figures of an explanation: filters, activations, preferred image, levels of a SUNet."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from medpos.explain import drawing
from medpos.explain.ascent import AscentResult
from medpos.explain.input_image import InputImage, position_names
from medpos.networks.sunet.network import SUNet, select_strongest

SHOWN = 99.5  # percentile of a color picture's values that is drawn white; 100 - SHOWN is drawn black
LEVELS = ("stem", "block 1", "block 2", "block 3", "block 4", "prediction")  # names of SUNet.levels


def draw_filters(layer: str, weight: Tensor, image: InputImage, heads: Sequence[str]) -> Figure:
    """Draw the filters of a convolution, in color where its channels are colors, else one grid for each channel.

    Args:
        layer: name of the convolution.
        weight: filters [filters, channels, X, Y].
        image: image that names the channels.
        heads: first lines of the figure's title.
    """
    tiles = weight.float().cpu().numpy()
    count, channels, *size = tiles.shape
    title = f"{layer}: {count} filters of {size[0]} x {size[1]} px"
    if image.colors and channels == 3:
        colors = drawing.scale_each(tiles[:, image.colors].transpose(0, 2, 3, 1))
        pages = {"red, green, blue": drawing.make_grid(colors)}
        return drawing.draw_grids(pages, [*heads, f"{title}; each on its own scale"])
    # A network that adds the position encoding itself has more channels than the image.
    names = [*image.channels, *position_names(channels - len(image.channels))]
    pages = {name: drawing.make_grid(tiles[:, place]) for place, name in enumerate(names[:channels])}
    most = float(np.abs(tiles).max())
    return drawing.draw_grids(pages, [*heads, f"{title}; one scale for all"], "RdBu_r", (-most, most))


def draw_activations(features: Tensor, lines: Sequence[str]) -> dict[str, Figure]:
    """Draw the activations of a layer, once on one scale and once each on its own scale.

    Args:
        features: activations [C, X, Y].
        lines: first lines of the figures' titles.

    Returns:
        Both figures by file name.
    """
    maps = features.float().cpu().numpy()
    ends = float(maps.min()), float(maps.max())
    shared, own = {"": drawing.make_grid(maps)}, {"": drawing.make_grid(drawing.scale_each(maps))}
    note = f"{len(maps)} maps of {maps.shape[1]} x {maps.shape[2]} px"
    return {
        "activations": drawing.draw_grids(shared, [*lines, f"{note}, one scale for all"], "viridis", ends),
        "activations_own_scale": drawing.draw_grids(own, [*lines, f"{note}, each on its own scale"], "viridis"),
    }


def draw_preferred(found: AscentResult, start: InputImage, lines: Sequence[str]) -> Figure:
    """Draw the image that an ascent found, and the curve of the activation.

    Args:
        found: result of the ascent.
        start: image that names the channels and tells which of them changed.
        lines: lines of the figure's title.
    """
    return drawing.draw_ascent(channel_pictures(found.image, start), found.activations, lines)


def draw_levels(network: SUNet, image: InputImage, heads: Sequence[str]) -> Figure:
    """Draw the strongest feature map at the end of each level of a SUNet, as figure 5 of its paper does.

    Args:
        network: network in evaluation mode.
        image: image to compute the levels of.
        heads: first lines of the figure's title.
    """
    with torch.no_grad():
        levels = [
            select_strongest(features)[0].float().cpu().numpy() for features in network.levels(image.values[None])
        ]
    pictures = channel_pictures(image.values, image)
    pages = {title: drawing.make_grid(picture[None]) for title, picture in pictures.items()}
    for name, values in zip(LEVELS, levels, strict=True):
        pages[f"{name}, {values.shape[0]} x {values.shape[1]} px"] = drawing.make_grid(values[None])
    title = f"{image.title} at the end of each level: the map of the largest sum of magnitudes, each on its own scale"
    return drawing.draw_grids(pages, [*heads, title], "viridis")


def channel_pictures(values: Tensor, image: InputImage) -> dict[str, drawing.Values]:
    """Return the free channels as pictures: one in color, or one in gray for each channel.

    Args:
        values: values [C, X, Y] to show.
        image: image that names the channels and tells which of them are free.

    Returns:
        Pictures [X, Y, 3] in [0, 1] or [X, Y] by title.
    """
    array = values.float().cpu().numpy()
    if image.colors:
        colors = array[image.colors].transpose(1, 2, 0)
        ends = np.percentile(colors, (100 - SHOWN, SHOWN))  # a few pixels reach far beyond the others
        return {"red, green, blue": drawing.scale_each(np.clip(colors, *ends)[None])[0]}
    names = [(place, name) for place, name in enumerate(image.channels) if image.free[place]]
    return {f"{n}, {array[p].min():.2g} to {array[p].max():.2g}": array[p] for p, n in names}
