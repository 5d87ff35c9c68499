"""Which parameters of the CRF are best on the validation set.

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
from medpos.metrics.confusion import class_scores, confusion_matrix
from medpos.metrics.scores import VOID

Case = tuple[torch.Tensor, torch.Tensor, npt.NDArray[Any]]  # probabilities, image, truth
NO_CRF = DenseCRF(1, 1, 1, 1, 1, iterations=0)


@dataclass(frozen=True)
class CRFRow:
    """What one set of parameters gives.

    Attributes:
        w_pos, s_pos, w_bi, s_xy, s_rgb, iterations: as of :class:`DenseCRF`.
        mean_iou: of all images together.
        gain: of the mean IoU over that without a CRF.
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
    """The mean IoU of all images that were added; a class called void is left out.

    Args:
        labels: the classes, background first.
    """

    def __init__(self, labels: Sequence[Label]) -> None:
        self.void = labels[0].name == VOID
        self.confusion = np.zeros((len(labels), len(labels)), np.int64)

    def add(self, prediction: npt.NDArray[Any], truth: npt.NDArray[Any]) -> None:
        """Count the pixels of an image, label maps [X, Y], 255 ignored."""
        true = np.where(truth == 0, IGNORED, truth) if self.void else truth
        self.confusion += confusion_matrix(prediction, true, len(self.confusion))

    @property
    def mean(self) -> float:
        """In [0, 1]; NaN of no pixel."""
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
    """Tries all combinations.

    An image at a time is in memory. The papers' grid has 128 combinations, each about a second for an image of
    500 x 375 px and 21 classes.

    Args:
        cases: probabilities [classes, X, Y], image [1 or 3, X, Y] in [0, 1] and truth [X, Y], 255 ignored, of each
            image, as :func:`crf_cases` gives them.
        labels: the classes, background first; one that is called void is left out.
        w_bi: weights of the kernel of place and color.
        s_xy: its widths in the image, px.
        s_rgb: its widths in color, 0 to 255.
        w_pos: weight of the smoothness kernel.
        s_pos: its width, px.
        iterations: of the mean field.

    Returns:
        A row a combination, the best first; of equally good ones the first tried.

    Raises:
        InputError: no image; no parameters, or such that :class:`DenseCRF` refuses.
    """
    grid = (w_bi, s_xy, s_rgb)
    if not all(isinstance(values, list | tuple) and values for values in grid):
        raise InputError(f"w_bi is {w_bi}, s_xy {s_xy}, s_rgb {s_rgb}; needed are lists of numbers, such as [3, 4]")
    tried = [DenseCRF(w_pos, s_pos, *widths, iterations=iterations) for widths in itertools.product(*grid)]
    scores = [ClassIoU(labels) for _ in range(1 + len(tried))]
    for probabilities, image, truth in cases:
        for crf, score in zip((NO_CRF, *tried), scores, strict=True):
            score.add(crf(probabilities, image).argmax(dim=0).numpy(), truth)
    if not scores[0].confusion.any():
        raise InputError("there is no labeled pixel to choose parameters by; give images with labels")
    plain, *found = (score.mean for score in scores)
    rows = [CRFRow(**asdict(crf), mean_iou=iou, gain=iou - plain) for crf, iou in zip(tried, found, strict=True)]
    return sorted(rows, key=lambda row: -row.mean_iou)


def crf_cases(
    network: nn.Module, batches: Iterable[dict[str, Any]], inferer: CRFInferer, images: int | None = 100
) -> Iterator[Case]:
    """What :func:`search_crf` looks at, from the network and its data, an image after the other.

    Args:
        network: trained; is set to evaluation mode.
        batches: of the validation set, ``image`` [N, C, X, Y(, Z)] and ``label`` [N, 1, X, Y(, Z)].
        inferer: what is inside it gives the logits; its mean, std and channels the image.
        images: how many to take at most, of a volume each slice; None takes all.
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
