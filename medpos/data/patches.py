"""Cut slices into overlapping patches, as U-SegNet is trained."""

from typing import Any

import numpy as np
from torch.utils.data import Dataset

from medpos.core.errors import InputError
from medpos.data.cached import CachedDataset


def starts(length: int, size: int, step: int) -> list[int]:
    """Return the start of each patch along one axis; the last patch ends with the axis, whatever the step.

    Args:
        length: length of the axis in pixels, at least ``size``.
        size: patch side in pixels.
        step: distance between the starts of patches in pixels.
    """
    return [*range(0, length - size, step), length - size]


class Patches(Dataset[dict[str, Any]]):
    """Serve all patches of all slices.

    Args:
        dataset: data set of slices, image [C, X, Y] and label [X, Y] or [1, X, Y].
        size: patch side in pixels.
        step: distance between the starts of patches in pixels.

    Reference:
        P. Kumar et al., "U-SegNet", ICIP 2018: patches of 40 x 40 px, 10 px apart.
    """

    def __init__(self, dataset: CachedDataset, size: int = 40, step: int = 10) -> None:
        self.dataset, self.size, self.step = dataset, size, step
        self._places: np.ndarray[Any, np.dtype[np.int32]] | None = None

    @property
    def epoch(self) -> int:
        """Epoch of the training."""
        return self.dataset.epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self.dataset.epoch = epoch

    def _patches(self) -> np.ndarray[Any, np.dtype[np.int32]]:
        """Return item, column and row of each patch, [patches, 3]."""
        if self._places is None:
            shapes = self.dataset.shapes()
            if (least := min(min(shape) for shape in shapes)) < self.size:
                raise InputError(f"patch size {self.size} px exceeds the slice ({least} px); use a smaller patch size")
            self._places = np.array(
                [
                    (n, x, y)
                    for n, shape in enumerate(shapes)
                    for x in starts(shape[0], self.size, self.step)
                    for y in starts(shape[1], self.size, self.step)
                ],
                dtype=np.int32,
            )
        return self._places

    def __len__(self) -> int:
        return len(self._patches())

    def __getitem__(self, index: int) -> dict[str, Any]:
        item, x, y = (int(value) for value in self._patches()[index])
        whole = self.dataset[item]
        place = (..., slice(x, x + self.size), slice(y, y + self.size))
        return {**whole, "image": whole["image"][place], "label": whole["label"][place]}
