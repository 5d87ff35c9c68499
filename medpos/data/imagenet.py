"""Classified photographs: ImageNet 2012 (Russakovsky et al., IJCV 115(3), 2015), read where it lies.

``train`` has a folder for each class, named by its WordNet number. ``val`` has the same folders, or lies flat as it was
given out; then ``ILSVRC2012_validation_ground_truth.txt`` and ``meta.mat`` of the development kit tell the classes.
Those number the classes in an order of their own; here, as everywhere else, class 0 is the first WordNet number.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from medpos.core.errors import InputError
from medpos.core.files import read_bytes, root_of

COUNTS = {"classes": 1000, "train": 1281167, "val": 50000}
TRUTH, META = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"
Images = tuple[tuple[Path, int], ...]


@dataclass(frozen=True)
class Folders:
    """What the folders hold.

    Args:
        classes: WordNet numbers in the order of the classes.
        train: pictures with their classes.
        val: the same.
    """

    classes: tuple[str, ...]
    train: Images
    val: Images


def find(source: Path) -> Folders:
    """List the pictures of ``train`` and ``val``, in ``source`` or ``ILSVRC/Data/CLS-LOC`` below it.

    Raises:
        InputError: a folder is missing or empty, or the classes of ``val`` aren't known or aren't those of ``train``.
    """
    root = root_of(source, ("ILSVRC/Data/CLS-LOC", "Data/CLS-LOC"), "train")
    classes = sorted(path.name for path in (root / "train").iterdir() if path.is_dir())
    train = _in_folders(root / "train", classes)
    if not (root / "val").is_dir():
        raise InputError(f"{root / 'val'}: no such folder; unpack ILSVRC2012_img_val.tar into it.")
    others = sorted({path.name for path in (root / "val").iterdir() if path.is_dir()} - set(classes))
    if others:
        raise InputError(f"{root / 'val' / others[0]}: no such class in train; unpack both again.")
    flat = _pictures(root / "val")
    val = _by_truth(source, root, flat, classes) if flat else _in_folders(root / "val", classes)
    return Folders(tuple(classes), train, val)


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpeg", ".jpg", ".png"))


def _in_folders(folder: Path, classes: Sequence[str]) -> Images:
    found = []
    for index, name in enumerate(classes):
        if not (folder / name).is_dir() or not (pictures := _pictures(folder / name)):
            raise InputError(f"{folder / name}: no *.JPEG in it; unpack the class again.")
        found += [(path, index) for path in pictures]
    if not found:
        raise InputError(f"{folder}: no folder in it, needed is one a class, such as n01440764; unpack it again.")
    return tuple(found)


def _by_truth(source: Path, root: Path, pictures: Sequence[Path], classes: Sequence[str]) -> Images:
    """The pictures of a flat ``val``, whose lines in the truth follow their names."""
    truth, meta = (
        next((path for place in {source, root} for path in place.rglob(name)), None) for name in (TRUTH, META)
    )
    if truth is None or meta is None:
        missing = TRUTH if truth is None else META
        raise InputError(
            f"{root / 'val'}: has no folders, and {missing} isn't in {source}; unpack the development kit."
        )
    numbers = read_bytes(truth).split()
    if len(numbers) != len(pictures):
        raise InputError(f"{truth}: {len(numbers)} lines for {len(pictures)} pictures in {root / 'val'}; unpack again.")
    try:
        synsets = np.atleast_1d(loadmat(meta, squeeze_me=True, struct_as_record=False)["synsets"])
        index = {int(one.ILSVRC2012_ID): classes.index(str(one.WNID)) for one in synsets if str(one.WNID) in classes}
        return tuple((path, index[int(number)]) for path, number in zip(pictures, numbers, strict=True))
    except Exception as error:  # scipy has no common base class for what a bad file raises
        raise InputError(f"{meta}: doesn't fit {truth.name} and train ({error!r}); unpack them again.") from error
