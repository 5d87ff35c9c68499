"""Load an image in training orientation and units, with notes on what looks wrong."""

from dataclasses import dataclass

from medpos.core.errors import InputError
from medpos.data.training_data import TrainingData
from medpos.io import dicom
from medpos.io.scan import Array, Scan
from medpos.predict import inputs, measurements
from medpos.predict.inputs import CaseFiles
from medpos.predict.orientation import Orientation, find_orientation, is_other_plane


@dataclass(frozen=True)
class ImageRequirements:
    """Describe the images that a network takes.

    Args:
        data: description of the training data.
        is_flat: whether it takes single images and no volumes.
        is_absolute: whether it takes gray values in the units of the training set, rather than on each image's range.
    """

    data: TrainingData
    is_flat: bool
    is_absolute: bool


@dataclass(eq=False)
class LoadedImage:
    """Hold an image in training orientation and units.

    Args:
        scan: image as it was read.
        orientation: order and direction of the file's axes.
        values: values [X, Y, Z(, C)] in training orientation and units, float32.
        spacing_mm: spacing along X, Y and Z in mm; None: unknown.
        notes: remarks on what looks wrong, one per line.
    """

    scan: Scan
    orientation: Orientation
    values: Array
    spacing_mm: tuple[float, float, float] | None
    notes: list[str]


def load_image(
    source: CaseFiles,
    requirements: ImageRequirements,
    force: bool = False,
    window: tuple[float, float] | None = None,
    spacing_mm: tuple[float, ...] | None = None,
) -> LoadedImage:
    """Load a case in training orientation and units.

    Args:
        source: files of the case.
        requirements: images that the network takes.
        force: whether to accept images that look wrong.
        window: gray values of the file that are black and white; those of its format if omitted.
        spacing_mm: spacing along the file's axes in mm, for files without spacing.

    Raises:
        InputError: the case can't be used.
    """
    data = requirements.data
    scan = inputs.read_case(source, dicom.MODALITIES.get(data.name, ()), force, data.channels)
    spacing = scan.spacing_mm
    if spacing is None and spacing_mm is not None:
        x, y, z = (*spacing_mm, 1.0)[:3]
        spacing = (x, y, z)
    shape = scan.values.shape[:3]
    orientation = find_orientation(scan.directions, shape, spacing or (1.0, 1.0, 1.0), data, scan.has_patient_axes)
    values = orientation.apply(scan.values)
    if requirements.is_flat and values.shape[2] != 1:
        raise InputError(
            f"{source.title}: expected a single image, as the network takes, got a volume of {values.shape[2]} "
            "slices; give the slices one by one"
        )
    notes = [*source.notes, *scan.notes]
    if is_other_plane(scan.directions, orientation, data):
        notes.append("the header names another plane than the training data: oriented as on a screen")
    if requirements.is_absolute:
        values = _in_training_units(values, window or scan.gray_range, data.intensity)
        notes += [] if window else scan.gray_notes
        notes += measurements.find_intensity_warnings(values, data)
    mm = None if spacing is None else orientation.reorder(spacing)
    return LoadedImage(scan, orientation, values, mm, notes)


def _in_training_units(values: Array, ends: tuple[float, float] | None, intensity: dict[str, float]) -> Array:
    if ends is None:
        return values
    low, high = intensity["low"], intensity["high"]
    scaled = values if values.flags.writeable else values.copy()  # in place: a second copy may not fit into memory
    scaled -= ends[0]
    scaled *= (high - low) / (ends[1] - ends[0])
    scaled += low
    return scaled
