"""Images of several channels: a file of each, as nnU-Net names them, or one file that holds them all."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from medpos.core.errors import InputError
from medpos.io.scan import Scan
from medpos.io.targets import NiftiTarget, PictureTarget

_COLOURS = 3
_NUMBERED = re.compile(r"(.+)_(\d{4})")


def group(files: Iterable[tuple[str, str, Path]]) -> list[tuple[str, str, tuple[Path, ...]]]:
    """Put together what are channels of one image: ``NAME_0000``, ``NAME_0001`` ... in one folder, of one format.

    Args:
        files: name without ending, format and path of each.

    Returns:
        Name, format and files, by channel, of each case.
    """
    cases: dict[tuple[Path, str, str], list[Path]] = {}
    for stem, kind, path in files:
        found = _NUMBERED.fullmatch(stem)
        cases.setdefault((path.parent, kind, found[1] if found else stem), []).append(path)
    return [(name, kind, tuple(sorted(paths))) for (_, kind, name), paths in cases.items()]


def join(files: Sequence[Path], scans: Sequence[Scan], names: Sequence[str]) -> Scan:
    """One image of all channels.

    Args:
        files: of the case.
        scans: what they hold, each [X, Y, Z] or [X, Y, Z, C]; of a DICOM series one.
        names: of the channels that are needed.

    Returns:
        The first one's geometry with values [X, Y, Z, C].

    Raises:
        InputError: a channel is missing or too many, or they don't lie on one grid.
    """
    first = scans[0]
    if len(scans) == 1 and first.values.ndim == 4:
        _check_count(files[0], first.values.shape[3], names)
        return first
    if len(names) == _COLOURS and len(files) == 1 and isinstance(first.target, PictureTarget) and not _parts(files[0]):
        # A grey picture among coloured ones, as data_prep takes it.
        return replace(first, values=np.repeat(first.values[..., None], _COLOURS, axis=3))
    _check_files(files, len(scans), names)
    for path, scan in zip(files[1:], scans[1:], strict=True):
        _check_fit(path, scan, files[0], first)
    ranges = [scan.grey_range for scan in scans]
    known = [ends for ends in ranges if ends is not None]
    return replace(
        first,
        values=np.stack([scan.values for scan in scans], axis=3),
        grey_range=(min(low for low, _ in known), max(high for _, high in known)) if known == ranges else None,
        notes=[note for scan in scans for note in scan.notes],
    )


def _check_count(path: Path, count: int, names: Sequence[str]) -> None:
    if count != len(names):
        raise InputError(
            f"{path}: holds {count} channels, the network takes {_listed(names)}; give these, in this order"
        )


def _check_files(files: Sequence[Path], scans: int, names: Sequence[str]) -> None:
    """Refuse what is not a file for each channel."""
    parts = [_parts(path) for path in files]
    if scans < len(files) or any(part is None for part in parts):
        raise InputError(
            f"{files[0]}: holds one channel, the network takes {_listed(names)}; give a file of each, named "
            f"NAME_0000 to NAME_{len(names) - 1:04d}, or one NIfTI with the channels along its fourth axis"
        )
    found = [part for part in parts if part is not None]
    numbers = [int(number) for _, number, _ in found]
    stem, _, suffix = found[0]
    for number, name in enumerate(names):
        if number not in numbers:
            raise InputError(
                f"{files[0]}: channel {number} ({name}) is missing; needed beside it is {stem}_{number:04d}{suffix}"
            )
    if len(numbers) > len(names):
        wrong = next(path for path, n in zip(files, numbers, strict=True) if n >= len(names) or numbers.count(n) > 1)
        raise InputError(f"{wrong}: is no channel of the network, which takes {_listed(names)}; leave it out")


def _parts(path: Path) -> tuple[str, str, str] | None:
    """``a_0001.nii.gz`` as ``a``, ``0001``, ``.nii.gz``."""
    found = re.fullmatch(r"(.+)_(\d{4})(\.[A-Za-z][A-Za-z.]*)", path.name)
    return (found[1], found[2], found[3]) if found else None


def _listed(names: Sequence[str]) -> str:
    return f"{len(names)} ({', '.join(names)})"


def _check_fit(path: Path, scan: Scan, first_path: Path, first: Scan) -> None:
    if scan.values.shape != first.values.shape:
        sizes = " and ".join(" x ".join(map(str, one.values.shape)) for one in (scan, first))
        raise InputError(f"{path}: differs in size from {first_path.name} ({sizes}); export all channels on one grid")
    if isinstance(scan.target, NiftiTarget) and isinstance(first.target, NiftiTarget):
        here, there = (target.header.get_best_affine() for target in (scan.target, first.target))
        if not np.allclose(here, there, atol=1e-2):
            raise InputError(
                f"{path}: lies elsewhere in space than {first_path.name} (other affine); export all on one grid"
            )
