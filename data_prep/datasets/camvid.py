"""Prepare street scenes of CamVid (Brostow et al., PRL 30(2), 2009) as the SegNet tutorial provides it, with its split.

Folders ``train``, ``val`` and ``test`` have 480 x 360 pictures, and ``trainannot`` and so on the class of each pixel:
0 to 10, and 11 for unlabeled pixels. The lists ``train.txt`` and so on repeat the folders and aren't read. The
tutorial's older copy names its files ``train_00001.png`` and ``trainannot_00001.png``.
"""

import re
from pathlib import Path

import numpy as np

from data_prep.files import Array
from data_prep.layout import Case, Dataset, Volume, prepare_dataset
from data_prep.listing import find_by_stem
from data_prep.pictures import read_image, read_label
from data_prep.published import describe_shortfall
from medpos.core import labels
from medpos.core.colors import RGB
from medpos.core.errors import InputError
from medpos.data.schema import ASSUMED, SPLITS, is_phantom

FOLDERS = dict(zip(("train", "val", "test"), SPLITS, strict=True))
WEIGHTS = (367, 101, 233)
VOID = 11  # in the label files; 0 in the prepared folder
DESCRIPTION = "Street scenes from a car (CamVid, 11 classes as for SegNet); pixels that nobody labelled are void."


def prepare(source: Path, out: Path, workers: int = 1, strict: bool = False) -> str:
    """Prepare CamVid with the arguments of ``python -m data_prep camvid``, and return one line about it."""
    dataset = Dataset("camvid", DESCRIPTION, labels.CAMVID, WEIGHTS, (0, 255), is_phantom(source), RGB, spacing=ASSUMED)
    cases = find_cases(source)
    done = prepare_dataset(dataset, cases, out, workers=workers, strict=strict)
    counts = {part: sum(case.part == part for case in cases) for part in SPLITS}
    return done + describe_shortfall(counts, dict(zip(SPLITS, WEIGHTS, strict=True)))


def find_cases(source: Path) -> list[Case]:
    """Pair the pictures of ``train``, ``val`` and ``test``, in ``source`` or its folder ``CamVid``, with their classes.

    Each picture is a subject of its own, because the published split has two of the four drives in two parts each; the
    entry ``sequence`` names the drive.

    Raises:
        InputError: a folder is missing or empty, a picture lacks its label map or a label map its picture.
    """
    root = source / "CamVid" if (source / "CamVid" / "train").is_dir() else source
    cases = []
    for folder, part in FOLDERS.items():
        images, maps = find_by_stem(root / folder, (".png",)), find_by_stem(root / f"{folder}annot", (".png",))
        named = {re.sub(f"^{folder}annot_", f"{folder}_", stem): path for stem, path in maps.items()}
        for stem in sorted(images.keys() - named.keys()):
            raise InputError(f"{images[stem]}: no label map {stem}.png in {root / folder}annot; unpack CamVid again.")
        for stem in sorted(named.keys() - images.keys()):
            raise InputError(f"{named[stem]}: no picture {stem}.png in {root / folder}; unpack CamVid again.")
        for stem, path in images.items():
            sequence = re.match(r"0001TP|0006R0|0016E5|Seq05VD", stem)
            details = {"sequence": sequence.group()} if sequence else {}
            sources = {"image": path, "label": named[stem]}
            cases.append(Case(stem, stem, sources, read_case, details=details, part=part))
    return cases


def read_case(case: Case) -> Volume:
    """Read one picture.

    Returns:
        Image (480, 360, 1, 3) uint8, axes: column, row, one slice, color; label (480, 360, 1): 0 void, 1 to 11.

    Raises:
        InputError: a picture is damaged, a label value is above 11, all pixels are void, or the sizes differ.
    """
    image = read_image(case.sources["image"], len(RGB))
    path = case.sources["label"]
    label = read_label(path).data
    if label.shape != image.data.shape[:3]:
        sizes = " and ".join(" x ".join(map(str, shape[:2])) for shape in (label.shape, image.data.shape))
        raise InputError(f"{path}: differs in size from its picture ({sizes}); unpack CamVid again.")
    return Volume(image.data.astype(np.uint8), _indices(path, label), image.affine, image.spacing)


def _indices(path: Path, label: Array) -> Array:
    """Map stored values to class indices: the value + 1, and 0 for void."""
    values = np.unique(label)
    if values.min() < 0 or values.max() > VOID:
        raise InputError(f"{path}: expected label values 0 to {VOID}, got {values.tolist()[:20]}; unpack CamVid again.")
    if values.min() == VOID:
        raise InputError(f"{path}: expected pixels of a class, all are {VOID}, void; unpack CamVid again.")
    indices: Array = ((label.astype(np.int64) + 1) % (VOID + 1)).astype(np.uint8)
    return indices
