"""Measure how sure a prediction is: maps of entropy and mutual information, organ sizes with an interval.

The probabilities of several predictions of one image are averaged. What the average is unsure of is its entropy; the
part of it that the predictions disagree about is the mutual information. With one prediction there is only the first.

The interval of an organ's size comes from the average alone, by one rule for all sources: it reaches from the pixels
that belong to the organ with a probability of at least 0.95 to those with at least 0.05. That is the distribution of
the size in which all pixels of an image err together, as they do where a whole outline lies too far inside or outside;
if they erred independently, the interval would be far smaller.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[Any]
LEVEL = 0.9  # of the interval
LOW, HIGH = (1 + LEVEL) / 2, (1 - LEVEL) / 2  # probabilities at its lower and upper end


def entropy(probabilities: Tensor) -> Tensor:
    """Compute the entropy of each pixel, as a share of the largest possible.

    Args:
        probabilities: probabilities [C, ...] of two classes or more, with a sum of 1.

    Returns:
        Entropy [...], 0 for a sure class to 1 for equal probabilities of all.
    """
    terms = torch.special.entr(probabilities.float())
    return terms.sum(dim=0).div_(math.log(len(probabilities))).clamp_(0, 1)


def mutual_information(mean_entropy: Tensor, parts: Sequence[Tensor]) -> Tensor:
    """Compute how much of the entropy of an average is disagreement.

    Args:
        mean_entropy: :func:`entropy` [...] of the average of the predictions.
        parts: probabilities [C, ...] of each prediction.

    Returns:
        Mutual information [...] of class and prediction, 0 where all predictions agree to 1.

    Reference:
        Y. Gal, "Uncertainty in Deep Learning", PhD thesis, University of Cambridge, 2016, section 3.3.
    """
    of_parts = entropy(parts[0])
    for part in parts[1:]:
        of_parts += entropy(part)
    return (mean_entropy - of_parts / len(parts)).clamp_(min=0)


def count_levels(probabilities: Tensor) -> tuple[int, int]:
    """Count the pixels that surely and that possibly belong to an organ.

    Args:
        probabilities: probabilities of the organ, of any shape.

    Returns:
        Number of pixels with a probability of at least 0.95, and of those with at least 0.05.
    """
    return int((probabilities >= LOW).sum()), int((probabilities >= HIGH).sum())


def measure_outline(inside: Array, spacing: Sequence[float]) -> tuple[float, Array]:
    """Measure the outline of an organ in one slice.

    Args:
        inside: pixels of the organ, boolean [X, Y].
        spacing: size of a pixel along X and Y.

    Returns:
        Length of the outline in the unit of the spacing, and the pixels on either side of it, boolean [X, Y]. The frame
        of the image is no outline.

    Reference:
        The length is that of the pixel edges times pi/4, the mean over all directions of a straight line (Cauchy's and
        Crofton's formula for two directions).
    """
    along_x, along_y = np.diff(inside, axis=0), np.diff(inside, axis=1)
    beside = np.zeros_like(inside)
    beside[:-1] |= along_x
    beside[1:] |= along_x
    beside[:, :-1] |= along_y
    beside[:, 1:] |= along_y
    edges = np.count_nonzero(along_x) * spacing[1] + np.count_nonzero(along_y) * spacing[0]
    return math.pi / 4 * float(edges), beside


@dataclass(eq=False)
class Uncertainty:
    """Hold how unsure the prediction of one image is.

    Args:
        maps: entropy and, of several predictions, mutual information [1 or 2, X, Y, Z], each 0 to 1, float32.
        levels: pixels of each class by :func:`count_levels`, summed over all slices, [classes, 2].
    """

    maps: Array
    levels: Array

    @classmethod
    def empty(cls, shape: Sequence[int], classes: int, several: bool) -> "Uncertainty":
        """Make room for an image of shape X, Y, Z."""
        return cls(np.empty((1 + several, *shape), np.float32), np.zeros((classes, 2), np.int64))

    def measure(self, values: Array, spacing_mm: Sequence[float] | None, names: Sequence[str]) -> list[dict[str, Any]]:
        """Measure how unsure each organ is.

        Args:
            values: predicted label map [X, Y, Z].
            spacing_mm: spacing along its axes in mm; None: unknown, so pixels are counted.
            names: names of the classes, background first.

        Returns:
            Rows of ``structure``, ``measure``, ``value`` and ``unit`` for each organ: ends of the interval of its area
            or volume, in mm2, ml, pixels or voxels; mean entropy of its pixels and of those on either side of its
            outline, 0 to 1; and the mean distance in mm or pixels by which its outline may lie further inside or
            outside. NaN where the organ wasn't found.
        """
        flat = values.shape[2] == 1
        spacing = [1.0, 1.0, 1.0] if spacing_mm is None else list(spacing_mm)
        size = spacing[0] * spacing[1] * (1 if flat else spacing[2])
        per_unit, unit = (size, "mm2") if flat else (size / 1000, "ml")
        if spacing_mm is None:
            unit = "pixels" if flat else "voxels"
            per_unit = 1.0
        rows = []
        for index, name in list(enumerate(names))[1:]:
            low, high = (float(count) for count in self.levels[index])
            length, entropies = self._along(values, index, spacing)
            width = (high - low) * spacing[0] * spacing[1] / 2
            kind = "area" if flat else "volume"
            found = {
                f"lower limit of {kind}": (low * per_unit, unit),
                f"upper limit of {kind}": (high * per_unit, unit),
                "entropy": (entropies[0], ""),
                "entropy at the outline": (entropies[1], ""),
                "outline in doubt by": (
                    width / length if length else math.nan,
                    "pixels" if spacing_mm is None else "mm",
                ),
            }
            rows += [{"structure": name, "measure": m, "value": v, "unit": u} for m, (v, u) in found.items()]
        return rows

    def _along(self, values: Array, index: int, spacing: Sequence[float]) -> tuple[float, list[float]]:
        """Return the length of an organ's outline, and the mean entropy of its pixels and beside the outline."""
        length, sums, counts = 0.0, [0.0, 0.0], [0, 0]
        for z in range(values.shape[2]):  # slice by slice, so that a large volume needs little memory
            inside = values[:, :, z] == index
            if not inside.any():
                continue
            of_slice, beside = measure_outline(inside, spacing)
            length += of_slice
            for n, chosen in enumerate((inside, beside)):
                sums[n] += float(self.maps[0, :, :, z][chosen].sum(dtype=np.float64))
                counts[n] += int(chosen.sum())
        return length, [total / count if count else math.nan for total, count in zip(sums, counts, strict=True)]
