"""Write a bundle for custom data from the project's fragments, with values chosen from the data, and the reasons."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from medpos.bundle.fragments import Config, adapt_metadata, dumps, load_recipes, merge
from medpos.bundle.training_step import find_smallest_batch
from medpos.core.config import as_literal
from medpos.core.errors import InputError
from medpos.core.files import remove_partials, write_text
from medpos.core.lock import FolderLock
from medpos.data.folder import DataFolder
from medpos.data.schema import SPLITS
from medpos.transforms import channel_count

# Networks of medpos.networks with logits of the size of the image.
NETWORKS = {
    "unet": "UNet",
    "small": "SmallCNN",
    "unetpp": "UNetPlusPlus",
    "plain_unet": "PlainUNet",
    "segnet": "SegNet",
    "segnet_basic": "SegNetBasic",
    "usegnet": "USegNet",
    "auxiliary_unet": "AuxiliaryUNet",
}
LOSSES = ("cross_entropy", "bce_dice")
SUPERVISED = "unetpp"  # the network with a loss at every level
STUDY_NETWORKS = ("unet", "small")  # with fragments of their own, for the padding that the study compares
# Endings of the names of variants, with which the studies compare the plain bundle.
POSITION, MEAN_MASK = "_pe", "_mean_mask"
BUILD_WITH_POSITION = "medpos.networks.build_with_position"
STRIDE = 16  # px; the U-Net takes images with sides that are multiples of it
# px; the deepest feature map then has several pixels, as batch norm needs where a batch has one image
LEAST_SIDE = 2 * STRIDE
USUAL_SIDE = 256  # px, as in the study; a batch of 20 such images limits the memory
MAX_SIDE = 512  # px
USUAL_BATCH = 20
MIN_STEPS = 10  # per epoch, if batches of 2 images or more allow it
MIN_DIAMETER = 8  # px on the network's grid; smaller objects are hardly segmented
ALIKE = 1.1  # ratio of pixel sizes up to which images are resized rather than resampled to one pixel size
SAMPLE = 40  # maximum number of training cases to measure
SLICES, PIXELS = 20, 100_000  # maximum numbers of slices and pixels to measure per case
PERCENTILES = (0.5, 99.5)
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Choices:
    """Hold the choices made from the data.

    Args:
        fragments: names of the fragments for the data; the fragment of the network follows them.
        values: values of the bundle's keys, in the notation of :mod:`medpos.bundle.fragments`.
        reasons: one line per choice.
    """

    fragments: tuple[str, ...]
    values: dict[str, Any]
    reasons: list[str]


@dataclass(frozen=True)
class Training:
    """Choose how a new bundle trains.

    Args:
        loss: ``cross_entropy``, or ``bce_dice``, UNet++'s loss of binary cross-entropy and Dice, for one class beside
            the background; the network then has one output, the logit of the class.
        deep_supervision: whether UNet++ has a loss at every level, and the bundle the entry point ``prune``.
    """

    loss: str = LOSSES[0]
    deep_supervision: bool = False


def write(
    name: str,
    data: Path,
    network: str,
    endings: Sequence[str],
    source: Path,
    out: Path,
    replace: bool = False,
    training: Training = Training(),
) -> list[Path]:
    """Write a bundle and its variants.

    Args:
        name: name of the bundle.
        data: prepared folder, written into the bundle as given; as an expression if MONAI would change the text.
        network: one of ``NETWORKS``.
        endings: endings of the variants, ``POSITION`` and ``MEAN_MASK``.
        source: folder of the fragments.
        out: folder for the bundles.
        replace: True to overwrite bundles with other content.
        training: loss and supervision.

    Returns:
        Files of the bundles; existing files with the same content are not written again.

    Raises:
        InputError: the name or the folder can't be used, the network is unknown, a bundle with other content exists, or
            another process writes into the folder.
    """
    _check(name, network, source)
    folder = DataFolder(data)
    _check_training(training, network, folder)
    choices = choose(folder)
    own = {"dataset_dir": as_literal(str(data)), "data_folder": "@dataset_dir", **choices.values}
    texts = {}
    for ending in ("", *endings):
        content = _bundle(f"{name}{ending}", network, ending, choices, own, source, len(folder.channels), training)
        texts[out / f"{name}{ending}.json"] = dumps(content)
    with FolderLock(out, inside=True, other="choose another --out"):
        remove_partials(out, is_shared=True, pattern=".*.partial")
        _write(texts, _support_files(folder, source.parent, out, training), replace)
    return list(texts)


def _write(texts: dict[Path, str], support: dict[Path, str], replace: bool) -> None:
    """Write bundles, and the files that MONAI reads beside them unless they exist."""
    changed = [path for path, text in texts.items() if path.exists() and path.read_text(encoding="utf-8") != text]
    if changed and not replace:
        raise InputError(
            f"{changed[0]}: expected a new file, got a bundle with other content; take another name, or add --replace"
        )
    for path, text in {**texts, **support}.items():
        if not path.exists() or path in changed:
            write_text(path, text)


def _support_files(folder: DataFolder, project: Path, out: Path, training: Training) -> dict[Path, str]:
    """Return the texts of ``logging.conf`` and of the metadata without and with position channels, by file."""
    plain = json.loads((project / "metadata.json").read_text(encoding="utf-8"))
    plain["task"] = plain["description"] = f"2-D segmentation of {folder.name}, custom data"
    classes = [label.name for label in folder.labels][training.loss == "bce_dice" :]
    contents = {
        "metadata.json": adapt_metadata(plain, folder.channels, classes),
        "metadata_pe.json": adapt_metadata(plain, (*folder.channels, "x", "y"), classes),
    }
    texts = {out / name: dumps(content) for name, content in contents.items()}
    return {**texts, out / "logging.conf": (project / "logging.conf").read_text(encoding="utf-8")}


def read_reasons(bundle: Path) -> list[str]:
    """Read the reasons for the choices from a bundle."""
    reasons: list[str] = json.loads(bundle.read_text(encoding="utf-8"))["_desc_"][1:]
    return reasons


def _check(name: str, network: str, source: Path) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name, re.ASCII):
        raise InputError(
            f"NAME: expected letters, digits, '_', '-' and '.', beginning with a letter or digit, got {name!r}"
        )
    if name in load_recipes(source):
        raise InputError(f"NAME: expected a new name, got {name!r}, a bundle of the project; take another one")
    if network not in NETWORKS:
        raise InputError(f"--network: expected one of {', '.join(NETWORKS)}, got {network!r}")


def _check_training(training: Training, network: str, folder: DataFolder) -> None:
    if training.loss not in LOSSES:
        raise InputError(f"--loss: expected one of {', '.join(LOSSES)}, got {training.loss!r}")
    if training.loss == "bce_dice" and len(folder.labels) != 2:
        raise InputError(
            f"--loss: bce_dice expects one class beside the background, got {len(folder.labels) - 1}; use cross_entropy"
        )
    if training.deep_supervision and network != SUPERVISED:
        raise InputError(f"--deep-supervision: expected --network {SUPERVISED}, got {network}; add it")


def _bundle(
    name: str,
    network: str,
    ending: str,
    choices: Choices,
    own: Config,
    source: Path,
    channels: int,
    training: Training,
) -> Config:
    fragments = ["base", "recipe/learned", *choices.fragments]
    if ending == MEAN_MASK:
        fragments = ["base", *choices.fragments, "network/mean_mask"]
    else:
        fragments += [f"network/{network}"] if network in STUDY_NETWORKS else []
        fragments += ["recipe/prune"] if training.deep_supervision else []
        own = {**own, **_network(network), **_supervise(training), "network_def::in_channels": channels}
    if ending == POSITION:
        fragments.append("recipe/pe")
        fragments += ["recipe/pe_per_slice"] if "data/per_slice" in fragments else []
        own |= {"network_def::_target_": BUILD_WITH_POSITION, "network_def::network": f"$networks.{NETWORKS[network]}"}
        own["network_def::in_channels"] = channels + channel_count("linear")
        own["+steps::probe_position"] = {"image_channels": channels}
    origin = f"Written by 'python -m medpos new-bundle' from {', '.join(fragments)}; edit it as you like."
    content = merge(source, fragments, name, [origin, *choices.reasons], own)
    if training.loss == "bce_dice" and ending != MEAN_MASK:
        content["inferer"] = {"_target_": "medpos.inferers.BackgroundInferer", "inferer": content["inferer"]}
    return content


def _supervise(training: Training) -> Config:
    """Return the values for the loss and the supervision."""
    own: Config = {}
    loss = {"_target_": "torch.nn.CrossEntropyLoss"}
    if training.loss == "bce_dice":
        loss = {"_target_": "medpos.losses.BCEDice"}
        own |= {"network_def::out_channels": 1, "train::loss": loss}
    if training.deep_supervision:
        own |= {"train::loss": {"_target_": "medpos.losses.DeepSupervision", "loss": loss}}
        own |= {"supervision_mode": "accurate"}
        own["+network_def"] = {"deep_supervision": True, "mode": "@supervision_mode"}
    return own


def _network(name: str) -> Config:
    """Return the values for a network without a fragment."""
    if name in STUDY_NETWORKS:
        return {}
    own: Config = {"network_def::_target_": f"medpos.networks.{NETWORKS[name]}"}
    if name == "auxiliary_unet":
        own["train::loss"] = {"_target_": "medpos.losses.AuxiliaryLoss"}
    return own


def choose(folder: DataFolder) -> Choices:
    """Choose image size, batch size and intensity normalization from the training cases.

    Args:
        folder: prepared folder.

    Raises:
        InputError: there is no training case, or a file can't be read.
    """
    cases = folder.cases("training")
    sample = [cases[n] for n in np.unique(np.linspace(0, len(cases) - 1, SAMPLE).astype(int))]
    square, reasons = _by_spacing(cases) if _differ(cases, folder) else _by_size(cases, sample, folder)
    size = square["image_size"]
    reasons[-1] += _remarks(cases, folder)
    slices = sum(int(case["shape"][2]) for case in cases)
    batch = _batch_size(size, slices)
    reasons += [
        f"batch_size {batch}: at most {USUAL_BATCH} and the memory of {USUAL_BATCH} images of {USUAL_SIDE} x "
        f"{USUAL_SIDE} px; {MIN_STEPS} steps an epoch and no last batch of one image if possible, with {slices} "
        "training images or slices.",
        *(
            f"no {split} case: a training needs one; prepare images of further persons."
            for split in SPLITS
            if _is_empty(folder, split)
        ),
    ]
    values: dict[str, Any] = {
        **square,
        "batch_size": batch,
        "network_def::out_channels": len(folder.labels),
    }
    scaling, window, reason = _intensity(folder, sample)
    spaced = [] if folder.nominal_spacing else ["data/spaced"]
    return Choices(
        ("data/images" if folder.is_flat else "data/volumes", *spaced, f"data/{scaling}"),
        {**values, **window},
        [*reasons, reason],
    )


def _is_empty(folder: DataFolder, split: str) -> bool:
    try:
        folder.cases(split)
    except InputError:
        return True
    return False


def _batch_size(size: int, slices: int) -> int:
    """Return the number of images in a batch, for images of this size in pixels."""
    most = min(USUAL_BATCH * USUAL_SIDE**2 // size**2, USUAL_BATCH)
    wanted = max(2, min(most, slices // MIN_STEPS))
    # Batch norm estimates mean and variance badly from a single image.
    fitting = [batch for batch in range(2, most + 1) if find_smallest_batch(slices, batch) > 1]
    return min(fitting, key=lambda batch: abs(batch - wanted), default=wanted)


def _differ(cases: list[dict[str, Any]], folder: DataFolder) -> bool:
    """Tell whether the pixel sizes are known, and differ by more than ``ALIKE``."""
    sizes = np.array([case["spacing_mm"][:2] for case in cases])
    return not folder.nominal_spacing and bool((sizes.max(axis=0) > ALIKE * sizes.min(axis=0)).any())


def _by_spacing(cases: list[dict[str, Any]]) -> tuple[dict[str, Any], list[str]]:
    """Choose the pixel size, and a square that every training image fits into; return their keys and the reasons."""
    sizes = np.array([case["spacing_mm"][:2] for case in cases])
    extents = sizes * [case["shape"][:2] for case in cases]
    median = np.median(sizes, axis=0)
    largest = float((extents / median).max())
    size = min(max(LEAST_SIDE, STRIDE * int(np.ceil(round(largest) / STRIDE))), MAX_SIDE)
    factor = max(1.0, largest / MAX_SIDE)
    pixel = [float(np.ceil(side * factor * 1e4) / 1e4) if factor > 1 else round(float(side), 6) for side in median]
    ends = [f"{end(sizes):.3g}" for end in (np.min, np.max)]
    reason = f"spacing_mm {pixel}: pixel sizes of {ends[0]} to {ends[1]} mm differ by more than a tenth, so all images"
    reason += " are resampled to the median of the training images and padded, and shapes and sizes in mm stay."
    if factor > 1:
        reason += f" It is {factor:.3g} times as large, for the largest image to fit {MAX_SIDE} x {MAX_SIDE} px."
    x, y = (round(float(side)) for side in (extents / pixel).max(axis=0))
    return {"image_size": size, "spacing_mm": pixel}, [
        f"image_size {size}: training images have up to {x} x {y} px of this size, and every one fits; a multiple of "
        f"{STRIDE}, at least {LEAST_SIDE}. A larger image is cropped; a crop that would cut labels is refused.",
        reason,
    ]


def _remarks(cases: list[dict[str, Any]], folder: DataFolder) -> str:
    """Describe the distance of slices, and what is unknown of pixel sizes and orientations."""
    shape, spacing = (np.median([case[key] for case in cases], axis=0) for key in ("shape", "spacing_mm"))
    apart = f" Slices are kept, {spacing[2]:.3g} mm apart." if shape[2] > 1 else ""
    nominal = " The pixel size seems nominal, and so do distances in mm." if folder.nominal_spacing else ""
    axes = sorted({str(case.get("axes", "")) for case in cases} - {""})
    mixed = f" Orientations differ ({', '.join(axes)}), so a position has no common meaning." if len(axes) > 1 else ""
    return apart + nominal + mixed


def _by_size(
    cases: list[dict[str, Any]], sample: list[dict[str, Any]], folder: DataFolder
) -> tuple[dict[str, Any], list[str]]:
    """Choose the size to which every image is resized; return its key and the reasons."""
    shape = np.median([case["shape"] for case in cases], axis=0)
    spacing = np.median([case["spacing_mm"] for case in cases], axis=0)
    side = float(max(shape[:2]))
    full = max(LEAST_SIDE, STRIDE * round(side / STRIDE))
    size = min(full, USUAL_SIDE)
    reason = (
        f"the median training image has {shape[0]:g} x {shape[1]:g} px; the multiple of {STRIDE} nearest to the longer"
    )
    if full == LEAST_SIDE:
        reason += f", at least {LEAST_SIDE}, so that every network trains"
    if full > USUAL_SIDE:
        reason += f", at most {USUAL_SIDE} (the study's)"
    organ, diameter = _smallest(sample, folder)
    if diameter * size / side < MIN_DIAMETER and size < full:
        wanted = STRIDE * int(np.ceil(MIN_DIAMETER * side / diameter / STRIDE))
        size = min(full, MAX_SIDE, wanted)
        reason += f", but {organ} measures {diameter:.0f} px there and should keep {MIN_DIAMETER} px if possible"
    pixel = spacing[:2] * shape[:2] / size
    return {"image_size": size}, [
        f"image_size {size}: {reason}.",
        f"spacing: no common one; every slice is resized to {size} x {size} px, where a pixel of {spacing[0]:.3g} x "
        f"{spacing[1]:.3g} mm (median) becomes {pixel[0]:.3g} x {pixel[1]:.3g} mm.",
    ]


def _smallest(sample: list[dict[str, Any]], folder: DataFolder) -> tuple[str, float]:
    """Find the class with the smallest connected components within slices, and their median diameter in px."""
    areas: dict[int, list[int]] = {}
    for case in sample:
        planes = np.moveaxis(_read(case["label"]), 2, 0)
        planes = planes[planes.any(axis=(1, 2))]
        for plane in planes[:: 1 + len(planes) // SLICES]:
            for index in np.unique(plane[plane > 0]).tolist():
                components, _ = ndimage.label(plane == index)
                areas.setdefault(int(index), []).extend(np.bincount(components.ravel())[1:].tolist())
    diameters = {index: 2 * float(np.sqrt(np.median(found) / np.pi)) for index, found in areas.items()}
    if not diameters:
        return "", np.inf
    smallest = min(diameters, key=lambda index: diameters[index])
    return folder.labels[smallest].name, diameters[smallest]


def _intensity(folder: DataFolder, sample: list[dict[str, Any]]) -> tuple[str, dict[str, Any], str]:
    """Choose fragment, values and reason: only Hounsfield units have the same meaning in every image."""
    names = ", ".join(folder.channels)
    if not all(name.split(" ")[0].upper() == "CT" for name in folder.channels):
        reason = (
            "intensity: each channel of each slice is scaled to [0, 1], then to mean 0 and standard deviation 1: the "
            f"gray values of {names} have no common unit, unlike those of a channel called CT."
        )
        return "per_slice", {}, reason
    window, ends = _window(sample)
    reason = (
        f"intensity: {names} has the same unit in all images, so one window serves all: {ends[0]:.4g} to "
        f"{ends[1]:.4g}, the percentiles {PERCENTILES[0]} and {PERCENTILES[1]} within the labels of {len(sample)} "
        "training cases, is scaled to [0, 1], then standardized by mean and standard deviation."
    )
    return (
        "windowed",
        {f"window::{key}": [round(float(v), 6) for v in values] for key, values in window.items()},
        reason,
    )


def _window(sample: list[dict[str, Any]]) -> tuple[dict[str, Array], tuple[float, float]]:
    """Measure ``low``, ``width``, ``mean`` and ``std`` of each channel's window; return also the ends of the first."""
    everywhere, inside = [], []
    for case in sample:
        image, mask = _read(case["image"]), _read(case["label"]).ravel() > 0
        pixels = image.reshape(mask.size, -1)
        everywhere.append(pixels[:: 1 + len(pixels) // PIXELS])
        labeled = pixels[mask]
        inside.append(labeled[:: 1 + len(labeled) // PIXELS])
    pixels = np.concatenate(everywhere).astype(np.float64)
    labeled = np.concatenate(inside)
    low, high = np.percentile(labeled if len(labeled) else pixels, PERCENTILES, axis=0)
    width = np.where(high > low, high - low, 1.0)
    scaled = np.clip((pixels - low) / width, 0, 1)
    std = scaled.std(axis=0)
    window = {"low": low, "width": width, "mean": scaled.mean(axis=0), "std": np.where(std > 0, std, 1.0)}
    return window, (float(low[0]), float(high[0]))


def _read(path: str) -> Array:
    try:
        return np.asanyarray(nibabel.load(path).dataobj)
    except Exception as error:  # nibabel's errors have no common base class
        raise InputError(f"{path}: can't be read ({error}); prepare the data again") from error
