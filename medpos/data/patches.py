"""Overlapping patches of slices, as U-SegNet is trained on them."""

from typing import Any

import numpy as np
from torch.utils.data import Dataset

from medpos.core.errors import InputError
from medpos.data.cached import CachedDataset


def starts(length: int, size: int, step: int) -> list[int]:
    """Where patches begin along one axis; the last one ends with the axis, whatever the step.

    Args:
        length: of the axis, px, at least ``size``.
        size: of a patch, px.
        step: from one to the next, px.
    """
    return [*range(0, length - size, step), length - size]


class Patches(Dataset[dict[str, Any]]):
    """All patches of all slices.

    Args:
        dataset: serves slices, image [C, X, Y] and label [X, Y] or [1, X, Y].
        size: height and width of a patch, px.
        step: from one patch to the next, px.

    Reference:
        P. Kumar et al., "U-SegNet", ICIP 2018: patches of 40 x 40 px that are shifted by 10.
    """

    def __init__(self, dataset: CachedDataset, size: int = 40, step: int = 10) -> None:
        self.dataset, self.size, self.step = dataset, size, step
        self._places: np.ndarray[Any, np.dtype[np.int32]] | None = None

    @property
    def epoch(self) -> int:
        """Of the training."""
        return self.dataset.epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self.dataset.epoch = epoch

    def _all(self) -> np.ndarray[Any, np.dtype[np.int32]]:
        """Item, column and row of each patch, [patches, 3]."""
        if self._places is None:
            shapes = self.dataset.shapes()
            if (least := min(min(shape) for shape in shapes)) < self.size:
                raise InputError(f"patches of {self.size} px of a slice of {least} px; take smaller ones")
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
        return len(self._all())

    def __getitem__(self, index: int) -> dict[str, Any]:
        item, x, y = (int(value) for value in self._all()[index])
        whole = self.dataset[item]
        place = (..., slice(x, x + self.size), slice(y, y + self.size))
        return {**whole, "image": whole["image"][place], "label": whole["label"][place]}
