"""Short-axis cardiac MRI: the ACDC challenge (Bernard et al., IEEE TMI 37(11), 2018), end-diastole and end-systole.

Each subject is a folder ``patientNNN`` with ``Info.cfg``, ``patientNNN_frameFF.nii.gz`` and
``patientNNN_frameFF_gt.nii.gz``; the 4-D cine file is not used.
"""

import re
from pathlib import Path

import numpy as np

from data_prep.files import read_nifti
from data_prep.layout import Case, Dataset, Volume, prepare
from medpos.core import labels
from medpos.core.errors import InputError
from medpos.core.files import read_bytes
from medpos.data.schema import is_phantom

GROUPS = ("NOR", "MINF", "DCM", "HCM", "RV")
PHASES = ("ED", "ES")
# The study's 70 training, 10 validation and 20 test subjects of 100.
WEIGHTS = (7, 1, 2)
DESCRIPTION = "Short-axis cardiac MRI (ACDC) at end-diastole and end-systole: both cavities and the myocardium."
LAYOUT = "--source holds folders patientNNN, directly or in training/ and testing/"


def run(source: Path, out: Path, seed: int = 0, workers: int = 1) -> str:
    """Prepare ACDC; the arguments are those of ``python -m data_prep acdc``. Returns one line on what was done."""
    dataset = Dataset("acdc", DESCRIPTION, labels.ACDC, WEIGHTS, None, is_phantom(source))
    return prepare(dataset, find(source), out, seed, workers)


def find(source: Path) -> list[Case]:
    """Two cases for each subject below ``source``, of ``training/`` and ``testing/`` alike.

    Raises:
        InputError: no subject, two of one name, ``Info.cfg`` missing or garbled, or a file that isn't there.
    """
    if not source.is_dir():
        raise InputError(f"{source}: no such folder; {LAYOUT}.")
    subjects: dict[str, Path] = {}
    for root in (source, *(source / above / part for above in ("", "database") for part in ("training", "testing"))):
        for folder in sorted(path for path in root.glob("patient*") if path.is_dir()):
            if folder.name in subjects:
                first = subjects[folder.name]
                raise InputError(f"{folder}: a second {folder.name}, the first is {first}; remove or rename one.")
            subjects[folder.name] = folder
    if not subjects:
        raise InputError(f"{source}: no folder patientNNN in it; {LAYOUT}.")
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
                raise InputError(f"{file}: not there, but {path} says {phase}: {frame}; unpack the subject again.")
        details = {"group": group, "phase": phase, "frame": frame}
        cases.append(
            Case(f"{folder.name}_{phase}", folder.name, {"image": image, "label": label}, read, {}, details, group)
        )
    return cases


def read_info(path: Path) -> dict[str, str]:
    """Read ``Info.cfg``: lines ``key: value``; Height, Weight and NbFrame may be missing.

    Raises:
        InputError: missing or garbled, without ED, ES or Group, an unknown group, or one frame for both phases.
    """
    if not path.is_file():
        raise InputError(f"{path}: not there; needed is a text file with ED, ES and Group. Unpack the subject again.")
    pairs = re.findall(r"^\s*(\w+)\s*:\s*(.*?)\s*$", read_bytes(path).decode("utf-8", "replace"), re.MULTILINE)
    info = dict(pairs)
    for phase in PHASES:
        if not re.fullmatch(r"[0-9]{1,4}", info.get(phase, "")):
            raise InputError(f"{path}: {phase} is {info.get(phase)!r}, needed is a line '{phase}: NUMBER'; mend it.")
    if int(info["ED"]) == int(info["ES"]):
        raise InputError(f"{path}: ED and ES are both frame {info['ED']}, needed are two different frames; mend it.")
    if info.get("Group") not in GROUPS:
        raise InputError(f"{path}: Group is {info.get('Group')!r}, needed is one of {', '.join(GROUPS)}; mend it.")
    return info


def read(case: Case) -> Volume:
    """Read one phase.

    Returns:
        image (X, Y, Z) in its own number type; label (X, Y, Z) uint8: 1 right cavity, 2 myocardium, 3 left cavity.

    Raises:
        InputError: not a whole file, not 3-D, NaN or inf, other label values, or image and label don't fit together.
    """
    path, label_path = case.sources["image"], case.sources["label"]
    image, label = read_nifti(path), read_nifti(label_path)
    if image.data.ndim != 3 or 0 in image.data.shape:
        raise InputError(f"{path}: shape {image.data.shape}, needed is a 3-D volume; export one frame.")
    if label.data.shape != image.data.shape:
        raise InputError(f"{label_path}: shape {label.data.shape}, its image {image.data.shape}; unpack both again.")
    if not np.allclose(label.affine, image.affine, atol=1e-2):
        raise InputError(f"{label_path}: lies elsewhere in space than {path.name} (other affine); mend its header.")
    if not np.isfinite(image.data).all():
        bad = int(np.size(image.data) - np.isfinite(image.data).sum())
        raise InputError(f"{path}: {bad} voxels are NaN or infinite, needed are finite numbers; export it again.")
    known = [item.index for item in labels.ACDC]
    values = np.unique(label.data)
    if not np.isin(values, known).all():
        raise InputError(f"{label_path}: label values {values.tolist()}, needed are {known}; map them.")
    if not label.data.any():
        raise InputError(f"{label_path}: the mask is empty, no voxel is set; take the subject out or draw it.")
    return Volume(image.data, label.data.astype(np.uint8), image.affine, image.spacing)
