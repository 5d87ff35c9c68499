"""A bundle of the user's own: the project's fragments, with what the data ask for, and why, in its ``_desc_``."""

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
from medpos.core.errors import InputError
from medpos.core.files import write_text
from medpos.data.folder import DataFolder
from medpos.transforms import channel_count

# Every network of medpos.networks whose logits have the image's size.
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
STUDIED = ("unet", "small")  # have fragments of their own, with the padding that the study compares
# Beside the plain bundle, by the ending of its name: what the studies hold it against.
POSITION, MEAN_MASK = "_pe", "_mean_mask"
POSITIONED = "medpos.networks.build_with_position"
STRIDE = 16  # the U-Net takes multiples of it
USUAL_SIDE = 256  # of the study; its batch of 20 images of this side sets the memory too
LARGEST_SIDE = 512
USUAL_BATCH = 20
LEAST_STEPS = 10  # per epoch, where that leaves 2 images a batch
SMALLEST_OBJECT = 8  # px: what is smaller on the network's grid is hardly segmented
SAMPLE = 40  # training cases that are looked into, and of each so many slices and pixels at most
SLICES, PIXELS = 20, 100_000
PERCENTILES = (0.5, 99.5)
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Choices:
    """What was chosen from the data.

    Args:
        fragments: those of the data, before the network's.
        values: of the bundle's keys, in the notation of :mod:`medpos.bundle.fragments`.
        reasons: a line for each choice.
    """

    fragments: tuple[str, ...]
    values: dict[str, Any]
    reasons: list[str]


def write(
    name: str, data: Path, network: str, endings: Sequence[str], source: Path, out: Path, replace: bool = False
) -> list[Path]:
    """Write a bundle, and variants of it beside it.

    Args:
        name: of the bundle.
        data: the prepared folder, as it shall stand in the bundle.
        network: one of ``NETWORKS``.
        endings: of the variants, ``POSITION`` and ``MEAN_MASK``.
        source: folder of the fragments.
        out: folder of the bundles.
        replace: write over bundles that are there and say something else.

    Returns:
        The files; those that were there and say the same are left alone.

    Raises:
        InputError: bad name or folder, unknown network, or a bundle is there that says something else.
    """
    _check(name, data, network, source)
    folder = DataFolder(data)
    choices = choose(folder)
    own = {"dataset_dir": str(data), "data_folder": "@dataset_dir", **choices.values}
    texts = {}
    for ending in ("", *endings):
        content = _bundle(f"{name}{ending}", network, ending, choices, own, source, len(folder.channels))
        texts[out / f"{name}{ending}.json"] = dumps(content)
    changed = [path for path, text in texts.items() if path.exists() and path.read_text(encoding="utf-8") != text]
    if changed and not replace:
        raise InputError(f"{changed[0]}: is there and says something else; take another name, or --replace it")
    # MONAI wants these beside a bundle; those that are there stay.
    beside = {path: text for path, text in _beside(folder, source.parent, out).items() if not path.exists()}
    for path, text in {**texts, **beside}.items():
        if not path.exists() or path in changed:
            write_text(path, text)
    return list(texts)


def _beside(folder: DataFolder, project: Path, out: Path) -> dict[Path, str]:
    """Logging and metadata, without and with position channels."""
    plain = json.loads((project / "metadata.json").read_text(encoding="utf-8"))
    plain["task"] = plain["description"] = f"2-D segmentation of {folder.name}, data of the user's own"
    classes = [label.name for label in folder.labels]
    contents = {
        "metadata.json": adapt_metadata(plain, folder.channels, classes),
        "metadata_pe.json": adapt_metadata(plain, (*folder.channels, "x", "y"), classes),
    }
    texts = {out / name: dumps(content) for name, content in contents.items()}
    return {**texts, out / "logging.conf": (project / "logging.conf").read_text(encoding="utf-8")}


def reasons(bundle: Path) -> list[str]:
    """What a bundle says of its choices."""
    found: list[str] = json.loads(bundle.read_text(encoding="utf-8"))["_desc_"][1:]
    return found


def _check(name: str, data: Path, network: str, source: Path) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name, re.ASCII):
        raise InputError(f"a bundle can't be called {name!r}; use letters, digits, '_', '-', '.'")
    if name in load_recipes(source):
        raise InputError(f"{name} is a bundle of the project; take another name")
    if network not in NETWORKS:
        raise InputError(f"--network is {network!r}, needed is one of {', '.join(NETWORKS)}")
    if set("$@%") & set(str(data)):
        raise InputError(f"--data {data}: a bundle reads '$', '@' and '%' as its own; rename the folder")


def _bundle(name: str, network: str, ending: str, choices: Choices, own: Config, source: Path, channels: int) -> Config:
    fragments = ["base", "recipe/learned", *choices.fragments]
    if ending == MEAN_MASK:
        fragments = ["base", *choices.fragments, "network/mean_mask"]
    else:
        fragments += [f"network/{network}"] if network in STUDIED else []
        own = {**own, **_network(network), "network_def::in_channels": channels}
    if ending == POSITION:
        fragments.append("recipe/pe")
        own |= {"network_def::_target_": POSITIONED, "network_def::network": f"$networks.{NETWORKS[network]}"}
        own["network_def::in_channels"] = channels + channel_count("linear")
        own["+steps::probe_position"] = {"image_channels": channels}
    made = f"Written by 'python -m medpos new-bundle' from {', '.join(fragments)}; yours to edit."
    return merge(source, fragments, name, [made, *choices.reasons], own)


def _network(name: str) -> Config:
    """What a network needs that has no fragment."""
    if name in STUDIED:
        return {}
    own: Config = {"network_def::_target_": f"medpos.networks.{NETWORKS[name]}"}
    if name == "auxiliary_unet":
        own["train::loss"] = {"_target_": "medpos.losses.AuxiliaryLoss"}
    return own


def choose(folder: DataFolder) -> Choices:
    """Choose image size, batch size and intensity normalisation from the training cases.

    Raises:
        InputError: there is no training case, or a file can't be read.
    """
    cases = folder.cases("training")
    sample = [cases[n] for n in np.unique(np.linspace(0, len(cases) - 1, SAMPLE).astype(int))]
    size, reasons = _size(cases, sample, folder)
    slices = sum(int(case["shape"][2]) for case in cases)
    batch = max(2, min(USUAL_BATCH * USUAL_SIDE**2 // size**2, USUAL_BATCH, slices // LEAST_STEPS))
    reasons += [
        f"batch_size {batch}: at most {USUAL_BATCH} and the memory of {USUAL_BATCH} images of {USUAL_SIDE} x "
        f"{USUAL_SIDE} px, and {LEAST_STEPS} steps an epoch if it can, of {slices} training images or slices."
    ]
    values: dict[str, Any] = {
        "image_size": size,
        "batch_size": batch,
        "network_def::out_channels": len(folder.labels),
    }
    scaling, window, reason = _intensity(folder, sample)
    return Choices(
        ("data/images" if folder.is_flat else "data/volumes", f"data/{scaling}"),
        {**values, **window},
        [*reasons, reason],
    )


def _size(cases: list[dict[str, Any]], sample: list[dict[str, Any]], folder: DataFolder) -> tuple[int, list[str]]:
    """Image size, and why; what becomes of the spacing."""
    shape = np.median([case["shape"] for case in cases], axis=0)
    spacing = np.median([case["spacing_mm"] for case in cases], axis=0)
    side = float(max(shape[:2]))
    full = max(STRIDE, STRIDE * round(side / STRIDE))
    size = min(full, USUAL_SIDE)
    reason = (
        f"the median training image has {shape[0]:g} x {shape[1]:g} px; the multiple of {STRIDE} nearest to the longer"
    )
    if full > USUAL_SIDE:
        reason += f", at most {USUAL_SIDE} (the study's)"
    organ, diameter = _smallest(sample, folder)
    if diameter * size / side < SMALLEST_OBJECT and size < full:
        wanted = STRIDE * int(np.ceil(SMALLEST_OBJECT * side / diameter / STRIDE))
        size = min(full, LARGEST_SIDE, wanted)
        reason += f", but {organ} measures {diameter:.0f} px there and shall keep {SMALLEST_OBJECT} px if it can"
    pixel = spacing[:2] * shape[:2] / size
    apart = f" Slices stay as they are, {spacing[2]:.3g} mm apart." if shape[2] > 1 else ""
    nominal = " The pixel size seems nominal, so distances in mm are too." if folder.nominal_spacing else ""
    axes = sorted({str(case.get("axes", "")) for case in cases} - {""})
    mixed = f" Orientations differ ({', '.join(axes)}), so position means different things." if len(axes) > 1 else ""
    return size, [
        f"image_size {size}: {reason}.",
        f"spacing: no common one; every slice is resized to {size} x {size} px, where a pixel of {spacing[0]:.3g} x "
        f"{spacing[1]:.3g} mm (median) becomes {pixel[0]:.3g} x {pixel[1]:.3g} mm.{apart}{nominal}{mixed}",
    ]


def _smallest(sample: list[dict[str, Any]], folder: DataFolder) -> tuple[str, float]:
    """The class whose connected pieces are smallest within slices, and their median diameter in px."""
    areas: dict[int, list[int]] = {}
    for case in sample:
        planes = np.moveaxis(_read(case["label"]), 2, 0)
        planes = planes[planes.any(axis=(1, 2))]
        for plane in planes[:: 1 + len(planes) // SLICES]:
            for index in np.unique(plane[plane > 0]).tolist():
                pieces, _ = ndimage.label(plane == index)
                areas.setdefault(int(index), []).extend(np.bincount(pieces.ravel())[1:].tolist())
    diameters = {index: 2 * float(np.sqrt(np.median(found) / np.pi)) for index, found in areas.items()}
    if not diameters:
        return "", np.inf
    least = min(diameters, key=lambda index: diameters[index])
    return folder.labels[least].name, diameters[least]


def _intensity(folder: DataFolder, sample: list[dict[str, Any]]) -> tuple[str, dict[str, Any], str]:
    """Fragment, values and reason: Hounsfield units mean the same in every image, most other grey values do not."""
    names = ", ".join(folder.channels)
    if not all(name.split(" ")[0].upper() == "CT" for name in folder.channels):
        reason = (
            "intensity: every slice, and channel, by itself to [0, 1], then to mean 0 and deviation 1: the grey values "
            f"of {names} have no unit that all images share, as those of a channel called CT would."
        )
        return "per_slice", {}, reason
    window, ends = _window(sample)
    reason = (
        f"intensity: {names} has one unit in all images, so one window serves all: {ends[0]:.4g} to {ends[1]:.4g}, the "
        f"percentiles {PERCENTILES[0]} and {PERCENTILES[1]} within the labels of {len(sample)} training cases, to "
        "[0, 1], then by mean and deviation there."
    )
    return (
        "windowed",
        {f"window::{key}": [round(float(v), 6) for v in values] for key, values in window.items()},
        reason,
    )


def _window(sample: list[dict[str, Any]]) -> tuple[dict[str, Array], tuple[float, float]]:
    """For each channel ``low``, ``width``, and ``mean`` and ``std`` of what the window leaves; the first one's ends."""
    everywhere, inside = [], []
    for case in sample:
        image, mask = _read(case["image"]), _read(case["label"]).ravel() > 0
        pixels = image.reshape(mask.size, -1)
        everywhere.append(pixels[:: 1 + len(pixels) // PIXELS])
        labelled = pixels[mask]
        inside.append(labelled[:: 1 + len(labelled) // PIXELS])
    pixels = np.concatenate(everywhere).astype(np.float64)
    labelled = np.concatenate(inside)
    low, high = np.percentile(labelled if len(labelled) else pixels, PERCENTILES, axis=0)
    width = np.where(high > low, high - low, 1.0)
    scaled = np.clip((pixels - low) / width, 0, 1)
    std = scaled.std(axis=0)
    window = {"low": low, "width": width, "mean": scaled.mean(axis=0), "std": np.where(std > 0, std, 1.0)}
    return window, (float(low[0]), float(high[0]))


def _read(path: str) -> Array:
    try:
        return np.asanyarray(nibabel.load(path).dataobj)
    except Exception as error:  # nibabel has no common base class for what a bad file raises
        raise InputError(f"{path}: can't be read ({error}); prepare the data again") from error
