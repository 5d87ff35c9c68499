"""Collect what a prediction says of its own quality: its probabilities, the agreement of its parts, shape and place.

No truth is needed. A part is one of the predictions that were averaged: of a member of an ensemble, of a view of
test-time augmentation, of a pass with dropout. Two parts that differ in one of these alone show how much depends on it.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

from medpos.trust.evidence import Floats, count_planes, find_center

PROBABILITIES, PLAUSIBILITY = "probabilities", "plausibility"
SOURCES = ("members", "views", "dropout")  # of parts, in the order in which an ensemble has them
FEATURES = ("size", "x", "y", "extent along x", "extent along y", "pieces", "overlap with the mean mask")
_CHUNK = 1 << 16  # pixels that are compared at a time


class Signs:
    """Collect the signs of one case, slices after slices.

    Args:
        organs: number of classes besides the background.
        counts: numbers of members, of views and of passes with dropout (1 without dropout), whose predictions are
            averaged.
    """

    def __init__(self, organs: int, counts: Sequence[int] = (1, 1, 1)) -> None:
        self._organs, self._counts = organs, tuple(counts)
        parts = math.prod(counts)
        self._shared = np.zeros((organs, parts, parts))  # pixels of each organ that two parts share
        self._inside, self._everywhere, self._pixels = np.zeros(organs), np.zeros(organs), np.zeros(organs)
        self._pieces, self._shown = np.zeros(organs), np.zeros(organs)
        self._planes: Tensor | None = None
        self._depth = 0

    def add(self, mean: Tensor, parts: Sequence[Tensor] = ()) -> None:
        """Add some slices.

        Args:
            mean: mean probabilities [C, x, y] or [C, x, y, z], background first.
            parts: probabilities of each part, like the mean: the passes of the first view of the first member, of its
                second view, and so on; needed where there are several.
        """
        labels = mean.max(0).indices  # by far faster than argmax
        masks = labels == torch.arange(len(mean)).view(-1, *[1] * labels.ndim)
        organs, chances = masks[1:].flatten(1), mean[1:].flatten(1)
        self._inside += (chances * organs.float()).sum(1, dtype=torch.double).numpy()
        self._everywhere += chances.sum(1, dtype=torch.double).numpy()
        self._pixels += organs.sum(1).numpy()
        planes = count_planes(masks)
        self._planes = planes if self._planes is None else self._planes + planes
        slices = masks[1:] if masks.ndim == 4 else masks[1:, ..., None]
        self._depth += slices.shape[3]
        shown = slices.any(dim=1).any(dim=1)
        self._shown += shown.sum(1).numpy()
        for organ, z in shown.nonzero().tolist():
            self._pieces[organ] += ndimage.label(slices[organ, :, :, z].numpy())[1]
        if self._shared.shape[1] > 1:
            self._compare(torch.stack([part.max(0).indices.flatten() for part in parts]))

    def _compare(self, labels: Tensor) -> None:
        """Count the pixels that every two label maps [parts, pixels] share."""
        for chunk in labels.split(_CHUNK, dim=1):
            for organ in range(self._organs):
                inside = (chunk == organ + 1).float()
                self._shared[organ] += (inside @ inside.T).double().numpy()

    @property
    def found(self) -> npt.NDArray[np.bool_]:
        """Whether each organ is in the label map of the mean, [organs]."""
        return self._pixels > 0

    def measure(self) -> dict[str, Floats]:
        """Measure how good the prediction of each organ seems, 0 to 1, by each source that there is.

        Returns:
            ``probabilities``: the Dice that the mean probabilities expect of their own label map; ``members``,
            ``views``, ``dropout``: mean Dice of every two parts that differ in it alone; each [organs]. 0 for an organ
            that the label map lacks, whose Dice is 0 unless the truth lacks it too.

        Reference:
            A. G. Roy et al., "Bayesian QuickNAT", NeuroImage 195, 2019 (mean pairwise Dice of the samples).
        """
        total = self._pixels + self._everywhere
        measured = {PROBABILITIES: np.where(total > 0, 2 * self._inside / np.maximum(total, 1e-12), 0.0)}
        for axis, source in enumerate(SOURCES):
            if self._counts[axis] > 1:
                measured[source] = self._agreement(axis)
        return {name: np.where(self.found, values, 0.0) for name, values in measured.items()}

    def _agreement(self, axis: int) -> Floats:
        """Return the mean Dice of the parts that differ in one source alone, [organs]; NaN where none has pixels."""
        places = np.array(list(np.ndindex(*self._counts)))
        differ = places[:, None] != places[None]
        first, second = np.nonzero(np.triu(differ[..., axis] & (differ.sum(axis=2) == 1)))
        sizes = self._shared.diagonal(axis1=1, axis2=2)
        total = sizes[:, first] + sizes[:, second]
        dice = np.where(total > 0, 2 * self._shared[:, first, second] / np.maximum(total, 1), np.nan)
        known = np.isfinite(dice)
        mean: Floats = np.where(known, dice, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        return mean

    @property
    def planes(self) -> Tensor:
        """Share of the slices that have each organ at each pixel, [organs, x, y]."""
        if self._planes is None:
            raise ValueError("expected slices of a case, got none; call add() first")
        return self._planes / self._depth

    def describe(self, mean_mask: Tensor | None) -> Floats:
        """Describe shape and place of each organ.

        Args:
            mean_mask: mean of :attr:`planes` over training cases; None where images differ in size.

        Returns:
            ``FEATURES`` of each organ, [organs, features]: natural logarithm of its size as a share of the image,
            center and extent along x and y as shares of the sides, base-2 logarithm of the mean number of pieces in a
            slice that shows it, and Dice with the mean mask. NaN for an organ that isn't found, and for the last where
            there is no mean mask.
        """
        planes = self.planes
        rows = np.full((self._organs, len(FEATURES)), np.nan)
        for n, plane in enumerate(planes):
            if not self.found[n]:
                continue
            lines = [plane.sum(1 - axis).nonzero()[:, 0] for axis in (0, 1)]
            extents = [float(at[-1] - at[0] + 1) / side for at, side in zip(lines, plane.shape, strict=True)]
            size, pieces = math.log(float(plane.mean())), math.log2(self._pieces[n] / self._shown[n])
            rows[n, :-1] = [size, *find_center(plane), *extents, pieces]
            if mean_mask is not None and mean_mask.shape == planes.shape:
                both = plane.sum() + mean_mask[n].sum()
                rows[n, -1] = float(2 * (plane * mean_mask[n]).sum() / both)
        return rows
