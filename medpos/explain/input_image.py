"""Find, load and crop the image that a run is explained with."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medpos.core.colors import RGB
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

REMEDY = "give one by --image FILE, or the data by --dataset-dir"


@dataclass(frozen=True, eq=False)
class InputImage:
    """Hold the input of a network for one case.

    Args:
        name: name of the case.
        slice: number of the slice of a volume, from 1; None for an image.
        values: input [C, X, Y] of the network, standardized, with its position channels.
        channels: names of the channels in the network's order.
        free: channels of the image, as opposed to its position, bool [C].
    """

    name: str
    slice: int | None
    values: Tensor
    channels: tuple[str, ...]
    free: Tensor

    @property
    def title(self) -> str:
        """Name of the case, with the number of the slice."""
        return self.name if self.slice is None else f"{self.name}, slice {self.slice}"

    @property
    def colors(self) -> list[int]:
        """Indices of red, green and blue among the channels; empty for images that aren't in color."""
        return [self.channels.index(c) for c in RGB] if sorted(self.channels) == sorted(RGB) else []

    def crop(self, sides: Sequence[int]) -> "InputImage":
        """Return the middle of the image, mirrored at its edges where it is smaller.

        Args:
            sides: sides X, Y in pixels.
        """
        values = self.values
        for axis, side in enumerate(sides, 1):
            places = mirror_indices((values.shape[axis] - side) // 2, side, values.shape[axis])
            values = values.index_select(axis, places.to(values.device))
        return InputImage(self.name, self.slice, values, self.channels, self.free)


def find_case_files(run: Path, given: str, dataset_dir: Path | None, channels: Sequence[str]) -> CaseFiles:
    """Find the files of the image that the user names.

    Args:
        run: folder of the run.
        given: path of a file, or name of a case of the data; the first test case if empty.
        dataset_dir: prepared data set to use in place of the one the run was trained on.
        channels: names of the image's channels.

    Raises:
        InputError: nothing is given and the data are missing, or ``given`` isn't a file or case, or is several images.
    """
    if given and Path(given).exists():
        found = inputs.find_cases([given], run / "explain", channels)
        if len(found) > 1:
            files = ", ".join(source.title for source in found[:5])
            raise InputError(f"--image {given}: expected one image, got {len(found)}; give one of {files} ...")
        return found[0]
    cases = _list_cases(run, given, dataset_dir)
    chosen = cases[0] if not given else next((case for case in cases if case["case"] == given), None)
    if chosen is None:
        known = ", ".join(case["case"] for case in cases[:8]) + (" ..." if len(cases) > 8 else "")
        raise InputError(f"--image {given}: expected a file or a case of the data, got neither; cases are {known}")
    return CaseFiles(chosen["case"], "volume", (Path(chosen["image"]),))


def _list_cases(run: Path, given: str, dataset_dir: Path | None) -> list[dict[str, Any]]:
    """List all cases of the data, those of the test split first."""
    config = read_run_files(run, dataset_dir).config
    folder = dataset_dir or config.get("data_folder")
    problem = f"--image {given}: is no file" if given else f"{run}: no image is given"
    if not folder:
        raise InputError(f"{problem}, and the run doesn't name its data; {REMEDY}")
    try:
        source = DataFolder(folder, "" if dataset_dir else config.get("fold", ""))
    except InputError as error:
        raise InputError(f"{problem}, and its data can't be read ({error}); {REMEDY}") from error
    cases: list[dict[str, Any]] = []
    for split in reversed(SPLITS):
        with contextlib.suppress(InputError):  # the split is empty
            cases += source.cases(split)
    if not cases:
        raise InputError(f"{problem}, and {folder} has no case; {REMEDY}")
    return cases


def prepare_input_image(model: Model, source: CaseFiles) -> InputImage:
    """Read a case and prepare it as the network's input; of a volume, the middle slice.

    Args:
        model: model of the run.
        source: files of the case.

    Raises:
        InputError: the case can't be used.
    """
    image = load_image(source, model.requirements)
    decoded = model.decode(image.values, image.spacing_mm)
    prepared = model.prepare(decoded)
    own, base = len(model.data.channels), int(prepared.shape[0])
    middle = None if prepared.ndim == 3 else prepared.shape[3] // 2
    values = prepared if middle is None else slice_with_neighbors(prepared, middle, model.slices // 2)
    names = [*_network_order(model, decoded), *position_names(base - own)]
    channels = _repeat_for_slices(names, model.slices)
    free = torch.tensor([place % base < own for place in range(len(channels))])
    number = None if middle is None else middle + 1
    found = InputImage(source.name, number, values.to(model.device, torch.float32), channels, free)
    return found if model.input_shape is None else found.crop(model.input_shape[1:])


def _network_order(model: Model, decoded: Tensor) -> list[str]:
    """Return the names of the image's channels in the network's order: Caffe's weights expect blue first."""
    names = list(model.data.channels)
    ramp = torch.linspace(0, 1, decoded.shape[1]).reshape(-1, *[1] * (decoded.ndim - 2))
    places = []
    for place in range(len(names)):
        probe = torch.zeros_like(decoded)
        probe[place] = ramp
        places.append(int(model.prepare(probe)[: len(names)].flatten(1).std(dim=1).argmax()))
    return [names[places.index(place)] for place in range(len(names))]


def position_names(count: int) -> list[str]:
    """Name position channels.

    Args:
        count: number of position channels.
    """
    return ["position x", "position y"] if count == 2 else [f"position {n}" for n in range(1, count + 1)]


def _repeat_for_slices(names: list[str], slices: int) -> tuple[str, ...]:
    if slices == 1:
        return tuple(names)
    steps = range(-(slices // 2), slices // 2 + 1)
    return tuple(f"{name}, slice {step:+d}" if step else name for step in steps for name in names)
