"""Read and check a prepared data set.

A prepared folder, written by ``data_prep``, holds ``dataset.json``, ``images/`` and ``labels/``. Nothing in it is
evaluated, and no path in it may lead out of the folder.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medpos.core.errors import InputError
from medpos.core.files import read_json
from medpos.core.labels import IGNORED, Label
from medpos.core.rules import is_finite
from medpos.data.gray_values import intensity_statistics, read_moments
from medpos.data.leaks import find_leaks
from medpos.data.names import find_name_faults
from medpos.data.schema import (
    ASSUMED,
    INTENSITY_KEYS,
    LABEL_KEYS,
    MANIFEST,
    OPTIONAL_LABEL_KEYS,
    READ_CASE_KEYS,
    READ_KEYS,
    SCHEMA_VERSION,
    SPACINGS,
    SPLITS,
    dump_manifest,
)
from medpos.data.split import split_by_fold

logger = logging.getLogger(__name__)
ALL = "all"  # in place of a split
ADVICE = "prepare the data again with 'python -m data_prep', or list all problems with 'python -m data_prep verify'"


class DataFolder:
    """Read a prepared data set and check it on construction.

    Args:
        folder: folder that holds ``dataset.json``.
        fold: fold of a cross-validation whose subjects are the test part, such as ``2/5``; see
            :func:`medpos.data.split.split_by_fold`. Empty for the prepared split.

    Attributes:
        folder: the same folder.
        fold: the same fold.
        name: short name of the data set, such as ``jsrt``.
        phantom: True if the images are computed, not real.
        labels: classes in the order of their indices, background first.
        channels: names of the image's channels.
        ignore_index: 255 if label maps may have this value, for ignored pixels; otherwise None.
        warnings: what is implausible in the data, a line for each, as ``data_prep`` found.
        spacing_source: where the pixel size comes from, one of ``SPACINGS``; None in folders of earlier versions.

    Raises:
        InputError: ``dataset.json`` is missing, malformed, lacks a key, names a file outside the folder, or has one
            subject or one image in two parts; or there is no such fold.
    """

    def __init__(self, folder: str | Path, fold: str = "") -> None:
        self.folder = Path(folder)
        self.path = self.folder / MANIFEST
        content = _read_json(self.path)
        _require(content, READ_KEYS, str(self.path))
        if faults := find_name_faults(content):
            raise InputError(f"{self.path}: {faults[0]}; {ADVICE}")
        if content["schema_version"] != SCHEMA_VERSION:
            raise InputError(
                f"{self.path}: expected schema_version {SCHEMA_VERSION}, got {content['schema_version']}; {ADVICE}"
            )
        self.name: str = content["name"]
        self.phantom: bool = bool(content["phantom"])
        self.labels = _read_labels(content["labels"], self.path)
        self.channels = _read_channels(content.get("channels", ["image"]), self.path)
        self.ignore_index: int | None = content.get("ignore_index")
        if self.ignore_index not in (None, IGNORED):
            raise InputError(
                f"{self.path}: expected ignore_index {IGNORED} or none, got {self.ignore_index!r}; {ADVICE}"
            )
        self.warnings = _read_warnings(content.get("warnings", []), self.path)
        self.spacing_source: str | None = content.get("spacing")
        if self.spacing_source not in (None, *SPACINGS):
            raise InputError(
                f"{self.path}: expected spacing {', '.join(SPACINGS)} or none, got {self.spacing_source!r}; {ADVICE}"
            )
        if lists := [split for split in SPLITS if not isinstance(content[split], list)]:
            raise InputError(f"{self.path}: expected a list of cases in {', '.join(lists)}; {ADVICE}")
        _require(content["intensity"], INTENSITY_KEYS, f"{self.path}: intensity")
        self._intensity: dict[str, Any] = content["intensity"]
        self._learned: dict[str, float] | None = None
        self._cases = {split: [self._check_case(c, split) for c in content[split]] for split in SPLITS}
        self._prepared_training = self._cases[SPLITS[0]]
        self.fold = fold
        if fold:
            self._cases = split_by_fold(self._cases, fold)
        if leaks := find_leaks(self._cases):
            raise InputError(f"{self.path}: expected parts that share nothing, but {describe_leaks(leaks)}; {ADVICE}")

    def _check_case(self, case: Any, split: str) -> dict[str, Any]:
        where = f"{self.path}: {split}"
        _require(case, READ_CASE_KEYS, where)
        for key in ("case", "subject"):
            if not isinstance(case[key], str):
                raise InputError(f"{where}: expected text as {key}, got {case[key]!r}; {ADVICE}")
        where = f"{where}: case {case['case']}"
        for key in ("shape", "spacing_mm"):
            if not (_are_numbers(case[key]) and len(case[key]) in (2, 3) and min(case[key]) > 0):
                raise InputError(
                    f"{where}: expected {key} of numbers above 0, one per axis, got {case[key]!r}; {ADVICE}"
                )
        for key in ("image", "label", *(("instances",) if "instances" in case else ())):
            target = (self.folder / str(case[key])).resolve()
            if not target.is_relative_to(self.folder.resolve()):
                raise InputError(f"{where}: expected {key} inside the data folder, got {case[key]!r}; {ADVICE}")
            if not target.is_file():
                raise InputError(f"{where}: {key} file {case[key]!r} is missing; {ADVICE}")
        return {**case, "split": split}

    @property
    def sha256(self) -> str:
        """SHA-256 of ``dataset.json``, which holds that of every file: equal hashes mean equal data.

        Where the spacing comes from doesn't count, so a folder of an earlier version, which doesn't say it, is equal.
        """
        data = self.path.read_bytes()
        content = json.loads(data)
        if content.pop("spacing", None):
            data = dump_manifest(content)
        return hashlib.sha256(data).hexdigest()

    @property
    def nominal_spacing(self) -> bool:
        """Whether the true pixel sizes are unknown.

        Where the folder doesn't say it: whether five or more subjects all have one pixel size, which scanners hardly
        yield.
        """
        if self.spacing_source is not None:
            return self.spacing_source == ASSUMED
        cases = [case for split in SPLITS for case in self._cases[split]]
        sizes = {tuple(case["spacing_mm"]) for case in cases}
        return len(sizes) == 1 and len({case["subject"] for case in cases}) >= 5

    @property
    def intensity(self) -> dict[str, float]:
        """Gray values of the training set: ``low``, ``high`` in file units; ``mean``, ``std`` scaled to [0, 1].

        For an evaluation those of the training that the model comes from, by :meth:`use_intensity`.
        """
        if self._learned is not None:
            return self._learned
        found = self._measure_intensity() if self.fold else self._intensity
        ends, mean, std = (found[key] for key in INTENSITY_KEYS)
        sound = _are_numbers(ends) and len(ends) == 2 and _are_numbers([mean, std])
        if not (sound and ends[0] < ends[1] and std > 0):
            raise InputError(
                f"{self.path}: expected intensity with range [low, high], low < high, a mean and a std above 0, got "
                f"range {ends!r}, mean {mean!r}, std {std!r}; {ADVICE}"
            )
        low, width = float(ends[0]), float(ends[1] - ends[0])
        return {"low": low, "high": low + width, "mean": (mean - low) / width, "std": std / width}

    def _measure_intensity(self) -> dict[str, Any]:
        """Compute the gray values of a fold's training set as ``dataset.json`` states those of the prepared one.

        The range is that of the data set where it is known beforehand, such as 0 to 4095 of 12 bits: it then is not the
        range that the prepared training set has.
        """
        prepared, training = (
            [read_moments(self.folder / case["image"]) for case in cases]
            for cases in (self._prepared_training, self._cases[SPLITS[0]])
        )
        known = self._intensity["range"]
        is_learned = known == intensity_statistics(prepared, None)["range"]
        return intensity_statistics(training, None if is_learned else known)

    def use_intensity(self, learned: dict[str, float]) -> None:
        """Return these gray values as :attr:`intensity` from now on.

        Args:
            learned: gray values of the training set of the model that is evaluated.
        """
        self._learned = dict(learned)

    @property
    def is_flat(self) -> bool:
        """Whether every image is a single slice."""
        return all(len(case["shape"]) == 2 or case["shape"][2] == 1 for split in SPLITS for case in self._cases[split])

    def cases(self, split: str, subjects: int | None = None, seed: int = 0) -> list[dict[str, Any]]:
        """Return the cases of one split, with the paths of their files.

        Args:
            split: ``training``, ``validation`` or ``test``; ``all`` for those of all three, which are marked so, to
                test a model that was trained on other data.
            subjects: number of subjects to draw; None keeps all.
            seed: random seed of the draw.

        Raises:
            InputError: the split is empty or has fewer subjects.
        """
        cases = self._cases[split] if split != ALL else [{**c, "split": ALL} for s in SPLITS for c in self._cases[s]]
        names = sorted({c["subject"] for c in cases})
        if not names:
            raise InputError(
                f"{self.path}: expected at least one subject in the {split} split, got none; prepare more data"
            )
        if subjects is not None:
            if not (isinstance(subjects, int) and 1 <= subjects <= len(names)):
                raise InputError(
                    f"--train_cases: expected 1 to {len(names)} ({split} subjects of {self.path}), got {subjects!r}; "
                    "give fewer, or leave it out"
                )
            names = list(np.random.default_rng(seed).permutation(names)[:subjects])
        kept, has_spacing = set(names), not self.nominal_spacing
        return [
            {
                **c,
                "image": str(self.folder / c["image"]),
                "label": str(self.folder / c["label"]),
                **({"instances": str(self.folder / c["instances"])} if "instances" in c else {}),
                "classes": len(self.labels),
                "channels": len(self.channels),
                "has_spacing": has_spacing,
                "ignore_index": self.ignore_index,
            }
            for c in cases
            if c["subject"] in kept
        ]


def describe_leaks(leaks: Sequence[str]) -> str:
    """Return the first of these lines and the number of the others."""
    return leaks[0] + (f", and {len(leaks) - 1} more" if len(leaks) > 1 else "")


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a prepared folder as dataset_dir, or {ADVICE}")
    return read_json(path, ADVICE)


def _require(content: Any, keys: Iterable[str], where: str) -> None:
    missing = [k for k in keys if not isinstance(content, dict) or k not in content]
    if missing:
        raise InputError(f"{where}: lacks {', '.join(missing)}; {ADVICE}")


def _are_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(map(is_finite, values))


def _read_warnings(found: Any, path: Path) -> list[str]:
    if not (isinstance(found, list) and all(isinstance(line, str) for line in found)):
        raise InputError(f"{path}: expected a list of lines as warnings, got {found!r:.60}; {ADVICE}")
    return found


def _read_channels(names: Any, path: Path) -> tuple[str, ...]:
    if not (isinstance(names, list) and names and all(isinstance(name, str) for name in names)):
        raise InputError(f"{path}: expected a list of names as channels, got {names!r}; {ADVICE}")
    return tuple(names)


def _read_labels(entries: Any, path: Path) -> tuple[Label, ...]:
    try:
        labels = tuple(
            Label.from_json(**{key: entry[key] for key in (*LABEL_KEYS, *OPTIONAL_LABEL_KEYS) if key in entry})
            for entry in entries
        )
    except (TypeError, KeyError, ValueError) as error:
        raise InputError(f"{path}: expected index, name and colour of each label ({error}); {ADVICE}") from None
    if [label.index for label in labels] != list(range(len(labels))) or len(labels) < 2:
        found = [label.index for label in labels]
        raise InputError(
            f"{path}: expected label indices 0, 1, 2 ... in order, background first, got {found}; {ADVICE}"
        )
    return labels
