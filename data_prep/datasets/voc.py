"""Prepare PASCAL VOC 2012 (Everingham et al., IJCV 111(1), 2015), optionally with the labels of SBD.

``ImageSets/Segmentation/train.txt`` and ``val.txt`` name the pictures of ``JPEGImages`` that have a label map in
``SegmentationClass``, a palette PNG: 0 background, 1 to 20 classes, 255 the borders of objects and ambiguous pixels.
SBD (Hariharan et al., ICCV 2011) has its own labels for 11,355 pictures of VOC 2011, without borders, in MATLAB files.

Networks are compared on ``val``, so it is the test part. A tenth of ``train``, by seed, is the validation part: the
best epoch is chosen on it, without any test picture. It is the same tenth with and without SBD.

For a last stage on ``trainval``, as before a submission to VOC's server, the pictures of both lists are drawn into the
three parts: the labels of VOC's own test are not public, so a twentieth is kept for validation and one for the test.
"""

from pathlib import Path

import numpy as np
from scipy.io import loadmat

from data_prep.files import Array
from data_prep.layout import Case, Volume, prepare_dataset
from data_prep.listing import require_file
from data_prep.pictures import read_label
from data_prep.published import describe_shortfall
from data_prep.scenes import make_dataset, make_volume, read_picture
from medpos.core import labels
from medpos.core.errors import InputError
from medpos.core.files import find_root, read_bytes

WEIGHTS = (9, 1, 0)
WEIGHTS_TRAINVAL = (18, 1, 1)
COUNTS = {"train": 1464, "val": 1449, "trainval": 2913}
TRAINAUG = 10582  # train, and the pictures of SBD outside train and val
LISTS = Path("ImageSets/Segmentation")
DESCRIPTION = "Objects of 20 classes in photographs (PASCAL VOC 2012{}); rims and what is hard to tell are ignored."


def prepare(
    source: Path,
    out: Path,
    sbd: Path | None = None,
    test: Path | None = None,
    trainval: bool = False,
    seed: int = 0,
    workers: int = 1,
    strict: bool = False,
) -> str:
    """Prepare PASCAL VOC with the arguments of ``python -m data_prep voc``, and return one line about it."""
    named = {name: read_names(_root(source) / LISTS / f"{name}.txt") for name in ("train", "val")}
    cases = find_cases(source, sbd, test, trainval)
    weights = WEIGHTS_TRAINVAL if trainval and test is None else WEIGHTS
    described = DESCRIPTION.format("" if sbd is None else ", and SBD's further training images")
    sources = (source,) if sbd is None else (source, sbd)
    dataset = make_dataset("voc", described, labels.VOC, weights, *sources)
    done = prepare_dataset(dataset, cases, out, seed, workers, strict)
    found = {**{name: len(listed) for name, listed in named.items()}, "trainval": len({*named["train"], *named["val"]})}
    whole = dict(COUNTS)
    if sbd is not None and test is None:
        found["trainaug"], whole["trainaug"] = sum(case.part != "test" for case in cases), TRAINAUG
    return done + describe_shortfall(found, whole)


def find_cases(source: Path, sbd: Path | None = None, test: Path | None = None, trainval: bool = False) -> list[Case]:
    """List the pictures of VOC's lists, and those of SBD that are in neither.

    Args:
        source: ``VOC2012``, or one or two folders above it.
        sbd: ``benchmark_RELEASE`` or its folder ``dataset``; None reads VOC alone.
        test: list of test images instead of ``val.txt``, such as FCN's ``seg11valid.txt``.
        trainval: whether the pictures of ``val.txt`` are drawn into the parts as those of ``train.txt`` are.

    Raises:
        InputError: a list, or a file that it names, is missing.
    """
    root = _root(source)
    train, val = (read_names(root / LISTS / f"{name}.txt") for name in ("train", "val"))
    if both := sorted(set(train) & set(val)):
        raise InputError(f"{root / LISTS}: {both[0]} is in train.txt and val.txt; unpack VOC again.")
    tested = ([] if trainval else val) if test is None else read_names(test)
    trained = [name for name in (train + val if trainval else train) if name not in set(tested)]
    cases = [_voc_case(root, name, "") for name in trained] + [_voc_case(root, name, "test") for name in tested]
    if sbd is None:
        return cases
    place = find_root(sbd, ("dataset", "benchmark_RELEASE/dataset"), "cls")
    more = {name for part in ("train", "val") for name in read_names(place / f"{part}.txt")} - {*trained, *tested}
    return cases + [_sbd_case(place, name) for name in sorted(more)]


def read_names(path: Path) -> list[str]:
    """Read the names in a list of VOC or SBD, one per line.

    Raises:
        InputError: the list is missing, empty or not plain text.
    """
    try:
        found = read_bytes(path).decode("utf-8").split()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected a list of names ({error}); unpack the download again.") from error
    if not found:
        raise InputError(f"{path}: expected names of images, one per line, got none; unpack the download again.")
    return list(dict.fromkeys(found))


def _root(source: Path) -> Path:
    return find_root(source, ("VOC2012", "VOCdevkit/VOC2012"), str(LISTS))


def _voc_case(root: Path, name: str, part: str) -> Case:
    files = {"image": root / "JPEGImages" / f"{name}.jpg", "label": root / "SegmentationClass" / f"{name}.png"}
    sources = {role: require_file(path, f"which the lists in {root / LISTS} name") for role, path in files.items()}
    return Case(name, name, sources, read_case, part=part)


def _sbd_case(root: Path, name: str) -> Case:
    files = {"image": root / "img" / f"{name}.jpg", "label": root / "cls" / f"{name}.mat"}
    sources = {role: require_file(path, "which train.txt or val.txt beside it names") for role, path in files.items()}
    return Case(name, name, sources, read_case, details={"labelled_by": "sbd"}, part="training")


def read_case(case: Case) -> Volume:
    """Read one picture.

    Returns:
        Image (columns, rows, 1, 3) uint8; label (columns, rows, 1): 0 background, 1 to 20, 255 ignored.

    Raises:
        InputError: a picture or MATLAB file is damaged, a value isn't a class, or the sizes differ.
    """
    path = case.sources["label"]
    label = read_sbd_label(path) if path.suffix == ".mat" else read_label(path).data
    return make_volume(read_picture(case.sources["image"]), label, path, len(labels.VOC))


def read_sbd_label(path: Path) -> Array:
    """Read the classes ``GTcls.Segmentation`` of a file of SBD as (columns, rows, 1).

    Raises:
        InputError: the file lacks them.
    """
    try:
        classes = np.asarray(loadmat(path, squeeze_me=True, struct_as_record=False)["GTcls"].Segmentation)
    except Exception as error:  # scipy raises errors without a common base class on a bad file
        raise InputError(f"{path}: expected GTcls.Segmentation ({error}); unpack SBD again.") from error
    if classes.ndim != 2 or classes.dtype.kind not in "iu":
        raise InputError(f"{path}: expected a label map as GTcls.Segmentation, got {classes.dtype} {classes.shape}.")
    return classes.T[..., None]
