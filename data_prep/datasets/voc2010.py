"""Prepare two further labelings of the pictures of PASCAL VOC 2010: PASCAL-Context and PASCAL-Person-Part.

PASCAL-Context (Mottaghi et al., CVPR 2014) names every pixel of the 10,103 pictures of ``trainval``, in MATLAB files
``trainval/2008_000002.mat`` with ``LabelMap``; ``labels.txt`` numbers its 459 names. Networks are compared on the 59
most frequent ones; all others are background. ``labels.txt`` has ``table``, ``bedclothes`` and ``cloth`` for three
names of the task's own list, as github.com/shelhamer/fcn.berkeleyvision.org resolves them.

PASCAL-Part (Chen et al., CVPR 2014) has a mask for each part of each object, ``Annotations_Part/2008_000002.mat`` with
``anno.objects``. For PASCAL-Person-Part the 24 parts of persons are merged into six, as for DeepLab: the neck belongs
to the torso, hands to the lower arms, feet to the lower legs. Other objects, and what of a person no part covers, are
background. The pictures are those of VOC's lists of persons, ``ImageSets/Main/person_train.txt`` and
``person_val.txt``; the published numbers leave out the pictures in which no part of a person is labeled.

Networks are compared on ``val``, so it is the test part; a tenth of ``train``, by seed, is the validation part.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat

from data_prep.datasets.voc import WEIGHTS, read_names
from data_prep.files import Array
from data_prep.layout import Case, Volume, prepare_dataset
from data_prep.listing import require_file
from data_prep.published import describe_shortfall
from data_prep.scenes import make_dataset, make_volume, read_picture
from medpos.core import labels
from medpos.core.errors import InputError
from medpos.core.files import find_root, read_bytes

LISTS = Path("ImageSets/Main")
CONTEXT_COUNTS = {"train": 4998, "val": 5105}
PARTS_COUNTS = {"train": 1716, "val": 1817}
CONTEXT = "Pictures in which every pixel has one of 59 classes or is background (PASCAL-Context)."
PERSONS = "Persons in pictures, in six parts (PASCAL-Person-Part)."
# Names in labels.txt that aren't the classes' names without underscores.
CONTEXT_NAMES = {"dining_table": "table"}
MERGED = {
    "head": ("head", "hair", "leye", "reye", "lear", "rear", "lebrow", "rebrow", "nose", "mouth"),
    "torso": ("torso", "neck"),
    "upper_arms": ("luarm", "ruarm"),
    "lower_arms": ("llarm", "rlarm", "lhand", "rhand"),
    "upper_legs": ("luleg", "ruleg"),
    "lower_legs": ("llleg", "rlleg", "lfoot", "rfoot"),
}
PART_CLASSES = {part: label.index for label in labels.PERSON_PARTS[1:] for part in MERGED[label.name]}


def prepare_context(
    source: Path, out: Path, annotations: Path | None = None, seed: int = 0, workers: int = 1, strict: bool = False
) -> str:
    """Prepare PASCAL-Context with the arguments of ``python -m data_prep context``, and return one line about it."""
    cases = find_context(source, annotations or source)
    dataset = make_dataset("context", CONTEXT, labels.CONTEXT, WEIGHTS, source)
    done = prepare_dataset(dataset, cases, out, seed, workers, strict)
    return done + describe_shortfall(_count(cases), CONTEXT_COUNTS)


def prepare_parts(
    source: Path, out: Path, annotations: Path | None = None, seed: int = 0, workers: int = 1, strict: bool = False
) -> str:
    """Prepare PASCAL-Person-Part with the arguments of ``python -m data_prep parts``, and return one line about it."""
    cases = find_parts(source, annotations or source)
    dataset = make_dataset("parts", PERSONS, labels.PERSON_PARTS, WEIGHTS, source)
    done = prepare_dataset(dataset, cases, out, seed, workers, strict)
    return done + describe_shortfall(_count(cases), PARTS_COUNTS)


def find_context(source: Path, annotations: Path) -> list[Case]:
    """List the pictures of ``train.txt`` and ``val.txt``.

    Args:
        source: ``VOC2010``, or one or two folders above it.
        annotations: folder with ``trainval`` and ``labels.txt`` of PASCAL-Context.

    Raises:
        InputError: a list, or a file that it names, is missing.
    """
    root, names = _root(source), require_file(annotations / "labels.txt", "which numbers the names of the label maps")
    return [
        _case(root, name, part, read_context, {"label": annotations / "trainval" / f"{name}.mat", "names": names})
        for part in ("train", "val")
        for name in read_names(root / LISTS / f"{part}.txt")
    ]


def find_parts(source: Path, annotations: Path) -> list[Case]:
    """List the pictures with persons.

    Args:
        source: ``VOC2010``, or one or two folders above it.
        annotations: folder with ``Annotations_Part``.

    Raises:
        InputError: a list, or a file that it names, is missing.
    """
    root = _root(source)
    return [
        _case(root, name, part, read_parts, {"label": annotations / "Annotations_Part" / f"{name}.mat"})
        for part in ("train", "val")
        for name in _read_present(root / LISTS / f"person_{part}.txt")
    ]


def _root(source: Path) -> Path:
    return find_root(source, ("VOC2010", "VOCdevkit/VOC2010"), str(LISTS))


def _case(root: Path, name: str, part: str, read: Any, files: dict[str, Path]) -> Case:
    found = {"image": root / "JPEGImages" / f"{name}.jpg", **files}
    sources = {role: require_file(path, f"which the lists in {root / LISTS} name") for role, path in found.items()}
    return Case(name, name, sources, read, part="test" if part == "val" else "")


def _read_present(path: Path) -> list[str]:
    """Read the names in a list of a class: each line has a name and 1, or -1 for pictures without the class."""
    words = read_bytes(require_file(path, "which names the pictures with persons")).decode("utf-8", "replace").split()
    pairs = list(zip(words[::2], words[1::2], strict=False))
    if 2 * len(pairs) != len(words) or not {mark for _, mark in pairs} <= {"-1", "0", "1"}:
        raise InputError(f"{path}: expected lines of a name and -1, 0 or 1; unpack VOC again.")
    return [name for name, mark in pairs if mark != "-1"]


def _count(cases: list[Case]) -> dict[str, int]:
    tested = sum(case.part == "test" for case in cases)
    return {"train": len(cases) - tested, "val": tested}


def read_context(case: Case) -> Volume:
    """Read one picture of PASCAL-Context.

    Returns:
        Image (columns, rows, 1, 3) uint8; label (columns, rows, 1): 0 background, 1 to 59.

    Raises:
        InputError: a picture or MATLAB file is damaged, a name is missing in ``labels.txt``, or the sizes differ.
    """
    path = case.sources["label"]
    found = _to_map(_load(path, "LabelMap"), path, "LabelMap")
    label = np.zeros(found.shape, np.uint8)
    for index, number in enumerate(_read_numbers(case.sources["names"]), 1):
        label[found == number] = index
    return make_volume(read_picture(case.sources["image"]), label.T[..., None], path, len(labels.CONTEXT))


@lru_cache(maxsize=1)
def _read_numbers(path: Path) -> tuple[int, ...]:
    """Read the numbers of the 59 classes in the lines ``2: aeroplane``."""
    lines = read_bytes(path).decode("utf-8", "replace").splitlines()
    pairs = [line.replace(" ", "").split(":") for line in lines if line.strip()]
    numbers = {pair[1]: int(pair[0]) for pair in pairs if len(pair) == 2 and pair[0].isdecimal()}
    names = [CONTEXT_NAMES.get(label.name, label.name.replace("_", "")) for label in labels.CONTEXT[1:]]
    if missing := [name for name in names if name not in numbers]:
        raise InputError(
            f"{path}: expected a line such as '2: aeroplane' for {missing[0]}, found none; unpack it again."
        )
    return tuple(numbers[name] for name in names)


def read_parts(case: Case) -> Volume:
    """Read one picture of PASCAL-Person-Part.

    Returns:
        Image (columns, rows, 1, 3) uint8; label (columns, rows, 1): 0 background, 1 to 6.

    Raises:
        InputError: a picture or MATLAB file is damaged, a part is unknown, or the sizes differ.
    """
    path, image = case.sources["label"], read_picture(case.sources["image"])
    columns, rows = image.data.shape[:2]
    label = np.zeros((rows, columns), np.uint8)
    try:
        objects = np.atleast_1d(_load(path, "anno").objects)
        parts = [
            (str(part.part_name), part.mask)
            for thing in objects
            if str(getattr(thing, "class")) == "person"
            for part in np.atleast_1d(thing.parts)
        ]
    except AttributeError as error:
        raise InputError(f"{path}: expected anno.objects with class and parts ({error}); unpack it again.") from error
    for name, values in parts:
        mask = _to_map(values, path, name)
        if name not in PART_CLASSES or mask.shape != label.shape:
            wanted = f"a mask {label.shape} of a part of a person"
            raise InputError(f"{path}: expected {wanted}, got {name} {mask.shape}; unpack the download again.")
        label[mask > 0] = PART_CLASSES[name]
    return make_volume(image, label.T[..., None], path, len(labels.PERSON_PARTS))


def _load(path: Path, name: str) -> Any:
    try:
        return loadmat(path, squeeze_me=True, struct_as_record=False)[name]
    except Exception as error:  # scipy raises errors without a common base class on a bad file
        raise InputError(f"{path}: expected {name} ({error}); unpack the download again.") from error


def _to_map(values: Any, path: Path, name: str) -> Array:
    found = np.asarray(values)
    if found.ndim != 2 or found.dtype.kind not in "iub":
        raise InputError(f"{path}: expected a label map as {name}, got {found.dtype} {found.shape}; unpack it again.")
    return found
