"""A folder of images and one of label maps, paired by name."""

from collections.abc import Sequence
from pathlib import Path

from data_prep.custom.common import Files, Options, run, stems
from medpos.core.errors import InputError


def prepare(
    images: Path, labels: Path, classes: Sequence[str], channels: Sequence[str], out: Path, options: Options
) -> str:
    """Prepare a pair of folders; the arguments are those of ``python -m data_prep folder``.

    Returns:
        One line on what was done.
    """
    name = options.name or out.resolve().name
    own = Options(name, options.subject, options.seed, options.workers)
    return run(images, out, find(images, labels), parse_classes(classes), channels or ("image",), own)


def find(images: Path, labels: Path) -> list[Files]:
    """Pair the files of the two folders by name without ending.

    Raises:
        InputError: an image without label map or a label map without image.
    """
    of_images, of_labels = stems(images), stems(labels)
    for stem in sorted(of_images.keys() - of_labels.keys()):
        raise InputError(f"{of_images[stem]}: no label map {stem}.* in {labels}; draw it, or take the image out.")
    for stem in sorted(of_labels.keys() - of_images.keys()):
        raise InputError(f"{of_labels[stem]}: no image {stem}.* in {images}; add it, or take the label map out.")
    return [Files(stem, (path,), of_labels[stem]) for stem, path in of_images.items()]


def parse_classes(entries: Sequence[str]) -> dict[int, str]:
    """Classes by value from ``1=liver`` and the like; 0 is the background and may be left out.

    Raises:
        InputError: not VALUE=NAME, or a value twice.
    """
    classes: dict[int, str] = {}
    for entry in entries:
        value, _, name = entry.partition("=")
        if not (value.isdecimal() and name.strip()):
            raise InputError(f"--label {entry}: needed is VALUE=NAME, such as 1=liver.")
        if int(value) in classes:
            raise InputError(f"--label {entry}: value {value} is {classes[int(value)]!r} already.")
        if int(value):
            classes[int(value)] = name.strip()
    return classes
