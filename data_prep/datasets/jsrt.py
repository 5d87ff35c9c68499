"""Prepare chest X-rays: JSRT images (Shiraishi et al., AJR 174, 2000), SCR masks (van Ginneken et al., MedIA 10, 2006).

The raw ``.IMG`` has no header: 2048 x 2048 big-endian 16-bit numbers, 12 bits used, high = dark, 0.175 mm per pixel.
The masks are 1024 x 1024 GIF files in the same orientation: the patient's right lung is on the image's left.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data_prep.files import Array
from data_prep.layout import Case, Dataset, Volume, prepare_dataset
from medpos.core import labels
from medpos.core.errors import InputError
from medpos.data.schema import STANDARD, is_phantom
from medpos.io.pictures.jsrt import HIGHEST, PIXEL_MM, RAW_SIDE, coronal_affine, read_image

MASK_SIDE = 1024
_CLINICAL = ("CLNDAT_EN.TXT", "CNNDAT_EN.TXT")  # with and without nodules
# The study's 156 training, 23 validation and 68 test images of 247.
WEIGHTS = (156, 23, 68)
DESCRIPTION = "Frontal chest X-rays (JSRT) with lungs and heart (SCR), one slice each, bright = dense."


def prepare(
    images: Path,
    masks: Path,
    out: Path,
    size: int = 1024,
    clavicles: bool = False,
    seed: int = 0,
    workers: int = 1,
    strict: bool = False,
) -> str:
    """Prepare JSRT with the arguments of ``python -m data_prep jsrt``, and return one line about it."""
    if size < 1 or RAW_SIDE % size:
        raise InputError(f"--size {size}: expected a divisor of {RAW_SIDE}, such as 2048, 1024, 512, 256 or 128.")
    classes = labels.JSRT + (labels.CLAVICLES if clavicles else ())
    phantom = is_phantom(images) or is_phantom(masks)
    dataset = Dataset("jsrt", DESCRIPTION, classes, WEIGHTS, (0, HIGHEST), phantom, spacing=STANDARD)
    return prepare_dataset(dataset, find_cases(images, masks, classes, size), out, seed, workers, strict)


def find_cases(images: Path, masks: Path, classes: Sequence[labels.Label], size: int) -> list[Case]:
    """Pair each ``.IMG`` at or below ``images`` with its masks, one for each organ of ``classes``.

    Raises:
        InputError: there is no image, a file occurs twice, or a mask or its image is missing.
    """
    found = {"image": _by_stem(images, images.rglob("*"), ".img")}
    if not found["image"]:
        raise InputError(f"{images}: expected *.IMG files, found none; --images is JSRT's folder All247images.")
    folds = [root / fold / "masks" for root in (masks, masks / "scratch") for fold in ("fold1", "fold2")]
    for organ in classes[1:]:
        paths = _by_stem(masks, (path for fold in folds for path in (fold / organ.title).glob("*")), ".gif")
        for stem in sorted(found["image"].keys() - paths.keys()):
            raise InputError(
                f"{found['image'][stem]}: expected the {organ.title} mask {masks}/fold1/masks/{organ.title}/{stem}.gif "
                "(or fold2), found none; unpack SCR again, or remove the image."
            )
        for stem in sorted(paths.keys() - found["image"].keys()):
            raise InputError(
                f"{paths[stem]}: expected {stem}.IMG in {images}, found none; unpack JSRT again, or remove the mask."
            )
        found[organ.name] = paths
    patients = read_patients(images)
    return [
        Case(
            stem,
            stem,
            {role: paths[stem] for role, paths in found.items()},
            read_case,
            {"size": size},
            patients.get(stem, {}),
        )
        for stem in sorted(found["image"])
    ]


def read_patients(images: Path) -> dict[str, dict[str, Any]]:
    """Read sex and age from JSRT's clinical texts, if they stand in the folder of the images or beside it.

    ``CLNDAT_EN.txt`` and ``CNNDAT_EN.TXT`` have a line for each image, with tabs: its file first, the age right before
    the sex; an unknown age is ``?``.

    Args:
        images: folder of the ``.IMG`` files.

    Returns:
        ``sex`` (``female`` or ``male``) and ``age`` in years, as far as they are known, by the stem of the image.
    """
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(path for folder in (images, images.parent) for path in _texts(folder)):
        for line in path.read_text(encoding="latin-1").splitlines():
            words = [word.strip() for word in line.split("\t")]
            place = next((n for n, word in enumerate(words) if word.lower() in ("female", "male")), None)
            if place is not None:
                age = words[place - 1]
                about: dict[str, Any] = {"sex": words[place].lower(), **({"age": int(age)} if age.isdecimal() else {})}
                found[words[0].upper().removesuffix(".IMG")] = about
    return found


def _texts(folder: Path) -> list[Path]:
    """List JSRT's clinical texts in a folder, or in its folder ``Clinical_Information``."""
    paths = [*folder.glob("*"), *(folder / "Clinical_Information").glob("*")]
    return [path for path in paths if path.name.upper() in _CLINICAL and path.is_file()]


def _by_stem(root: Path, paths: Iterable[Path], suffix: str) -> dict[str, Path]:
    """Return paths by upper-case stem; hidden files such as macOS's ``._JPCLN001.IMG`` are skipped."""
    if not root.is_dir():
        raise InputError(f"{root}: no such folder.")
    found: dict[str, Path] = {}
    for path in sorted(path for path in paths if path.suffix.lower() == suffix and not path.name.startswith(".")):
        stem = path.stem.upper()
        if stem in found:
            raise InputError(f"{path}: a second {stem} beside {found[stem]}; remove or rename one.")
        found[stem] = path
    return found


def read_case(case: Case) -> Volume:
    """Read one X-ray and its masks.

    Returns:
        Image (size, size, 1) int16 in [0, 4095], high = dense; label likewise; axes: column, row, one slice.
    """
    size = case.options["size"]
    spacing = PIXEL_MM * RAW_SIDE / size
    masks = {role: read_mask(path, size) for role, path in case.sources.items() if role != "image"}
    image = read_image(case.sources["image"], size)
    details = {"overlap_pixels": count_overlaps(masks)}
    label = np.zeros((size, size), np.uint8)
    for index, mask in enumerate(masks.values(), 1):  # later organs are painted over earlier ones
        label[mask] = index
    affine = coronal_affine(size, spacing)
    return Volume(image.T[..., None], label.T[..., None], affine, (spacing, spacing, 1.0), details)


def read_mask(path: Path, size: int) -> Array:
    """Read an SCR mask as (size, size) bool rows, by nearest neighbor."""
    try:
        with Image.open(path, formats=["GIF"]) as gif:
            mask = np.asarray(gif.convert("L")) > 0
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: expected a complete GIF file ({error}); unpack SCR again.") from error
    if mask.shape != (MASK_SIDE, MASK_SIDE):
        found = " x ".join(map(str, mask.shape[::-1]))
        raise InputError(f"{path}: expected {MASK_SIDE} x {MASK_SIDE} pixels, got {found}; unpack SCR again.")
    if not mask.any():
        raise InputError(f"{path}: expected a mask, got an empty one; unpack SCR again, or remove the case.")
    nearest = (2 * np.arange(size) + 1) * MASK_SIDE // (2 * size)
    return np.asarray(mask[np.ix_(nearest, nearest)])


def count_overlaps(masks: dict[str, Array]) -> dict[str, int]:
    """Count the pixels that several masks share, e.g. ``{"right_lung+heart": 812}``; each pixel counts once."""
    code = sum(mask.astype(np.int64) << bit for bit, mask in enumerate(masks.values()))
    counts = np.bincount(np.ravel(code), minlength=1)
    found = {}
    for number in np.flatnonzero(counts).tolist():
        names = [name for bit, name in enumerate(masks) if number >> bit & 1]
        if len(names) > 1:
            found["+".join(names)] = int(counts[number])
    return found
