"""Prepare brain MRI of IBSR-18 (Internet Brain Segmentation Repository V2.0): T1-weighted, skull-stripped, 3 tissues.

Both published formats, NIfTI and Analyze 7.5, can be read. The volumes hold 256 x 128 x 256 voxels; the 128 planes of
1.5 mm run from front to back. A prepared volume has that axis second, so that its slices, across the third axis, are
axial and 256 x 128 pixels, as U-SegNet takes them.
"""

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np

from data_prep.files import Array, notes_of, read_nifti
from data_prep.layout import Case, Dataset, Volume, prepare_dataset
from data_prep.listing import find_by_name
from data_prep.published import describe_shortfall
from medpos.core import labels
from medpos.core.errors import InputError
from medpos.data.schema import is_phantom
from medpos.io.labels import find_values, round_labels, to_indices
from medpos.io.scan import StoredVolume

VOLUMES = 18
VALUES = "1,2,3"  # values of CSF, gray and white matter in the label files
# U-SegNet's 6 training, 3 validation and 9 test volumes of 18.
WEIGHTS = (6, 3, 9)
DESCRIPTION = "T1-weighted brain MRI without the skull (IBSR-18): CSF, gray and white matter; axial slices."
FORMATS = {"nifti": r"\.nii(?:\.gz)?", "analyze": r"\.hdr"}


def prepare(
    source: Path,
    out: Path,
    values: str = VALUES,
    fill: bool = False,
    seed: int = 0,
    workers: int = 1,
    strict: bool = False,
) -> str:
    """Prepare IBSR-18 with the arguments of ``python -m data_prep ibsr``, and return one line about it."""
    dataset = Dataset("ibsr", DESCRIPTION, labels.IBSR, WEIGHTS, None, is_phantom(source))
    cases = find_cases(source, parse_values(values), fill)
    done = prepare_dataset(dataset, cases, out, seed, workers, strict)
    return done + describe_shortfall({"volumes": len(cases)}, {"volumes": VOLUMES})


def parse_values(values: str) -> list[int]:
    """Parse the values of CSF, gray and white matter, such as ``1,2,3``.

    Raises:
        InputError: the text isn't three different numbers above 0.
    """
    parts = [part.strip() for part in values.split(",")]
    if len(parts) != 3 or not all(part.isdecimal() for part in parts) or len({0, *map(int, parts)}) < 4:
        raise InputError(
            f"--values {values}: expected three different numbers above 0 for CSF, gray, white, such as 1,2,3."
        )
    return [int(part) for part in parts]


def find_cases(source: Path, values: list[int], fill: bool = False) -> list[Case]:
    """Pair the skull-stripped images at or below ``source`` with their label maps of the same format.

    Args:
        source: folder of the data set.
        values: values of CSF, gray and white matter.
        fill: read the maps with gaps in the brain mask filled with CSF.

    Raises:
        InputError: there is no image, a file occurs twice, or an image or its label map is missing.
    """
    kinds = {"image": "ana_strip", "label": "segTRI_fill_ana" if fill else "segTRI_ana"}
    found: dict[str, Case] = {}
    lone: dict[str, str] = {}
    for form, suffix in reversed(FORMATS.items()):  # NIfTI, which states the orientation, replaces Analyze
        paths = {role: find_by_name(source, rf"(IBSR_\d+)_{kind}{suffix}") for role, kind in kinds.items()}
        for name in paths["image"].keys() | paths["label"].keys():
            sources = {role: paths[role][name] for role in kinds if name in paths[role]}
            missing = [f"{name}_{kind}.*" for role, kind in kinds.items() if role not in sources]
            if missing:
                lone[name] = f"{next(iter(sources.values()))}: expected {missing[0]} of the same format, found none"
                continue
            pixels = {f"{role}_pixels": path.with_suffix(".img") for role, path in sources.items() if form != "nifti"}
            found[name] = Case(name, name, {**sources, **pixels}, read_case, {"values": values}, {"format": form})
    for name in sorted(lone.keys() - found.keys()):
        raise InputError(f"{lone[name]}; unpack IBSR again, or remove the volume.")
    if not found:
        raise InputError(
            f"{source}: expected IBSR_NN_ana_strip.nii.gz or .hdr, found none; --source is the folder of IBSR-18."
        )
    return [case for _, case in sorted(found.items())]


def read_case(case: Case) -> Volume:
    """Read one volume.

    Returns:
        Image (256, 128, 256) int16, axes: across, front to back, slices; label likewise: 1 CSF, 2 gray, 3 white matter.

    Raises:
        InputError: a file is damaged or not 3-D, has NaN, infinity or other label values, or image and label differ in
            geometry.
    """
    path, label_path = case.sources["image"], case.sources["label"]
    image, label = read_volume(path), read_volume(label_path)
    headed = case.details["format"] == "nifti"
    _check_grid(label_path, label, image, headed)
    indices = _indices(label_path, round_labels(label.data), case.options["values"])
    axes = thick_axis_second(image.spacing)
    affine = image.affine[:, [*axes, 3]]
    spacing = tuple(image.spacing[axis] for axis in axes)
    # Analyze doesn't state the orientation; nibabel's affine assumes that the first axis runs from right to left.
    details = {
        "axes": "".join(nib.aff2axcodes(affine)),
        "orientation": "header" if headed else "assumed",
        **notes_of(image, label),
    }
    return Volume(_int16(path, image.data).transpose(axes), indices.transpose(axes), affine, spacing, details)


def read_volume(path: Path) -> StoredVolume:
    """Read NIfTI, or the Analyze pair of a ``.hdr``, as three axes; a fourth of length 1 is dropped.

    Raises:
        InputError: the file can't be read, its spacing isn't positive, or it has another number of axes.
    """
    found = read_nifti(path)
    data = found.data[..., 0] if found.data.ndim == 4 and found.data.shape[3] == 1 else found.data
    if data.ndim != 3 or 0 in data.shape:
        raise InputError(f"{path}: expected one 3-D volume, got shape {found.data.shape}; export it again.")
    return replace(found, data=data)


def thick_axis_second(spacing: tuple[float, ...]) -> list[int]:
    """Return the order of axes with the thickest voxel side, front to back in IBSR, in second place."""
    thick = 1 if spacing[1] >= max(spacing) * 0.99 else int(np.argmax(spacing))
    others = [axis for axis in range(3) if axis != thick]
    return [others[0], thick, others[1]]


def _check_grid(path: Path, label: StoredVolume, image: StoredVolume, headed: bool) -> None:
    """Check that image and label have the same grid; the origins in IBSR's headers may differ."""
    if label.data.shape != image.data.shape:
        raise InputError(
            f"{path}: expected the shape of its image, {image.data.shape}, got {label.data.shape}; unpack both again."
        )
    directions = [nib.aff2axcodes(nifti.affine) for nifti in (label, image)]
    if not np.allclose(label.spacing, image.spacing, rtol=1e-2) or (headed and directions[0] != directions[1]):
        raise InputError(f"{path}: expected spacing and axes of its image, got others; correct its header.")


def _indices(path: Path, label: Array, values: list[int]) -> Array:
    """Map values to class indices: the position of each value in ``values``, from 1."""
    found = find_values(label)
    known = [0, *values]
    if not np.isin(found, known).all():
        raise InputError(
            f"{path}: expected label values {known}, got {found.tolist()[:9]}; give those of CSF, gray and white "
            "matter with --values."
        )
    if not label.any():
        raise InputError(f"{path}: expected a segmentation, got an empty label map; unpack IBSR again.")
    return to_indices(label, found, {value: known.index(value) for value in found.tolist()})


def _int16(path: Path, image: Array) -> Array:
    bad = int(image.size - np.isfinite(image).sum())
    if bad:
        raise InputError(f"{path}: expected finite numbers, got {bad} NaN or infinite voxels; export it again.")
    span = np.iinfo(np.int16)
    if image.min() < span.min or image.max() > span.max:
        raise InputError(f"{path}: expected 16-bit gray values, got {image.min()} to {image.max()}; scale it.")
    gray: Array = np.rint(image).astype(np.int16)
    return gray
