"""Write the uniform folder of a prepared data set, case by case and ``dataset.json`` last.

::

    OUT/images/CASE.nii.gz  OUT/labels/CASE.nii.gz  OUT/dataset.json  OUT/.cases/CASE.json
    OUT/instances/CASE.nii.gz                       numbers of the objects, if known

``.cases`` records what each case was made from, so that a second run skips unchanged cases and an interrupted one
resumes. ``dataset.json`` exists only while it is true: the first change removes it, the end of the run writes it.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from data_prep.files import Array, encode_nifti, lock_folder, map_in_processes, remove_file, sha256
from data_prep.plausibility import find_doubts, find_untaught, measure
from medpos.core.errors import InputError
from medpos.core.files import decode_json, read_bytes, write_bytes
from medpos.core.labels import IGNORED, Label
from medpos.core.names import clean_name
from medpos.core.text import group_remarks
from medpos.data.gray_values import compute_moments, intensity_statistics
from medpos.data.names import find_name_faults
from medpos.data.schema import FOLDERS, HEADER, MANIFEST, SCHEMA_VERSION, SPLITS, dump_manifest
from medpos.data.split import keep_copies_together, split_subjects

# Increase whenever the same sources and options give other files: prepared folders are then rewritten.
RECIPE = 2
RECORDS = ".cases"
_SHOWN = 20  # warnings on the screen
RECORD_KEYS = ("made_from", "entry", "moments", "measures")
Json = dict[str, Any]


@dataclass(frozen=True)
class Volume:
    """Hold the content of a case.

    Args:
        image: (X, Y, Z) finite gray values; (X, Y, Z, C) for C > 1 channels.
        label: (X, Y, Z) uint8 class indices; 255 for ignored pixels, if the data set has any.
        affine: (4, 4), voxel indices to RAS+ millimeters.
        spacing: voxel size in mm.
        details: further entries of the case in ``dataset.json``.
        instances: (X, Y, Z) uint16, one number for each object, above 0 exactly where the label is; None if unknown.
    """

    image: Array
    label: Array
    affine: Array
    spacing: tuple[float, ...]
    details: Json = field(default_factory=dict)
    instances: Array | None = None


@dataclass(frozen=True)
class Case:
    """Name the raw files of one image and its label map, which are read later.

    Args:
        case: identifier, unique in the data set; names its files.
        subject: name of the person; all cases of a subject are in the same part of the split.
        sources: raw files by their role, each a ``Path`` or an ``ArchiveMember``; the case is rewritten when one of
            them changes.
        read: module-level function that reads the case in a worker process.
        options: settings that the result depends on; the case is rewritten when they change.
        details: further entries of the case in ``dataset.json``, known before it is read.
        group: name of a group; the split is balanced over the groups.
        part: published part of the split; empty if the seed decides.
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
    """Describe what all cases have in common.

    Args:
        name: ``jsrt``, ``acdc``, or the name that the user gives.
        description: one sentence for ``dataset.json``.
        labels: classes of the label maps.
        weights: proportions of training, validation and test, for subjects without a published part.
        gray_range: lowest and highest possible gray value; None takes those seen in training.
        phantom: True if the images are synthetic.
        channels: names of the image's channels; empty if the data set always has one.
        ignored: True if label maps have 255 for pixels that count neither in training nor in scores.
        spacing: where the pixel size comes from, one of ``SPACINGS``.
    """

    name: str
    description: str
    labels: tuple[Label, ...]
    weights: tuple[int, int, int]
    gray_range: tuple[int, int] | None
    phantom: bool
    channels: tuple[str, ...] = ()
    ignored: bool = False
    spacing: str = HEADER


def prepare_dataset(
    dataset: Dataset, cases: Sequence[Case], out: Path, seed: int = 0, workers: int = 1, strict: bool = False
) -> str:
    """Write or update the uniform folder of a data set.

    Args:
        dataset: common properties of the cases.
        cases: all cases of the data set.
        out: uniform folder.
        seed: random seed of the split.
        workers: number of processes.
        strict: whether what is implausible is an error; the folder then gets no ``dataset.json``.

    Returns:
        One line that says what was done.

    Raises:
        InputError: a name can't be used, two cases have one name, ``out`` belongs to another data set, is being
            written by another process or can't be written, a case can't be read, or ``strict`` finds it implausible.
            Finished cases are kept for the next run.
    """
    _check_names(dataset, cases)
    with lock_folder(out):
        return _prepare(dataset, cases, out, seed, workers, strict)


def _prepare(dataset: Dataset, cases: Sequence[Case], out: Path, seed: int, workers: int, strict: bool) -> str:
    _check_folder(out, dataset.name)
    results = map_in_processes(partial(write_case, out, dataset), cases, workers, dataset.name)
    removed = _remove_stale(out, {case.case for case in cases})
    manifest = _manifest(dataset, cases, results, seed)
    data = dump_manifest(manifest)
    written = sum(result["written"] for result in results)
    path = out / MANIFEST
    doubts = _list_warnings(manifest.get("warnings", []))
    remarks = [(entry["case"], note) for part in SPLITS for entry in manifest[part] for note in entry.get("notes", [])]
    if doubts and strict:
        raise InputError(
            *doubts.strip().splitlines(),
            f"{out}: expected plausible cases, as --strict asks, got {len(manifest['warnings'])} warnings; correct the "
            f"data, or leave --strict out (no {MANIFEST} was written)",
        )
    if not path.is_file() or path.read_bytes() != data:
        write_bytes(path, data)
    elif not written + removed:
        return "\n".join([f"unchanged: {len(cases)} cases in {out} are up to date{doubts}", *group_remarks(remarks)])
    counts = ", ".join(f"{len(manifest[part])} {part}" for part in SPLITS)
    done = f"{out}: {written} cases written, {len(cases) - written} up to date, {removed} removed ({counts})"
    lacking = [part for part in SPLITS if not manifest[part]]
    if lacking:
        done += f"\nno {' and no '.join(lacking)} case: a training needs all three parts; add images of further persons"
    return "\n".join([done + doubts, *group_remarks(remarks)])


def _list_warnings(warnings: Sequence[str]) -> str:
    rest = len(warnings) - _SHOWN
    lines = [
        *(f"warning: {text}" for text in warnings[:_SHOWN]),
        *([f"{rest} more warnings in {MANIFEST}"] * (rest > 0)),
    ]
    return "".join(f"\n{line}" for line in lines)


def write_case(out: Path, dataset: Dataset, case: Case) -> Json:
    """Read a case and write its files, unless they are up to date.

    Returns:
        ``entry`` for ``dataset.json``, ``moments`` of the gray values, ``measures`` of its plausibility, and whether
        files were ``written``.
    """
    made_from = {
        "recipe": RECIPE,
        "dataset": dataset.name,
        "options": case.options,
        "details": case.details,
        "sources": {role: [path.name, sha256(read_bytes(path))] for role, path in case.sources.items()},
    }
    record = read_record(out / RECORDS / f"{case.case}.json")
    if record is not None and record["made_from"] == made_from and _is_intact(out, case, record["entry"]):
        return {**record, "written": False}
    volume = case.read(case)
    arrays = {"image": volume.image, "label": volume.label, "instances": volume.instances}
    files = {kind: encode_nifti(array, volume.affine) for kind, array in arrays.items() if array is not None}
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
    remove_file(out / MANIFEST)
    for kind, data in files.items():
        write_bytes(out / entry[kind], data)
    for kind in FOLDERS.keys() - files.keys():  # an earlier run may have written instances
        remove_file(out / FOLDERS[kind] / f"{case.case}.nii.gz")
    names = {label.index: label.name for label in dataset.labels}
    record = {
        "made_from": made_from,
        "entry": entry,
        "moments": compute_moments(volume.image),
        "measures": measure(volume.image, volume.label, volume.affine, names),
    }
    write_bytes(out / RECORDS / f"{case.case}.json", json.dumps(record, indent=1).encode())
    return {**record, "written": True}


def read_record(path: Path) -> Json | None:
    """Read the record of what a case was made from; None if missing or damaged."""
    try:
        record = decode_json(path.read_bytes())
    except (OSError, ValueError):
        return None
    complete = isinstance(record, dict) and all(isinstance(record.get(key), dict) for key in RECORD_KEYS)
    return record if complete else None


def _is_intact(out: Path, case: Case, entry: Json) -> bool:
    """Tell whether the files match the entry and the entry belongs to this subject."""
    try:
        kinds = [kind for kind in FOLDERS if kind != "instances" or kind in entry]
        return entry["subject"] == case.subject and all(
            sha256((out / entry[kind]).read_bytes()) == entry[f"{kind}_sha256"] for kind in kinds
        )
    except (OSError, KeyError, TypeError):
        return False


def _check_names(dataset: Dataset, cases: Sequence[Case]) -> None:
    seen: dict[str, Case] = {}
    for case in cases:
        where = next(iter(case.sources.values()))
        if case.case in seen:
            other = next(iter(seen[case.case].sources.values()))
            raise InputError(f"{where}: a second {case.case} beside {other}; remove or rename one.")
        if not case.case or clean_name(case.case) != case.case:
            raise InputError(f"{where}: a case can't be called {case.case!r}; use letters, digits, '_', '-', '.'.")
        seen[case.case] = case
    names = {
        "name": dataset.name,
        "labels": [label.to_json() for label in dataset.labels],
        "channels": list(dataset.channels),
        SPLITS[0]: [{"case": case.case, "subject": case.subject} for case in cases],
    }
    if faults := find_name_faults(names):
        raise InputError(f"{dataset.name}: {faults[0]}; rename it.")


def _check_folder(out: Path, name: str) -> None:
    """Create the folder; refuse one of another data set, since its cases would be removed as stale."""
    try:
        for inside in ("", "images", "labels", RECORDS):
            (out / inside).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: can't be created or written ({error.strerror}); choose another --out.") from error
    for path in (out / RECORDS).glob("*.json"):
        record = read_record(path)
        found = name if record is None else record["made_from"].get("dataset")
        if found != name:
            raise InputError(f"{out}: expected a folder of {name}, got one of {found}; choose another --out.")


def _remove_stale(out: Path, current: set[str]) -> int:
    """Remove the files of cases that this run doesn't have, and return their number."""
    stale = [path for path in (out / RECORDS).glob("*.json") if path.stem not in current]
    for path in stale:
        remove_file(out / MANIFEST)
        for folder in FOLDERS.values():
            remove_file(out / folder / f"{path.stem}.nii.gz")
        remove_file(path)
    return len(stale)


def _manifest(dataset: Dataset, cases: Sequence[Case], results: Sequence[Json], seed: int) -> Json:
    published = {case.subject: case.part for case in cases if case.part}
    free = {case.subject: case.group for case in cases if not case.part}
    part_of = {**split_subjects(free, dataset.weights, seed), **published}
    keep_copies_together(part_of, [r["entry"] for r in results if r["entry"]["subject"] not in published])
    parts: dict[str, list[Json]] = {part: [] for part in SPLITS}
    for result in sorted(results, key=lambda result: str(result["entry"]["case"])):
        parts[part_of[result["entry"]["subject"]]].append(result)
    if not parts["training"]:
        raise InputError(f"{dataset.name}: expected a training case, got none of {len(cases)}; add more cases.")
    doubts = find_doubts([(result["entry"], result["measures"]) for part in SPLITS for result in parts[part]])
    names = {label.index: label.name for label in dataset.labels}
    if not dataset.phantom:  # a few phantoms of many classes never show all
        doubts += find_untaught([result["measures"] for result in parts["training"]], names)
    return {
        "schema_version": SCHEMA_VERSION,
        "name": dataset.name,
        "description": dataset.description,
        "phantom": dataset.phantom,
        "spacing": dataset.spacing,
        **({"channels": list(dataset.channels)} if dataset.channels else {}),
        "labels": [label.to_json() for label in dataset.labels],
        **({"ignore_index": IGNORED} if dataset.ignored else {}),
        "intensity": intensity_statistics([result["moments"] for result in parts["training"]], dataset.gray_range),
        "split": {
            "seed": seed,
            "unit": "subject",
            "proportions": dict(zip(SPLITS, dataset.weights, strict=True)),
            **({"published": sorted(set(published.values()), key=SPLITS.index)} if published else {}),
            "subjects": {part: len({result["entry"]["subject"] for result in parts[part]}) for part in SPLITS},
        },
        **{part: [result["entry"] for result in parts[part]] for part in SPLITS},
        **({"warnings": doubts} if doubts else {}),
    }
