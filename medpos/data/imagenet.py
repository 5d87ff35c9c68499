"""List the photographs of ImageNet 2012 (Russakovsky et al., IJCV 115(3), 2015) with their classes, in place.

``train`` has a folder for each class, named by its WordNet number. ``val`` has the same folders, or is flat as
published; then ``ILSVRC2012_validation_ground_truth.txt`` and ``meta.mat`` of the development kit give the classes.
The kit numbers the classes in an order of its own; here, as is usual, class 0 is the first WordNet number.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from medpos.core.errors import InputError
from medpos.core.files import find_root, read_bytes

COUNTS = {"classes": 1000, "train": 1281167, "val": 50000}
TRUTH, META = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"
Images = tuple[tuple[Path, int], ...]


@dataclass(frozen=True)
class Folders:
    """Hold the content of the folders.

    Args:
        classes: WordNet numbers in the order of the classes.
        train: training images, each with the index of its class.
        val: validation images, likewise.
    """

    classes: tuple[str, ...]
    train: Images
    val: Images


def find_images(source: Path) -> Folders:
    """List the images of ``train`` and ``val``, in ``source`` or ``ILSVRC/Data/CLS-LOC`` below it.

    Raises:
        InputError: a folder is missing or empty, or the classes of ``val`` are unknown or differ from ``train``.
    """
    root = find_root(source, ("ILSVRC/Data/CLS-LOC", "Data/CLS-LOC"), "train")
    classes = sorted(path.name for path in (root / "train").iterdir() if path.is_dir())
    train = _list_by_folder(root / "train", classes)
    if not (root / "val").is_dir():
        raise InputError(f"{root / 'val'}: no such folder; unpack ILSVRC2012_img_val.tar into it.")
    others = sorted({path.name for path in (root / "val").iterdir() if path.is_dir()} - set(classes))
    if others:
        raise InputError(f"{root / 'val' / others[0]}: expected a class of train; unpack both again.")
    flat = _list_images(root / "val")
    val = _list_by_truth(source, root, flat, classes) if flat else _list_by_folder(root / "val", classes)
    return Folders(tuple(classes), train, val)


def _list_images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpeg", ".jpg", ".png"))


def _list_by_folder(folder: Path, classes: Sequence[str]) -> Images:
    found = []
    for index, name in enumerate(classes):
        if not (folder / name).is_dir() or not (images := _list_images(folder / name)):
            raise InputError(f"{folder / name}: expected *.JPEG files, found none; unpack the class again.")
        found += [(path, index) for path in images]
    if not found:
        raise InputError(f"{folder}: expected one folder per class, such as n01440764, found none; unpack it again.")
    return tuple(found)


def _list_by_truth(source: Path, root: Path, images: Sequence[Path], classes: Sequence[str]) -> Images:
    """Pair the images of a flat ``val``, sorted by name, with the lines of the ground truth."""
    truth, meta = (
        next((path for place in {source, root} for path in place.rglob(name)), None) for name in (TRUTH, META)
    )
    if truth is None or meta is None:
        missing = TRUTH if truth is None else META
        raise InputError(
            f"{root / 'val'}: expected one folder per class, or {missing} in {source}; unpack the development kit."
        )
    numbers = read_bytes(truth).split()
    if len(numbers) != len(images):
        raise InputError(
            f"{truth}: expected {len(images)} lines, one per image in {root / 'val'}, got {len(numbers)}; unpack again."
        )
    try:
        synsets = np.atleast_1d(loadmat(meta, squeeze_me=True, struct_as_record=False)["synsets"])
        index = {int(one.ILSVRC2012_ID): classes.index(str(one.WNID)) for one in synsets if str(one.WNID) in classes}
        return tuple((path, index[int(number)]) for path, number in zip(images, numbers, strict=True))
    except Exception as error:  # scipy raises errors without a common base class on a bad file
        raise InputError(f"{meta}: doesn't match {truth.name} and train ({error!r}); unpack them again.") from error
