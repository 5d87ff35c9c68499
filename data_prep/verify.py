"""Check a prepared folder and list every problem with its file."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from data_prep.files import Array, map_in_processes, read_nifti, sha256
from data_prep.layout import Json
from data_prep.plausibility import find_doubts, find_untaught, measure
from medpos.core.errors import InputError
from medpos.core.files import decode_json
from medpos.core.labels import IGNORED
from medpos.data.gray_values import compute_moments, intensity_statistics
from medpos.data.leaks import find_leaks
from medpos.data.names import find_name_faults
from medpos.data.schema import (
    CASE_KEYS,
    FOLDERS,
    INSTANCE_KEYS,
    KEYS,
    LABEL_KEYS,
    MANIFEST,
    SCHEMA_VERSION,
    SPACINGS,
    SPLITS,
)
from medpos.io.labels import find_values
from medpos.io.pictures.jsrt import HIGHEST
from medpos.io.scan import StoredVolume

JSON_TYPES = {int: "a number", str: "a text", bool: "true or false", list: "a list", dict: "an object"}


@dataclass(frozen=True)
class Finding:
    """Hold the problems of one case; if readable, its moments of gray values, label values and plausibility."""

    problems: list[str]
    moments: dict[str, float] | None = None
    values: frozenset[int] = frozenset()
    measures: Json | None = None


def check(folder: Path, workers: int = 1) -> tuple[str, list[str], list[str]]:
    """Check a prepared folder.

    Returns:
        A one-line summary; the problems, each as ``file: problem``; and what is implausible, each as ``case: doubt``.
    """
    path = folder / MANIFEST
    try:
        manifest = decode_json(path.read_bytes())
    except OSError as error:
        return str(folder), [f"{path}: can't be read ({error.strerror}); prepare the folder again"], []
    except ValueError as error:
        return str(folder), [f"{path}: not JSON ({error}); prepare the folder again"], []
    problems = check_manifest(path, manifest)
    if not isinstance(manifest, dict):
        return str(folder), problems, []
    parts = {part: [case for case in _list(manifest.get(part)) if isinstance(case, dict)] for part in SPLITS}
    cases = [case for part in SPLITS for case in parts[part] if not check_case_keys(path, folder, case)]
    names = {str(label["index"]): label["name"] for label in _labels(manifest)}
    channels = manifest.get("channels")
    ignored = manifest.get("ignore_index")
    work = partial(check_files, folder, manifest.get("name"), names, channels=channels, ignored=ignored)
    findings = map_in_processes(work, cases, workers, "verify")
    problems += [problem for finding in findings for problem in finding.problems]
    if channels is not None:
        problems += _check_absent(path, findings, names)
    problems += _check_extra(folder, [case for part in SPLITS for case in parts[part]])
    problems += _check_intensity(path, manifest, cases, findings)
    subjects = {str(case.get("subject")) for part in SPLITS for case in parts[part]}
    total = sum(map(len, parts.values()))
    measured = [(case, f.measures) for case, f in zip(cases, findings, strict=True) if f.measures is not None]
    summary = f"{folder}: {manifest.get('name')}, {total} cases of {len(subjects)} subjects"
    taught = set(map(id, parts["training"]))
    training = [measures for case, measures in measured if id(case) in taught]
    doubts = find_doubts(measured)
    # A case that can't be read may show the class, and the few phantoms of many classes never show all.
    if len(training) == len(taught) and not manifest.get("phantom"):
        doubts += find_untaught(training, {int(index): name for index, name in names.items()})
    return summary, problems, doubts


def check_manifest(path: Path, manifest: Any) -> list[str]:
    """List problems of ``dataset.json``: keys, labels, entries, duplicate cases, what two parts share."""
    problems = _check_keys(f"{path}", manifest, KEYS)
    if not isinstance(manifest, dict):
        return problems
    version = manifest.get("schema_version")
    if version != SCHEMA_VERSION:
        problems.append(f"{path}: expected schema_version {SCHEMA_VERSION}, got {version!r}; prepare the folder again")
    channels = manifest.get("channels", ["image"])
    if not (channels and isinstance(channels, list) and all(isinstance(name, str) and name for name in channels)):
        problems.append(f"{path}: expected a list of names as channels, got {channels!r:.60}")
    ignored = manifest.get("ignore_index", IGNORED)
    if ignored != IGNORED:
        problems.append(f"{path}: expected ignore_index {IGNORED}, or no such key, got {ignored!r:.60}")
    spacing = manifest.get("spacing", SPACINGS[0])
    if spacing not in SPACINGS:
        problems.append(f"{path}: expected spacing {', '.join(SPACINGS)}, or no such key, got {spacing!r:.60}")
    indices = [label["index"] for label in _labels(manifest)]
    if indices != list(range(len(indices))) or len(indices) < 2 or len(indices) != len(_list(manifest.get("labels"))):
        problems.append(f"{path}: expected labels of index (0, 1, 2, ...), name, colour (#rrggbb), background first")
    entries = [(part, case) for part in SPLITS for case in _list(manifest.get(part))]
    problems += [problem for _, case in entries for problem in check_case_keys(path, path.parent, case)]
    if not manifest.get(SPLITS[0]):
        problems.append(f"{path}: no training case")
    named = [(part, case) for part, case in entries if isinstance(case, dict)]
    problems += [f"{path}: {fault}" for fault in find_name_faults(manifest)]
    parts = {part: [case for name, case in named if name == part] for part in SPLITS}
    problems += [f"{path}: {leak}" for leak in find_leaks(parts)]
    return problems


def check_case_keys(path: Path, folder: Path, case: Any) -> list[str]:
    """List problems of one case's entry: keys, types, and paths that lead out of the folder."""
    name = case.get("case") if isinstance(case, dict) else case
    where = f"{path}: case {name}"
    problems = _check_keys(where, case, CASE_KEYS)
    if isinstance(case, dict) and not INSTANCE_KEYS.keys().isdisjoint(case):
        problems += _check_keys(where, case, INSTANCE_KEYS)
    if problems:
        return problems
    for kind in FOLDERS.keys() & case.keys():
        inside = PurePosixPath(case[kind])
        outside = inside.is_absolute() or ".." in inside.parts or "\\" in case[kind] or "\0" in case[kind]
        if outside or not (folder / inside).resolve().is_relative_to(folder.resolve()):
            problems.append(f"{where}: expected {kind} inside the folder, got {case[kind]!r}")
    for key in ("shape", "spacing_mm"):
        if len(case[key]) != 3 or not all(_is_number(number) and number > 0 for number in case[key]):
            problems.append(f"{where}: expected three positive numbers as {key}, got {case[key]}")
    return problems


def check_files(
    folder: Path, dataset: str | None, names: Mapping[str, str], case: Json, channels: Any = None, ignored: Any = None
) -> Finding:
    """List problems of the files of one case: image, label map and instances.

    Args:
        folder: prepared folder.
        dataset: name of the data set.
        names: class names by index, as text.
        case: entry of the case, with valid keys.
        channels: names of the image's channels; None if every image has one channel and every case all organs.
        ignored: value of ignored pixels; None if there are none.
    """
    image_path, label_path = folder / case["image"], folder / case["label"]
    count = len(_list(channels))
    image, problems = _read(image_path, "image", case, [count] if count > 1 else [])
    label, more = _read(label_path, "label", case)
    problems += more
    values: frozenset[int] = frozenset()
    if label is not None:
        problems += _check_label(label_path, label.data, names, channels is not None, ignored)
        values = frozenset(find_values(label.data).tolist())
    if "instances" in case:
        problems += _check_instances(folder / case["instances"], case, label)
    if image is None:
        return Finding(problems, None, values)
    if label is not None and not np.allclose(label.affine, image.affine, atol=1e-3):
        problems.append(f"{label_path}: expected the affine of its image, got another")
    bad = int(image.data.size - np.isfinite(image.data).sum())
    if bad:
        return Finding([*problems, f"{image_path}: {bad} voxels are NaN or infinite"], None, values)
    if dataset == "jsrt" and (image.data.min() < 0 or image.data.max() > HIGHEST):
        problems.append(f"{image_path}: expected gray values 0 to {HIGHEST}")
    measures = None
    if label is not None and label.data.shape == image.data.shape[:3] and label.data.dtype.kind in "iu":
        classes = {int(index): name for index, name in names.items()}
        measures = measure(image.data, label.data, image.affine, classes)
    return Finding(problems, compute_moments(image.data), values, measures)


def _read(path: Path, kind: str, case: Json, channels: Sequence[int] = ()) -> tuple[StoredVolume | None, list[str]]:
    """Read a file and compare it with its entry; ``channels`` is the length of its fourth axis, if any."""
    try:
        nifti = read_nifti(path)
    except InputError as error:
        return None, [str(error)]
    problems = []
    if sha256(path.read_bytes()) != case[f"{kind}_sha256"]:
        problems.append(f"{path}: changed since it was prepared (sha256)")
    expected = [*case["shape"], *channels]
    if list(nifti.data.shape) != expected:
        problems.append(f"{path}: expected shape {expected} as in {MANIFEST}, got {list(nifti.data.shape)}")
    if not np.allclose(nifti.spacing, case["spacing_mm"], rtol=1e-4):
        problems.append(f"{path}: expected spacing {case['spacing_mm']} mm as in {MANIFEST}, got {nifti.spacing}")
    return nifti, problems


def _check_absent(path: Path, findings: Sequence[Finding], names: Mapping[str, str]) -> list[str]:
    """List classes that no case has; in custom data some cases may lack a class."""
    seen = frozenset[int]().union(*(finding.values for finding in findings))
    return [f"{path}: no case has a pixel of {name}" for index, name in names.items() if int(index) not in seen | {0}]


def _check_label(path: Path, label: Array, names: Mapping[str, str], may_lack: bool, ignored: Any) -> list[str]:
    if not np.isfinite(label).all():
        return [f"{path}: label values are NaN or infinite"]
    values = find_values(label).tolist()
    unknown = [value for value in values if str(value) not in names and value != ignored]
    problems = [f"{path}: label values {unknown} are not in {MANIFEST}"] if unknown else []
    absent = [name for index, name in names.items() if index != "0" and int(index) not in values and not may_lack]
    return problems + [f"{path}: no voxel of {name}" for name in absent]


def _check_instances(path: Path, case: Json, label: StoredVolume | None) -> list[str]:
    """List problems of instances, which must be above 0 exactly where the label isn't background."""
    instances, problems = _read(path, "instances", case)
    if instances is None or label is None or instances.data.shape != label.data.shape:
        return problems
    if instances.data.dtype.kind != "u":
        problems.append(f"{path}: expected unsigned integers, got {instances.data.dtype}")
    if not np.allclose(instances.affine, label.affine, atol=1e-3):
        problems.append(f"{path}: expected the affine of its label map, got another")
    unlike = int(np.count_nonzero((instances.data > 0) != (label.data > 0)))
    if unlike:
        problems.append(f"{path}: {unlike} voxels belong to an object but not to a class, or to a class but no object")
    return problems


def _check_extra(folder: Path, cases: Iterable[Json]) -> list[str]:
    listed = {str(case.get(kind)) for case in cases for kind in FOLDERS}
    found = [path for kind in FOLDERS.values() for path in sorted((folder / kind).rglob("*")) if not path.is_dir()]
    return [f"{path}: not in {MANIFEST}" for path in found if path.relative_to(folder).as_posix() not in listed]


def _check_intensity(path: Path, manifest: Json, cases: list[Json], findings: list[Finding]) -> list[str]:
    """Compare the stated training statistics with the images, if all are readable."""
    stated = manifest.get("intensity")
    if not isinstance(stated, dict):
        return []
    span = _list(stated.get("range"))
    valid = len(span) == 2 and all(map(_is_number, [*span, stated.get("mean"), stated.get("std")]))
    if not valid or not span[0] < span[1] or stated["std"] <= 0:
        return [f"{path}: expected intensity with range [low, high], mean and std above 0, got {stated}"]
    training = [case.get("case") for case in _list(manifest.get("training")) if isinstance(case, dict)]
    seen = [finding.moments for case, finding in zip(cases, findings, strict=True) if case["case"] in training]
    known = [part for part in seen if part is not None]
    if not known or len(known) != len(training):
        return []
    true = intensity_statistics(known, None)
    if np.allclose([stated["mean"], stated["std"]], [true["mean"], true["std"]], rtol=1e-6):
        return []
    return [
        f"{path}: expected intensity mean {true['mean']}, std {true['std']} as in the images, got {stated['mean']}, "
        f"{stated['std']}"
    ]


def _check_keys(where: str, found: Any, keys: Mapping[str, type]) -> list[str]:
    if not isinstance(found, dict):
        return [f"{where}: expected an object with keys"]
    problems = []
    for key, kind in keys.items():
        if key not in found:
            problems.append(f"{where}: key {key!r} is missing")
        elif not isinstance(found[key], kind) or found[key] == "" or (kind is int and isinstance(found[key], bool)):
            problems.append(f"{where}: expected {JSON_TYPES[kind]} as {key}, got {found[key]!r:.60}")
    return problems


def _labels(manifest: Json) -> list[Json]:
    """Return the valid entries of the classes."""
    valid = [label for label in _list(manifest.get("labels")) if not _check_keys("", label, LABEL_KEYS)]
    return [label for label in valid if re.fullmatch("#[0-9A-Fa-f]{6}", label["colour"])]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_number(value: Any) -> bool:
    # The bound excludes NaN, infinity and integers too large for a float.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300
