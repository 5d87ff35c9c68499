"""Read and check a prepared data set.

A prepared folder holds ``dataset.json`` beside ``images/`` and ``labels/`` (written by ``data_prep``). Nothing in it is
evaluated, and no path in it may leave the folder.
"""

import hashlib
import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from medpos.core.errors import InputError
from medpos.core.files import read_json
from medpos.core.labels import IGNORED, Label
from medpos.data.schema import (
    INTENSITY_KEYS,
    LABEL_KEYS,
    MANIFEST,
    READ_CASE_KEYS,
    READ_KEYS,
    SCHEMA_VERSION,
    SPLITS,
)

logger = logging.getLogger(__name__)
_NAME = re.compile(r"\w[\w.+-]*", re.ASCII)  # a case gives files their names
_COLOUR = re.compile(r"#[0-9A-Fa-f]{6}")
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
        self.path = self.folder / MANIFEST
        content = _read_json(self.path)
        _require(content, READ_KEYS, str(self.path))
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
        _require(content["intensity"], INTENSITY_KEYS, f"{self.path}: intensity")
        self._intensity: dict[str, Any] = content["intensity"]
        self._cases = {split: [self._check_case(c, split) for c in content[split]] for split in SPLITS}

    def _check_case(self, case: Any, split: str) -> dict[str, Any]:
        where = f"{self.path}: {split}"
        _require(case, READ_CASE_KEYS, where)
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
        ends, mean, std = (self._intensity[key] for key in INTENSITY_KEYS)
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


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; give a prepared folder as dataset_dir, or {_MEND}")
    return read_json(path, _MEND)


def _require(content: Any, keys: Iterable[str], where: str) -> None:
    missing = [k for k in keys if not isinstance(content, dict) or k not in content]
    if missing:
        raise InputError(f"{where}: lacks {', '.join(missing)}; {_MEND}")


def _are_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(type(v) in (int, float) and np.isfinite(v) for v in values)


def _read_channels(names: Any, path: Path) -> tuple[str, ...]:
    if not (isinstance(names, list) and names and all(isinstance(name, str) for name in names)):
        raise InputError(f"{path}: channels is {names!r}, needed is a list of names; {_MEND}")
    return tuple(names)


def _read_labels(entries: Any, path: Path) -> tuple[Label, ...]:
    try:
        labels = tuple(Label.from_json(**{key: entry[key] for key in LABEL_KEYS}) for entry in entries)
    except (TypeError, KeyError, ValueError):
        raise InputError(f"{path}: labels need index, name and colour each; {_MEND}") from None
    if bad := [label.color for label in labels if not _COLOUR.fullmatch(label.color)]:
        raise InputError(f"{path}: a label's colour is {bad[0]!r}, needed '#rrggbb'; {_MEND}")
    if [label.index for label in labels] != list(range(len(labels))) or len(labels) < 2:
        found = [label.index for label in labels]
        raise InputError(f"{path}: label indices are {found}, needed 0, 1, 2 ... in order, background first; {_MEND}")
    return labels
