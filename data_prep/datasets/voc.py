"""Objects: PASCAL VOC 2012 (Everingham et al., IJCV 111(1), 2015), on request with the labels of SBD.

``ImageSets/Segmentation/train.txt`` and ``val.txt`` name the pictures of ``JPEGImages`` that have a label map in
``SegmentationClass``, a palette PNG: 0 background, 1 to 20 classes, 255 the rims of objects and what is hard to tell.
SBD (Hariharan et al., ICCV 2011) labels 11,355 pictures of VOC 2011 anew, without rims, in MATLAB files.

Networks are compared on ``val``, so it is the test part. A tenth of ``train``, by seed, is the validation part: there
the best epoch is chosen, and no test picture has a say in it. It is the same tenth with SBD and without.
"""

from pathlib import Path

import numpy as np
from scipy.io import loadmat

from data_prep.files import Array
from data_prep.layout import Case, Volume, prepare
from data_prep.pictures import read_label
from data_prep.published import shortfall
from data_prep.scenes import dataset, existing, picture, volume
from medpos.core import labels
from medpos.core.errors import InputError
from medpos.core.files import find_root, read_bytes

WEIGHTS = (9, 1, 0)
COUNTS = {"train": 1464, "val": 1449, "trainval": 2913}
TRAINAUG = 10582  # train, and what SBD has beside train and val
LISTS = Path("ImageSets/Segmentation")
DESCRIPTION = "Objects of 20 classes in photographs (PASCAL VOC 2012{}); rims and what is hard to tell are ignored."


def run(
    source: Path, out: Path, sbd: Path | None = None, test: Path | None = None, seed: int = 0, workers: int = 1
) -> str:
    """Prepare PASCAL VOC; the arguments are those of ``python -m data_prep voc``. Returns one line on what was done."""
    named = {name: names(_root(source) / LISTS / f"{name}.txt") for name in ("train", "val")}
    cases = find(source, sbd, test)
    described = DESCRIPTION.format("" if sbd is None else ", and SBD's further training images")
    sources = (source,) if sbd is None else (source, sbd)
    done = prepare(dataset("voc", described, labels.VOC, WEIGHTS, *sources), cases, out, seed, workers)
    found = {**{name: len(listed) for name, listed in named.items()}, "trainval": len({*named["train"], *named["val"]})}
    whole = dict(COUNTS)
    if sbd is not None and test is None:
        found["trainaug"], whole["trainaug"] = sum(case.part != "test" for case in cases), TRAINAUG
    return done + shortfall(found, whole)


def find(source: Path, sbd: Path | None = None, test: Path | None = None) -> list[Case]:
    """The pictures of VOC's lists, and of SBD those that are in neither.

    Args:
        source: ``VOC2012``, or one or two folders above it.
        sbd: ``benchmark_RELEASE`` or its folder ``dataset``; None takes VOC alone.
        test: another list of test images than ``val.txt``, such as FCN's ``seg11valid.txt``.

    Raises:
        InputError: a list or a file that it names is missing.
    """
    root = _root(source)
    tested = names(root / LISTS / "val.txt" if test is None else test)
    trained = [name for name in names(root / LISTS / "train.txt") if test is None or name not in set(tested)]
    if both := sorted(set(tested) & set(trained)):
        raise InputError(f"{root / LISTS}: {both[0]} is in train.txt and val.txt; unpack VOC again.")
    cases = [_of_voc(root, name, "") for name in trained] + [_of_voc(root, name, "test") for name in tested]
    if sbd is None:
        return cases
    place = find_root(sbd, ("dataset", "benchmark_RELEASE/dataset"), "cls")
    more = {name for part in ("train", "val") for name in names(place / f"{part}.txt")} - {*trained, *tested}
    return cases + [_of_sbd(place, name) for name in sorted(more)]


def names(path: Path) -> list[str]:
    """The names that a list of VOC or SBD holds, one a line.

    Raises:
        InputError: it is missing, empty or not plain text.
    """
    try:
        found = read_bytes(path).decode("utf-8").split()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a list of names ({error}); unpack the download again.") from error
    if not found:
        raise InputError(f"{path}: is empty, needed are names of images, one a line; unpack the download again.")
    return list(dict.fromkeys(found))


def _root(source: Path) -> Path:
    return find_root(source, ("VOC2012", "VOCdevkit/VOC2012"), str(LISTS))


def _of_voc(root: Path, name: str, part: str) -> Case:
    files = {"image": root / "JPEGImages" / f"{name}.jpg", "label": root / "SegmentationClass" / f"{name}.png"}
    sources = {role: existing(path, f"which the lists in {root / LISTS} name") for role, path in files.items()}
    return Case(name, name, sources, read, part=part)


def _of_sbd(root: Path, name: str) -> Case:
    files = {"image": root / "img" / f"{name}.jpg", "label": root / "cls" / f"{name}.mat"}
    sources = {role: existing(path, "which train.txt or val.txt beside it names") for role, path in files.items()}
    return Case(name, name, sources, read, details={"labelled_by": "sbd"}, part="training")


def read(case: Case) -> Volume:
    """Read one picture.

    Returns:
        image (columns, rows, 1, 3) uint8; label (columns, rows, 1): 0 background, 1 to 20, 255 to be ignored.

    Raises:
        InputError: not a whole picture or MATLAB file, a value that is no class, or another size.
    """
    path = case.sources["label"]
    label = read_mat(path) if path.suffix == ".mat" else read_label(path).data
    return volume(picture(case.sources["image"]), label, path, len(labels.VOC))


def read_mat(path: Path) -> Array:
    """The classes that a file of SBD holds: ``GTcls.Segmentation``, (columns, rows, 1).

    Raises:
        InputError: not such a file.
    """
    try:
        classes = np.asarray(loadmat(path, squeeze_me=True, struct_as_record=False)["GTcls"].Segmentation)
    except Exception as error:  # scipy has no common base class for what a bad file raises
        raise InputError(f"{path}: holds no GTcls.Segmentation ({error}); unpack SBD again.") from error
    if classes.ndim != 2 or classes.dtype.kind not in "iu":
        raise InputError(f"{path}: GTcls.Segmentation is {classes.dtype} {classes.shape}, needed is a label map.")
    return classes.T[..., None]
