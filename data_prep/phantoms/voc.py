"""Write object phantoms like PASCAL VOC 2012 (``JPEGImages``, ``SegmentationClass``, ``ImageSets``) and SBD."""

from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageColor
from scipy.io import savemat

from data_prep.phantoms.scene import CASTS, Scene, draw
from data_prep.phantoms.shapes import case_generator
from medpos.core.files import write_bytes
from medpos.core.labels import VOC

KIND = 7
SIZES = ((500, 375), (375, 500), (500, 333), (334, 500))
PARTS = ("train", "val", "train", "train", "val")  # a length without common divisor with the casts
SBD_PARTS = ("train", "train", "train", "val")
HEADER = b"MATLAB 5.0 MAT-file"  # the first 116 bytes of a MATLAB file are text, often with a time stamp


def write_case(out: Path, seed: int, index: int) -> tuple[str, str]:
    """Write picture ``index`` (from 0) and its label map, a palette PNG.

    Args:
        out: folder that gets the layout of ``VOC2012``.
        seed: random seed, >= 0.
        index: number of the case, from 0.

    Returns:
        The list that names the picture, and its name.
    """
    name, scene = _scene(seed, index)
    write_bytes(out / "JPEGImages" / f"{name}.jpg", jpeg(scene.picture))
    write_bytes(out / "SegmentationClass" / f"{name}.png", palette_png(scene.label))
    return PARTS[index % len(PARTS)], name


def write_lists(out: Path, written: Iterable[tuple[str, str]]) -> None:
    """Write the lists of the cases that :func:`write_case` wrote."""
    named = sorted(written, key=lambda entry: entry[1])
    for part in ("train", "val", "trainval"):
        text = "".join(f"{name}\n" for of, name in named if of in part)
        write_bytes(out / "ImageSets/Segmentation" / f"{part}.txt", text.encode())


def write_sbd_case(out: Path, seed: int, index: int) -> tuple[str, str]:
    """Write SBD's picture ``index``, which is VOC's ``2 index``, so that half of the pictures are VOC's too.

    Args:
        out: folder that gets the layout of ``benchmark_RELEASE``.
        seed: random seed, >= 0.
        index: number of the case, from 0.

    Returns:
        The list that names the picture, and its name.
    """
    name, scene = _scene(seed, 2 * index)
    classes = scene.classes[scene.numbers]
    present = np.unique(classes[classes > 0])
    content = {"GTcls": {"Segmentation": classes, "CategoriesPresent": present}}
    write_bytes(out / "dataset/cls" / f"{name}.mat", encode_mat(content))
    write_bytes(out / "dataset/img" / f"{name}.jpg", jpeg(scene.picture))
    return SBD_PARTS[index % len(SBD_PARTS)], name


def write_sbd_lists(out: Path, written: Iterable[tuple[str, str]]) -> None:
    """Write the lists of the cases that :func:`write_sbd_case` wrote."""
    named = sorted(written, key=lambda entry: entry[1])
    for part in ("train", "val"):
        text = "".join(f"{name}\n" for of, name in named if of == part)
        write_bytes(out / "dataset" / f"{part}.txt", text.encode())


def _scene(seed: int, index: int) -> tuple[str, Scene]:
    rng = case_generator(seed, KIND, index)
    return f"2007_{index:06d}", draw(rng, SIZES[rng.integers(len(SIZES))], CASTS[index % len(CASTS)])


def encode_mat(content: dict[str, Any]) -> bytes:
    """Encode variables as a MATLAB file, without its time stamp."""
    buffer = BytesIO()
    savemat(buffer, content, do_compression=True)  # type: ignore[arg-type]  # it accepts file objects, unlike its stubs
    return HEADER.ljust(116) + buffer.getvalue()[116:]


def jpeg(picture: NDArray[np.uint8]) -> bytes:
    """Encode a photograph as JPEG."""
    buffer = BytesIO()
    Pillow.fromarray(picture).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def palette_png(label: NDArray[np.uint8]) -> bytes:
    """Encode a label map as PNG with VOC's palette, borders nearly white."""
    colors = np.zeros((256, 3), np.uint8)
    colors[: len(VOC)] = [ImageColor.getrgb(entry.color) for entry in VOC]
    colors[255] = (224, 224, 192)
    picture, buffer = Pillow.fromarray(label, "P"), BytesIO()
    picture.putpalette(colors.ravel().tolist())
    picture.save(buffer, "PNG")
    return buffer.getvalue()
