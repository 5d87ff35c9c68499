"""Draw the order of an epoch from its seed and number."""

import itertools
from collections.abc import Iterator
from typing import Any

from torch.utils.data.distributed import DistributedSampler


class EpochSampler(DistributedSampler[Any]):
    """Draw the order of an epoch, and set the epoch of the data set, on which its random transforms depend.

    Args:
        dataset: :class:`CachedDataset`, or another data set with an attribute ``epoch``.
        num_replicas: number of processes of the training.
        rank: rank of this process.
        seed: random seed of the order, combined with the epoch.
        samples: number of items per epoch and process, drawn without replacement; None takes all.
    """

    def __init__(
        self, dataset: Any, num_replicas: int = 1, rank: int = 0, seed: int = 0, samples: int | None = None
    ) -> None:
        super().__init__(dataset, num_replicas, rank, seed=seed)
        whole = int(self.num_samples)
        self.samples = whole if samples is None else min(samples, whole)

    def __iter__(self) -> Iterator[Any]:
        return itertools.islice(super().__iter__(), self.samples)

    def __len__(self) -> int:
        return self.samples

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the order and of the data set; MONAI's trainer calls it."""
        super().set_epoch(epoch)
        self.dataset.epoch = epoch
