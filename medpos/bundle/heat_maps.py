"""Show the class heat maps of a classifier of patches: the entries ``heatmap`` and ``stitch`` of its bundle.

Reference:
    G. Boracchi, "Convolutional Neural Networks for Semantic Segmentation" (lecture), "Output of a FC-CNN as heatmaps",
    "Direct Heatmap Predictions", "The Shift and Stich" and "the à trous algorithm".
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from matplotlib.figure import Figure
from monai.inferers import Inferer
from rich.box import SIMPLE_HEAD
from rich.table import Table
from torch import Tensor

from medpos.bundle.pruning import mean_iou
from medpos.core.files import write_csv, write_json
from medpos.core.labels import Label
from medpos.core.text import as_text
from medpos.inferers import HeatMapInferer
from medpos.networks.lecture import PatchClassifier, make_atrous
from medpos.plotting.style import save_figure, styled
from medpos.runs import files
from medpos.runs.folder import RunFolder
from medpos.runs.text import PHANTOM_NOTE

logger = logging.getLogger(__name__)
SHOWN = 4  # images of which the maps are drawn
Maps = Callable[[Tensor], Tensor]


class _Function(Inferer):
    """Compute scores by a function of the images alone."""

    def __init__(self, function: Maps) -> None:
        super().__init__()
        self.function = function

    def __call__(self, inputs: Tensor, network: Any, *args: Any, **kwargs: Any) -> Tensor:
        return self.function(inputs)


@dataclass(frozen=True)
class MapRow:
    """Hold the measurements of one way from heat maps to pixels.

    Args:
        maps: name of the way.
        side: columns of the map that the network computes for the first image.
        seconds: time for each image in s.
        iou: mean IoU of classes and images.
        difference: largest difference of a score from the first way; 0 for the first.
    """

    maps: str
    side: int
    seconds: float
    iou: float
    difference: float


def heatmap(
    network: PatchClassifier,
    batches: Iterable[dict[str, Any]],
    labels: Sequence[Label],
    run: RunFolder,
    phantom: bool,
) -> list[MapRow]:
    """Draw the class heat maps of test images, and measure the segmentation that is upsampled from them.

    Args:
        network: trained classifier of patches.
        batches: batches of the test set, with ``image`` [N, C, X, Y] and ``label`` [N, 1, X, Y].
        labels: the classes, background first.
        run: run folder, opened for this entry.
        phantom: True for phantoms.

    Returns:
        One row.
    """
    inferer = HeatMapInferer(network.patch, network.stride, "upsampled")
    ways = {"upsampled heat maps": lambda images: inferer(images, network)}
    return _measure(ways, lambda images: network(inferer.pad(images)), network, list(batches), labels, run, phantom)


def stitch(
    network: PatchClassifier,
    batches: Iterable[dict[str, Any]],
    labels: Sequence[Label],
    run: RunFolder,
    phantom: bool,
) -> list[MapRow]:
    """Draw and measure the heat maps stitched of all shifts, and in one pass without strides (à trous).

    Args:
        network: trained classifier of patches.
        batches: batches of the test set, with ``image`` [N, C, X, Y] and ``label`` [N, 1, X, Y].
        labels: the classes, background first.
        run: run folder, opened for this entry.
        phantom: True for phantoms.

    Returns:
        One row for each way, with scores that differ by rounding alone.
    """
    inferer = HeatMapInferer(network.patch, network.stride, "stitched")
    atrous = make_atrous(network.convolutional()).eval()
    ways = {
        "shift and stitch": lambda images: inferer(images, network),
        "à trous": lambda images: atrous(inferer.pad(images)),
    }
    return _measure(ways, ways["shift and stitch"], network, list(batches), labels, run, phantom)


def _measure(
    ways: Mapping[str, Maps],
    shown: Maps,
    network: PatchClassifier,
    batches: Sequence[dict[str, Any]],
    labels: Sequence[Label],
    run: RunFolder,
    phantom: bool,
) -> list[MapRow]:
    network.eval()
    device = next(network.parameters()).device
    images = batches[0]["image"].to(device)
    rows: list[MapRow] = []
    first: Tensor | None = None
    with torch.inference_mode():
        side = shown(images[:1]).shape[2]
        for name, way in ways.items():
            started = time.perf_counter()
            scores = way(images).cpu()  # the copy waits for the result
            seconds = (time.perf_counter() - started) / len(images)
            first = scores if first is None else first
            iou = mean_iou(network, batches, _Function(way), labels)
            rows.append(MapRow(name, side, seconds, iou, float((scores - first).abs().max())))
        _draw_all(shown, next(iter(ways.values())), batches, labels, run, device)
    content = [asdict(row) for row in rows]
    write_csv(run.results / "heat_maps.csv", list(content[0]), content)
    write_json(run.results / files.SUMMARY, {"phantom": phantom, "heat_maps": content})
    logger.info("class heat maps\n%s\nresults are in %s", _table(rows, phantom), run.results)
    return rows


def _draw_all(
    shown: Maps, way: Maps, batches: Sequence[dict[str, Any]], labels: Sequence[Label], run: RunFolder, device: Any
) -> None:
    """Draw the maps of the first images."""
    drawn = 0
    for batch in batches:
        for n, case in enumerate(batch["case"][: SHOWN - drawn]):
            image = batch["image"][n : n + 1].to(device)
            maps, prediction = shown(image).softmax(1)[0], way(image).argmax(1)[0]
            figure = draw_maps(image[0, 0], batch["label"][n, 0], maps, prediction, labels)
            save_figure(figure, run.results / "heat_maps", str(case))
            drawn += 1


def draw_maps(image: Tensor, truth: Tensor, maps: Tensor, prediction: Tensor, labels: Sequence[Label]) -> Figure:
    """Draw an image, the probability of each class, prediction and ground truth.

    Args:
        image: gray values [X, Y].
        truth: true labels [X, Y].
        maps: probabilities [classes, X', Y'].
        prediction: predicted labels [X, Y].
        labels: the classes, background first.
    """
    panels: dict[str, tuple[Tensor, str, dict[str, float]]] = {"image": (image, "gray", {})}
    sides = f"{maps.shape[1]} x {maps.shape[2]}"
    for label, values in zip(labels, maps, strict=True):
        panels[f"{label.title}, {sides}"] = (values, "cividis", {"vmin": 0, "vmax": 1})
    for name, values in (("prediction", prediction), ("truth", truth)):
        panels[name] = (values, "viridis", {"vmin": 0, "vmax": len(labels) - 1})
    with styled(**{"axes.grid": False}):
        figure = Figure(figsize=(1.9 * len(panels), 2.2), layout="constrained")
        for axes, (name, (values, colors, limits)) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
            axes.imshow(values.float().cpu().numpy().T, cmap=colors, interpolation="nearest", **limits)
            axes.set_axis_off()
            axes.set_title(name, fontsize=9)
    return figure


def _table(rows: Sequence[MapRow], phantom: bool) -> str:
    table = Table(box=SIMPLE_HEAD)
    for title in ("maps", "side, px", "ms per image", "IoU", "largest difference"):
        table.add_column(title, justify="left" if title == "maps" else "right")
    for row in rows:
        table.add_row(row.maps, str(row.side), f"{1000 * row.seconds:.2f}", f"{row.iou:.4f}", f"{row.difference:.1e}")
    return as_text(table, *([PHANTOM_NOTE] if phantom else []))
