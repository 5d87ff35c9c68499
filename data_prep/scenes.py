"""Read photographs and their label maps with ignored pixels, for VOC, Cityscapes and COCO."""

from pathlib import Path
from typing import Any

import numpy as np

from data_prep.files import Array
from data_prep.layout import Dataset, Volume
from data_prep.pictures import read_image
from medpos.core.colors import RGB
from medpos.core.errors import InputError
from medpos.core.labels import IGNORED, Label
from medpos.data.schema import ASSUMED, is_phantom
from medpos.io.scan import StoredVolume


def make_dataset(
    name: str, description: str, classes: tuple[Label, ...], weights: tuple[int, int, int], *sources: Path
) -> Dataset:
    """Describe a data set of color pictures with ignored pixels; phantoms if one of its sources is."""
    phantom = any(map(is_phantom, sources))
    return Dataset(name, description, classes, weights, (0, 255), phantom, RGB, ignored=True, spacing=ASSUMED)


def read_picture(path: Path) -> StoredVolume:
    """Read a color picture as (X, Y, 1, 3) uint8.

    Raises:
        InputError: the picture is damaged, or hasn't 8 bits per color.
    """
    image = read_image(path, len(RGB))
    if image.data.dtype != np.uint8:
        raise InputError(f"{path}: expected 8 bits per color, got {image.data.dtype}; download it again.")
    return image


def make_volume(image: StoredVolume, label: Array, path: Any, classes: int) -> Volume:
    """Combine a picture and its label map.

    Args:
        image: picture from :func:`read_picture`.
        label: (X, Y, 1) class indices, and 255 for ignored pixels.
        path: source of the label map, for messages.
        classes: number of classes.

    Raises:
        InputError: the sizes differ, a value is neither a class nor 255, or all pixels are ignored.
    """
    if label.shape != image.data.shape[:3]:
        sizes = " and ".join(" x ".join(map(str, shape[:2])) for shape in (label.shape, image.data.shape))
        raise InputError(f"{path}: differs in size from its picture ({sizes}); unpack the download again.")
    values = np.unique(label)
    unknown = values[((values < 0) | (values >= classes)) & (values != IGNORED)].tolist()
    if unknown:
        expected = f"label values 0 to {classes - 1}, and {IGNORED}"
        raise InputError(f"{path}: expected {expected}, got {unknown[:20]}; unpack the download again.")
    if values.min() == IGNORED:
        raise InputError(f"{path}: expected pixels of a class, all are {IGNORED}; unpack the download again.")
    return Volume(image.data, label.astype(np.uint8), image.affine, image.spacing)
