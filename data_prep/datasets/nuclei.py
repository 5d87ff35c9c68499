"""Prepare nuclei of the Data Science Bowl 2018, stage 1 (Caicedo et al., Nature Methods 16, 2019; BBBC038).

Each image is a folder ``ID`` with ``images/ID.png`` and one ``masks/*.png`` for each nucleus. Fluorescence is bright on
dark and gray; histology and bright field are dark on light, in color or gray.
"""

from collections import Counter
from pathlib import Path

import numpy as np

from data_prep.archive import Source, list_files, read_picture
from data_prep.files import Array
from data_prep.layout import Case, Dataset, Volume, prepare_dataset
from data_prep.pictures import NOMINAL_AFFINE
from medpos.core import labels
from medpos.core.errors import InputError
from medpos.data.schema import ASSUMED, is_phantom

# A choice of this project: the data have no split, and the UNet++ paper (DLMIA 2018) states none.
WEIGHTS = (8, 1, 1)
HIGHEST = 255
# Number of images in the known downloads.
KNOWN = {670: "Kaggle's stage1_train", 598: "stage1_train with corrected masks"}
DESCRIPTION = (
    "Nuclei in light microscopy (Data Science Bowl 2018, stage 1), grey, each nucleus with a number of its own."
)
LAYOUT = "--source is stage1_train.zip, or a folder, with ID/images/ID.png and ID/masks/*.png"
_MODES = ("L", "LA", "P", "RGB", "RGBA")


def prepare(source: Path, out: Path, seed: int = 0, workers: int = 1, strict: bool = False) -> str:
    """Prepare nuclei with the arguments of ``python -m data_prep nuclei``, and return one line about it."""
    phantom, cases = is_phantom(source), find_cases(source)
    dataset = Dataset("nuclei", DESCRIPTION, labels.NUCLEI, WEIGHTS, (0, HIGHEST), phantom, spacing=ASSUMED)
    done = prepare_dataset(dataset, cases, out, seed, workers, strict)
    if phantom:
        return done
    known = KNOWN.get(len(cases)) or " or ".join(f"{count} of {name}" for count, name in KNOWN.items())
    return f"{done}; {len(cases)} images, {'as' if len(cases) in KNOWN else 'not the'} {known}"


def find_cases(source: Path) -> list[Case]:
    """List one case for each folder ``ID``; the split is balanced over sizes and colors of the images.

    Raises:
        InputError: there is no image, a folder has several images or no masks, or an image can't be read.
    """
    folders: dict[tuple[str, ...], dict[str, list[Source]]] = {}
    for parts, path in list_files(source):
        if len(parts) >= 3 and parts[-2] in ("images", "masks") and parts[-1].lower().endswith(".png"):
            folders.setdefault(parts[:-2], {"images": [], "masks": []})[parts[-2]].append(path)
    if not folders:
        raise InputError(f"{source}: expected ID/images/ID.png, found none; {LAYOUT}.")
    return [_case(f"{source}/{'/'.join(parts)}", parts[-1], **found) for parts, found in folders.items()]


def _case(where: str, name: str, images: list[Source], masks: list[Source]) -> Case:
    if len(images) != 1:
        raise InputError(f"{where}: expected one image, images/{name}.png, got {len(images)}; download it again.")
    if not masks:
        raise InputError(
            f"{where}: expected masks/*.png, one per nucleus, found none; use stage1_train, not stage1_test."
        )
    group = image_kind(images[0])
    sources = {"image": images[0], **{f"mask_{number:04d}": path for number, path in enumerate(masks, 1)}}
    return Case(name, name, sources, read_case, {}, {"group": group}, group)


def image_kind(path: Source) -> str:
    """Describe the kind of an image by its size and by gray or color, since the microscope is unknown.

    The text is written to ``dataset.json``, and the split depends on it.
    """
    pixels = _read_pixels(path, "RGB")
    return f"{pixels.shape[1]}x{pixels.shape[0]} {'grey' if (pixels == pixels[..., :1]).all() else 'colour'}"


def read_case(case: Case) -> Volume:
    """Read one image and the masks of its nuclei.

    Returns:
        Image (X, Y, 1) uint8, luminance; label likewise: 1 nucleus; instances (X, Y, 1) uint16 in the order of the
        masks' names. A pixel in several masks belongs to the first.

    Raises:
        InputError: a file isn't a complete PNG, or a mask is empty or has another size.
    """
    image = _read_pixels(case.sources["image"], "L")
    instances = np.zeros(image.shape, np.uint16)
    counts: Counter[str] = Counter(objects=0, overlap_pixels=0)
    for role, path in case.sources.items():
        if role == "image":
            continue
        mask = _read_mask(path, image.shape)
        free = mask & (instances == 0)
        counts["overlap_pixels"] += int(np.count_nonzero(mask) - np.count_nonzero(free))
        if free.any():
            counts["objects"] += 1
            instances[free] = counts["objects"]
    return make_flat_volume(image, instances, dict(counts))


def make_flat_volume(image: Array, instances: Array, details: dict[str, int]) -> Volume:
    """Combine an image (rows, columns) and its instances to a case (X, Y, 1) with all objects in class 1."""
    label = (instances > 0).astype(np.uint8)
    image, label, instances = (array.T[..., None] for array in (image, label, instances))
    return Volume(image, label, NOMINAL_AFFINE, (1.0, 1.0, 1.0), details, instances)


def _read_mask(path: Source, shape: tuple[int, ...]) -> Array:
    mask: Array = _read_pixels(path, "L") > 0
    if mask.shape != shape:
        raise InputError(
            f"{path}: expected {shape[1]} x {shape[0]} pixels as its image, got {mask.shape[1]} x {mask.shape[0]}."
        )
    if not mask.any():
        raise InputError(f"{path}: expected a mask, got an empty one; remove it.")
    return mask


def _read_pixels(path: Source, mode: str) -> Array:
    """Read a PNG as rows without transparency: luminance (ITU-R 601) for mode L, three colors for RGB."""
    image = read_picture(path, "PNG")
    if image.mode not in _MODES:
        raise InputError(f"{path}: expected 8 bits per color, got pixels of mode {image.mode}; convert it.")
    return np.asarray(image.convert(mode))
