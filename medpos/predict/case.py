"""Segment one case, from its files to its results."""

import logging
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from medpos.core.errors import InputError
from medpos.io.scan import Pixels, Scan, Target
from medpos.io.targets import choose_target
from medpos.predict import measurements, records
from medpos.predict.ensemble import Ensemble
from medpos.predict.inputs import CaseFiles
from medpos.predict.label_maps import compute_label_map, compute_probability_map
from medpos.predict.loading import LoadedImage, load_image
from medpos.predict.overlays import write_overlay
from medpos.predict.records import Options

logger = logging.getLogger(__name__)

PHANTOM = "network trained on PHANTOMS: not fit for patients"


@dataclass(eq=False)
class PreparedCase:
    """Hold a case that is ready for the network.

    Args:
        image: image in training orientation and units.
        decoded: image on the grid of each member of the ensemble, [C, x, y] or [C, x, y, z].
    """

    image: LoadedImage
    decoded: list[torch.Tensor]


@dataclass(frozen=True)
class Pipeline:
    """Load, segment and write cases; a pipeline can be pickled for another machine that sees the same folders.

    Args:
        ensemble: model or models.
        out: folder of the results.
        options: the user's choices.
    """

    ensemble: Ensemble
    out: Path
    options: Options

    def load(self, source: CaseFiles) -> PreparedCase:
        """Read a case and resample it to the network's grid.

        Args:
            source: files of the case.

        Raises:
            InputError: the case can't be used.
        """
        requirements, options = self.ensemble.models[0].requirements, self.options
        image = load_image(source, requirements, options.force, options.window, options.spacing_mm)
        return PreparedCase(image, self.ensemble.decode(image.values))

    def segment(self, prepared: PreparedCase) -> tuple[Pixels, torch.Tensor]:
        """Segment a prepared case.

        Returns:
            Label map [X, Y, Z] of the image in training orientation, and probabilities [classes, x, y(, z)] on the
            network's grid.

        Raises:
            InputError: the run's preprocessing changes the number of slices.
        """
        shape = prepared.image.values.shape[:3]
        probabilities = self.ensemble.probabilities(prepared.decoded)
        if probabilities.ndim == 4 and probabilities.shape[3] != shape[2]:
            raise InputError(
                f"expected {shape[2]} slices from the run's preprocessing, as in the file, got "
                f"{probabilities.shape[3]}; give a run that keeps the slices"
            )
        return compute_label_map(probabilities, shape), probabilities

    def write(self, source: CaseFiles, prepared: PreparedCase, values: Pixels, probabilities: torch.Tensor) -> None:
        """Write the results of a case: label map, probabilities, overlay, and last the record that completes it.

        Args:
            source: files of the case.
            prepared: the case, prepared.
            values: label map [X, Y, Z] in training orientation.
            probabilities: probabilities [classes, x, y(, z)] on the network's grid.

        Raises:
            InputError: the folder can't be written to.
        """
        ensemble, out, image = self.ensemble, self.out, prepared.image
        labels, back = ensemble.labels, image.orientation.undo
        target = self._choose_target(image.scan)
        files = [target.write(out / source.name, back(values), labels)]
        if self.options.probabilities:
            whole = back(compute_probability_map(probabilities, values.shape))
            files.append(target.write_probabilities(out / f"{source.name}_probabilities", whole))
        if self.options.overlays:
            files.append(out / "overlays" / f"{source.name}.png")
            lines = [source.name, PHANTOM] if ensemble.phantom else [source.name]
            grey = image.values if image.values.ndim == 3 else image.values[..., 0]
            write_overlay(files[-1], grey, values, labels, lines)
        measured: list[dict[str, Any]] = measurements.measure_organs(values, image.spacing_mm, labels)
        late = [note for note in image.scan.notes if note not in image.notes]  # of the writer
        found = image.notes + late + measurements.find_label_warnings(values, image.spacing_mm, labels)
        records.write(out, source, files, measured, found)

    def _choose_target(self, scan: Scan) -> Target:
        given = self.options.spacing_mm if scan.spacing_mm is None else None
        return choose_target(scan.target, self.options.format, scan.values.shape[:3], given)


def describe_failure(source: CaseFiles, error: Exception) -> str:
    """Describe why a case could not be segmented, in a line that names its file and quotes no header."""
    if isinstance(error, InputError):
        text = str(error)
        for path, shown in zip(source.files, source.shown, strict=False):
            text = text.replace(str(path), str(shown))
        places = source.shown or source.files
        titles = source.titles or [str(part) for path in places for part in (path, path.parent)]
        return text if any(title in text for title in titles) else f"{source.title}: {text}"
    # Without the message, which may quote a header or a path.
    logger.debug("%s: %s\n%s", source.name, type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))
    return f"{source.title}: could not be segmented ({type(error).__name__}); look at the file, or leave it out"
