"""Load batches onto the device of the network.

A batch goes through four stations:

1. :class:`medpos.data.CachedDataset` decodes each file once;
2. :class:`BatchLoader` gathers decoded images by index, on the device where they fit there;
3. :func:`medpos.transforms.base.batch.transform_batch` transforms the batch as a whole;
4. the inferer of the trainer or evaluator passes it to the network.
"""

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Any, TypeVar

import torch
from monai.data import DataLoader, list_data_collate
from monai.transforms import Compose
from torch import Tensor

from medpos.core.errors import InputError
from medpos.core.gpus import IMAGES_SHARE
from medpos.data.cached import ARRAYS, CachedDataset, count_bytes
from medpos.data.conditions import Condition
from medpos.transforms.base.batch import is_by_slice, transform_batch

logger = logging.getLogger(__name__)
Item = dict[str, Any]
T = TypeVar("T")
_AHEAD = 2  # batches that a thread prepares before they are due
_EXCEEDED = (
    "%s (%.0f MB) exceed the memory for images on %s: they stay on the host and are copied batch by batch; give "
    "--device_memory_gb for speed"
)


class DeviceMemory:
    """Share out the memory of the training's device among the data sets whose images stay there.

    Args:
        device: device of the network.
        limit_gb: memory for images in 10^9 bytes; 0 keeps them on the host. None takes a quarter of what is free at
            the first request.

    Raises:
        InputError: the limit is below 0.
    """

    def __init__(self, device: torch.device | str, limit_gb: float | None = None) -> None:
        if limit_gb is not None and not limit_gb >= 0:
            raise InputError(f"device_memory_gb: expected a number of at least 0, got {limit_gb}; leave it out")
        self.device = torch.device(device)
        self._left: float | None = None if limit_gb is None else limit_gb * 1e9

    @property
    def is_cuda(self) -> bool:
        """True if the device is a GPU, which computes while the host goes on."""
        return bool(self.device.type == "cuda")

    def take(self, size: int) -> bool:
        """Reserve memory of this size in bytes; False where it doesn't fit, or where the device is the host."""
        if self.device.type == "cpu":
            return False
        if self._left is None:
            self._left = IMAGES_SHARE * torch.cuda.mem_get_info(self.device)[0] if self.is_cuda else 0.0
        if size > self._left:
            return False
        self._left -= size
        return True


class BatchLoader(DataLoader):
    """Load batches onto a device: gathered and transformed as a whole, or item by item.

    Whole batches need decoded images, a transform that isn't random, and ``num_workers`` of 0. Their values are those
    of the items one by one; :class:`Gatherer` says where the images are kept. A thread prepares the next batches while
    a GPU computes, unless the images are on the GPU already.

    Args:
        dataset: data set, such as :class:`medpos.data.CachedDataset`.
        memory: device and its memory for images; None stands for the CPU.
        **options: further arguments of MONAI's ``DataLoader``.
    """

    def __init__(self, dataset: Any, memory: DeviceMemory | None = None, **options: Any) -> None:
        super().__init__(dataset, **options)
        self.memory = memory or DeviceMemory("cpu")
        self._gatherer: Gatherer | None = None
        self._has_begun = False

    def __iter__(self) -> Iterator[Any]:
        """Begin an epoch."""
        if reason := self._find_obstacle():
            items: Iterator[Any] = super().__iter__()
            if not self.memory.is_cuda:
                return items
            if not self._has_begun:
                logger.info("images are transformed one by one on the host, because %s", reason)
                self._has_begun = True
            return load_ahead(_moved(batch, self.memory.device) for batch in items)
        if self._gatherer is None:
            self._gatherer = Gatherer(self.dataset, self.memory)
        # PyTorch's iterator draws a number too; the random numbers of the network stay the same.
        torch.empty((), dtype=torch.int64).random_(generator=self.generator)
        batches = map(self._gatherer, self.batch_sampler)
        return load_ahead(batches) if self.memory.is_cuda and self._gatherer.uses_host else batches

    def _find_obstacle(self) -> str:
        """Say why batches can't be gathered as a whole; empty where they can."""
        if self.num_workers:
            return f"{self.num_workers} processes read them"
        if not isinstance(self.dataset, CachedDataset):
            return f"{type(self.dataset).__name__} serves items alone"
        if self.dataset.is_random:
            return "their transform is random"
        return "" if self.collate_fn is list_data_collate else "the loader has a collate_fn of its own"


class Gatherer:
    """Gather batches of decoded images by index, and transform them as a whole.

    Steps of the transform that are the same at every access, and don't make an item larger, run once for each image.
    The results are kept on the device if its memory allows, else on the host if ``memory_gb`` of the data set allows;
    else they are made again at every access, after decoding where the image isn't in memory. A batch from the host
    goes to a GPU through page-locked memory.

    Args:
        dataset: data set with a transform that isn't random.
        memory: device and its memory for images.
    """

    def __init__(self, dataset: CachedDataset, memory: DeviceMemory) -> None:
        self.dataset, self.memory = dataset, memory
        dataset.fill()
        first = dataset.decoded(0)
        self.fixed, self.steps = split_steps(dataset.transform, first)
        self.is_whole = first["image"].ndim == 3 and all(map(is_by_slice, self.steps))
        self._host_steps = max(
            (n for n, step in enumerate(self.steps, 1) if getattr(step, "on_host", False)), default=0
        )
        self.place, self._rows = self._keep()

    @property
    def uses_host(self) -> bool:
        """True if the host works on every batch: it copies, decodes or degrades images."""
        degrades = self._host_steps > 0 and any(condition.is_degraded for condition in self.dataset.conditions)
        return self.place != "device" or degrades

    def _keep(self) -> tuple[str, list[Item]]:
        """Choose the place of the images: ``device``, ``host``, or ``file`` where not all are in memory."""
        if not self.dataset.is_in_memory:
            return "file", []
        size = self.dataset.cached_bytes * (2 * self.dataset.neighbours + 1)
        what, device = f"{self.dataset.data[0]['split']} images", self.memory.device
        if (rows := self._move_all(size)) is not None:
            logger.info("%s are on %s (%.0f MB)", what, device, size / 1e6)
            return "device", rows
        if device.type != "cpu":
            logger.warning(_EXCEEDED, what, size / 1e6, device)
        fits = bool(self.fixed) and self.dataset.cached_bytes + size <= self.dataset.memory_gb * 1e9
        return "host", list(self._prepare_all()) if fits else []

    def _move_all(self, size: int) -> list[Item] | None:
        """Move all images to the device; None where its memory is too small, or taken by others."""
        try:
            return [_moved(row, self.memory.device) for row in self._prepare_all()] if self.memory.take(size) else None
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            return None

    def _prepare_all(self) -> Iterator[Item]:
        return (self._prepare(place) for place in range(len(self.dataset.places)))

    def _prepare(self, place: int) -> Item:
        item = self.dataset.decoded(place)
        for step in self.fixed:
            item = step(item)
        return item

    def __call__(self, indices: Sequence[int]) -> Item:
        """Gather the items of these indices to one batch."""
        found = [self.dataset.find(int(index)) for index in indices]
        parts = [
            self._gather([place for place, _ in group], condition)
            for condition, group in groupby(found, key=lambda entry: entry[1])
        ]
        return parts[0] if len(parts) == 1 else {key: _join([part[key] for part in parts]) for key in parts[0]}

    def _gather(self, places: Sequence[int], condition: Condition) -> Item:
        """Gather images under one condition."""
        on_host = condition.is_degraded and self._host_steps > 0
        kept = self._rows if not (on_host and self.place == "device") else []
        rows = [kept[place] if kept else self._prepare(place) for place in places]
        if not self.is_whole:
            items = [self._transform({**row, **condition.to_item()}) for row in rows]
            return _moved(list_data_collate(items), self.memory.device)
        about = [{**{k: v for k, v in row.items() if k not in ARRAYS}, **condition.to_item()} for row in rows]
        tensors = {key: torch.stack([row[key] for row in rows]) for key in ARRAYS if key in rows[0]}
        shared = {**condition.to_item(), "case": [row["case"] for row in rows]}
        before = self._host_steps if on_host else 0
        tensors = transform_batch(self.steps[:before], tensors, shared)
        tensors = transform_batch(self.steps[before:], _moved(tensors, self.memory.device), shared)
        return {**tensors, **list_data_collate(about)}

    def _transform(self, item: Item) -> Item:
        """Transform a copy of an item, because MONAI's transforms may work in place."""
        item |= {key: item[key].clone() for key in ARRAYS if key in item}
        for step in self.steps:
            item = step(item)
        return item


def split_steps(transform: Any, item: Item) -> tuple[list[Any], list[Any]]:
    """Split a transform that isn't random into the steps that run once for each image, and the others.

    Args:
        transform: transform of items.
        item: a decoded item, to see which step makes it larger, such as position channels, the same for all images.
    """
    steps = list(Compose([transform]).flatten().transforms)
    for number, step in enumerate(steps):
        if getattr(step, "by_condition", False):
            return steps[:number], steps[number:]
        following = step(item)
        if count_bytes(following) > count_bytes(item):
            return steps[:number], steps[number:]
        item = following
    return steps, []


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device, to a GPU through page-locked memory and without waiting for it."""
    if device.type != "cuda" or not tensor.is_cpu:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def _moved(item: Item, device: torch.device) -> Item:
    return {key: to_device(value, device) if key in ARRAYS else value for key, value in item.items()}


def _join(values: Sequence[Any]) -> Any:
    """Join an entry of several batches: tensors along the images, or lists."""
    return torch.cat(list(values)) if isinstance(values[0], Tensor) else [part for value in values for part in value]


def load_ahead(batches: Iterator[T]) -> Iterator[T]:
    """Load batches in a thread before they are due; an error is raised in place of its batch.

    MONAI's ``ThreadBuffer`` ends the epoch without an error then.
    """
    with ThreadPoolExecutor(1) as pool:
        waiting = deque(pool.submit(next, batches, None) for _ in range(_AHEAD))
        while (batch := waiting.popleft().result()) is not None:
            waiting.append(pool.submit(next, batches, None))
            yield batch
