"""What the readers of the users' own data share: cases of image files and a label map with declared classes."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from data_prep.files import Array, Nifti
from data_prep.layout import Case, Dataset, Volume, prepare
from data_prep.pictures import NIFTI, SUFFIXES, read_image, read_label, suffix_of
from medpos.core.errors import InputError
from medpos.core.files import read_bytes
from medpos.core.labels import BACKGROUND, labels_of
from medpos.data.schema import is_phantom

WEIGHTS = (7, 1, 2)
# verify and the reports know these by name.
_TAKEN = ("jsrt", "acdc")
# Label maps are stored as uint8.
_MOST_CLASSES = 255


@dataclass(frozen=True)
class Options:
    """What the user may say of any data set of theirs.

    Args:
        name: of the data set; the reader's own choice if empty.
        subject: regular expression that finds the person in a case's name (its first group, if it has one); every case
            is a person of its own if empty.
        seed: of the split.
        workers: number of processes.
    """

    name: str = ""
    subject: str = ""
    seed: int = 0
    workers: int = 1


@dataclass(frozen=True)
class Files:
    """The files of one case: an image of all channels, or one of each, and the label map."""

    case: str
    images: tuple[Path, ...]
    label: Path


def run(
    source: Path,
    out: Path,
    files: Sequence[Files],
    classes: Mapping[int, str],
    channels: Sequence[str],
    options: Options,
) -> str:
    """Prepare a data set.

    Args:
        source: where it came from.
        out: the uniform folder.
        files: of each case.
        classes: names of the foreground classes by their value in the label maps, any whole numbers but 0.
        channels: names of the image's channels, at least one.
        options: of the user.

    Returns:
        One line on what was done.

    Raises:
        InputError: bad names or classes, or the first case that can't be read.
    """
    name = _name(options.name or source.resolve().name)
    names = _class_names(classes)
    values = {str(value): index for index, value in enumerate(sorted(classes), 1)}
    labels = labels_of(names[value] for value in sorted(classes))
    _check_channels(channels)
    cases = [_case(entry, options.subject, {"values": values, "channels": len(channels)}) for entry in files]
    description = f"{len(cases)} images with {len(labels) - 1} classes, brought by the user."
    dataset = Dataset(name, description, labels, WEIGHTS, None, is_phantom(source), tuple(channels))
    return prepare(dataset, cases, out, options.seed, options.workers)


def _name(name: str) -> str:
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_.-")
    if not name or name.lower() in _TAKEN:
        raise InputError(
            f"--name {name or 'is empty'}: needed is a name of letters and digits, not {' or '.join(_TAKEN)}."
        )
    return name


def _class_names(classes: Mapping[int, str]) -> dict[int, str]:
    """Class names as tables and TensorBoard take them: lower case, underscores."""
    if not 1 <= len(classes) <= _MOST_CLASSES or 0 in classes:
        raise InputError(f"{len(classes)} classes beside the background (0), needed 1 to {_MOST_CLASSES}; see --label.")
    names = {value: re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") for value, name in classes.items()}
    for value, name in names.items():
        if not name or name == BACKGROUND.name:
            raise InputError(f"class {value} is called {classes[value]!r}, needed is a name of letters and digits.")
        if list(names.values()).count(name) > 1:
            raise InputError(f"two classes are called {name!r}; give each a name of its own.")
    return names


def _check_channels(channels: Sequence[str]) -> None:
    if not channels or len(set(channels)) < len(channels) or not all(name.strip() for name in channels):
        raise InputError(f"channels {', '.join(channels) or 'none'}: needed is a name of its own for each.")


def _case(files: Files, pattern: str, options: dict[str, Any]) -> Case:
    several = len(files.images) > 1
    images = {f"image_{n:04d}" if several else "image": path for n, path in enumerate(files.images)}
    return Case(files.case, _subject(files, pattern), {**images, "label": files.label}, read, options)


def _subject(files: Files, pattern: str) -> str:
    if not pattern:
        return files.case
    try:
        found = re.search(pattern, files.case)
    except re.error as error:
        raise InputError(
            f"--subject {pattern!r}: not a regular expression ({error}), such as '^patient[0-9]+'."
        ) from error
    subject = found and (found.group(1) if found.re.groups else found.group())
    if not subject:
        raise InputError(f"--subject {pattern!r}: finds nothing in the case name {files.case!r} ({files.images[0]}).")
    return subject


def read(case: Case) -> Volume:
    """Read one case.

    Returns:
        image (X, Y, Z), or (X, Y, Z, C) for C > 1 channels; label (X, Y, Z) uint8, classes counted from 1.

    Raises:
        InputError: a file can't be read, image and label don't fit together, or a label value that wasn't declared.
    """
    paths = [path for role, path in case.sources.items() if role != "label"]
    label_path, channels = case.sources["label"], case.options["channels"]
    images = [read_image(path, channels if len(paths) == 1 else 1) for path in paths]
    label = read_label(label_path)
    for path, image in zip(paths[1:], images[1:], strict=True):
        _check_fit(path, image, paths[0], images[0])
    _check_fit(label_path, label, paths[0], images[0])
    data = images[0].data if len(images) == 1 else np.stack([image.data for image in images], axis=-1)
    classes = _classes(label_path, label.data, case.options["values"])
    affine = images[0].affine
    return Volume(data, classes, affine, images[0].spacing, {"axes": "".join(nib.aff2axcodes(affine))})


def _check_fit(path: Path, found: Nifti, image_path: Path, image: Nifti) -> None:
    """See that a label map, or a further channel, lies on the image's grid."""
    if found.data.shape != image.data.shape[:3]:
        sizes = " and ".join(" x ".join(map(str, shape)) for shape in (found.data.shape, image.data.shape[:3]))
        raise InputError(f"{path}: differs in size from its image {image_path} ({sizes}); export both again.")
    headed = {suffix_of(path), suffix_of(image_path)} <= set(NIFTI)
    if headed and not np.allclose(found.affine, image.affine, atol=1e-2):
        raise InputError(f"{path}: lies elsewhere in space than {image_path.name} (other affine); mend its header.")


def _classes(path: Path, label: Array, values: Mapping[str, int]) -> Array:
    """Class indices for the values of a label map."""
    found = np.unique(label)
    unknown = [value for value in found.tolist() if value != 0 and f"{value:.17g}" not in values]
    if unknown:
        more = "" if len(unknown) <= 5 else f" and {len(unknown) - 5} more"
        raise InputError(
            f"{path}: label values {', '.join(f'{value:g}' for value in unknown[:5])}{more} are not declared, known "
            f"are 0, {', '.join(values)}; declare them, or check that this is the label map and not the image."
        )
    indices = np.array([values.get(str(int(value)), 0) for value in found], np.uint8)
    classes: Array = indices[np.searchsorted(found, label)]
    return classes


def stems(folder: Path, suffixes: Sequence[str] = SUFFIXES) -> dict[str, Path]:
    """The files of a folder that can be read, by name without ending; hidden files are left out.

    Raises:
        InputError: no such folder, none in it, or two files of one name.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; check the path.")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        suffix = next((suffix for suffix in suffixes if path.name.lower().endswith(suffix)), "")
        if not suffix or path.name.startswith(".") or not path.is_file():
            continue
        stem = path.name[: -len(suffix)]
        if stem in found:
            raise InputError(f"{path}: a second {stem}, the first is {found[stem]}; remove or rename one.")
        found[stem] = path
    if not found:
        raise InputError(
            f"{folder}: no file in it that ends in {', '.join(suffixes)}; check the path, or convert them."
        )
    return found


def read_declaration(source: Path) -> tuple[dict[str, Any], dict[int, str], tuple[str, ...]]:
    """Read the ``dataset.json`` of nnU-Net (versions 1 and 2) or of the Decathlon.

    Returns:
        its content, the foreground classes by value, and the names of the channels.

    Raises:
        InputError: missing, not JSON, or without classes or channels that can be used.
    """
    path = source / "dataset.json"
    try:
        content = json.loads(read_bytes(path))
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); download or export it again.") from error
    if not isinstance(content, dict) or not isinstance(content.get("labels"), dict):
        raise InputError(f"{path}: lacks the object 'labels'; download or export it again.")
    named = content.get("channel_names", content.get("modality"))
    if not isinstance(named, dict) or not named or not all(str(key).isdecimal() for key in named):
        raise InputError(f"{path}: lacks 'channel_names' or 'modality', such as {{\"0\": \"MRI\"}}; add it.")
    channels = [str(named[key]) for key in sorted(named, key=int)]
    if len(set(channels)) < len(channels):
        channels = [f"{name} {n}" for n, name in enumerate(channels)]
    return content, _declared_classes(path, content["labels"]), tuple(channels)


def _declared_classes(path: Path, entries: Mapping[str, Any]) -> dict[int, str]:
    """Classes by value, from ``{"1": "liver"}`` (version 1, Decathlon) or ``{"liver": 1}`` (version 2)."""
    classes: dict[int, str] = {}
    for key, value in entries.items():
        swapped = key.isdecimal() and isinstance(value, str)
        name, number = (str(value), int(key)) if swapped else (key, value)
        if isinstance(number, list):
            raise InputError(
                f"{path}: class {name!r} is a region {number}; only plain classes, one value each, are read."
            )
        if isinstance(number, str) and number.isdecimal():
            number = int(number)
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise InputError(f"{path}: class {name!r} has the value {number!r}, needed is a whole number; mend it.")
        if name == "ignore":
            raise InputError(f"{path}: has an 'ignore' class; pixels can't be left out, give them a class or 0.")
        if number:
            classes[number] = name
    return classes
