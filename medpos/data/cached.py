"""Cache decoded cases and serve them whole or by slice, under one or several test conditions."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import torch
from monai.transforms import Compose, Randomizable
from torch.utils.data import Dataset

from medpos.core.errors import InputError, find_input_error
from medpos.data.conditions import CLEAN, Condition
from medpos.data.folder import ADVICE, logger
from medpos.data.schema import MANIFEST
from medpos.data.shared import decode_once
from medpos.io.scan import check_size
from medpos.transforms.spatial.neighbors import slice_with_neighbors
from medpos.transforms.spatial.resampled import RESAMPLED_SIZE, SpacingError

_FILES = ("image", "label", "instances")
ARRAYS = (*_FILES, "weight")  # entries of an item with values for each pixel
MEMORY_GB = 8.0  # 10,000 photographs of 500 x 375 px take 22 GB
THREADS = 4
_BATCH = 2 * THREADS  # cases decoded between two checks of the memory


class CachedDataset(Dataset[dict[str, Any]]):
    """Cache decoded cases and serve them whole or by slice, under one or several test conditions.

    If a data set exceeds ``memory_gb``, its first cases are cached and the others are decoded at every access.

    Args:
        data: cases from :meth:`DataFolder.cases`.
        decode: transform from file names to ``image`` [C, X, Y] or [C, X, Y, Z], float32 in [0, 1], and ``label``
            [1, X, Y] or [1, X, Y, Z]; its result is cached and shared by all conditions, and so are ``instances``, if
            the data set numbers its objects, and a ``weight`` that it adds.
        transform: transform of a copy of the cached item at every access. Its random state depends on the seed, the
            epoch and the item alone, so that a resumed training sees the same images.
        slices: serve the slices of each volume, [C, X, Y], one item each.
        conditions: test conditions (degradations and shifts) under which every case is served.
        neighbours: number of slices before and after each slice that become further channels; see
            :func:`medpos.transforms.stack_neighbors`.
        seed: random seed of the transform.
        repeats: number of times that an epoch serves every item, for random crops of few images.
        memory_gb: memory limit of decoded cases in 10^9 bytes.

    Attributes:
        epoch: epoch of the training, set by the sampler.
        is_random: True if the transform is random.
        places: number of the case and of the slice, None for a whole image or volume, of each image that is served.
        cached_bytes: size of the decoded cases in memory.

    Raises:
        InputError: a file can't be decoded (on first use), or ``memory_gb`` isn't above 0.
    """

    def __init__(
        self,
        data: Sequence[dict[str, Any]],
        decode: Callable[[dict[str, Any]], dict[str, Any]],
        transform: Callable[[dict[str, Any]], dict[str, Any]],
        slices: bool = False,
        conditions: Sequence[Condition] = (CLEAN,),
        neighbours: int = 0,
        seed: int = 0,
        repeats: int = 1,
        memory_gb: float = MEMORY_GB,
    ) -> None:
        self.data = list(data)
        self.decode = decode
        self.transform = transform
        self.is_random = is_random(transform)
        self.slices = slices
        self.conditions = tuple(conditions)
        self.neighbours = neighbours
        self.seed, self.epoch, self.repeats = seed, 0, repeats
        if memory_gb <= 0:
            raise InputError(f"memory_gb: expected a number above 0, got {memory_gb}; take {MEMORY_GB:g}, the default")
        self.memory_gb = memory_gb
        self._cache: list[dict[str, Any]] = []
        self.places: list[tuple[int, int | None]] = []
        self.cached_bytes = 0

    def under(self, conditions: Sequence[Condition]) -> "CachedDataset":
        """Serve every case under these conditions from now on, without decoding again, and return the data set."""
        self.conditions = tuple(conditions)
        return self

    def fill(self) -> None:
        """Decode cases into memory up to the limit; later calls do nothing."""
        if self._cache:
            return
        self._cache = decode_once(self.data, self.decode, self.memory_gb, self._decode_up_to_limit)
        self.cached_bytes = sum(map(count_bytes, self._cache))
        volumes = self.slices and self._cache[0]["image"].ndim == 4
        places = [range(self._depth(number)) if volumes else [None] for number in range(len(self.data))]
        self.places = [(number, z) for number, zs in enumerate(places) for z in zs]
        count = len(self._cache)
        logger.info(
            "decoded %d %s into memory (%.1f MB)", count, "case" if count == 1 else "cases", self.cached_bytes / 1e6
        )
        if rest := len(self.data) - len(self._cache):
            logger.warning(
                "the other %d are decoded at every access; raise --memory_gb or --num_workers for speed", rest
            )

    def _decode_up_to_limit(self) -> list[dict[str, Any]]:
        """Decode cases, until their size exceeds the limit."""
        decoded: list[dict[str, Any]] = []
        size = 0
        with ThreadPoolExecutor(THREADS) as pool:
            for first in range(0, len(self.data), _BATCH):
                if size < self.memory_gb * 1e9:
                    decoded += pool.map(self._decode, self.data[first : first + _BATCH])
                    size += sum(map(count_bytes, decoded[first:]))
        return decoded

    @property
    def is_in_memory(self) -> bool:
        """True if all cases are decoded in memory."""
        self.fill()
        return len(self._cache) == len(self.data)

    def _depth(self, number: int) -> int:
        """Return the number of slices of a volume, which decoding never changes."""
        known = self._cache[number]["image"] if number < len(self._cache) else None
        return int(self.data[number]["shape"][2] if known is None else known.shape[3])

    def _case(self, number: int) -> dict[str, Any]:
        return self._cache[number] if number < len(self._cache) else self._decode(self.data[number])

    def _decode(self, case: dict[str, Any]) -> dict[str, Any]:
        decoded, shape, spacing_mm = self._read(case)
        size = decoded["image"].shape
        if not bool(torch.isfinite(decoded["image"]).all()):
            raise InputError(f"{case['image']}: expected finite gray values, got NaN or infinity; {ADVICE}")
        _check_classes(decoded["label"], case)
        # Distances are measured in mm on the network's grid, and resampling changes its pixel size; padding doesn't.
        plane = decoded.get(RESAMPLED_SIZE, size[1:3])
        spacing = [s * n / int(m) for s, n, m in zip(spacing_mm, shape, (*plane, *size[3:]), strict=False)]
        return {
            # A transform that doesn't load the instances leaves their file name.
            **{k: decoded[k] for k in ARRAYS if isinstance(decoded.get(k), torch.Tensor)},
            **{k: case[k] for k in ("case", "subject", "split")},
            "phase": str(case.get("phase", "")),
            "spacing_mm": torch.tensor(spacing[: len(size) - 1], dtype=torch.float64),
        }

    def decode_item(self, item: dict[str, Any], spacing_mm: Sequence[float] | None, name: str) -> dict[str, Any]:
        """Decode an item, of files or tensors.

        Args:
            item: item with ``image`` and ``label``.
            spacing_mm: spacing of the image along its axes in mm; None: unknown.
            name: file of the image, for messages.

        Raises:
            SpacingError: the image can't be resampled to the pixel size of the transform.
        """
        try:
            return self.decode({**item, "spacing_mm": spacing_mm})
        except RuntimeError as error:  # of MONAI's Compose
            if isinstance(cause := find_input_error(error), SpacingError):
                raise SpacingError(f"{name}: {cause}") from error
            raise

    def _read(self, case: dict[str, Any]) -> tuple[dict[str, Any], Sequence[int], Sequence[float]]:
        """Read and decode the files of a case; return the decoded item, and shape and spacing in mm of its files."""
        files = {key: case[key] for key in _FILES if key in case}
        try:
            # Resampling to one size would hide a difference of shapes.
            shapes = {key: tuple(nibabel.load(path).shape) for key, path in files.items()}
            for key, shape in shapes.items():
                check_size(files[key], (*shape[:2], math.prod(shape[2:])))
            if case["channels"] > 1:
                shapes["image"] = _without_channels(shapes["image"], case["channels"])
            decoded = self.decode_item(
                files, case["spacing_mm"] if case.get("has_spacing", True) else None, case["image"]
            )
        except SpacingError:
            raise
        except Exception as error:
            cause = error
            while cause.__cause__ is not None:
                cause = cause.__cause__  # type: ignore[assignment]
            raise InputError(
                f"{files['image']} (label {files['label']}): can't be decoded ({cause}); {ADVICE}"
            ) from error
        shapes[MANIFEST] = tuple(case["shape"])
        if len(set(shapes.values())) > 1:
            found = ", ".join(f"{key} {shape}" for key, shape in shapes.items())
            raise InputError(f"{files['image']}: expected one shape of image and label, got {found}; {ADVICE}")
        return decoded, case["shape"], case["spacing_mm"]

    def __len__(self) -> int:
        self.fill()
        return len(self.places) * len(self.conditions) * self.repeats

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):  # ends a loop over the data set
            raise IndexError(f"item {index} of {len(self)}")
        place, condition = self.find(int(index))
        item = {**self.decoded(place), **condition.to_item()}
        if self.is_random:
            state = np.random.SeedSequence([self.seed, self.epoch, int(index)]).generate_state(1)
            self.transform.set_random_state(seed=int(state[0]))  # type: ignore[attr-defined]
        return self.transform(item)

    def find(self, index: int) -> tuple[int, Condition]:
        """Return the place of an item, that of its image or slice among all, and its condition."""
        which, place = divmod(index % (len(self.places) * len(self.conditions)), len(self.places))
        return place, self.conditions[which]

    def decoded(self, place: int) -> dict[str, Any]:
        """Return a copy of a decoded image or slice, with what is known of its case."""
        self.fill()
        number, z = self.places[place]
        case = self._case(number)
        item = dict(case)
        if z is not None:
            item |= {key: item[key][..., z] for key in ARRAYS if key in item}
            item["image"] = slice_with_neighbors(case["image"], z, self.neighbours)
        # The cache must not change, and MONAI's NormalizeIntensityd works in place when channel-wise.
        return item | {key: item[key].clone() for key in ARRAYS if key in item}

    def cached_images(self) -> list[tuple[str, npt.NDArray[np.float32]]]:
        """Return name and decoded image of each case in memory."""
        self.fill()
        return [(case["case"], case["image"].numpy()) for case in self._cache]

    def find_smallest(self) -> int:
        """Return the index of the item with the shortest side, among the images in memory."""
        self.fill()
        sides = [min(case["image"].shape[1:3]) for case in self._cache]
        return [number for number, _ in self.places].index(sides.index(min(sides)))

    def shapes(self) -> list[tuple[int, int]]:
        """Return columns and rows of each decoded image or slice."""
        self.fill()
        sizes = [tuple(self._case(number)["image"].shape[1:3]) for number in range(len(self.data))]
        return [sizes[number] for number, _ in self.places]

    def class_counts(self, classes: int) -> npt.NDArray[np.int64]:
        """Count the pixels of each class in each case, [cases, classes], for losses that balance the classes."""
        self.fill()
        labels = (self._case(number)["label"].long().numpy().ravel() for number in range(len(self.data)))
        return np.stack([np.bincount(label, minlength=256)[:classes] for label in labels])


def count_bytes(item: dict[str, Any]) -> int:
    """Count the bytes of an item's values."""
    return sum(item[key].nbytes for key in ARRAYS if key in item)


def is_random(transform: Any) -> bool:
    """Tell whether a transform is random; a Compose, which is always Randomizable, if one of its parts is."""
    if type(transform) is Compose:
        return any(map(is_random, transform.transforms))
    return isinstance(transform, Randomizable)


def _check_classes(label: torch.Tensor, case: dict[str, Any]) -> None:
    values = label if case["ignore_index"] is None else label[label != case["ignore_index"]]
    highest = int(values.max()) if values.numel() else 0
    if highest >= case["classes"]:
        ignored = "" if case["ignore_index"] is None else f", or {case['ignore_index']} for pixels to ignore"
        expected = f"labels 0 to {case['classes'] - 1} as dataset.json lists{ignored}"
        raise InputError(f"{case['label']}: expected {expected}, got {highest}; {ADVICE}")


def _without_channels(shape: tuple[int, ...], channels: int) -> tuple[int, ...]:
    """Drop the last axis, the channels, from the shape of an image."""
    if shape[-1] != channels:
        raise InputError(f"expected {channels} channels as dataset.json names, got {shape[-1]} in shape {shape}")
    return shape[:-1]
