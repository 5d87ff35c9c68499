"""From a file to grey values as the network's training had them: orientation, units, and what is odd about them."""

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
    """What a network takes.

    Args:
        data: what it was trained on.
        is_flat: single images, no volumes.
        is_absolute: grey values in the units of the training set, not on each image's own range.
    """

    data: TrainingData
    is_flat: bool
    is_absolute: bool


@dataclass(eq=False)
class LoadedImage:
    """An image as it would have stood in training.

    Args:
        scan: as it was read.
        orientation: how its axes were turned.
        values: float32 [X, Y, Z(, C)] as in training, in its units.
        spacing_mm: along those axes; None: unknown.
        notes: what is odd, a line each.
    """

    scan: Scan
    orientation: Orientation
    values: Array
    spacing_mm: tuple[float, float, float] | None
    notes: list[str]


def load_image(
    source: CaseFiles,
    wanted: ImageRequirements,
    force: bool = False,
    window: tuple[float, float] | None = None,
    spacing_mm: tuple[float, ...] | None = None,
) -> LoadedImage:
    """Read a case and turn it upright.

    Args:
        source: which.
        wanted: by the network.
        force: take images that look wrong.
        window: grey values of the file that are black and white, in place of its format's.
        spacing_mm: in place of the file's, where that says nothing; along its axes.

    Raises:
        InputError: it can't be used.
    """
    data = wanted.data
    scan = inputs.read_case(source, dicom.MODALITIES.get(data.name, ()), force, data.channels)
    spacing = scan.spacing_mm
    if spacing is None and spacing_mm is not None:
        x, y, z = (*spacing_mm, 1.0)[:3]
        spacing = (x, y, z)
    shape = scan.values.shape[:3]
    orientation = find_orientation(scan.directions, shape, spacing or (1.0, 1.0, 1.0), data, scan.is_true)
    values = orientation.apply(scan.values)
    if wanted.is_flat and values.shape[2] != 1:
        raise InputError(
            f"{source.files[0]}: is a volume of {values.shape[2]} slices, the network takes single images; give them "
            "one by one"
        )
    notes = list(scan.notes)
    if is_other_plane(scan.directions, orientation, data):
        notes.append("its header says another plane than the training's: looked at as it would hang on a screen")
    if wanted.is_absolute:
        values = _in_training_units(values, window or scan.grey_range, data.intensity)
        notes += measurements.find_intensity_warnings(values, data)
    mm = None if spacing is None else orientation.reorder(spacing)
    return LoadedImage(scan, orientation, values, mm, notes)


def _in_training_units(values: Array, ends: tuple[float, float] | None, intensity: dict[str, float]) -> Array:
    if ends is None:
        return values
    low, high = intensity["low"], intensity["high"]
    scaled: Array = (values - ends[0]) * ((high - low) / (ends[1] - ends[0])) + low
    return scaled
