"""Prepare short-axis cardiac MRI of the ACDC challenge (Bernard et al., IEEE TMI 37(11), 2018).

Each subject is a folder ``patientNNN`` with ``Info.cfg``, ``patientNNN_frameFF.nii.gz`` and
``patientNNN_frameFF_gt.nii.gz`` at end-diastole and end-systole; the 4-D cine file is not used.
"""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from data_prep.files import drop_last_axes, notes_of, read_nifti
from data_prep.layout import Case, Dataset, Volume, prepare_dataset
from medpos.core import labels
from medpos.core.errors import InputError
from medpos.core.files import decode_text, read_bytes
from medpos.data.schema import is_phantom
from medpos.io.labels import find_values, round_labels
from medpos.io.scan import are_one_grid

GROUPS = ("NOR", "MINF", "DCM", "HCM", "RV")
PHASES = ("ED", "ES")
# The study's 70 training, 10 validation and 20 test subjects of 100.
WEIGHTS = (7, 1, 2)
DESCRIPTION = "Short-axis cardiac MRI (ACDC) at end-diastole and end-systole: both cavities and the myocardium."
LAYOUT = "--source holds folders patientNNN, directly or in training/ and testing/"


def prepare(source: Path, out: Path, seed: int = 0, workers: int = 1, strict: bool = False) -> str:
    """Prepare ACDC with the arguments of ``python -m data_prep acdc``, and return one line about it."""
    dataset = Dataset("acdc", DESCRIPTION, labels.ACDC, WEIGHTS, None, is_phantom(source))
    return prepare_dataset(dataset, find_cases(source), out, seed, workers, strict)


def find_cases(source: Path) -> list[Case]:
    """List two cases for each subject below ``source``, from both ``training/`` and ``testing/``.

    Raises:
        InputError: there is no subject, two have the same name, or ``Info.cfg`` or an image is missing or damaged.
    """
    if not source.is_dir():
        raise InputError(f"{source}: no such folder; {LAYOUT}.")
    subjects: dict[str, Path] = {}
    for root in (source, *(source / above / part for above in ("", "database") for part in ("training", "testing"))):
        for folder in sorted(path for path in root.glob("patient*") if path.is_dir()):
            if folder.name in subjects:
                first = subjects[folder.name]
                raise InputError(f"{folder}: a second {folder.name} beside {first}; remove or rename one.")
            subjects[folder.name] = folder
    if not subjects:
        raise InputError(f"{source}: expected folders patientNNN, found none; {LAYOUT}.")
    return [case for _, folder in sorted(subjects.items()) for case in _cases(folder)]


def _cases(folder: Path) -> list[Case]:
    path = folder / "Info.cfg"
    info = read_info(path)
    group = info["Group"]
    cases = []
    for phase in PHASES:
        frame = int(info[phase])
        image = folder / f"{folder.name}_frame{frame:02d}.nii.gz"
        label = folder / f"{folder.name}_frame{frame:02d}_gt.nii.gz"
        for file in (image, label):
            if not file.is_file():
                raise InputError(f"{file}: is missing, but {path} says {phase}: {frame}; unpack the subject again.")
        details = {"group": group, "phase": phase, "frame": frame}
        cases.append(
            Case(f"{folder.name}_{phase}", folder.name, {"image": image, "label": label}, read_case, {}, details, group)
        )
    return cases


def read_info(path: Path) -> dict[str, str]:
    """Read ``Info.cfg``: lines ``key: value``; Height, Weight and NbFrame may be missing.

    Raises:
        InputError: the file is missing or lacks ED, ES or Group, or has an unknown group or one frame for both phases.
    """
    if not path.is_file():
        raise InputError(f"{path}: expected a text file with ED, ES and Group, found none; unpack the subject again.")
    lines = decode_text(read_bytes(path), "replace").splitlines()
    pairs = (re.fullmatch(r"\s*(\w+)\s*:\s*(.*?)\s*", line) for line in lines)
    info = {pair[1]: pair[2] for pair in pairs if pair}
    for phase in PHASES:
        if not re.fullmatch(r"[0-9]{1,4}", info.get(phase, "")):
            raise InputError(f"{path}: expected a line '{phase}: NUMBER', got {info.get(phase)!r}; correct it.")
    if int(info["ED"]) == int(info["ES"]):
        raise InputError(f"{path}: expected different frames as ED and ES, got {info['ED']} twice; correct it.")
    if info.get("Group") not in GROUPS:
        raise InputError(
            f"{path}: expected Group to be one of {', '.join(GROUPS)}, got {info.get('Group')!r}; correct it."
        )
    return info


def read_case(case: Case) -> Volume:
    """Read one phase.

    Returns:
        Image (X, Y, Z) in the number type of its file; label (X, Y, Z) uint8: 1 right cavity, 2 myocardium, 3 left
        cavity.

    Raises:
        InputError: a file is damaged or not 3-D, has NaN, infinity or other label values, or image and label differ in
            geometry.
    """
    path, label_path = case.sources["image"], case.sources["label"]
    image, label = (replace(found, data=drop_last_axes(found.data)) for found in map(read_nifti, (path, label_path)))
    if image.data.ndim != 3 or 0 in image.data.shape:
        raise InputError(f"{path}: expected a 3-D volume, got shape {image.data.shape}; export one frame.")
    if label.data.shape != image.data.shape:
        raise InputError(
            f"{label_path}: expected the shape of its image, {image.data.shape}, got {label.data.shape}; unpack "
            "both again."
        )
    if not are_one_grid(label.affine, image.affine, image.data.shape):
        raise InputError(f"{label_path}: expected the affine of {path.name}, got another; correct its header.")
    if not np.isfinite(image.data).all():
        bad = int(np.size(image.data) - np.isfinite(image.data).sum())
        raise InputError(f"{path}: expected finite numbers, got {bad} NaN or infinite voxels; export it again.")
    known = [item.index for item in labels.ACDC]
    classes = round_labels(label.data)
    values = find_values(classes)
    if not np.isin(values, known).all():
        raise InputError(f"{label_path}: expected label values {known}, got {values.tolist()}; map them.")
    if not classes.any():
        raise InputError(f"{label_path}: expected a segmentation, got an empty mask; remove the subject or draw it.")
    return Volume(image.data, classes.astype(np.uint8), image.affine, image.spacing, notes_of(image, label))
