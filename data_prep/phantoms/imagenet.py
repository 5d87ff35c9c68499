"""Write object phantoms in ImageNet's folders: one class per picture, seen from shape and surroundings, not color."""

from pathlib import Path

from data_prep.phantoms.scene import SETTINGS, draw
from data_prep.phantoms.shapes import case_generator
from data_prep.phantoms.voc import jpeg
from medpos.core.files import write_bytes

KIND = 10
SIZES = ((200, 150), (150, 200), (180, 160))
# WordNet numbers of ImageNet's classes: airliner, speedboat, sports car, tabby, school bus, Labrador, sorrel, ram,
# studio couch, mountain bike.
CLASSES = {
    "n02690373": "aeroplane", "n04273569": "boat", "n04285008": "car", "n02123045": "cat", "n04146614": "bus",
    "n02099712": "dog", "n02389026": "horse", "n02412080": "sheep", "n04344873": "sofa", "n03792782": "bicycle",
}  # fmt: skip
PARTS = ("train", "train", "train", "train", "val")


def write_case(out: Path, seed: int, index: int) -> None:
    """Write picture ``index`` (from 0) into the folder of its class.

    Args:
        out: folder that gets the layout of the download: ``train`` and ``val``, with one folder per class.
        seed: random seed, >= 0.
        index: number of the case, from 0.
    """
    rng = case_generator(seed, KIND, index)
    number, kind = list(CLASSES.items())[index % len(CLASSES)]
    part = PARTS[index // len(CLASSES) % len(PARTS)]
    settings = [setting for setting, kinds in SETTINGS.items() if kind in kinds]
    cast = (settings[rng.integers(len(settings))], kind)
    scene = draw(rng, SIZES[rng.integers(len(SIZES))], cast, extras=0)
    name = f"{number}_{index}" if part == "train" else f"ILSVRC2012_val_{index:08d}"
    write_bytes(out / part / number / f"{name}.JPEG", jpeg(scene.picture))
