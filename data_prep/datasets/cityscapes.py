"""Street scenes: Cityscapes (Cordts et al., CVPR 2016), its 19 classes for comparing networks.

The labels of the official test images aren't published, so networks are compared on ``val``, which is the test part.
A tenth of the drives of ``train``, by seed and with the same share of every city, is the validation part. A drive, city
and sequence, is a subject, since its pictures show the same streets; the cities of ``val`` are none of ``train``'s.
"""

import re
from pathlib import Path

import numpy as np
from PIL import Image

from data_prep.files import Array, Nifti
from data_prep.layout import Case, Volume, prepare
from data_prep.pictures import read_label
from data_prep.published import shortfall
from data_prep.scenes import dataset, picture, volume
from medpos.core import labels
from medpos.core.errors import InputError
from medpos.core.files import find_root
from medpos.core.labels import IGNORED

WEIGHTS = (9, 1, 0)
COUNTS = {"train": 2975, "val": 500}
WIDTH = 2048  # of the pictures as they come
DESCRIPTION = "Street scenes from a car (Cityscapes, 19 classes); what is none of them is ignored."
# The ids of gtFine_labelIds.png in the order of the train ids, 0 to 18.
IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
HIGHEST = 33
_IMAGE = re.compile(r"(([^_]+)_\d+)_\d+_leftImg8bit\.png")


def run(source: Path, out: Path, size: int = WIDTH, seed: int = 0, workers: int = 1) -> str:
    """Prepare Cityscapes; the arguments are those of ``python -m data_prep cityscapes``.

    Returns:
        One line on what was done.
    """
    cases = find(source, size)
    done = prepare(dataset("cityscapes", DESCRIPTION, labels.CITYSCAPES, WEIGHTS, source), cases, out, seed, workers)
    tested = sum(case.part == "test" for case in cases)
    return done + shortfall({"train": len(cases) - tested, "val": tested}, COUNTS)


def find(source: Path, size: int = WIDTH) -> list[Case]:
    """Pair the pictures of ``train`` and ``val`` with their label maps.

    Args:
        source: the folder that holds ``leftImg8bit`` and ``gtFine``.
        size: greatest width of the prepared pictures; 2048 or a half, a quarter and so on.

    Raises:
        InputError: another size, a folder without pictures, a picture without label map or a label map without picture.
    """
    if size < 1 or WIDTH % size:
        raise InputError(f"--size: {size} was given, needed is a divisor of {WIDTH}, such as 1024.")
    root = find_root(source, ("cityscapes",), "leftImg8bit/train")
    cases = []
    for folder, part in (("train", ""), ("val", "test")):
        images = sorted((root / "leftImg8bit" / folder).glob("*/*_leftImg8bit.png"))
        if not images:
            raise InputError(f"{root / 'leftImg8bit' / folder}: no CITY/*_leftImg8bit.png in it; unpack it again.")
        cases += [_case(root, path, part, size) for path in images]
        for path in sorted((root / "gtFine" / folder).glob("*/*_gtFine_labelIds.png")):
            name = path.name.replace("gtFine_labelIds", "leftImg8bit")
            if not (root / "leftImg8bit" / folder / path.parent.name / name).is_file():
                raise InputError(f"{path}: no picture {name} in leftImg8bit; unpack leftImg8bit_trainvaltest.zip.")
    return cases


def _case(root: Path, path: Path, part: str, size: int) -> Case:
    found = _IMAGE.fullmatch(path.name)
    if found is None:
        raise InputError(f"{path}: needed is a name such as aachen_000000_000019_leftImg8bit.png; unpack it again.")
    name = path.name.removesuffix("_leftImg8bit.png")
    label = root / "gtFine" / path.relative_to(root / "leftImg8bit").parent / f"{name}_gtFine_labelIds.png"
    if not label.is_file():
        raise InputError(f"{path}: no label map {label}; unpack gtFine_trainvaltest.zip.")
    drive, city = found.groups()
    return Case(name, drive, {"image": path, "label": label}, read, {"size": size}, {"city": city}, city, part)


def read(case: Case) -> Volume:
    """Read one picture.

    Returns:
        image (columns, rows, 1, 3) uint8, averaged over blocks of pixels; label (columns, rows, 1): 0 to 18, 255 to be
        ignored, of every block the pixel at its middle.

    Raises:
        InputError: not a whole picture, a value that is no id, pictures of different or odd sizes.
    """
    path = case.sources["label"]
    image, ids = picture(case.sources["image"]), read_label(path).data
    known = volume(image, _train_ids(path, ids), path, len(IDS))
    factor = max(1, ids.shape[0] // case.options["size"])
    if any(side % factor for side in ids.shape[:2]):
        raise InputError(f"{path}: {ids.shape[0]} x {ids.shape[1]} pixels can't be divided by {factor}; choose --size.")
    label = known.label[factor // 2 :: factor, factor // 2 :: factor]
    reduced = Image.fromarray(np.ascontiguousarray(image.data[:, :, 0])).reduce(factor)
    return volume(Nifti(np.asarray(reduced)[:, :, None], image.affine, image.spacing), label, path, len(IDS))


def _train_ids(path: Path, ids: Array) -> Array:
    """Train ids of label ids; 255 for those without, and for -1, the licence plate, which some tools store as 255."""
    table = np.full(256, IGNORED, np.uint8)
    table[list(IDS)] = np.arange(len(IDS))
    unknown = np.unique(ids[(ids < 0) | ((ids > HIGHEST) & (ids != IGNORED))]).tolist()
    if unknown:
        raise InputError(f"{path}: label ids {unknown[:20]}, needed are 0 to {HIGHEST}; unpack gtFine again.")
    found: Array = table[ids]
    return found
