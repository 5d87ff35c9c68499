"""Prepare custom data: cases of image files and a label map with declared classes."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from data_prep.files import Array, lock_folder, notes_of
from data_prep.layout import Case, Dataset, Volume, prepare_dataset
from data_prep.pictures import read_image, read_label
from medpos.core.errors import InputError
from medpos.core.labels import BACKGROUND, labels_of
from medpos.core.names import find_faults
from medpos.data.declared_classes import normalize_name
from medpos.data.schema import ASSUMED, HEADER, is_phantom
from medpos.io import labels, pictures
from medpos.io.archives import Unpacker, is_zip
from medpos.io.scan import StoredVolume, are_one_grid
from medpos.io.volumes import list_parts
from medpos.io.walk import LeftOut

WEIGHTS = (7, 1, 2)
# Names of published data sets that verify and the reports treat specially.
_RESERVED = ("jsrt", "acdc")
_UNPLACED = "either the image or the label map states no directions: both are taken as being on one grid"
_MAX_CLASSES = 255  # label maps are stored as uint8


@dataclass(frozen=True)
class Options:
    """Hold the options of every kind of custom data.

    Args:
        name: name of the data set; if empty, the folder's name.
        subject: regular expression that finds the person in a case's name (its first group, if any); if empty, every
            case is a person of its own.
        seed: random seed of the split.
        workers: number of processes.
        strict: whether what is implausible is an error.
    """

    name: str = ""
    subject: str = ""
    seed: int = 0
    workers: int = 1
    strict: bool = False


@dataclass(frozen=True)
class Files:
    """Name the files of one case: one image with all channels or one per channel, and the label map."""

    case: str
    images: tuple[Path, ...]
    label: Path


def prepare_custom(
    source: Path,
    out: Path,
    files: Sequence[Files],
    classes: Mapping[int, str],
    channels: Sequence[str],
    options: Options,
) -> str:
    """Prepare a custom data set.

    Args:
        source: folder or ZIP file of the raw data, as the user names it.
        out: uniform folder.
        files: files of each case.
        classes: names of the foreground classes by their values in the label maps, any integers but 0.
        channels: names of the image's channels, at least one.
        options: options that the user gives.

    Returns:
        One line that says what was done.

    Raises:
        InputError: a name or class is invalid, or a case can't be read.
    """
    name = _name(options.name or (source.stem if is_zip(source) else source.resolve().name))
    names = _class_names(classes)
    values = {str(value): index for index, value in enumerate(sorted(classes), 1)}
    named = labels_of(names[value] for value in sorted(classes))
    _check_channels(channels)
    cases = [_case(entry, options.subject, {"values": values, "channels": len(channels)}) for entry in files]
    description = f"{len(cases)} images with {len(named) - 1} classes, brought by the user."
    phantom = is_phantom(source) or is_phantom(files[0].images[0].parent)  # it may lie in the ZIP file, or beside it
    has_pictures = any(pictures.is_picture(path) for entry in files for path in entry.images)  # which state no size
    spacing = ASSUMED if has_pictures else HEADER
    dataset = Dataset(name, description, named, WEIGHTS, None, phantom, tuple(channels), spacing=spacing)
    return prepare_dataset(dataset, cases, out, options.seed, options.workers, options.strict)


@contextmanager
def open_sources(out: Path, left_out: LeftOut, *sources: Path) -> Iterator[list[Path]]:
    """Yield sources as folders: the files of a ZIP file are unpacked beside the results until the end of the block.

    Args:
        out: uniform folder.
        left_out: record to which links in ZIP files are added.
        *sources: folders and ZIP files.

    Raises:
        InputError: a source is another file, or a ZIP file that can't be unpacked.
    """
    for source in sources:
        if source.is_file() and not is_zip(source):
            raise InputError(
                f"{source}: expected a folder or a ZIP file, got another file; unpack it, and give the folder."
            )
    if not any(map(is_zip, sources)):
        yield list(sources)
        return
    with lock_folder(out), Unpacker(out, left_out) as unpacker:
        yield [unpacker.open_folder(source) for source in sources]


def describe(done: str, left_out: LeftOut) -> str:
    """Return a line that says what was done, and lines about the files that were left out."""
    return "\n".join([done, *(f"left out: {line}" for line in left_out.describe())])


def _name(name: str) -> str:
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_.-")
    if not name or name.lower() in _RESERVED:
        raise InputError(
            f"--name: expected letters and digits, not {' or '.join(_RESERVED)}, got {name!r}; give another name."
        )
    return name


def _class_names(classes: Mapping[int, str]) -> dict[int, str]:
    """Normalize class names for tables and TensorBoard: lower case, underscores."""
    if not 1 <= len(classes) <= _MAX_CLASSES or 0 in classes:
        raise InputError(f"--label: expected 1 to {_MAX_CLASSES} classes besides background, got {len(classes)}.")
    names = {value: normalize_name(name) for value, name in classes.items()}
    for value, name in names.items():
        if not name or name == BACKGROUND.name:
            raise InputError(f"class {value}: expected a name of letters and digits, got {classes[value]!r}.")
        if list(names.values()).count(name) > 1:
            raise InputError(f"two classes are called {name!r}; give each a name of its own.")
    return names


def _check_channels(channels: Sequence[str]) -> None:
    faults = find_faults("channel", channels) if channels else ["expected a name for each channel, got none"]
    if faults:
        raise InputError(f"--channel: {faults[0]}; rename it.")


def _case(files: Files, pattern: str, options: dict[str, Any]) -> Case:
    several = len(files.images) > 1
    images = {f"image_{n:04d}" if several else "image": path for n, path in enumerate(files.images)}
    sources = {**images, "label": files.label}
    parts = {f"{role}_data_{n:04d}": part for role, path in sources.items() for n, part in enumerate(list_parts(path))}
    return Case(files.case, _subject(files, pattern), {**sources, **parts}, read_case, options)


def _subject(files: Files, pattern: str) -> str:
    if not pattern:
        return files.case
    try:
        found = re.search(pattern, files.case)
    except re.error as error:
        raise InputError(
            f"--subject {pattern!r}: expected a regular expression such as '^patient[0-9]+' ({error})."
        ) from error
    subject = found and (found.group(1) if found.re.groups else found.group())
    if not subject:
        raise InputError(f"--subject {pattern!r}: matches nothing in the case name {files.case!r} ({files.images[0]}).")
    return subject


def read_case(case: Case) -> Volume:
    """Read one case.

    Returns:
        Image (X, Y, Z), or (X, Y, Z, C) for C > 1 channels; label (X, Y, Z) uint8, classes counted from 1.

    Raises:
        InputError: a file can't be read, image and label map differ in geometry, or a label value isn't declared.
    """
    paths = [path for role, path in case.sources.items() if role != "label" and "_data_" not in role]
    label_path, channels = case.sources["label"], case.options["channels"]
    images = [read_image(path, channels if len(paths) == 1 else 1) for path in paths]
    label = read_label(label_path)
    for path, image in zip(paths[1:], images[1:], strict=True):
        _check_grid(path, image, paths[0], images[0])
    _check_grid(label_path, label, paths[0], images[0])
    data = images[0].data if len(images) == 1 else np.stack([image.data for image in images], axis=-1)
    classes = _classes(label_path, label.data, case.options["values"])
    affine = images[0].affine
    if label.is_oriented != images[0].is_oriented:
        label = replace(label, notes=(*label.notes, _UNPLACED))
    details = {"axes": "".join(nib.aff2axcodes(affine)), **notes_of(*images, label)}
    return Volume(data, classes, affine, images[0].spacing, details)


def _check_grid(path: Path, found: StoredVolume, image_path: Path, image: StoredVolume) -> None:
    """Check that a label map, or a further channel, has the image's grid."""
    if found.data.shape != image.data.shape[:3]:
        sizes = " and ".join(" x ".join(map(str, shape)) for shape in (found.data.shape, image.data.shape[:3]))
        raise InputError(f"{path}: differs in size from its image {image_path} ({sizes}); export both again.")
    if pictures.is_picture(path) or pictures.is_picture(image_path):
        return  # they state neither
    if found.is_oriented != image.is_oriented:  # one states its spacing alone, such as Analyze
        if not np.allclose(found.spacing, image.spacing, rtol=1e-3):
            sizes = " and ".join(" x ".join(f"{size:g}" for size in each.spacing) for each in (found, image))
            raise InputError(
                f"{path}: expected the spacing of {image_path.name}, got another ({sizes}); export both again."
            )
    elif not are_one_grid(found.affine, image.affine, found.data.shape):
        raise InputError(f"{path}: expected the affine of {image_path.name}, got another; correct its header.")


def _classes(path: Path, label: Array, values: Mapping[str, int]) -> Array:
    """Map the values of a label map to class indices."""
    found = labels.find_values(label)
    unknown = [value for value in found.tolist() if value != 0 and f"{value:.17g}" not in values]
    if unknown:
        more = "" if len(unknown) <= 5 else f" and {len(unknown) - 5} more"
        raise InputError(
            f"{path}: expected label values 0, {', '.join(values)}, got "
            f"{', '.join(f'{value:g}' for value in unknown[:5])}{more}; declare them, or check that this is the "
            "label map and not the image."
        )
    return labels.to_indices(label, found, {value: values.get(str(int(value)), 0) for value in found.tolist()})
