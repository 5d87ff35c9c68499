"""Prepare street scenes of Cityscapes (Cordts et al., CVPR 2016) with the 19 classes of its benchmark.

The labels of the official test images aren't published, so networks are compared on ``val``, which is the test part.
A tenth of the drives of ``train``, by seed and with the same share of every city, is the validation part. A drive,
named by city and sequence, is a subject, since its pictures show the same streets; ``val`` and ``train`` share no city.
"""

import re
from pathlib import Path

import numpy as np
from PIL import Image

from data_prep.files import Array
from data_prep.layout import Case, Volume, prepare_dataset
from data_prep.pictures import read_label
from data_prep.published import describe_shortfall
from data_prep.scenes import make_dataset, make_volume, read_picture
from medpos.core import labels
from medpos.core.errors import InputError
from medpos.core.files import find_root
from medpos.core.labels import IGNORED
from medpos.io.scan import StoredVolume

WEIGHTS = (9, 1, 0)
COUNTS = {"train": 2975, "val": 500}
WIDTH = 2048  # width of the raw pictures in pixels
DESCRIPTION = "Street scenes from a car (Cityscapes, 19 classes); what is none of them is ignored."
# The ids of gtFine_labelIds.png in the order of the train ids, 0 to 18.
IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
HIGHEST = 33
_IMAGE = re.compile(r"(([^_]+)_\d+)_\d+_leftImg8bit\.png")


def prepare(source: Path, out: Path, size: int = WIDTH, seed: int = 0, workers: int = 1, strict: bool = False) -> str:
    """Prepare Cityscapes with the arguments of ``python -m data_prep cityscapes``.

    Returns:
        One line that says what was done.
    """
    cases = find_cases(source, size)
    done = prepare_dataset(
        make_dataset("cityscapes", DESCRIPTION, labels.CITYSCAPES, WEIGHTS, source), cases, out, seed, workers, strict
    )
    tested = sum(case.part == "test" for case in cases)
    return done + describe_shortfall({"train": len(cases) - tested, "val": tested}, COUNTS)


def find_cases(source: Path, size: int = WIDTH) -> list[Case]:
    """Pair the pictures of ``train`` and ``val`` with their label maps.

    Args:
        source: folder that holds ``leftImg8bit`` and ``gtFine``.
        size: greatest width of the prepared pictures in pixels; a divisor of 2048.

    Raises:
        InputError: the size isn't a divisor, a folder is empty, or a picture or its label map is missing.
    """
    if size < 1 or WIDTH % size:
        raise InputError(f"--size: expected a divisor of {WIDTH}, such as 1024, got {size}.")
    root = find_root(source, ("cityscapes",), "leftImg8bit/train")
    cases = []
    for folder, part in (("train", ""), ("val", "test")):
        images = sorted((root / "leftImg8bit" / folder).glob("*/*_leftImg8bit.png"))
        if not images:
            raise InputError(
                f"{root / 'leftImg8bit' / folder}: expected CITY/*_leftImg8bit.png, found none; unpack it again."
            )
        cases += [_case(root, path, part, size) for path in images]
        for path in sorted((root / "gtFine" / folder).glob("*/*_gtFine_labelIds.png")):
            name = path.name.replace("gtFine_labelIds", "leftImg8bit")
            if not (root / "leftImg8bit" / folder / path.parent.name / name).is_file():
                raise InputError(
                    f"{path}: expected its picture {name}, found none; unpack leftImg8bit_trainvaltest.zip."
                )
    return cases


def _case(root: Path, path: Path, part: str, size: int) -> Case:
    found = _IMAGE.fullmatch(path.name)
    if found is None:
        raise InputError(f"{path}: expected a name such as aachen_000000_000019_leftImg8bit.png; unpack it again.")
    name = path.name.removesuffix("_leftImg8bit.png")
    label = root / "gtFine" / path.relative_to(root / "leftImg8bit").parent / f"{name}_gtFine_labelIds.png"
    if not label.is_file():
        raise InputError(f"{path}: expected its label map {label}, found none; unpack gtFine_trainvaltest.zip.")
    drive, city = found.groups()
    return Case(name, drive, {"image": path, "label": label}, read_case, {"size": size}, {"city": city}, city, part)


def read_case(case: Case) -> Volume:
    """Read one picture.

    Returns:
        Image (columns, rows, 1, 3) uint8, averaged over blocks of pixels; label (columns, rows, 1), the center pixel of
        every block: 0 to 18, 255 ignored.

    Raises:
        InputError: a picture is damaged, a value isn't an id, or the sizes differ or aren't divisible.
    """
    path = case.sources["label"]
    image, ids = read_picture(case.sources["image"]), read_label(path).data
    known = make_volume(image, _train_ids(path, ids), path, len(IDS))
    factor = max(1, ids.shape[0] // case.options["size"])
    if any(side % factor for side in ids.shape[:2]):
        raise InputError(f"{path}: {ids.shape[0]} x {ids.shape[1]} pixels aren't divisible by {factor}; choose --size.")
    label = known.label[factor // 2 :: factor, factor // 2 :: factor]
    reduced = Image.fromarray(np.ascontiguousarray(image.data[:, :, 0])).reduce(factor)
    return make_volume(
        StoredVolume(np.asarray(reduced)[:, :, None], image.affine, image.spacing), label, path, len(IDS)
    )


def _train_ids(path: Path, ids: Array) -> Array:
    """Map label ids to train ids; 255 for ids without one, and for -1, license plates, stored as 255 by some tools."""
    table = np.full(256, IGNORED, np.uint8)
    table[list(IDS)] = np.arange(len(IDS))
    unknown = np.unique(ids[(ids < 0) | ((ids > HIGHEST) & (ids != IGNORED))]).tolist()
    if unknown:
        raise InputError(f"{path}: expected label ids 0 to {HIGHEST}, got {unknown[:20]}; unpack gtFine again.")
    found: Array = table[ids]
    return found
