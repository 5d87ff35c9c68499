"""What the readers of natural images share: a colour picture and the class of each pixel, 255 where it is ignored."""

from pathlib import Path
from typing import Any

import numpy as np

from data_prep.files import Array, Nifti
from data_prep.layout import Dataset, Volume
from data_prep.pictures import read_image
from medpos.core.errors import InputError
from medpos.core.labels import IGNORED, Label
from medpos.data.schema import is_phantom

CHANNELS = ("red", "green", "blue")


def dataset(
    name: str, description: str, classes: tuple[Label, ...], weights: tuple[int, int, int], *sources: Path
) -> Dataset:
    """A data set of colour pictures with 255 where a pixel counts nowhere; phantoms, if one of its sources is."""
    phantom = any(map(is_phantom, sources))
    return Dataset(name, description, classes, weights, (0, 255), phantom, CHANNELS, ignored=True)


def picture(path: Path) -> Nifti:
    """Read a colour picture: (X, Y, 1, 3) uint8.

    Raises:
        InputError: not a whole picture, or not 8 bits a colour.
    """
    image = read_image(path, len(CHANNELS))
    if image.data.dtype != np.uint8:
        raise InputError(f"{path}: pixels are {image.data.dtype}, needed are 8 bits a colour; download it again.")
    return image


def volume(image: Nifti, label: Array, path: Any, classes: int) -> Volume:
    """A picture with its classes.

    Args:
        image: as :func:`picture` gives it.
        label: (X, Y, 1) class indices, and 255.
        path: where the label comes from, for messages.
        classes: number of classes.

    Raises:
        InputError: the sizes differ, a value is neither a class nor 255, or all pixels are to be ignored.
    """
    if label.shape != image.data.shape[:3]:
        sizes = " and ".join(" x ".join(map(str, shape[:2])) for shape in (label.shape, image.data.shape))
        raise InputError(f"{path}: differs in size from its picture ({sizes}); unpack the download again.")
    values = np.unique(label)
    unknown = values[((values < 0) | (values >= classes)) & (values != IGNORED)].tolist()
    if unknown:
        needed = f"0 to {classes - 1}, and {IGNORED}"
        raise InputError(f"{path}: label values {unknown[:20]}, needed are {needed}; unpack the download again.")
    if values.min() == IGNORED:
        raise InputError(f"{path}: no pixel has a class, all are {IGNORED}; unpack the download again.")
    return Volume(image.data, label.astype(np.uint8), image.affine, image.spacing)


def existing(path: Path, why: str) -> Path:
    """The path of a file that must be there.

    Raises:
        InputError: it isn't.
    """
    if not path.is_file():
        raise InputError(f"{path}: is missing, {why}; unpack the download again.")
    return path
