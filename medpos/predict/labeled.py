"""Provide the images with label maps that an exported bundle's ``configs/train.json`` trains on.

They come as a list of ``{"image": file, "label": file}``, as MONAI Label and MONAI's federated learning give it, in any
format of :data:`medpos.predict.inputs.FORMATS`, or from a prepared folder.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medpos.core.errors import InputError
from medpos.data.cached import CachedDataset
from medpos.data.folder import DataFolder
from medpos.data.schema import MANIFEST
from medpos.data.training_data import TrainingData
from medpos.io import labels
from medpos.io.scan import Array
from medpos.predict import inputs
from medpos.predict.loading import ImageRequirements, LoadedImage, load_image
from medpos.predict.orientation import find_orientation

logger = logging.getLogger(__name__)

Case = dict[str, Any]
_MAPS = ("label", "instances")


@dataclass(frozen=True)
class LabeledSource(TrainingData):
    """Describe the data that a network was trained on, and list the cases of a prepared folder to train it further.

    Args:
        folder: prepared folder of the same classes; may be missing where lists of images are given.
    """

    folder: str = ""

    @property
    def is_prepared(self) -> bool:
        """Whether there is a prepared folder."""
        return (Path(self.folder) / MANIFEST).is_file()

    @property
    def sha256(self) -> str:
        """SHA-256 of the prepared folder's ``dataset.json``; empty without one."""
        return DataFolder(self.folder).sha256 if self.is_prepared else ""

    @property
    def nominal_spacing(self) -> bool:
        """Whether the pixel size of the prepared folder is nominal."""
        return DataFolder(self.folder).nominal_spacing

    @property
    def warnings(self) -> list[str]:
        """What is implausible in the prepared folder, a line for each."""
        return DataFolder(self.folder).warnings

    @property
    def training_data(self) -> TrainingData:
        """Description of the training data alone, for the run's ``data.json``."""
        names = TrainingData.__dataclass_fields__
        return TrainingData(**{name: getattr(self, name) for name in names})

    def cases(self, split: str, subjects: int | None = None, seed: int = 0) -> list[Case]:
        """Return the cases of a split of the prepared folder; none where there is no folder.

        Args:
            split: ``training``, ``validation`` or ``test``.
            subjects: number of subjects to draw; None keeps all.
            seed: random seed of the draw.

        Raises:
            InputError: the folder has other classes or channels, or too few subjects.
        """
        if not self.is_prepared:
            return []
        folder = DataFolder(self.folder)
        mine, theirs = ([label.name for label in source.labels] for source in (self, folder))
        if mine != theirs or self.channels != tuple(folder.channels):
            raise InputError(
                f"{folder.path}: expected the classes {', '.join(mine)} of images of {', '.join(self.channels)}, got "
                f"{', '.join(theirs)} of {', '.join(folder.channels)}; give data of the same kind"
            )
        return folder.cases(split, subjects, seed)


class LabeledImages(CachedDataset):
    """Serve images with label maps of any format, as :class:`CachedDataset` serves the cases of a prepared folder.

    Args:
        data: a dictionary for each case: ``image``, a file, the files or the folder of a series, or a file for each
            channel; ``label``, a file; ``case`` and ``subject``, names, may be missing.
        decode: transform of ``image`` [C, X, Y, Z] and ``label`` [1, X, Y, Z] in training orientation and units.
        transform: transform of a copy of the cached item at every access.
        source: description of the network's training data.
        is_flat: whether the network takes single images and no volumes.
        is_absolute: whether the network takes gray values in the units of the training set.
        otherwise: cases in place of an empty ``data``, for a validation without cases of its own.
        **options: further arguments of :class:`CachedDataset`.

    Raises:
        InputError: there is no case, or one has no image or label; a file can't be used (on first use).
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        decode: Callable[[Case], Case],
        transform: Callable[[Case], Case],
        source: TrainingData,
        is_flat: bool,
        is_absolute: bool,
        otherwise: Sequence[Mapping[str, Any]] = (),
        **options: Any,
    ) -> None:
        if not data and otherwise:
            logger.warning("no cases of its own to validate on: validating on the training cases, which flatters")
        given = list(data or otherwise)
        if not given:
            raise InputError(
                "expected images with label maps as train#dataset#data, [{'image': FILE, 'label': FILE}, ...], or a "
                f"prepared folder (with {MANIFEST}) as --dataset_dir, got neither; give one of them"
            )
        super().__init__([_complete(case, n, source) for n, case in enumerate(given, 1)], decode, transform, **options)
        self.requirements = ImageRequirements(source, is_flat, is_absolute)

    def _depth(self, number: int) -> int:
        return int(self._case(number)["image"].shape[3])

    def _read(self, case: Case) -> tuple[Case, Sequence[int], Sequence[float]]:
        found = load_image(inputs.identify_case(_list_files(case["image"])), self.requirements)
        values = np.moveaxis(found.values, 3, 0) if found.values.ndim == 4 else found.values[None]
        item = {"image": torch.from_numpy(np.ascontiguousarray(values, np.float32))}
        for key in _MAPS:
            if key in case:
                labels = _read_map(Path(case[key]), found, self.requirements.data)
                item[key] = torch.from_numpy(np.ascontiguousarray(labels[None]))
        _check_classes(Path(case["label"]), item["label"], case)
        spacing = case.get("spacing_mm") or found.spacing_mm
        decoded = self.decode_item(item, spacing if case.get("has_spacing", True) else None, case["image"])
        return decoded, values.shape[1:], spacing or (1.0, 1.0, 1.0)


def _complete(case: Mapping[str, Any], number: int, source: TrainingData) -> Case:
    """Add what a case of a list lacks; names are numbers, because file names may name a patient."""
    if missing := [key for key in ("image", "label") if not case.get(key)]:
        raise InputError(f"case {number} of the list: expected image and label, got no {missing[0]}; add it")
    name = f"case-{number}"
    usual = {"case": name, "subject": case.get("case", name), "split": "training", "ignore_index": None}
    return {**usual, **case, "classes": len(source.labels), "channels": len(source.channels)}


def _list_files(given: Any) -> list[Path]:
    """List the files of an image; those of a folder are a series."""
    paths = [Path(given)] if isinstance(given, str | Path) else [Path(path) for path in given]
    if len(paths) == 1 and paths[0].is_dir():
        return sorted(path for path in paths[0].iterdir() if path.is_file() and not path.name.startswith("."))
    return paths


def _read_map(path: Path, image: LoadedImage, data: TrainingData) -> Array:
    """Read a label map [X, Y, Z] in training orientation: that of its own header, or of the image where it has none."""
    values, scan = labels.read_label_map(path)
    orientation = image.orientation
    if scan is not None and scan.directions is not None and scan.has_patient_axes == image.scan.has_patient_axes:
        spacing = scan.spacing_mm or (1.0, 1.0, 1.0)
        orientation = find_orientation(scan.directions, values.shape[:3], spacing, data, scan.has_patient_axes)
    oriented: Array = orientation.apply(values.astype(np.int64))
    if oriented.shape != image.values.shape[:3]:
        sizes = [" x ".join(map(str, shape[:3])) for shape in (image.values.shape, oriented.shape)]
        raise InputError(f"{path}: expected a label map of {sizes[0]} like its image, got {sizes[1]}; save it again")
    return oriented


def _check_classes(path: Path, label: torch.Tensor, case: Case) -> None:
    values = label if case["ignore_index"] is None else label[label != case["ignore_index"]]
    wrong = values[(values < 0) | (values >= case["classes"])]
    if wrong.numel():
        raise InputError(
            f"{path}: expected labels 0 to {case['classes'] - 1}, got {int(wrong[0])}; give each class its number in "
            "configs/metadata.json"
        )
