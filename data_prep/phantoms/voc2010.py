"""Write phantoms like two labelings of PASCAL VOC 2010: PASCAL-Context, and PASCAL-Part with its persons."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.datasets.voc2010 import CONTEXT_NAMES, LISTS, PART_CLASSES
from data_prep.phantoms.objects import COATS, KINDS, Canvas, Pen, scale_color
from data_prep.phantoms.scene import CASTS, Scene, draw, paint_backdrop, render
from data_prep.phantoms.shapes import case_generator
from data_prep.phantoms.voc import SIZES, encode_mat, jpeg
from medpos.core.files import write_bytes
from medpos.core.labels import CONTEXT

CONTEXT_KIND, PARTS_KIND = 21, 22
PLACES = ("train", "val", "train", "train", "val")  # a length without common divisor with the casts
# Above and below the horizon.
SURROUNDINGS = {
    "street": ("building", "road"), "meadow": ("sky", "grass"), "room": ("wall", "floor"), "water": ("sky", "water"),
    "air": ("sky", "sky"),
}  # fmt: skip
# Width and height, as shares of the picture's shorter side; the former stand on the ground, the latter are above.
GROUND = {
    "room": {
        "bed": (0.5, 0.18), "bedclothes": (0.4, 0.07), "cabinet": (0.2, 0.3), "bag": (0.12, 0.1), "book": (0.08, 0.05),
        "computer": (0.1, 0.1), "cup": (0.05, 0.06), "flower": (0.06, 0.08), "food": (0.08, 0.04),
        "keyboard": (0.14, 0.04), "mouse": (0.05, 0.03), "plate": (0.09, 0.03), "wood": (0.2, 0.05),
    },
    "street": {
        "sidewalk": (0.8, 0.06), "track": (0.6, 0.05), "platform": (0.5, 0.08), "fence": (0.4, 0.12),
        "truck": (0.3, 0.2), "bench": (0.25, 0.1),
    },
    "meadow": {"ground": (0.5, 0.08), "snow": (0.4, 0.06), "rock": (0.12, 0.08)},
}  # fmt: skip
ABOVE = {
    "room": {
        "ceiling": (0.9, 0.08), "shelves": (0.25, 0.2), "door": (0.15, 0.3), "curtain": (0.12, 0.3),
        "window": (0.2, 0.2), "cloth": (0.12, 0.18), "light": (0.08, 0.06),
    },
    "street": {"sign": (0.08, 0.12)},
    "meadow": {"mountain": (0.6, 0.18), "tree": (0.15, 0.28)},
}  # fmt: skip
INDEX = {label.name: label.index for label in CONTEXT}
# The numbers of the classes in the published labels.txt.
NUMBERS = {
    "aeroplane": 2, "bicycle": 23, "bird": 25, "boat": 31, "bottle": 34, "bus": 45, "car": 59, "cat": 65, "chair": 72,
    "cow": 98, "dining_table": 397, "dog": 113, "horse": 207, "motorbike": 258, "person": 284, "potted_plant": 308,
    "sheep": 347, "sofa": 368, "train": 416, "tv_monitor": 427, "bag": 9, "bed": 18, "bench": 22, "book": 33,
    "building": 44, "cabinet": 46, "ceiling": 68, "cloth": 80, "computer": 85, "cup": 104, "door": 115, "fence": 144,
    "floor": 158, "flower": 159, "food": 162, "grass": 187, "ground": 189, "keyboard": 220, "light": 232,
    "mountain": 259, "mouse": 260, "curtain": 105, "platform": 296, "sign": 355, "plate": 295, "road": 324,
    "rock": 326, "shelves": 349, "sidewalk": 354, "sky": 360, "snow": 366, "bedclothes": 19, "track": 415, "tree": 420,
    "truck": 424, "wall": 440, "water": 445, "window": 454, "wood": 458,
}  # fmt: skip
OTHER = 431  # "unknown", which is none of the 59 classes


def write_context_case(out: Path, seed: int, index: int) -> tuple[str, str, bool]:
    """Write picture ``index`` (from 0) and its label map with PASCAL-Context's numbers.

    Args:
        out: folder that gets ``VOC2010``, ``trainval`` and ``labels.txt``.
        seed: random seed, >= 0.
        index: number of the case, from 0.

    Returns:
        The list that names the picture, its name, and whether it shows a person.
    """
    rng, cast = case_generator(seed, CONTEXT_KIND, index), CASTS[index % len(CASTS)]
    scene = draw(rng, SIZES[rng.integers(len(SIZES))], cast)
    picture, label = scene.picture.copy(), _surround(scene, cast[0])
    _add_things(rng, picture, label, scene.horizon, cast[0], index)
    numbers = np.array([OTHER, *(NUMBERS[entry.name] for entry in CONTEXT[1:])], np.uint16)
    name = f"2008_{index:06d}"
    write_bytes(out / "VOC2010/JPEGImages" / f"{name}.jpg", jpeg(picture))
    write_bytes(out / "trainval" / f"{name}.mat", encode_mat({"LabelMap": numbers[label]}))
    named = {number: CONTEXT_NAMES.get(key, key.replace("_", "")) for key, number in NUMBERS.items()} | {
        OTHER: "unknown"
    }
    text = "".join(f"{number}: {named[number]}\n" for number in sorted(named))
    write_bytes(out / "labels.txt", text.encode())
    return PLACES[index % len(PLACES)], name, bool((label == INDEX["person"]).any())


def _surround(scene: Scene, setting: str) -> NDArray[np.uint8]:
    label = scene.classes[scene.numbers]
    rows = np.arange(len(label))[:, None] < scene.horizon
    above, below = (INDEX[name] for name in SURROUNDINGS[setting])
    return np.where(label > 0, label, np.where(rows, above, below)).astype(np.uint8)


def _add_things(
    rng: np.random.Generator,
    picture: NDArray[np.uint8],
    label: NDArray[np.uint8],
    horizon: float,
    setting: str,
    index: int,
) -> None:
    """Paint the things of a setting in the foreground, as rectangles; its pictures share them."""
    rows, columns = label.shape
    pictures = [n for n, cast in enumerate(CASTS) if cast[0] == setting]
    for table, up in ((ABOVE, True), (GROUND, False)):
        things = list(table.get(setting, {}).items())[pictures.index(index % len(CASTS)) :: len(pictures)]
        slots = rng.permutation(len(things))
        for (name, (wide, tall)), slot in zip(things, slots, strict=True):
            width, height = (max(round(min(rows, columns) * side), 6) for side in (wide, tall))
            x = round((columns - width) * (slot + rng.uniform(0.2, 0.8)) / len(things))
            low = rng.uniform(0.7, 1) * horizon if up else rng.uniform(horizon + height, rows)
            y = max(min(round(low), rows) - height, 0)
            part = (slice(y, y + height), slice(max(x, 0), max(x, 0) + width))
            shape = picture[part].shape
            shade = 255 * np.array(COATS[rng.integers(len(COATS))]) * rng.uniform(0.8, 1.2)
            picture[part] = np.clip(shade + rng.normal(0, 6, shape), 0, 255)
            label[part] = INDEX[name]


def write_parts_case(out: Path, seed: int, index: int) -> tuple[str, str, bool]:
    """Write picture ``index`` (from 0) with persons and a dog, and PASCAL-Part's masks of their parts.

    Args:
        out: folder that gets ``VOC2010`` and ``Annotations_Part``.
        seed: random seed, >= 0.
        index: number of the case, from 0.

    Returns:
        The list that names the picture, its name, and whether it shows a person.
    """
    rng, setting = case_generator(seed, PARTS_KIND, index), ("street", "meadow", "room")[index % 3]
    size = SIZES[rng.integers(len(SIZES))]
    canvas, horizon = Canvas(size), size[1] * rng.uniform(0.35, 0.5)
    paint_backdrop(canvas, rng, setting, horizon)
    dog = next(kind for kind in KINDS if kind.name == "dog")
    dog.paint(Pen(canvas, rng, (size[0] * rng.uniform(0.2, 0.8), size[1] * 0.95), min(size) * 0.3 / dog.size, 1))
    persons = int(rng.integers(1, 4))
    for person in range(persons):
        tall = min(size) * rng.uniform(0.6, 0.9)
        at = (size[0] * (person + rng.uniform(0.3, 0.7)) / persons, size[1] * rng.uniform(0.85, 0.98))
        _paint_person(Pen(canvas, rng, at, tall / 1.8), 2 + person * len(PARTS))
    scene = render(canvas, rng, np.zeros(2 + persons * len(PARTS), np.uint8))
    name = f"2008_{index:06d}"
    write_bytes(out / "VOC2010/JPEGImages" / f"{name}.jpg", jpeg(scene.picture))
    write_bytes(out / "Annotations_Part" / f"{name}.mat", encode_mat({"anno": _annotate(scene.numbers, name, persons)}))
    return PLACES[index % len(PLACES)], name, True


PARTS = tuple(
    part for part in PART_CLASSES if part not in ("leye", "reye", "lear", "rear", "lebrow", "rebrow", "nose", "mouth")
)


def _paint_person(p: Pen, first: int) -> None:
    """Paint a person who walks, part by part; their numbers begin at ``first``."""
    swing = p.rng.uniform(-0.25, 0.25)
    trousers, skin = p.vary_color(COATS[p.rng.integers(len(COATS))]), p.vary_color((0.66, 0.48, 0.38), 0.06)

    def take(part: str) -> None:
        p.number = first + PARTS.index(part)

    def arm(side: str, x: float, hand: float, shade: float) -> None:
        take(f"{side}uarm")
        p.line([(x, 1.38), (1.35 * x, 1.12)], 0.1, scale_color(p.coat, shade))
        take(f"{side}larm")
        p.line([(1.35 * x, 1.1), (hand, 0.9)], 0.09, scale_color(p.coat, shade))
        take(f"{side}hand")
        p.disc(hand, 0.84, 0.055, 0.055, skin)

    arm("l", -0.2, -0.22 - swing, 0.8)
    for side, way in (("l", -1), ("r", 1)):
        knee, ankle = way * (0.08 + 0.5 * swing), way * (0.08 + swing)
        take(f"{side}uleg")
        p.line([(0.06 * way, 0.85), (knee, 0.48)], 0.15, trousers)
        take(f"{side}lleg")
        p.line([(knee, 0.45), (ankle, 0.12)], 0.13, trousers)
        take(f"{side}foot")
        p.line([(ankle, 0.04), (ankle + 0.12, 0.04)], 0.09, skin)
    take("torso")
    p.polygon([(-0.2, 0.8), (0.2, 0.8), (0.24, 1.42), (0.1, 1.5), (-0.1, 1.5), (-0.24, 1.42)], p.coat)
    take("neck")
    p.box(0, 1.47, 0.12, 0.1, skin)
    arm("r", 0.2, 0.22 + swing, 1.1)
    take("head")
    p.disc(0.01, 1.64, 0.1, 0.13, skin)
    take("hair")
    p.disc(-0.02, 1.74, 0.1, 0.06, p.vary_color((0.2, 0.15, 0.1), 0.05))


def _annotate(numbers: NDArray[np.uint8], name: str, persons: int) -> dict[str, object]:
    """Return the struct ``anno`` of PASCAL-Part's files."""
    fields = [(field, object) for field in ("class", "class_ind", "mask", "parts")]
    objects = np.zeros((1, 1 + persons), fields)
    objects[0, 0] = ("dog", 12, (numbers == 1).astype(np.uint8), np.zeros((0, 0)))
    for person in range(persons):
        first = 2 + person * len(PARTS)
        masks = {part: (numbers == first + place).astype(np.uint8) for place, part in enumerate(PARTS)}
        seen = [(part, mask) for part, mask in masks.items() if mask.any()]
        parts = np.zeros((1, len(seen)), [("part_name", object), ("mask", object)])
        for place, pair in enumerate(seen):
            parts[0, place] = pair
        whole = ((numbers >= first) & (numbers < first + len(PARTS))).astype(np.uint8)
        objects[0, 1 + person] = ("person", 15, whole, parts)
    return {"imname": name, "objects": objects}


def write_lists(out: Path, written: Iterable[tuple[str, str, bool]]) -> None:
    """Write the lists of the cases that the functions above wrote."""
    named = sorted(written, key=lambda entry: entry[1])
    for part in ("train", "val"):
        own = [(name, "1" if person else "-1") for of, name, person in named if of == part]
        folder = out / "VOC2010" / LISTS
        write_bytes(folder / f"{part}.txt", "".join(f"{name}\n" for name, _ in own).encode())
        write_bytes(folder / f"person_{part}.txt", "".join(f"{name} {mark:>2}\n" for name, mark in own).encode())
