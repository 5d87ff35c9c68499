"""Prepare COCO 2017 (Lin et al., ECCV 2014) with the 20 classes of PASCAL VOC, for pretraining before VOC.

Pictures are left out if their objects of these classes have fewer than 1,000 pixels in all (``area`` of the
annotations, without crowds). Networks are compared on ``val2017``, the test part; a fiftieth of ``train2017``, by seed,
is the validation part. Overlaps of two classes, and crowds, which have rough outlines, are ignored.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.files import Array
from data_prep.layout import Case, Volume, prepare_dataset
from data_prep.listing import require_file
from data_prep.published import describe_shortfall
from data_prep.rle import SegmentationError, decode
from data_prep.scenes import make_dataset, make_volume, read_picture
from medpos.core import labels
from medpos.core.errors import InputError
from medpos.core.files import decode_json, find_root, read_bytes
from medpos.core.labels import IGNORED
from medpos.io.scan import check_size

WEIGHTS = (49, 1, 0)
COUNTS = {"train2017": 118287, "val2017": 5000}
MIN_PIXELS = 1000
DESCRIPTION = "Objects of PASCAL VOC's 20 classes in photographs (COCO 2017); crowds and overlaps are ignored."
# COCO's category ids in the order of VOC's classes, 1 to 20.
CATEGORIES = (5, 2, 16, 9, 44, 6, 3, 17, 62, 21, 67, 18, 19, 4, 1, 64, 20, 63, 7, 72)
CLASSES = {category: index for index, category in enumerate(CATEGORIES, 1)}


@dataclass(frozen=True)
class Objects:
    """Read the annotations of one picture, like a file of its own.

    Args:
        file: JSON file of the annotations of all pictures.
        picture: name of the picture.
        content: height and width in pixels, and the objects: class, crowd or not, segmentation.
    """

    file: Path
    picture: str
    content: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.file}, {self.picture}"

    @property
    def name(self) -> str:
        """Name of the JSON file."""
        return self.file.name

    def read_bytes(self) -> bytes:
        """Return the annotations as JSON."""
        return json.dumps(self.content).encode()


def prepare(source: Path, out: Path, seed: int = 0, workers: int = 1, strict: bool = False) -> str:
    """Prepare COCO with the arguments of ``python -m data_prep coco``, and return one line about it."""
    found: dict[str, int] = {}
    cases = find_cases(source, found)
    done = prepare_dataset(
        make_dataset("coco", DESCRIPTION, labels.VOC, WEIGHTS, source), cases, out, seed, workers, strict
    )
    return (
        f"{done}; of {sum(found.values())} images {len(cases)} have {MIN_PIXELS} pixels or more"
        + describe_shortfall(found, COUNTS)
    )


def find_cases(source: Path, found: dict[str, int] | None = None) -> list[Case]:
    """List the pictures of ``train2017`` and ``val2017`` with enough pixels of VOC's classes.

    Args:
        source: folder that holds ``annotations``, ``train2017`` and ``val2017``.
        found: dictionary that receives the number of pictures in each of the two.

    Raises:
        InputError: the annotations aren't COCO's, or a picture is missing.
    """
    root = find_root(source, ("coco",), "annotations")
    cases = []
    for folder, part in (("train2017", ""), ("val2017", "test")):
        path = root / "annotations" / f"instances_{folder}.json"
        try:
            content = decode_json(read_bytes(path))
            named, objects = {image["id"]: image for image in content["images"]}, _objects(content)
            chosen = {number: named[number] for number in sorted(objects) if number in named}
            cases += [_case(root / folder, path, image, objects[number], part) for number, image in chosen.items()]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: expected COCO's annotations ({error!r}); unpack them again.") from error
        if found is not None:
            found[folder] = len(named)
    return cases


def _objects(content: Mapping[str, Any]) -> dict[int, list[dict[str, Any]]]:
    """Collect the objects of VOC's classes in each picture that has enough of them."""
    objects: dict[int, list[dict[str, Any]]] = {}
    area: dict[int, float] = {}
    for entry in content["annotations"]:
        if (index := CLASSES.get(entry["category_id"])) is None:
            continue
        number, crowd = entry["image_id"], bool(entry["iscrowd"])
        kept = {"class": index, "crowd": crowd, "segmentation": entry["segmentation"]}
        objects.setdefault(number, []).append(kept)
        area[number] = area.get(number, 0) + (0 if crowd else entry["area"])
    return {number: found for number, found in objects.items() if area[number] >= MIN_PIXELS}


def _case(folder: Path, path: Path, image: Mapping[str, Any], objects: list[dict[str, Any]], part: str) -> Case:
    name = Path(image["file_name"]).name
    check_size(f"{path}: {name}", (image["width"], image["height"]))
    content = {"height": image["height"], "width": image["width"], "objects": objects}
    sources = {"image": require_file(folder / name, f"which {path.name} names"), "label": Objects(path, name, content)}
    stem = Path(name).stem
    return Case(stem, stem, sources, read_case, part=part)


def read_case(case: Case) -> Volume:
    """Read one picture and paint its objects.

    Returns:
        Image (columns, rows, 1, 3) uint8; label (columns, rows, 1): 0 background, 1 to 20, 255 ignored.

    Raises:
        InputError: the picture is damaged or has another size than the annotations, or a segmentation can't be read.
    """
    objects: Objects = case.sources["label"]
    content = objects.content
    shape = (int(content["height"]), int(content["width"]))
    label, crowds = np.zeros(shape, np.uint8), np.zeros(shape, np.bool_)
    for entry in content["objects"]:
        try:
            mask = decode(entry["segmentation"], shape)
        except SegmentationError as error:
            raise InputError(f"{objects}: a segmentation can't be read ({error}); unpack them again.") from error
        if entry["crowd"]:
            crowds |= mask
        else:
            label[mask] = np.where(np.isin(label[mask], (0, entry["class"])), entry["class"], IGNORED)
    label[crowds & (label == 0)] = IGNORED
    found: Array = label.T[..., None]
    return make_volume(read_picture(case.sources["image"]), found, objects, len(labels.VOC))
