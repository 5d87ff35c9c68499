"""Write object phantoms like COCO 2017: ``train2017``, ``val2017`` and annotations as polygons and RLE."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from contourpy import contour_generator

from data_prep.datasets.coco import CATEGORIES
from data_prep.phantoms.objects import KINDS
from data_prep.phantoms.scene import CASTS, draw
from data_prep.phantoms.shapes import case_generator
from data_prep.phantoms.voc import jpeg
from data_prep.rle import Mask, mask_to_counts
from medpos.core.files import write_bytes

KIND = 9
SIZES = ((640, 480), (480, 640), (640, 427))
PARTS = ("train2017", "val2017", "train2017", "train2017", "val2017")
UMBRELLA = 28  # a category that VOC doesn't have


def write_case(out: Path, seed: int, index: int) -> tuple[str, dict[str, Any], list[dict[str, Any]]]:
    """Write picture ``index`` (from 0).

    Args:
        out: folder that gets the layout of the download.
        seed: random seed, >= 0.
        index: number of the case, from 0.

    Returns:
        Its folder, and its entries of the annotations. In every fourth picture, all objects of a class but the first
        are crowds.
    """
    rng = case_generator(seed, KIND, index)
    folder, name = PARTS[index % len(PARTS)], f"{index + 1:012d}.jpg"
    scene = draw(rng, SIZES[rng.integers(len(SIZES))], CASTS[index % len(CASTS)], extras=4)
    write_bytes(out / folder / name, jpeg(scene.picture))
    rows, columns = scene.numbers.shape
    image = {"id": index + 1, "file_name": name, "height": rows, "width": columns}
    kinds: list[int] = scene.classes.tolist()
    seen = [number for number in range(1, len(kinds)) if (scene.numbers == number).any()]
    crowds = {number for number in seen if index % 4 == 3 and kinds[number] in kinds[:number]}
    found = [_annotation(kinds[number], scene.numbers == number, number in crowds) for number in seen]
    entries = [{"id": 100 * (index + 1) + n, "image_id": index + 1, **entry} for n, entry in enumerate(found)]
    return folder, image, entries


def _annotation(kind: int, mask: Mask, crowd: bool) -> dict[str, Any]:
    rows, columns = np.nonzero(mask)
    box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
    segmentation = {"counts": mask_to_counts(mask), "size": list(mask.shape)} if crowd else trace_outlines(mask)
    return {
        "category_id": CATEGORIES[kind - 1],
        "iscrowd": int(crowd),
        "area": int(mask.sum()),
        "bbox": [int(side) for side in box],
        "segmentation": segmentation,
    }


def trace_outlines(mask: Mask) -> list[list[float]]:
    """Trace the outlines of a mask, [x0, y0, x1, y1, ...] in pixels; holes are filled, as in COCO."""
    padded = np.pad(mask, 1).astype(float)
    # A pixel's center is 0.5 from its corner, and the padding shifts by 1.
    lines: Any = contour_generator(z=padded).lines(0.5)
    outlines = [line - 0.5 for line in lines]
    outer = [line for line in outlines if _area(line) > 0]
    return [np.round(line[:-1], 2).ravel().tolist() for line in outer if len(line) > 4]


def _area(line: np.ndarray[Any, Any]) -> float:
    """Compute the signed area; outlines and holes have opposite signs."""
    x, y = line.T
    return float(0.5 * (x[:-1] * y[1:] - x[1:] * y[:-1]).sum())


def write_annotations(out: Path, written: Iterable[tuple[str, dict[str, Any], list[dict[str, Any]]]]) -> None:
    """Write the annotations of the cases that :func:`write_case` wrote."""
    found = sorted(written, key=lambda entry: str(entry[1]["file_name"]))
    categories = [{"id": number, "name": kind.name} for number, kind in zip(CATEGORIES, KINDS, strict=True)]
    for folder in sorted(set(PARTS)):
        content = {
            "images": [image for part, image, _ in found if part == folder],
            "annotations": [entry for part, _, entries in found if part == folder for entry in entries],
            "categories": [*categories, {"id": UMBRELLA, "name": "umbrella"}],
        }
        write_bytes(out / "annotations" / f"instances_{folder}.json", json.dumps(content).encode())
