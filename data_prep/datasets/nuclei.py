"""Nuclei in microscopy: the Data Science Bowl 2018, stage 1 (Caicedo et al., Nature Methods 16, 2019; BBBC038).

Each image is a folder ``ID`` with ``images/ID.png`` and one ``masks/*.png`` for each nucleus. Fluorescence is bright on
dark and grey; histology and bright field are dark on light, in colour or grey.
"""

from collections import Counter
from pathlib import Path

import numpy as np

from data_prep.archive import Source, files, picture
from data_prep.files import Array
from data_prep.layout import Case, Dataset, Volume, prepare
from data_prep.pictures import NOMINAL
from medpos.core import labels
from medpos.core.errors import InputError
from medpos.data.schema import is_phantom

# Our choice: the data come without a split, and the paper of UNet++ (DLMIA 2018) tells none.
WEIGHTS = (8, 1, 1)
HIGHEST = 255
# What the known downloads hold.
KNOWN = {670: "Kaggle's stage1_train", 598: "stage1_train with corrected masks"}
DESCRIPTION = (
    "Nuclei in light microscopy (Data Science Bowl 2018, stage 1), grey, each nucleus with a number of its own."
)
LAYOUT = "--source is stage1_train.zip, or a folder, with ID/images/ID.png and ID/masks/*.png"
_MODES = ("L", "LA", "P", "RGB", "RGBA")


def run(source: Path, out: Path, seed: int = 0, workers: int = 1) -> str:
    """Prepare nuclei; the arguments are those of ``python -m data_prep nuclei``. Returns one line on what was done."""
    cases, phantom = find(source), is_phantom(source)
    dataset = Dataset("nuclei", DESCRIPTION, labels.NUCLEI, WEIGHTS, (0, HIGHEST), phantom)
    done = prepare(dataset, cases, out, seed, workers)
    if phantom:
        return done
    known = KNOWN.get(len(cases)) or " or ".join(f"{count} of {name}" for count, name in KNOWN.items())
    return f"{done}; {len(cases)} images, {'as' if len(cases) in KNOWN else 'not the'} {known}"


def find(source: Path) -> list[Case]:
    """One case for each folder ``ID``; the split is balanced over the images' sizes and colours.

    Raises:
        InputError: nothing found, a folder with no image or several, without masks, or an image that can't be read.
    """
    folders: dict[tuple[str, ...], dict[str, list[Source]]] = {}
    for parts, path in files(source):
        if len(parts) >= 3 and parts[-2] in ("images", "masks") and parts[-1].lower().endswith(".png"):
            folders.setdefault(parts[:-2], {"images": [], "masks": []})[parts[-2]].append(path)
    if not folders:
        raise InputError(f"{source}: no ID/images/ID.png in it; {LAYOUT}.")
    return [_case(f"{source}/{'/'.join(parts)}", parts[-1], **found) for parts, found in folders.items()]


def _case(where: str, name: str, images: list[Source], masks: list[Source]) -> Case:
    if len(images) != 1:
        raise InputError(f"{where}: {len(images)} images, needed is one, images/{name}.png; download it again.")
    if not masks:
        raise InputError(
            f"{where}: no masks/*.png, needed is one for each nucleus; take stage1_train, not stage1_test."
        )
    group = look(images[0])
    sources = {"image": images[0], **{f"mask_{number:04d}": path for number, path in enumerate(masks, 1)}}
    return Case(name, name, sources, read, {}, {"group": group}, group)


def look(path: Source) -> str:
    """Kind of an image, as far as it can be seen without knowing the microscope: its size, and grey or in colour."""
    pixels = _pixels(path, "RGB")
    return f"{pixels.shape[1]}x{pixels.shape[0]} {'grey' if (pixels == pixels[..., :1]).all() else 'colour'}"


def read(case: Case) -> Volume:
    """Read one image and the masks of its nuclei.

    Returns:
        image (X, Y, 1) uint8, luminance; label alike: 1 nucleus; instances (X, Y, 1) uint16 in the order of the masks'
        names. A pixel in several masks belongs to the first.

    Raises:
        InputError: not a whole PNG, or a mask of another size or without a pixel.
    """
    image = _pixels(case.sources["image"], "L")
    instances = np.zeros(image.shape, np.uint16)
    counts: Counter[str] = Counter(objects=0, overlap_pixels=0)
    for role, path in case.sources.items():
        if role == "image":
            continue
        mask = _mask(path, image.shape)
        free = mask & (instances == 0)
        counts["overlap_pixels"] += int(np.count_nonzero(mask) - np.count_nonzero(free))
        if free.any():
            counts["objects"] += 1
            instances[free] = counts["objects"]
    return flat(image, instances, dict(counts))


def flat(image: Array, instances: Array, details: dict[str, int]) -> Volume:
    """A case of one picture and one class: rows and columns become (X, Y, 1), and every object is of class 1."""
    label = (instances > 0).astype(np.uint8)
    image, label, instances = (array.T[..., None] for array in (image, label, instances))
    return Volume(image, label, NOMINAL, (1.0, 1.0, 1.0), details, instances)


def _mask(path: Source, shape: tuple[int, ...]) -> Array:
    mask: Array = _pixels(path, "L") > 0
    if mask.shape != shape:
        raise InputError(f"{path}: {mask.shape[1]} x {mask.shape[0]} pixels, its image has {shape[1]} x {shape[0]}.")
    if not mask.any():
        raise InputError(f"{path}: the mask is empty, no pixel is set; take it out.")
    return mask


def _pixels(path: Source, mode: str) -> Array:
    """A PNG as rows: grey (luminance, ITU-R 601) for mode L, three colours for RGB; transparency is left out."""
    image = picture(path, "PNG")
    if image.mode not in _MODES:
        raise InputError(f"{path}: pixels of kind {image.mode}, needed are 8 bits a colour; convert it.")
    return np.asarray(image.convert(mode))
