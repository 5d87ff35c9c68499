"""Segment one case, from its files to its results."""

import logging
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medpos.core.errors import InputError
from medpos.io.scan import Array, Pixels, Scan, Target
from medpos.io.targets import choose_target
from medpos.predict import measurements, records
from medpos.predict.ensemble import Ensemble
from medpos.predict.inputs import CaseFiles
from medpos.predict.label_maps import compute_label_map, compute_probability_map
from medpos.predict.loading import LoadedImage, load_image
from medpos.predict.overlays import write_overlay
from medpos.predict.records import Options

# Values of 4 bytes, 64 MB, of one copy of the part of an image that is computed at a time; there are a dozen copies.
_PART = 1 << 24
_BATCH = 8  # slices that an inferer takes at a time
logger = logging.getLogger(__name__)

PHANTOM = "network trained on PHANTOMS: not fit for patients"


@dataclass(eq=False)
class PreparedCase:
    """Hold a case that is ready for the network.

    Args:
        image: image in training orientation and units.
        depth: number of slices to compute at a time.
        decoded: image on the grid of each member of the ensemble, [C, x, y] or [C, x, y, z]; None: decoded in parts.
        sizes: X and Y of the image at the pixel size of each member, in pixels; None where it resizes images.
    """

    image: LoadedImage
    depth: int
    decoded: list[torch.Tensor] | None
    sizes: list[tuple[int, int] | None]

    @property
    def is_large(self) -> bool:
        """Whether no other case should be loaded beside it."""
        return self.decoded is None or self.image.values.size > _PART


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
            InputError: the case can't be used, such as one without the pixel size that a member needs.
        """
        requirements, options = self.ensemble.models[0].requirements, self.options
        image = load_image(source, requirements, options.force, options.window, options.spacing_mm)
        shape = image.values.shape[:3]
        sizes = self.ensemble.find_sizes(shape[:2], image.spacing_mm)
        image.notes.extend(self.ensemble.find_cropped(sizes))
        depth = self._choose_depth(shape, sizes)
        decoded = self.ensemble.decode(image.values, image.spacing_mm) if depth == shape[2] else None
        return PreparedCase(image, depth, decoded, sizes)

    def _choose_depth(self, shape: Sequence[int], sizes: Sequence[tuple[int, int] | None]) -> int:
        """Return the number of slices to compute at a time: all, or whole batches of an inferer if memory is short."""
        fitting = max(1, _PART // self.ensemble.count_values(shape[:2], sizes))
        if fitting >= shape[2] or not self.ensemble.takes_slices:
            return shape[2]
        return max(fitting // _BATCH * _BATCH, min(fitting, _BATCH))

    def segment(self, prepared: PreparedCase) -> tuple[Pixels, Array | None]:
        """Segment a prepared case, a number of slices at a time.

        Returns:
            Label map [X, Y, Z] of the image in training orientation, and probabilities [X, Y, Z, classes], float32, if
            they are wanted.

        Raises:
            InputError: the run's preprocessing changes the number of slices.
        """
        x, y, z = prepared.image.values.shape[:3]
        labels = np.empty((x, y, z), np.uint8)
        whole = np.empty((x, y, z, len(self.ensemble.labels)), np.float32) if self.options.probabilities else None
        for first in range(0, z, prepared.depth):
            part = slice(first, min(first + prepared.depth, z))
            for_labels, probabilities = self._segment_part(prepared, part)
            shape = (x, y, part.stop - first)
            if probabilities.ndim == 4 and probabilities.shape[3] != shape[2]:
                raise InputError(
                    f"expected {shape[2]} slices from the run's preprocessing, as in the file, got "
                    f"{probabilities.shape[3]}; give a run that keeps the slices"
                )
            labels[:, :, part] = compute_label_map(for_labels, shape)
            if whole is not None:
                whole[:, :, part] = compute_probability_map(probabilities, shape)
        return labels, whole

    def _segment_part(self, prepared: PreparedCase, part: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the probabilities [classes, x, y(, z)] of some slices on the network's grid, as the ensemble does."""
        if prepared.decoded is not None:
            return self.ensemble.segment(prepared.decoded, prepared.sizes)
        first = max(part.start - self.ensemble.margin, 0)
        image = prepared.image
        decoded = self.ensemble.decode(image.values[:, :, first : part.stop + self.ensemble.margin], image.spacing_mm)
        for_labels, probabilities = self.ensemble.segment(decoded, prepared.sizes)
        own = slice(part.start - first, part.stop - first)
        return for_labels[..., own], probabilities[..., own]

    def write(self, source: CaseFiles, prepared: PreparedCase, values: Pixels, probabilities: Array | None) -> None:
        """Write the results of a case: label map, probabilities, overlay, and last the record that completes it.

        Args:
            source: files of the case.
            prepared: the case, prepared.
            values: label map [X, Y, Z] in training orientation.
            probabilities: probabilities [X, Y, Z, classes] to write, if any.

        Raises:
            InputError: the folder can't be written to.
        """
        ensemble, out, image = self.ensemble, self.out, prepared.image
        labels, back = ensemble.labels, image.orientation.undo
        target = self._choose_target(image.scan)
        files = [target.write(out / source.name, back(values), labels)]
        if probabilities is not None:
            files.append(target.write_probabilities(out / f"{source.name}_probabilities", back(probabilities)))
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
