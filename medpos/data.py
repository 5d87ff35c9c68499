"""Prepared data sets: reading ``dataset.json`` with its errors, and a dataset that decodes every image once.

A prepared folder holds ``dataset.json`` beside ``images/`` and ``labels/`` (written by ``data_prep``). Nothing in it is
evaluated, and no path in it may leave the folder.
"""

import hashlib
import itertools
import json
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import torch
from monai.transforms import Compose, Randomizable
from torch.utils.data import Dataset
from torch.utils.data.distributed import DistributedSampler

from medpos.conditions import CLEAN, Condition
from medpos.errors import InputError
from medpos.labels import IGNORED, Label
from medpos.transforms.neighbours import neighbouring

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
SPLITS = ("training", "validation", "test")
_KEYS = ("schema_version", "name", "phantom", "labels", "intensity", *SPLITS)
_CASE_KEYS = ("case", "subject", "image", "label", "shape", "spacing_mm")
_NAME = re.compile(r"\w[\w.+-]*", re.ASCII)  # a case gives files their names
_COLOUR = re.compile(r"#[0-9A-Fa-f]{6}")
_FILES = ("image", "label", "instances")
_ARRAYS = (*_FILES, "weight")
MEMORY_GB = 8.0  # 10,000 photographs of 500 x 375 px take 22
THREADS = 4
_BATCH = 2 * THREADS  # cases decoded before their size is asked about
_MEND = "prepare the data again with 'python -m data_prep', or look with 'python -m data_prep verify'"


class DataFolder:
    """A prepared data set, checked on construction.

    Args:
        folder: the folder that holds ``dataset.json``.

    Attributes:
        folder: as given.
        name: short name of the data set, such as ``jsrt``.
        phantom: True where the images are computed, not real.
        labels: classes in the order of their indices, background first.
        channels: names of the image's channels.
        ignore_index: 255 where label maps may have this value, pixels that count nowhere; else None.

    Raises:
        InputError: ``dataset.json`` is missing, malformed, lacks a key, or names a file outside the folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.path = self.folder / "dataset.json"
        content = _read_json(self.path)
        _require(content, _KEYS, str(self.path))
        if content["schema_version"] != SCHEMA_VERSION:
            raise InputError(
                f"{self.path}: schema_version is {content['schema_version']}, needed {SCHEMA_VERSION}; {_MEND}"
            )
        self.name: str = content["name"]
        self.phantom: bool = bool(content["phantom"])
        self.labels = _read_labels(content["labels"], self.path)
        self.channels = _read_channels(content.get("channels", ["image"]), self.path)
        self.ignore_index: int | None = content.get("ignore_index")
        if self.ignore_index not in (None, IGNORED):
            raise InputError(
                f"{self.path}: ignore_index is {self.ignore_index!r}, needed is {IGNORED} or none; {_MEND}"
            )
        if lists := [split for split in SPLITS if not isinstance(content[split], list)]:
            raise InputError(f"{self.path}: {', '.join(lists)}: needed a list of cases; {_MEND}")
        _require(content["intensity"], ("range", "mean", "std"), f"{self.path}: intensity")
        self._intensity: dict[str, Any] = content["intensity"]
        self._cases = {split: [self._check_case(c, split) for c in content[split]] for split in SPLITS}

    def _check_case(self, case: Any, split: str) -> dict[str, Any]:
        where = f"{self.path}: {split}"
        _require(case, _CASE_KEYS, where)
        for key in ("case", "subject"):
            if not (isinstance(case[key], str) and _NAME.fullmatch(case[key])):
                raise InputError(f"{where}: {key} is {case[key]!r}, needed letters, digits, '.', '_' or '-'; {_MEND}")
        where = f"{where}: case {case['case']}"
        for key in ("shape", "spacing_mm"):
            if not (_are_numbers(case[key]) and len(case[key]) in (2, 3) and min(case[key]) > 0):
                raise InputError(f"{where}: {key} is {case[key]!r}, needed numbers above 0, one an axis; {_MEND}")
        for key in ("image", "label", *(("instances",) if "instances" in case else ())):
            target = (self.folder / str(case[key])).resolve()
            if not target.is_relative_to(self.folder.resolve()):
                raise InputError(f"{where}: {key} {case[key]!r} lies outside the data folder; {_MEND}")
            if not target.is_file():
                raise InputError(f"{where}: {key} file {case[key]!r} is not there; {_MEND}")
        return {**case, "split": split}

    @property
    def sha256(self) -> str:
        """Of ``dataset.json``, which holds the sha256 of every file: two folders of one hash hold the same data."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    @property
    def nominal_spacing(self) -> bool:
        """Whether all of five subjects or more have one pixel size, which no scanner gives: it is nominal."""
        cases = [case for split in SPLITS for case in self._cases[split]]
        sizes = {tuple(case["spacing_mm"]) for case in cases}
        return len(sizes) == 1 and len({case["subject"] for case in cases}) >= 5

    @property
    def intensity(self) -> dict[str, float]:
        """Grey values of the training set: ``low``, ``high`` in file units; ``mean``, ``std`` scaled to [0, 1]."""
        ends, mean, std = (self._intensity[key] for key in ("range", "mean", "std"))
        sound = _are_numbers(ends) and len(ends) == 2 and _are_numbers([mean, std])
        if not (sound and ends[0] < ends[1] and std > 0):
            raise InputError(
                f"{self.path}: intensity has range {ends!r}, mean {mean!r}, std {std!r}, needed [low, high] with "
                f"low < high and two numbers, std above 0; {_MEND}"
            )
        low, width = float(ends[0]), float(ends[1] - ends[0])
        return {"low": low, "high": low + width, "mean": (mean - low) / width, "std": std / width}

    @property
    def is_flat(self) -> bool:
        """Whether every image is a single slice."""
        return all(len(case["shape"]) == 2 or case["shape"][2] == 1 for split in SPLITS for case in self._cases[split])

    def cases(self, split: str, subjects: int | None = None, seed: int = 0) -> list[dict[str, Any]]:
        """The cases of one split, with absolute file names.

        Args:
            split: ``training``, ``validation`` or ``test``.
            subjects: keep this many subjects, drawn with ``seed``; None keeps all.
            seed: of the draw.

        Raises:
            InputError: the split is empty or has fewer subjects.
        """
        cases = self._cases[split]
        names = sorted({c["subject"] for c in cases})
        if not names:
            raise InputError(f"{self.path}: the {split} split is empty, needed at least one subject; prepare more data")
        if subjects is not None:
            if not (isinstance(subjects, int) and 1 <= subjects <= len(names)):
                raise InputError(
                    f"train_cases is {subjects!r}, needed 1 to {len(names)} ({split} subjects of {self.path})"
                )
            names = list(np.random.default_rng(seed).permutation(names)[:subjects])
        kept = set(names)
        return [
            {
                **c,
                "image": str(self.folder / c["image"]),
                "label": str(self.folder / c["label"]),
                **({"instances": str(self.folder / c["instances"])} if "instances" in c else {}),
                "classes": len(self.labels),
                "channels": len(self.channels),
                "ignore_index": self.ignore_index,
            }
            for c in cases
            if c["subject"] in kept
        ]


class CachedDataset(Dataset[dict[str, Any]]):
    """Decodes every case once, then serves it whole or by slice, under one condition or many.

    A data set too large for the memory it may take keeps its first cases there; the others are decoded at every access.

    Args:
        data: cases as :meth:`DataFolder.cases` gives them.
        decode: transform from file names to ``image`` [C, X, Y] or [C, X, Y, Z], float32 in [0, 1], and ``label``
            [1, X, Y] or [1, X, Y, Z]; its result is kept in memory and shared by all conditions. ``instances``, where
            the data set numbers its objects, and a ``weight`` that it adds are kept too.
        transform: applied to a copy of the cached item at every access. What is random in it rests on the seed, the
            epoch and the item alone, so a resumed training sees the same images.
        slices: serve the slices of each volume, [C, X, Y], one item each.
        conditions: the degradations and shifts under which every case is served; clean alone by default.
        neighbours: of slices, that many before and after each, as further channels; see
            :func:`medpos.transforms.with_neighbours`.
        seed: of the transform.
        repeats: of every item in an epoch, for random tiles or crops of few images.
        memory_gb: that decoded cases may take, in 10^9 bytes.

    Attributes:
        epoch: of the training, which the sampler tells.

    Raises:
        InputError: a file can't be decoded; the message names it; memory_gb that isn't above 0.
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
        self._is_random = _is_random(transform)
        self.slices = slices
        self.conditions = tuple(conditions)
        self.neighbours = neighbours
        self.seed, self.epoch, self.repeats = seed, 0, repeats
        if memory_gb <= 0:
            raise InputError(f"memory_gb is {memory_gb}, needed is a number above 0, such as {MEMORY_GB:g}")
        self.memory_gb = memory_gb
        self._cache: list[dict[str, Any]] = []
        self._index: list[tuple[int, int | None]] = []

    def under(self, conditions: Sequence[Condition]) -> "CachedDataset":
        """Serve every case under these conditions from now on; nothing is decoded again."""
        self.conditions = tuple(conditions)
        return self

    def fill(self) -> None:
        """Decode what is not in memory yet, as far as it may fill it; a no-op afterwards."""
        if self._cache:
            return
        size = 0
        with ThreadPoolExecutor(THREADS) as pool:
            for first in range(0, len(self.data), _BATCH):
                if size < self.memory_gb * 1e9:
                    decoded = list(pool.map(self._decode, self.data[first : first + _BATCH]))
                    size += sum(case[key].nbytes for case in decoded for key in _ARRAYS if key in case)
                    self._cache += decoded
        volumes = self.slices and self._cache[0]["image"].ndim == 4
        places = [range(self._depth(number)) if volumes else [None] for number in range(len(self.data))]
        self._index = [(number, z) for number, zs in enumerate(places) for z in zs]
        logger.info("decoded %d cases into memory (%.0f MB)", len(self._cache), size / 1e6)
        if rest := len(self.data) - len(self._cache):
            logger.warning(
                "the other %d are decoded at every access; --num_workers or --memory_gb make it faster", rest
            )

    def _depth(self, number: int) -> int:
        """Slices of a volume; decoding never changes their number."""
        known = self._cache[number]["image"] if number < len(self._cache) else None
        return int(self.data[number]["shape"][2] if known is None else known.shape[3])

    def _case(self, number: int) -> dict[str, Any]:
        return self._cache[number] if number < len(self._cache) else self._decode(self.data[number])

    def _decode(self, case: dict[str, Any]) -> dict[str, Any]:
        files = {key: case[key] for key in _FILES if key in case}
        try:
            # Resampling to one size would hide that two shapes differ.
            shapes = {key: tuple(nibabel.load(path).shape) for key, path in files.items()}
            if case["channels"] > 1:
                shapes["image"] = _without_channels(shapes["image"], case["channels"])
            decoded = self.decode(dict(files))
        except Exception as error:
            cause = error
            while cause.__cause__ is not None:
                cause = cause.__cause__  # type: ignore[assignment]
            raise InputError(
                f"{files['image']} (label {files['label']}): can't be decoded ({cause}); {_MEND}"
            ) from error
        shapes["dataset.json"] = tuple(case["shape"])
        if len(set(shapes.values())) > 1:
            found = ", ".join(f"{key} {shape}" for key, shape in shapes.items())
            raise InputError(f"{files['image']}: image and label differ in shape ({found}); {_MEND}")
        shape = decoded["image"].shape
        if not bool(torch.isfinite(decoded["image"]).all()):
            raise InputError(f"{files['image']}: holds NaN or infinite grey values; {_MEND}")
        _check_classes(decoded["label"], case)
        # Resampling changes the size of a pixel: distances are measured on the network's grid, in mm.
        dims = len(shape) - 1
        spacing = [s * n / m for s, n, m in zip(case["spacing_mm"], case["shape"], shape[1:], strict=False)]
        return {
            # A chain that doesn't load the instances leaves the name of their file.
            **{k: decoded[k] for k in _ARRAYS if isinstance(decoded.get(k), torch.Tensor)},
            **{k: case[k] for k in ("case", "subject", "split")},
            "phase": str(case.get("phase", "")),
            "spacing_mm": torch.tensor(spacing[:dims], dtype=torch.float64),
        }

    def __len__(self) -> int:
        self.fill()
        return len(self._index) * len(self.conditions) * self.repeats

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):  # which ends a loop over the data set
            raise IndexError(f"item {index} of {len(self)}")
        which, place = divmod(int(index) % (len(self._index) * len(self.conditions)), len(self._index))
        case, z = self._index[place]
        decoded = self._case(case)
        item = {**decoded, **self.conditions[which].to_item()}
        if z is not None:
            item |= {key: item[key][..., z] for key in _ARRAYS if key in item}
            item["image"] = neighbouring(decoded["image"], z, self.neighbours)
        # What is kept must stay as it is, and MONAI's NormalizeIntensityd by channel works in place.
        item |= {key: item[key].clone() for key in _ARRAYS if key in item}
        if self._is_random:
            state = np.random.SeedSequence([self.seed, self.epoch, int(index)]).generate_state(1)
            self.transform.set_random_state(seed=int(state[0]))  # type: ignore[attr-defined]
        return self.transform(item)

    def shapes(self) -> list[tuple[int, int]]:
        """Columns and rows of each image or slice as it is decoded."""
        self.fill()
        sizes = [tuple(self._case(number)["image"].shape[1:3]) for number in range(len(self.data))]
        return [sizes[number] for number, _ in self._index]

    def class_counts(self, classes: int) -> npt.NDArray[np.int64]:
        """Pixels of each class in each case, [cases, classes], for losses that balance them."""
        self.fill()
        labels = (self._case(number)["label"].long().numpy().ravel() for number in range(len(self.data)))
        return np.stack([np.bincount(label, minlength=256)[:classes] for label in labels])


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


def _is_random(transform: Any) -> bool:
    """MONAI's Compose is always Randomizable; what counts is what it holds."""
    if isinstance(transform, Compose):
        return any(map(_is_random, transform.transforms))
    return isinstance(transform, Randomizable)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; give a prepared folder as dataset_dir, or {_MEND}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: can't be read as JSON ({error}); {_MEND}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}, needed an object; {_MEND}")
    return content


def _require(content: Any, keys: Sequence[str], where: str) -> None:
    missing = [k for k in keys if not isinstance(content, dict) or k not in content]
    if missing:
        raise InputError(f"{where}: lacks {', '.join(missing)}; {_MEND}")


def _are_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(type(v) in (int, float) and np.isfinite(v) for v in values)


def _check_classes(label: torch.Tensor, case: dict[str, Any]) -> None:
    values = label if case["ignore_index"] is None else label[label != case["ignore_index"]]
    highest = int(values.max()) if values.numel() else 0
    if highest >= case["classes"]:
        ignored = "" if case["ignore_index"] is None else f", or {case['ignore_index']} for pixels to ignore"
        needed = f"0 to {case['classes'] - 1} as dataset.json lists{ignored}"
        raise InputError(f"{case['label']}: holds label {highest}, needed {needed}; {_MEND}")


def _without_channels(shape: tuple[int, ...], channels: int) -> tuple[int, ...]:
    """The grid of an image of several channels, which are on its last axis."""
    if shape[-1] != channels:
        raise InputError(f"the image of shape {shape} has {shape[-1]} channels, dataset.json names {channels}")
    return shape[:-1]


def _read_channels(names: Any, path: Path) -> tuple[str, ...]:
    if not (isinstance(names, list) and names and all(isinstance(name, str) for name in names)):
        raise InputError(f"{path}: channels is {names!r}, needed is a list of names; {_MEND}")
    return tuple(names)


def _read_labels(entries: Any, path: Path) -> tuple[Label, ...]:
    try:
        labels = tuple(Label(int(e["index"]), str(e["name"]), str(e["colour"])) for e in entries)
    except (TypeError, KeyError, ValueError):
        raise InputError(f"{path}: labels need index, name and colour each; {_MEND}") from None
    if bad := [label.colour for label in labels if not _COLOUR.fullmatch(label.colour)]:
        raise InputError(f"{path}: a label's colour is {bad[0]!r}, needed '#rrggbb'; {_MEND}")
    if [label.index for label in labels] != list(range(len(labels))) or len(labels) < 2:
        found = [label.index for label in labels]
        raise InputError(f"{path}: label indices are {found}, needed 0, 1, 2 ... in order, background first; {_MEND}")
    return labels
