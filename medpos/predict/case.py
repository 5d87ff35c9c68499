"""Segment one case, from its files to its results."""

import logging
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medpos.core.errors import InputError
from medpos.io.scan import Array, Pixels, Scan, Target
from medpos.io.targets import choose_target
from medpos.predict import measurements, records
from medpos.predict.ensemble import Ensemble, Prediction
from medpos.predict.inputs import PROBABILITIES, UNSURE, CaseFiles
from medpos.predict.label_maps import compute_label_map, compute_probability_map, resample_plane
from medpos.predict.loading import LoadedImage, load_image
from medpos.predict.overlays import write_overlay
from medpos.predict.records import Options
from medpos.trust.evidence import Evidence, Floats
from medpos.trust.light import Light
from medpos.trust.uncertainty import Uncertainty, count_levels

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


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Hold a segmented case in training orientation.

    Args:
        labels: label map [X, Y, Z].
        probabilities: probabilities [X, Y, Z, classes], float32, if they are wanted.
        uncertainty: how unsure the prediction is, if that is wanted.
        light: whether the image is like those of the training; None where the run has no detectors.
        dice: predicted Dice of each organ, [organs], by predictor; empty where the run can't predict it.
    """

    labels: Pixels
    probabilities: Array | None = None
    uncertainty: Uncertainty | None = None
    light: Light | None = None
    dice: Mapping[str, Floats] = field(default_factory=dict)

    def maps(self) -> dict[str, Array]:
        """Return the maps to write beside the label map, by the end of their names."""
        found = {} if self.probabilities is None else {PROBABILITIES: self.probabilities}
        return (
            found if self.uncertainty is None else {**found, **dict(zip(UNSURE, self.uncertainty.maps, strict=False))}
        )


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

    def segment(self, prepared: PreparedCase) -> Segmentation:
        """Segment a prepared case, a number of slices at a time, and give it its light.

        Raises:
            InputError: the run's preprocessing changes the number of slices.
        """
        x, y, z = prepared.image.values.shape[:3]
        classes, options = len(self.ensemble.labels), self.options
        labels = np.empty((x, y, z), np.uint8)
        whole = np.empty((x, y, z, classes), np.float32) if options.probabilities else None
        unsure = Uncertainty.empty((x, y, z), classes, self.ensemble.count > 1) if options.uncertainty else None
        light = self.ensemble.light
        evidence = None if light is None else light.begin()
        signs = None if self.ensemble.dice_fit is None else self.ensemble.begin_signs()
        for first in range(0, z, prepared.depth):
            part = slice(first, min(first + prepared.depth, z))
            found = self._segment_part(prepared, part, evidence)
            probabilities = found.probabilities
            shape = (x, y, part.stop - first)
            if probabilities.ndim == 4 and probabilities.shape[3] != shape[2]:
                raise InputError(
                    f"expected {shape[2]} slices from the run's preprocessing, as in the file, got "
                    f"{probabilities.shape[3]}; give a run that keeps the slices"
                )
            labels[:, :, part] = compute_label_map(found.for_labels, shape)
            if whole is not None:
                whole[:, :, part] = compute_probability_map(probabilities, shape)
            if unsure is not None:
                add_uncertainty(unsure, part, found)
            if signs is not None:
                signs.add(found.for_labels, found.parts)
        judged = None if light is None or evidence is None else light.judge(evidence)
        return Segmentation(labels, whole, unsure, judged, {} if signs is None else self.ensemble.predict_dice(signs))

    def _segment_part(self, prepared: PreparedCase, part: slice, evidence: Evidence | None) -> Prediction:
        """Predict some slices on the network's grid."""
        if prepared.decoded is not None:
            return self.ensemble.segment(prepared.decoded, prepared.sizes, evidence)
        first = max(part.start - self.ensemble.margin, 0)
        image = prepared.image
        decoded = self.ensemble.decode(image.values[:, :, first : part.stop + self.ensemble.margin], image.spacing_mm)
        found = self.ensemble.segment(decoded, prepared.sizes, evidence)
        return found.cut(slice(part.start - first, part.stop - first))

    def write(self, source: CaseFiles, prepared: PreparedCase, found: Segmentation) -> None:
        """Write the results of a case: label map, other maps, overlay, and last the record that completes it.

        Args:
            source: files of the case.
            prepared: the case, prepared.
            found: the case, segmented.

        Raises:
            InputError: the folder can't be written to.
        """
        ensemble, out, image = self.ensemble, self.out, prepared.image
        labels, values, back = ensemble.labels, found.labels, image.orientation.undo
        target = self._choose_target(image.scan)
        files = [target.write(out / source.name, back(values), labels)]
        files += [target.write_values(out / f"{source.name}{end}", back(map)) for end, map in found.maps().items()]
        if self.options.overlays:
            files.append(out / "overlays" / f"{source.name}.png")
            lines = [source.name, PHANTOM] if ensemble.phantom else [source.name]
            gray = image.values if image.values.ndim == 3 else image.values[..., 0]
            write_overlay(files[-1], gray, values, labels, lines)
        measured: list[dict[str, Any]] = measurements.measure_organs(values, image.spacing_mm, labels)
        if found.uncertainty is not None:
            measured += found.uncertainty.measure(values, image.spacing_mm, [label.name for label in labels])
        measured += measurements.tabulate_predicted_dice(found.dice, labels)
        late = [note for note in image.scan.notes if note not in image.notes]  # of the writer
        notes = image.notes + late + measurements.find_label_warnings(values, image.spacing_mm, labels)
        notes += measurements.find_dice_warnings(found.dice, labels)
        records.write(out, source, files, measured, notes, found.light)

    def _choose_target(self, scan: Scan) -> Target:
        given = self.options.spacing_mm if scan.spacing_mm is None else None
        return choose_target(scan.target, self.options.format, scan.values.shape[:3], given)


def add_uncertainty(unsure: Uncertainty, part: slice, found: Prediction) -> None:
    """Add some slices of a case to its uncertainty, on the image's grid.

    Args:
        unsure: uncertainty of the case.
        part: the slices.
        found: their prediction, on the network's grid.
    """
    maps, plane = found.uncertainty(), unsure.maps.shape[1:3]
    for z in range(part.stop - part.start):
        for n in range(len(maps)):
            unsure.maps[n, :, :, part.start + z] = resample_plane(maps, n, z, plane).numpy()
        for index in range(len(unsure.levels)):
            unsure.levels[index] += count_levels(resample_plane(found.probabilities, index, z, plane))


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
