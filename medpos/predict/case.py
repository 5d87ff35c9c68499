"""One case, from its files to its results."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from medpos.errors import InputError
from medpos.predict import dicom, inputs, measurements, records
from medpos.predict.inputs import Source
from medpos.predict.model import Ensemble, label_map, probability_map
from medpos.predict.orientation import Orientation, find, is_other_plane
from medpos.predict.outputs import write_overlay
from medpos.predict.records import Options
from medpos.predict.scan import Array, Pixels, Scan

logger = logging.getLogger(__name__)

PHANTOM = "network trained on PHANTOMS: not fit for patients"


@dataclass(eq=False)
class Loaded:
    """A case that is ready for the network.

    Args:
        scan: as it was read.
        orientation: from its axes to training's.
        upright: grey values [X, Y, Z(, C)] as in training, in its units.
        spacing_mm: along the axes of ``upright``; None: unknown.
        decoded: on the grid of each member of the ensemble.
        warnings: a line each.
    """

    scan: Scan
    orientation: Orientation
    upright: Array
    spacing_mm: tuple[float, float, float] | None
    decoded: list[torch.Tensor]
    warnings: list[str]


@dataclass(frozen=True)
class Work:
    """What is to be done with every case; it can be sent to another machine that sees the same folders.

    Args:
        ensemble: the network.
        out: folder of the results.
        options: the user's choices.
    """

    ensemble: Ensemble
    out: Path
    options: Options

    def load(self, source: Source) -> Loaded:
        """Read a case and bring it to the network's grid.

        Raises:
            InputError: it can't be used.
        """
        first, options = self.ensemble.models[0], self.options
        data = first.data
        scan = inputs.read(source, dicom.MODALITIES.get(data.name, ()), options.force, data.channels)
        spacing = scan.spacing_mm
        if spacing is None and options.spacing_mm is not None:
            x, y, z = (*options.spacing_mm, 1.0)[:3]
            spacing = (x, y, z)
        shape = scan.values.shape[:3]
        orientation = find(scan.directions, shape, spacing or (1.0, 1.0, 1.0), data, scan.is_true)
        upright = orientation.apply(scan.values)
        if first.is_flat and upright.shape[2] != 1:
            raise InputError(
                f"{source.files[0]}: is a volume of {upright.shape[2]} slices, the network takes single images; give "
                "them one by one"
            )
        notes = list(scan.notes)
        if is_other_plane(scan.directions, orientation, data):
            notes.append("its header says another plane than the training's: looked at as it would hang on a screen")
        if first.is_absolute:
            upright = _in_training_units(upright, options.window or scan.grey_range, data.intensity)
            notes += measurements.intensity_warnings(upright, data)
        mm = None if spacing is None else orientation.reorder(spacing)
        return Loaded(scan, orientation, upright, mm, self.ensemble.decode(upright), notes)

    def segment(self, loaded: Loaded) -> tuple[Pixels, torch.Tensor]:
        """Label map [X, Y, Z] of the upright image, and the probabilities on the network's grid.

        Raises:
            InputError: the network gives another number of slices.
        """
        shape = loaded.upright.shape[:3]
        probabilities = self.ensemble.probabilities(loaded.decoded)
        if probabilities.ndim == 4 and probabilities.shape[3] != shape[2]:
            raise InputError("the run's chain changes the number of slices, so they can't be brought back")
        return label_map(probabilities, shape), probabilities

    def write(self, source: Source, loaded: Loaded, values: Pixels, probabilities: torch.Tensor) -> None:
        """Write the results of a case: label map, probabilities, overlay, and the record that makes it complete.

        Raises:
            InputError: the folder can't be written to.
        """
        ensemble, out = self.ensemble, self.out
        labels, target, back = ensemble.labels, loaded.scan.target, loaded.orientation.undo
        files = [target.write(out / source.name, back(values), labels)]
        if self.options.probabilities:
            whole = back(probability_map(probabilities, values.shape))
            files.append(target.write_probabilities(out / f"{source.name}_probabilities", whole))
        if self.options.overlays:
            files.append(out / "overlays" / f"{source.name}.png")
            lines = [source.name, PHANTOM] if ensemble.phantom else [source.name]
            grey = loaded.upright if loaded.upright.ndim == 3 else loaded.upright[..., 0]
            write_overlay(files[-1], grey, values, labels, lines)
        measured: list[dict[str, Any]] = measurements.measure(values, loaded.spacing_mm, labels)
        found = loaded.warnings + measurements.warnings(values, loaded.spacing_mm, labels)
        records.write(out, source, files, measured, found)


def _in_training_units(values: Array, ends: tuple[float, float] | None, intensity: dict[str, float]) -> Array:
    if ends is None:
        return values
    low, high = intensity["low"], intensity["high"]
    scaled: Array = (values - ends[0]) * ((high - low) / (ends[1] - ends[0])) + low
    return scaled


def reason(source: Source, error: Exception) -> str:
    """Why a case could not be segmented, in a line that names its file and quotes nothing of a header."""
    if isinstance(error, InputError):
        text = str(error)
        named = any(str(path) in text or str(path.parent) in text for path in source.files)
        return text if named else f"{source.files[0]}: {text}"
    logger.debug("%s", source.name, exc_info=error)
    return f"{source.files[0]}: could not be segmented ({type(error).__name__}); look at it, or leave it out"
