"""Draw the order of an epoch from its seed and number."""

import itertools
from collections.abc import Iterator
from typing import Any

from torch.utils.data.distributed import DistributedSampler


class EpochSampler(DistributedSampler[Any]):
    """PyTorch's sampler, which also tells the data set the epoch that its random transforms rest on.

    Args:
        dataset: a :class:`CachedDataset`, or another that has an ``epoch``.
        num_replicas: processes of the training.
        rank: of this process.
        seed: of the order, with the epoch.
        samples: items an epoch in each process, drawn without repetition; None takes all.
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
        """Set the epoch of order and images; MONAI's trainer calls it."""
        super().set_epoch(epoch)
        self.dataset.epoch = epoch
