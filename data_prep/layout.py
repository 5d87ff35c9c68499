"""The uniform folder that every data set is brought into, and how it is written: case by case, manifest last.

::

    OUT/images/CASE.nii.gz  OUT/labels/CASE.nii.gz  OUT/dataset.json  OUT/.cases/CASE.json
    OUT/instances/CASE.nii.gz                       where single objects are known: their numbers

``.cases`` keeps what each case was made from, so that a second run skips what is up to date and an interrupted one goes
on where it stopped. ``dataset.json`` is there only while it is true: the first change removes it, the end of the run
writes it.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.files import Array, map_processes, nifti_bytes, remove, remove_temporaries, sha256, write_bytes
from data_prep.split import split
from medpos.core.errors import InputError
from medpos.core.files import read_bytes
from medpos.core.labels import IGNORED, Label
from medpos.data.schema import FOLDERS, MANIFEST, SCHEMA_VERSION, SPLITS

# To be raised whenever the same sources and options shall give other files: prepared folders are then made anew.
RECIPE = 1
RECORDS = ".cases"
RECORD_KEYS = ("made_from", "entry", "moments")
Json = dict[str, Any]


@dataclass(frozen=True)
class Volume:
    """What a case holds once it is read.

    Args:
        image: (X, Y, Z) grey values, finite; (X, Y, Z, C) where the data set has C > 1 channels.
        label: (X, Y, Z) uint8 class indices; 255 where a pixel is to be ignored, if the data set has such.
        affine: (4, 4), voxel indices to RAS+ millimetres.
        spacing: voxel size in mm.
        details: further entries of the case in ``dataset.json``.
        instances: (X, Y, Z) uint16, above 0 just where the label is: one number for each object; None where unknown.
    """

    image: Array
    label: Array
    affine: Array
    spacing: tuple[float, ...]
    details: Json = field(default_factory=dict)
    instances: Array | None = None


@dataclass(frozen=True)
class Case:
    """One image with its label, not read yet.

    Args:
        case: identifier, unique in the data set; names its files.
        subject: the person; all cases of a subject fall into the same part of the split.
        sources: raw files by their role, each a ``Path`` or a ``Member`` of an archive; the case is made again when one
            of them changes.
        read: function of a module that reads the case, run in a worker process.
        options: what else the result rests on; the case is made again when it changes.
        details: further entries of the case in ``dataset.json``, known before it is read.
        group: the split is balanced over the groups.
        part: of the split, where it is published with the data; empty where the seed decides.
    """

    case: str
    subject: str
    sources: Mapping[str, Any]
    read: Callable[["Case"], Volume]
    options: Json = field(default_factory=dict)
    details: Json = field(default_factory=dict)
    group: str = ""
    part: str = ""


@dataclass(frozen=True)
class Dataset:
    """What all cases have in common.

    Args:
        name: ``jsrt``, ``acdc``, or what the user calls it.
        description: one sentence for ``dataset.json``.
        labels: classes of the label maps.
        weights: proportions of training, validation and test, for subjects whose part isn't published.
        grey_range: lowest and highest possible grey value; None takes those seen in training.
        phantom: the images are synthetic.
        channels: names of the image's channels; none where the data set can have one alone.
        ignored: label maps have 255 where a pixel counts neither in training nor in scores.
    """

    name: str
    description: str
    labels: tuple[Label, ...]
    weights: tuple[int, int, int]
    grey_range: tuple[int, int] | None
    phantom: bool
    channels: tuple[str, ...] = ()
    ignored: bool = False


def prepare(dataset: Dataset, cases: Sequence[Case], out: Path, seed: int = 0, workers: int = 1) -> str:
    """Bring ``cases`` into the uniform folder ``out``, or bring that folder up to date.

    Returns:
        one line on what was done.

    Raises:
        InputError: two cases of one name, ``out`` belongs to another data set or can't be written, or the first case
            that can't be read. Finished cases are kept for the next run.
    """
    _check_names(cases)
    _check_folder(out, dataset.name)
    results = map_processes(partial(write_case, out, dataset.name), cases, workers, dataset.name)
    removed = _remove_stale(out, {case.case for case in cases})
    manifest = _manifest(dataset, cases, results, seed)
    data = (json.dumps(manifest, indent=2, allow_nan=False) + "\n").encode()
    written = sum(result["written"] for result in results)
    path = out / MANIFEST
    if not path.is_file() or path.read_bytes() != data:
        write_bytes(path, data)
    elif not written + removed:
        return f"unchanged: {len(cases)} cases in {out} are up to date"
    counts = ", ".join(f"{len(manifest[part])} {part}" for part in SPLITS)
    return f"{out}: {written} cases written, {len(cases) - written} up to date, {removed} removed ({counts})"


def write_case(out: Path, name: str, case: Case) -> Json:
    """Read a case and write its files, or find them up to date.

    Returns:
        ``entry`` for ``dataset.json``, ``moments`` of the grey values, and ``written``.
    """
    made_from = {
        "recipe": RECIPE,
        "dataset": name,
        "options": case.options,
        "details": case.details,
        "sources": {role: [path.name, sha256(read_bytes(path))] for role, path in case.sources.items()},
    }
    record = read_record(out / RECORDS / f"{case.case}.json")
    if record is not None and record["made_from"] == made_from and _is_intact(out, case, record["entry"]):
        return {**record, "written": False}
    volume = case.read(case)
    arrays = {"image": volume.image, "label": volume.label, "instances": volume.instances}
    files = {kind: nifti_bytes(array, volume.affine) for kind, array in arrays.items() if array is not None}
    entry = {
        "case": case.case,
        "subject": case.subject,
        **{kind: f"{FOLDERS[kind]}/{case.case}.nii.gz" for kind in files},
        **{f"{kind}_sha256": sha256(data) for kind, data in files.items()},
        "shape": list(volume.label.shape),
        "spacing_mm": [round(size, 6) for size in volume.spacing],
        **case.details,
        **volume.details,
    }
    remove(out / MANIFEST)
    for kind, data in files.items():
        write_bytes(out / entry[kind], data)
    for kind in FOLDERS.keys() - files.keys():  # an earlier run may have known the objects
        remove(out / FOLDERS[kind] / f"{case.case}.nii.gz")
    record = {"made_from": made_from, "entry": entry, "moments": moments(volume.image)}
    write_bytes(out / RECORDS / f"{case.case}.json", json.dumps(record, indent=1).encode())
    return {**record, "written": True}


def moments(image: Array) -> dict[str, float]:
    """Count, sum, sum of squares, lowest and highest grey value, from which the statistics of many images follow."""
    grey = image.astype(np.float64)
    return {
        "count": grey.size,
        "sum": float(grey.sum()),
        "squares": float(np.square(grey).sum()),
        "min": float(grey.min()),
        "max": float(grey.max()),
    }


def intensity(parts: Sequence[Mapping[str, float]], grey_range: tuple[int, int] | None) -> Json:
    """Range, mean and population standard deviation over all voxels of several images.

    Args:
        parts: :func:`moments` of each image; their order makes no difference.
        grey_range: the range if it is known beforehand.
    """
    count = sum(part["count"] for part in parts)
    mean = math.fsum(part["sum"] for part in parts) / count
    variance = math.fsum(part["squares"] for part in parts) / count - mean**2
    seen = (min(part["min"] for part in parts), max(part["max"] for part in parts))
    return {"range": list(grey_range or seen), "mean": mean, "std": math.sqrt(max(variance, 0.0))}


def read_record(path: Path) -> Json | None:
    """What a case was made from, or None where that isn't known."""
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    complete = isinstance(record, dict) and all(isinstance(record.get(key), dict) for key in RECORD_KEYS)
    return record if complete else None


def _is_intact(out: Path, case: Case, entry: Json) -> bool:
    """Whether the files are those of the entry, and the entry is this subject's."""
    try:
        kinds = [kind for kind in FOLDERS if kind != "instances" or kind in entry]
        return entry["subject"] == case.subject and all(
            sha256((out / entry[kind]).read_bytes()) == entry[f"{kind}_sha256"] for kind in kinds
        )
    except (OSError, KeyError, TypeError):
        return False


def _check_names(cases: Sequence[Case]) -> None:
    seen: dict[str, Case] = {}
    for case in cases:
        where = next(iter(case.sources.values()))
        if case.case in seen:
            other = next(iter(seen[case.case].sources.values()))
            raise InputError(f"{where}: a second {case.case}, the first is {other}; remove or rename one.")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", case.case):
            raise InputError(f"{where}: a case can't be called {case.case!r}; use letters, digits, '_', '-', '.'.")
        seen[case.case] = case


def _check_folder(out: Path, name: str) -> None:
    """Make the folder, and see that it isn't another data set's: its cases would be removed as stale."""
    try:
        for inside in ("", "images", "labels", RECORDS):
            (out / inside).mkdir(parents=True, exist_ok=True)
        for inside in ("", *FOLDERS.values(), RECORDS):
            remove_temporaries(out / inside)
    except OSError as error:
        raise InputError(f"{out}: can't be made or written ({error.strerror}); choose another --out.") from error
    for path in (out / RECORDS).glob("*.json"):
        record = read_record(path)
        found = name if record is None else record["made_from"].get("dataset")
        if found != name:
            raise InputError(f"{out}: holds {found}, not {name}; choose another --out.")


def _remove_stale(out: Path, current: set[str]) -> int:
    """Remove the files of cases that earlier runs made and this one doesn't have; return their number."""
    stale = [path for path in (out / RECORDS).glob("*.json") if path.stem not in current]
    for path in stale:
        remove(out / MANIFEST)
        for folder in FOLDERS.values():
            remove(out / folder / f"{path.stem}.nii.gz")
        remove(path)
    return len(stale)


def _manifest(dataset: Dataset, cases: Sequence[Case], results: Sequence[Json], seed: int) -> Json:
    published = {case.subject: case.part for case in cases if case.part}
    free = {case.subject: case.group for case in cases if not case.part}
    part_of = {**split(free, dataset.weights, seed), **published}
    parts: dict[str, list[Json]] = {part: [] for part in SPLITS}
    for result in sorted(results, key=lambda result: str(result["entry"]["case"])):
        parts[part_of[result["entry"]["subject"]]].append(result)
    if not parts["training"]:
        raise InputError(f"{dataset.name}: none of the {len(cases)} cases falls to the training part; add more cases.")
    return {
        "schema_version": SCHEMA_VERSION,
        "name": dataset.name,
        "description": dataset.description,
        "phantom": dataset.phantom,
        **({"channels": list(dataset.channels)} if dataset.channels else {}),
        "labels": [label.to_json() for label in dataset.labels],
        **({"ignore_index": IGNORED} if dataset.ignored else {}),
        "intensity": intensity([result["moments"] for result in parts["training"]], dataset.grey_range),
        "split": {
            "seed": seed,
            "unit": "subject",
            "proportions": dict(zip(SPLITS, dataset.weights, strict=True)),
            **({"published": sorted(set(published.values()), key=SPLITS.index)} if published else {}),
            "subjects": {part: len({result["entry"]["subject"] for result in parts[part]}) for part in SPLITS},
        },
        **{part: [result["entry"] for result in parts[part]] for part in SPLITS},
    }
