"""Search the best parameters of the CRF on the validation set.

References:
    L.-C. Chen et al., "DeepLab", PAMI 2018, section 4.1: w_pos = s_pos = 3, then w_bi in 3 to 6, s_xy in 30 to 100 by
    10, s_rgb in 3 to 6, on 100 images.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from medpos.core.errors import InputError
from medpos.core.labels import IGNORED, Label
from medpos.inferers.crf import CRFInferer, DenseCRF
from medpos.metrics.confusion import VOID, class_scores, confusion_matrix

Case = tuple[torch.Tensor, torch.Tensor, npt.NDArray[Any]]  # probabilities, image, ground truth
NO_CRF = DenseCRF(1, 1, 1, 1, 1, iterations=0)


@dataclass(frozen=True)
class CRFRow:
    """Hold the result of one set of parameters.

    Attributes:
        w_pos, s_pos, w_bi, s_xy, s_rgb, iterations: parameters of :class:`DenseCRF`.
        mean_iou: mean IoU over the classes, of all images together.
        gain: difference to the mean IoU without a CRF.
    """

    w_pos: float
    s_pos: float
    w_bi: float
    s_xy: float
    s_rgb: float
    iterations: int
    mean_iou: float
    gain: float


class ClassIoU:
    """Accumulate the mean IoU over images; a class called void is excluded.

    Args:
        labels: classes, background first.
    """

    def __init__(self, labels: Sequence[Label]) -> None:
        self.void = labels[0].name == VOID
        self.confusion = np.zeros((len(labels), len(labels)), np.int64)

    def add(self, prediction: npt.NDArray[Any], truth: npt.NDArray[Any]) -> None:
        """Add the pixels of an image, given by label maps [X, Y], 255 ignored."""
        true = np.where(truth == 0, IGNORED, truth) if self.void else truth
        self.confusion += confusion_matrix(prediction, true, len(self.confusion))

    @property
    def mean(self) -> float:
        """Mean IoU in [0, 1]; NaN without labeled pixels."""
        return class_scores(self.confusion, not self.void)["mean_iou"]


def search_crf(
    cases: Iterable[Case],
    labels: Sequence[Label],
    w_bi: Sequence[float] = (3, 4, 5, 6),
    s_xy: Sequence[float] = (30, 40, 50, 60, 70, 80, 90, 100),
    s_rgb: Sequence[float] = (3, 4, 5, 6),
    w_pos: float = 3,
    s_pos: float = 3,
    iterations: int = 10,
) -> list[CRFRow]:
    """Measure the mean IoU of all combinations of parameters.

    Only one image is in memory at a time. The papers' grid has 128 combinations, each takes about a second for an image
    of 500 x 375 px and 21 classes.

    Args:
        cases: probabilities [classes, X, Y], image [1 or 3, X, Y] in [0, 1] and ground truth [X, Y], 255 ignored, of
            each image, as in :func:`crf_cases`.
        labels: classes, background first; a class called void is excluded.
        w_bi: weights of the kernel of position and color.
        s_xy: widths of this kernel in the image in px.
        s_rgb: widths of this kernel in color, 0 to 255.
        w_pos: weight of the smoothness kernel.
        s_pos: width of the smoothness kernel in px.
        iterations: number of mean-field iterations.

    Returns:
        One row per combination, the best first; equally good ones in the order of the grid.

    Raises:
        InputError: there is no image with labels; parameters are missing or invalid for :class:`DenseCRF`.
    """
    grid = (w_bi, s_xy, s_rgb)
    if not all(isinstance(values, list | tuple) and values for values in grid):
        raise InputError(f"expected lists of numbers, such as [3, 4], got w_bi {w_bi}, s_xy {s_xy}, s_rgb {s_rgb}")
    tried = [DenseCRF(w_pos, s_pos, *widths, iterations=iterations) for widths in itertools.product(*grid)]
    scores = [ClassIoU(labels) for _ in range(1 + len(tried))]
    for probabilities, image, truth in cases:
        for crf, score in zip((NO_CRF, *tried), scores, strict=True):
            score.add(crf(probabilities, image).argmax(dim=0).numpy(), truth)
    if not scores[0].confusion.any():
        raise InputError("crf_search: expected labeled pixels, got none; give images with labels")
    plain, *found = (score.mean for score in scores)
    rows = [CRFRow(**asdict(crf), mean_iou=iou, gain=iou - plain) for crf, iou in zip(tried, found, strict=True)]
    return sorted(rows, key=lambda row: -row.mean_iou)


def crf_cases(
    network: nn.Module, batches: Iterable[dict[str, Any]], inferer: CRFInferer, images: int | None = 100
) -> Iterator[Case]:
    """Yield the input of :func:`search_crf` for one image after the other.

    Args:
        network: trained network; it is set to evaluation mode.
        batches: batches of the validation set, ``image`` [N, C, X, Y(, Z)] and ``label`` [N, 1, X, Y(, Z)].
        inferer: inferer with the CRF; its inner inferer computes the logits, and its mean, std and channels restore the
            image.
        images: maximal number of images, or of slices of volumes; None for all.
    """
    device = next(network.eval().parameters()).device
    items = (item for batch in batches for item in _items(network, batch, inferer, device))
    yield from itertools.islice(items, images)


def _items(network: nn.Module, batch: dict[str, Any], inferer: CRFInferer, device: torch.device) -> Iterator[Case]:
    with torch.inference_mode():
        logits = inferer.inferer(batch["image"].to(device), network)
    parts = (logits.float().softmax(dim=1).cpu(), batch["image"][:, : inferer.channels], batch["label"][:, 0])
    for probabilities, image, truth in zip(*parts, strict=True):
        planes = [(probabilities, image, truth)]
        if truth.ndim == 3:
            planes = list(zip(probabilities.unbind(3), image.unbind(3), truth.unbind(2), strict=True))
        for probability, values, true in planes:
            yield probability, inferer.undo_standardization(values), true.cpu().numpy()
