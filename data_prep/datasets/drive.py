"""Prepare photographs of the retina of DRIVE (Staal et al., IEEE TMI 23(4), 2004), vessels drawn by hand.

Images of 565 x 584 pixels, ``21_training.tif`` to ``40_training.tif`` and ``01_test.tif`` to ``20_test.tif``, each with
``NN_manual1.gif`` and the field of view as ``..._mask.gif``. The second observer's ``NN_manual2.gif`` isn't used.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from data_prep.files import Array
from data_prep.layout import Case, Dataset, Volume, prepare_dataset
from data_prep.listing import find_by_name
from data_prep.pictures import read_image
from data_prep.published import describe_shortfall
from medpos.core import labels
from medpos.core.colors import RGB
from medpos.core.errors import InputError
from medpos.data.schema import ASSUMED, is_phantom

IMAGES = {"training": 20, "test": 20}
# The official test images are the test part; the official training images are split 16 to 4.
WEIGHTS = (16, 4, 0)
DESCRIPTION = "Colour photographs of the retina (DRIVE) with the blood vessels; the official test images."
_IMAGE, _MASK = r"(?:\.tiff?|\.png)", r"(?:\.gif|\.tiff?|\.png)"
_NO_TEST_LABELS = (
    "the copy of grand-challenge.org has labels of the training images only. Use a copy with test/1st_manual, or "
    "remove the folder test and do without test images"
)


def prepare(source: Path, out: Path, seed: int = 0, workers: int = 1, strict: bool = False) -> str:
    """Prepare DRIVE with the arguments of ``python -m data_prep drive``, and return one line about it."""
    dataset = Dataset("drive", DESCRIPTION, labels.DRIVE, WEIGHTS, (0, 255), is_phantom(source), RGB, spacing=ASSUMED)
    cases = find_cases(source)
    done = prepare_dataset(dataset, cases, out, seed, workers, strict)
    counts = {part: sum(case.case.endswith(part) for case in cases) for part in IMAGES}
    return done + describe_shortfall(counts, IMAGES)


def find_cases(source: Path) -> list[Case]:
    """Pair the images at or below ``source`` with their vessels and their fields of view.

    Raises:
        InputError: there is no training image, a file occurs twice, or an image or its vessels are missing.
    """
    images = find_by_name(source, rf"(\d\d_(?:training|test)){_IMAGE}")
    if not any(name.endswith("training") for name in images):
        raise InputError(
            f"{source}: expected NN_training.tif, found none; --source holds DRIVE's folders training and test."
        )
    vessels = find_by_name(source, rf"(\d\d)_manual1{_MASK}")
    views = find_by_name(source, rf"(\d\d_(?:training|test))_mask{_MASK}")
    cases = []
    for name, image in sorted(images.items()):
        number, part = name.split("_")
        if number not in vessels:
            why = _NO_TEST_LABELS if part == "test" else "unpack DRIVE again"
            raise InputError(f"{image}: expected its vessels {number}_manual1.gif in {source}, found none; {why}.")
        sources = {"image": image, "label": vessels.pop(number), **({"view": views[name]} if name in views else {})}
        cases.append(Case(name, name, sources, read_case, part="test" if part == "test" else ""))
    for number, path in vessels.items():
        raise InputError(
            f"{path}: expected its image {number}_training.tif or {number}_test.tif, found none; unpack DRIVE again."
        )
    return cases


def read_case(case: Case) -> Volume:
    """Read one photograph.

    Returns:
        Image (565, 584, 1, 3) uint8, axes: column, row, one slice, color; label (565, 584, 1): 1 vessel. The field of
        view doesn't change the label; its share of the image is recorded.

    Raises:
        InputError: a picture is damaged, a mask is empty or has more than two values, or the sizes differ.
    """
    path = case.sources["image"]
    image = read_image(path, len(RGB))
    masks = {role: read_mask(case.sources[role]) for role in ("label", "view") if role in case.sources}
    for role, mask in masks.items():
        if mask.shape != image.data.shape[:2]:
            sizes = " and ".join(" x ".join(map(str, shape)) for shape in (mask.shape, image.data.shape[:2]))
            raise InputError(f"{case.sources[role]}: differs in size from {path.name} ({sizes}); unpack DRIVE again.")
    label = masks["label"].astype(np.uint8)[..., None]
    details = {}
    if "view" in masks:
        outside = int((masks["label"] & ~masks["view"]).sum())
        details = {"field_of_view": round(float(masks["view"].mean()), 6), "vessel_pixels_outside_view": outside}
    return Volume(image.data.astype(np.uint8), label, image.affine, image.spacing, details)


def read_mask(path: Path) -> Array:
    """Read a black and white picture as (columns, rows) bool.

    Raises:
        InputError: the picture is damaged, has other values than black and white, or is all black.
    """
    try:
        with Image.open(path) as picture:
            mask = np.asarray(picture.convert("L")).T
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: expected a complete picture ({error}); unpack DRIVE again.") from error
    values = np.unique(mask).tolist()
    if len(values) > 2 or (len(values) == 2 and values[0] != 0):
        raise InputError(f"{path}: expected gray values 0 and 255, got {values[:9]}; unpack DRIVE again.")
    if not mask.any():
        raise InputError(f"{path}: expected a mask, got an empty one; unpack DRIVE again, or remove the image.")
    found: Array = mask > 0
    return found
