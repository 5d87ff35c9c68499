"""Prepare a folder of images and a folder of label maps, paired by name."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from data_prep.custom.common import Files, Options, describe, open_sources, prepare_custom
from data_prep.listing import find_by_stem
from medpos.core.errors import InputError
from medpos.core.names import clean_name
from medpos.io.walk import LeftOut


def prepare(
    images: Path, labels: Path, classes: Sequence[str], channels: Sequence[str], out: Path, options: Options
) -> str:
    """Prepare a pair of folders with the arguments of ``python -m data_prep folder``.

    Returns:
        A line that says what was done, and lines about the files that were left out.
    """
    name = options.name or out.resolve().name
    named = replace(options, name=name)
    left_out = LeftOut()
    with open_sources(out, left_out, images, labels) as [image_folder, label_folder]:
        files = find_cases(image_folder, label_folder, left_out)
        done = prepare_custom(images, out, files, parse_classes(classes), channels or ("image",), named)
    return describe(done, left_out)


def find_cases(images: Path, labels: Path, left_out: LeftOut | None = None) -> list[Files]:
    """Pair the files below the two folders by name without suffix; one folder may lie in the other.

    Args:
        images: folder of the images.
        labels: folder of the label maps.
        left_out: record of files that are neither.

    Raises:
        InputError: an image lacks its label map or a label map its image.
    """
    image_files, label_files = (
        find_by_stem(folder, left_out=left_out, skip=[other] if _holds(folder, other) else [])
        for folder, other in ((images, labels), (labels, images))
    )
    for stem in sorted(image_files.keys() - label_files.keys()):
        raise InputError(f"{image_files[stem]}: no label map {stem}.* in {labels}; draw it, or remove the image.")
    for stem in sorted(label_files.keys() - image_files.keys()):
        raise InputError(f"{label_files[stem]}: no image {stem}.* in {images}; add it, or remove the label map.")
    return [Files(clean_name(stem) or "case", (path,), label_files[stem]) for stem, path in image_files.items()]


def _holds(folder: Path, other: Path) -> bool:
    return folder.resolve() in other.resolve().parents


def parse_classes(entries: Sequence[str]) -> dict[int, str]:
    """Parse classes such as ``1=liver``; 0 is the background and may be omitted.

    Returns:
        Names of the foreground classes by value.

    Raises:
        InputError: an entry isn't VALUE=NAME, or a value occurs twice.
    """
    classes: dict[int, str] = {}
    for entry in entries:
        value, _, name = entry.partition("=")
        if not (value.isdecimal() and name.strip()):
            raise InputError(f"--label {entry}: expected VALUE=NAME, such as 1=liver.")
        if int(value) in classes:
            raise InputError(f"--label {entry}: value {value} is {classes[int(value)]!r} already.")
        if int(value):
            classes[int(value)] = name.strip()
    return classes
