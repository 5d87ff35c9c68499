"""The image that a run is looked at with: found, read and cut as the run's network sees it."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medpos.core.errors import InputError
from medpos.data.folder import DataFolder
from medpos.data.schema import SPLITS
from medpos.predict import inputs
from medpos.predict.inputs import CaseFiles
from medpos.predict.loading import load_image
from medpos.predict.model import Model
from medpos.predict.run_files import read_run_files
from medpos.transforms.spatial.crops import mirror_indices
from medpos.transforms.spatial.neighbors import slice_with_neighbors

COLOURS = ("red", "green", "blue")
NEEDED = "give one by --image FILE, or the data by --dataset-dir"


@dataclass(frozen=True, eq=False)
class Subject:
    """What the network sees of a case.

    Args:
        name: of the case.
        slice: of a volume, from 1; None for an image.
        values: [C, X, Y], standardised, with the position channels that the network gets.
        channels: names of the channels, in the order in which the network gets them.
        free: [C], bool: those of the image, not of the position.
    """

    name: str
    slice: int | None
    values: Tensor
    channels: tuple[str, ...]
    free: Tensor

    @property
    def title(self) -> str:
        """The case, and which slice of it."""
        return self.name if self.slice is None else f"{self.name}, slice {self.slice}"

    @property
    def colours(self) -> list[int]:
        """Where red, green and blue stand among the channels; none for other images."""
        return [self.channels.index(c) for c in COLOURS] if sorted(self.channels) == sorted(COLOURS) else []

    def cut(self, sides: Sequence[int]) -> "Subject":
        """The middle of the image, mirrored beyond its edges where it is smaller."""
        values = self.values
        for axis, side in enumerate(sides, 1):
            places = mirror_indices((values.shape[axis] - side) // 2, side, values.shape[axis])
            values = values.index_select(axis, places.to(values.device))
        return Subject(self.name, self.slice, values, self.channels, self.free)


def find(run: Path, given: str, dataset_dir: Path | None, names: Sequence[str]) -> CaseFiles:
    """The file or case that is meant.

    Args:
        run: the run's folder.
        given: a file's name, a case's, or nothing for the first test case.
        dataset_dir: a prepared data set in place of that which the run was trained on.
        names: of the image's channels.

    Raises:
        InputError: nothing is given and the data are not there; neither a file nor a case; more than one image.
    """
    if given and Path(given).exists():
        found = inputs.find_cases([given], run / "explain", names)
        if len(found) > 1:
            cases = ", ".join(str(source.files[0]) for source in found[:5])
            raise InputError(f"--image {given}: holds {len(found)} images, needed is one; give one of {cases} ...")
        return found[0]
    listed = _cases(run, given, dataset_dir)
    chosen = listed[0] if not given else next((case for case in listed if case["case"] == given), None)
    if chosen is None:
        known = ", ".join(case["case"] for case in listed[:8]) + (" ..." if len(listed) > 8 else "")
        raise InputError(f"--image {given}: is neither a file nor a case of the data; cases are {known}")
    return CaseFiles(chosen["case"], "nifti", (Path(chosen["image"]),))


def _cases(run: Path, given: str, dataset_dir: Path | None) -> list[dict[str, Any]]:
    """All cases, those of the test split first."""
    folder = dataset_dir or read_run_files(run, dataset_dir).config.get("data_folder")
    what = f"--image {given}: is no file" if given else f"{run}: no image is given"
    if not folder:
        raise InputError(f"{what}, and the run doesn't say where its data are; {NEEDED}")
    try:
        source = DataFolder(folder)
    except InputError as error:
        raise InputError(f"{what}, and its data can't be read ({error}); {NEEDED}") from error
    listed: list[dict[str, Any]] = []
    for split in reversed(SPLITS):
        with contextlib.suppress(InputError):  # the split is empty
            listed += source.cases(split)
    if not listed:
        raise InputError(f"{what}, and {folder} has no case; {NEEDED}")
    return listed


def look_at(model: Model, source: CaseFiles) -> Subject:
    """Read a case as the run's network sees it; of a volume the middle slice.

    Raises:
        InputError: it can't be used.
    """
    image = load_image(source, model.requirements)
    decoded = model.decode(image.values)
    prepared = model.prepare(decoded)
    own, base = len(model.data.channels), int(prepared.shape[0])
    place = None if prepared.ndim == 3 else prepared.shape[3] // 2
    values = prepared if place is None else slice_with_neighbors(prepared, place, model.slices // 2)
    names = [*_ordered(model, decoded), *position_names(base - own)]
    channels = _of_slices(names, model.slices)
    free = torch.tensor([place % base < own for place in range(len(channels))])
    number = None if place is None else place + 1
    subject = Subject(source.name, number, values.to(model.device, torch.float32), channels, free)
    return subject if model.input_shape is None else subject.cut(model.input_shape[1:])


def _ordered(model: Model, decoded: Tensor) -> list[str]:
    """The image's channels in the order in which the network gets them: Caffe's weights want blue first."""
    names = list(model.data.channels)
    ramp = torch.linspace(0, 1, decoded.shape[1]).reshape(-1, *[1] * (decoded.ndim - 2))
    places = []
    for place in range(len(names)):
        probe = torch.zeros_like(decoded)
        probe[place] = ramp
        places.append(int(model.prepare(probe)[: len(names)].flatten(1).std(dim=1).argmax()))
    return [names[places.index(place)] for place in range(len(names))]


def position_names(count: int) -> list[str]:
    """Of so many position channels."""
    return ["position x", "position y"] if count == 2 else [f"position {n}" for n in range(1, count + 1)]


def _of_slices(names: list[str], slices: int) -> tuple[str, ...]:
    if slices == 1:
        return tuple(names)
    steps = range(-(slices // 2), slices // 2 + 1)
    return tuple(f"{name}, slice {step:+d}" if step else name for step in steps for name in names)
