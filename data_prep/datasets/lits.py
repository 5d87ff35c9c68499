"""Prepare livers in CT: LiTS, the Liver Tumor Segmentation challenge (Bilic et al., MedIA 84, 2023).

Files ``volume-0.nii`` and ``segmentation-0.nii`` to 130, in ``Training Batch 1`` and ``2`` or elsewhere in the source,
gzipped or not: 0 background, 1 liver, 2 lesion. As in the UNet++ paper a lesion is a part of the liver; ``lesions``
keeps it as a class of its own. The masks of the challenge's own 70 test volumes aren't published.
"""

from pathlib import Path

import numpy as np

from data_prep.files import notes_of, read_nifti
from data_prep.layout import Case, Dataset, Volume, prepare_dataset
from data_prep.listing import find_by_name
from data_prep.published import describe_shortfall
from medpos.core import labels
from medpos.core.errors import InputError
from medpos.data.schema import is_phantom
from medpos.io.labels import find_values, round_labels

WEIGHTS = (100, 15, 16)
COUNT = 131
DESCRIPTION = "Livers in abdominal CT (LiTS) in Hounsfield units, lesions {}."


def prepare(
    source: Path, out: Path, lesions: bool = False, seed: int = 0, workers: int = 1, strict: bool = False
) -> str:
    """Prepare LiTS with the arguments of ``python -m data_prep lits``, and return one line about it."""
    classes = (*labels.LIVER, labels.LESION) if lesions else labels.LIVER
    described = DESCRIPTION.format("apart" if lesions else "included")
    dataset = Dataset("lits", described, classes, WEIGHTS, None, is_phantom(source), ("CT",))
    cases = find_cases(source, lesions)
    done = prepare_dataset(dataset, cases, out, seed, workers, strict)
    return done + describe_shortfall({"volumes": len(cases)}, {"volumes": COUNT})


def find_cases(source: Path, lesions: bool = False) -> list[Case]:
    """Pair the volumes below ``source`` with their segmentations; test volumes without one are left out.

    Raises:
        InputError: there is no volume with a segmentation, or a segmentation has no volume.
    """
    volumes = find_by_name(source, r"volume-(\d+)\.nii(?:\.gz)?")
    masks = find_by_name(source, r"segmentation-(\d+)\.nii(?:\.gz)?")
    if not masks:
        raise InputError(f"{source}: expected volume-N.nii and segmentation-N.nii, found none; check the path.")
    for number, path in masks.items():
        if number not in volumes:
            raise InputError(f"{path}: no volume-{number}.nii in {source}; unpack the download again.")
    return [
        Case(
            f"volume_{int(number):03d}",
            f"volume_{int(number):03d}",
            {"image": volumes[number], "label": path},
            read_case,
            {"lesions": lesions},
        )
        for number, path in sorted(masks.items(), key=lambda named: int(named[0]))
    ]


def read_case(case: Case) -> Volume:
    """Read one volume.

    Returns:
        Image (X, Y, Z) in Hounsfield units, in the number type of its file; label (X, Y, Z): 1 liver, and 2 lesion if
        it is a class of its own. The share of lesions in the liver is recorded.

    Raises:
        InputError: a file is damaged or not 3-D, has NaN, infinity or other label values, an empty mask, or the shapes
            differ.
    """
    path = case.sources["label"]
    image, stored = read_nifti(case.sources["image"]), read_nifti(path)
    if image.data.ndim != 3 or stored.data.shape != image.data.shape:
        shapes = f"{image.data.shape} and {stored.data.shape}"
        raise InputError(f"{path}: expected a volume and a mask of one 3-D shape, got {shapes}; unpack them again.")
    if not np.isfinite(image.data).all():
        raise InputError(f"{case.sources['image']}: expected finite numbers, got NaN or infinity; unpack it again.")
    classes = round_labels(stored.data)
    values = find_values(classes)
    if not np.isin(values, (0, 1, 2)).all():
        raise InputError(f"{path}: expected label values 0, 1 and 2, got {values.tolist()[:20]}; unpack it again.")
    if not classes.any():
        raise InputError(f"{path}: expected a liver, got an empty mask; remove the volume or unpack it again.")
    share = float(np.count_nonzero(classes == 2) / np.count_nonzero(classes))
    label = classes if case.options["lesions"] else classes > 0
    details = {"lesion_share": round(share, 6), **notes_of(image, stored)}
    return Volume(image.data, label.astype(np.uint8), image.affine, image.spacing, details)
