"""Brain MRI: IBSR-18 (Internet Brain Segmentation Repository V2.0), T1-weighted, skull-stripped, with three tissues.

Both published formats are read, NIfTI and Analyze 7.5. The volumes hold 256 x 128 x 256 voxels; the 128 planes of
1.5 mm run from front to back. A prepared volume has that axis second, so that its slices, across the third axis, are
axial and 256 x 128 pixels, as U-SegNet takes them.
"""

from io import BytesIO
from pathlib import Path

import nibabel as nib
import numpy as np

from data_prep.files import Array, Nifti, read_nifti
from data_prep.layout import Case, Dataset, Volume, prepare
from data_prep.published import by_name, shortfall
from medpos.core import labels
from medpos.core.errors import InputError
from medpos.core.files import read_bytes
from medpos.data.schema import is_phantom

VOLUMES = 18
VALUES = "1,2,3"  # of CSF, grey and white matter in the label files
# U-SegNet's 6 training, 3 validation and 9 test volumes of 18.
WEIGHTS = (6, 3, 9)
DESCRIPTION = "T1-weighted brain MRI without the skull (IBSR-18): CSF, grey and white matter; axial slices."
FORMATS = {"nifti": r"\.nii(?:\.gz)?", "analyze": r"\.hdr"}


def run(source: Path, out: Path, values: str = VALUES, fill: bool = False, seed: int = 0, workers: int = 1) -> str:
    """Prepare IBSR-18; the arguments are those of ``python -m data_prep ibsr``. Returns one line on what was done."""
    dataset = Dataset("ibsr", DESCRIPTION, labels.IBSR, WEIGHTS, None, is_phantom(source))
    cases = find(source, parse_values(values), fill)
    done = prepare(dataset, cases, out, seed, workers)
    return done + shortfall({"volumes": len(cases)}, {"volumes": VOLUMES})


def parse_values(values: str) -> list[int]:
    """The values of CSF, grey and white matter from ``1,2,3`` and the like.

    Raises:
        InputError: not three different numbers above 0.
    """
    parts = [part.strip() for part in values.split(",")]
    if len(parts) != 3 or not all(part.isdecimal() for part in parts) or len({0, *map(int, parts)}) < 4:
        raise InputError(f"--values {values}: needed are three different numbers above 0: CSF, grey, white, as 1,2,3.")
    return [int(part) for part in parts]


def find(source: Path, values: list[int], fill: bool = False) -> list[Case]:
    """Pair the skull-stripped images at or below ``source`` with their label maps of the same format.

    Args:
        source: the folder.
        values: of CSF, grey and white matter.
        fill: take the maps whose gaps inside the brain mask were filled with CSF.

    Raises:
        InputError: no image, two files for the same thing, an image without label map or a label map without image.
    """
    kinds = {"image": "ana_strip", "label": "segTRI_fill_ana" if fill else "segTRI_ana"}
    found: dict[str, Case] = {}
    lone: dict[str, str] = {}
    for form, suffix in reversed(FORMATS.items()):  # NIfTI, which says how the head lies, replaces Analyze
        paths = {role: by_name(source, rf"(IBSR_\d+)_{kind}{suffix}") for role, kind in kinds.items()}
        for name in paths["image"].keys() | paths["label"].keys():
            sources = {role: paths[role][name] for role in kinds if name in paths[role]}
            missing = [f"{name}_{kind}.*" for role, kind in kinds.items() if role not in sources]
            if missing:
                lone[name] = f"{next(iter(sources.values()))}: no {missing[0]} of the same format in {source}"
                continue
            pixels = {f"{role}_pixels": path.with_suffix(".img") for role, path in sources.items() if form != "nifti"}
            found[name] = Case(name, name, {**sources, **pixels}, read, {"values": values}, {"format": form})
    for name in sorted(lone.keys() - found.keys()):
        raise InputError(f"{lone[name]}; unpack IBSR again, or take the volume out.")
    if not found:
        raise InputError(f"{source}: no IBSR_NN_ana_strip.nii.gz or .hdr in it; --source is the folder of IBSR-18.")
    return [case for _, case in sorted(found.items())]


def read(case: Case) -> Volume:
    """Read one volume.

    Returns:
        image (256, 128, 256) int16, axes: across, front to back, slices; label alike: 1 CSF, 2 grey, 3 white matter.

    Raises:
        InputError: not a whole file, not 3-D, NaN or inf, other label values, or image and label don't fit together.
    """
    path, label_path = case.sources["image"], case.sources["label"]
    image, label = read_volume(path), read_volume(label_path)
    headed = case.details["format"] == "nifti"
    _check_fit(label_path, label, image, headed)
    indices = _indices(label_path, label.data, case.options["values"])
    axes = thick_axis_second(image.spacing)
    affine = image.affine[:, [*axes, 3]]
    spacing = tuple(image.spacing[axis] for axis in axes)
    # Analyze doesn't say how the head lies; nibabel's affine takes the first axis as right to left.
    details = {"axes": "".join(nib.aff2axcodes(affine)), "orientation": "header" if headed else "assumed"}
    return Volume(_int16(path, image.data).transpose(axes), indices.transpose(axes), affine, spacing, details)


def read_volume(path: Path) -> Nifti:
    """Read NIfTI, or the Analyze pair of a ``.hdr``, as three axes; a fourth of length 1 is dropped.

    Raises:
        InputError: can't be read, spacing without a meaning, or another number of axes.
    """
    found = read_analyze(path) if path.suffix.lower() == ".hdr" else read_nifti(path)
    data = found.data[..., 0] if found.data.ndim == 4 and found.data.shape[3] == 1 else found.data
    if data.ndim != 3 or 0 in data.shape:
        raise InputError(f"{path}: shape {found.data.shape}, needed is one 3-D volume; export it again.")
    return Nifti(data, found.affine, found.spacing)


def read_analyze(path: Path) -> Nifti:
    """Read an Analyze 7.5 pair; its affine holds the spacing and nibabel's assumption of how the head lies.

    Raises:
        InputError: can't be read, or spacing without a meaning.
    """
    raw = read_bytes(path)
    try:
        # nibabel mends a bad pixdim silently, so it is read before.
        header = nib.AnalyzeHeader.from_fileobj(BytesIO(raw), check=False)
        spacing = tuple(float(size) for size in header["pixdim"][1:4])
        pair = nib.load(path)
        data = np.asanyarray(pair.dataobj)
    except Exception as error:  # nibabel has no common base class for what a bad header raises
        raise InputError(f"{path}: not a readable Analyze pair ({error}); unpack .hdr and .img again.") from error
    if not all(np.isfinite(size) and size > 0 for size in spacing):
        raise InputError(f"{path}: voxel spacing {spacing} mm, needed are three positive numbers; mend its header.")
    return Nifti(data.astype(data.dtype.newbyteorder("=")), np.array(pair.affine, np.float64), spacing)


def thick_axis_second(spacing: tuple[float, ...]) -> list[int]:
    """The order of axes that brings the thickest voxel side, front to back in IBSR, into second place."""
    thick = 1 if spacing[1] >= max(spacing) * 0.99 else int(np.argmax(spacing))
    others = [axis for axis in range(3) if axis != thick]
    return [others[0], thick, others[1]]


def _check_fit(path: Path, label: Nifti, image: Nifti, headed: bool) -> None:
    """See that image and label share their grid; where its origin lies, IBSR's headers needn't agree."""
    if label.data.shape != image.data.shape:
        raise InputError(f"{path}: shape {label.data.shape}, its image {image.data.shape}; unpack both again.")
    directions = [nib.aff2axcodes(nifti.affine) for nifti in (label, image)]
    if not np.allclose(label.spacing, image.spacing, rtol=1e-2) or (headed and directions[0] != directions[1]):
        raise InputError(f"{path}: lies otherwise in space than its image (other spacing or axes); mend its header.")


def _indices(path: Path, label: Array, values: list[int]) -> Array:
    """Class indices: the place of each value in ``values``, from 1."""
    found = np.unique(label)
    known = [0, *values]
    if not np.isin(found, known).all():
        raise InputError(
            f"{path}: label values {found.tolist()[:9]}, needed are {known}; say which are CSF, grey and white matter "
            "with --values."
        )
    if not label.any():
        raise InputError(f"{path}: the label map is empty, no voxel is set; unpack IBSR again.")
    table = np.array([known.index(value) for value in found.tolist()], np.uint8)
    indices: Array = table[np.searchsorted(found, label)]
    return indices


def _int16(path: Path, image: Array) -> Array:
    bad = int(image.size - np.isfinite(image).sum())
    if bad:
        raise InputError(f"{path}: {bad} voxels are NaN or infinite, needed are finite numbers; export it again.")
    span = np.iinfo(np.int16)
    if image.min() < span.min or image.max() > span.max:
        raise InputError(f"{path}: grey values {image.min()} to {image.max()}, needed are 16-bit ones; scale it.")
    grey: Array = np.rint(image).astype(np.int16)
    return grey
