"""Cut slices into overlapping patches, as U-SegNet is trained, or draw patches with the label of their center."""

from typing import Any

import numpy as np
from torch.utils.data import Dataset

from medpos.core.errors import InputError
from medpos.core.labels import IGNORED
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


class CenterPatches(Patches):
    """Draw patches at random, each with the label of its center pixel, for a classifier of patches.

    A patch depends on the seed, the epoch and its number alone. Beyond the border of an image its pixels are repeated.

    Args:
        dataset: data set of slices, image [C, X, Y] and label [X, Y] or [1, X, Y].
        size: patch side in pixels, odd.
        samples: number of patches per epoch.
        balanced: whether the centers are of all classes equally often, so that rare classes are resampled; otherwise
            every pixel is a center equally often.
        seed: random seed of the patches.

    Reference:
        G. Boracchi, "Convolutional Neural Networks for Semantic Segmentation" (lecture), "FCNN Training Options: the
        patch-based way".

    Raises:
        InputError: an even size, or less than one patch per epoch.
    """

    def __init__(
        self, dataset: CachedDataset, size: int = 33, samples: int = 4096, balanced: bool = True, seed: int = 0
    ) -> None:
        super().__init__(dataset, size, 1)
        if size % 2 == 0 or samples < 1:
            raise InputError(
                f"CenterPatches: expected an odd size and samples of at least 1, got {size} and {samples}; an even "
                "patch has no center pixel"
            )
        self.samples, self.balanced, self.seed = samples, balanced, seed
        self._counts: np.ndarray[Any, np.dtype[np.int64]] | None = None

    def count_classes(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Count the pixels of each class in each slice, [slices, classes]; pixels to ignore are left out."""
        if self._counts is None:
            labels = (np.asarray(self.dataset[n]["label"]).ravel() for n in range(len(self.dataset)))
            counts = np.stack([np.bincount(label, minlength=256)[:IGNORED] for label in labels])
            self._counts = counts[:, : int(np.flatnonzero(counts.sum(axis=0))[-1]) + 1]
        return self._counts

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):  # ends a loop over the data set
            raise IndexError(f"patch {index} of {len(self)}")
        rng = np.random.default_rng([self.seed, self.epoch, index])
        counts = self.count_classes()
        of_class = counts.sum(axis=0)
        weights = (of_class > 0) if self.balanced else of_class
        chosen = rng.choice(len(weights), p=weights / weights.sum())
        whole = self.dataset[int(rng.choice(len(counts), p=counts[:, chosen] / of_class[chosen]))]
        label = whole["label"].reshape(whole["label"].shape[-2:])
        places = np.flatnonzero(np.asarray(label) == chosen)
        x, y = divmod(int(places[rng.integers(len(places))]), label.shape[1])
        return {**whole, "image": self._cut(whole["image"], x, y), "label": label[x : x + 1, y : y + 1]}

    def _cut(self, image: Any, x: int, y: int) -> Any:
        around = np.arange(-(self.size // 2), self.size // 2 + 1)
        columns, rows = ((at + around).clip(0, length - 1) for at, length in zip((x, y), image.shape[1:], strict=True))
        return image[:, columns][:, :, rows]
