"""Join the channels of an image from one file for each, named as nnU-Net does, or from one file of all."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from medpos.core.errors import InputError
from medpos.io.scan import Scan, are_one_grid
from medpos.io.targets import PictureTarget

_COLORS = 3
_NUMBERED = re.compile(r"(.+)_(\d{4})")


def group_channels(files: Iterable[tuple[str, str, Path]]) -> list[tuple[str, str, tuple[Path, ...]]]:
    """Group files that are channels of one image: ``NAME_0000``, ``NAME_0001`` ... of one folder and format.

    Args:
        files: name without suffix, format and path of each file.

    Returns:
        Name, format and files in the order of their channels for each case.
    """
    cases: dict[tuple[Path, str, str], list[Path]] = {}
    for stem, kind, path in files:
        found = _NUMBERED.fullmatch(stem)
        cases.setdefault((path.parent, kind, found[1] if found else stem), []).append(path)
    return [(name, kind, tuple(sorted(paths))) for (_, kind, name), paths in cases.items()]


def join_channels(files: Sequence[Path], scans: Sequence[Scan], names: Sequence[str]) -> Scan:
    """Join scans to one image of all channels.

    Args:
        files: files of the case.
        scans: images [X, Y, Z] or [X, Y, Z, C] in these files; one for a DICOM series.
        names: names of the network's channels.

    Returns:
        The first scan's geometry with values [X, Y, Z, C].

    Raises:
        InputError: a channel is missing, there are too many channels, or they aren't on one grid.
    """
    first = scans[0]
    if len(scans) == 1 and first.values.ndim == 4:
        _check_count(files[0], first.values.shape[3], names)
        return first
    if len(names) == _COLORS and len(files) == 1 and isinstance(first.target, PictureTarget) and not _parts(files[0]):
        # A gray picture among color pictures, treated as data_prep does.
        return replace(first, values=np.repeat(first.values[..., None], _COLORS, axis=3))
    _check_files(files, len(scans), names)
    for path, scan in zip(files[1:], scans[1:], strict=True):
        _check_fit(path, scan, files[0], first)
    ranges = [scan.gray_range for scan in scans]
    known = [ends for ends in ranges if ends is not None]
    return replace(
        first,
        values=np.stack([scan.values for scan in scans], axis=3),
        gray_range=(min(low for low, _ in known), max(high for _, high in known)) if known == ranges else None,
        notes=[note for scan in scans for note in scan.notes],
    )


def _check_count(path: Path, count: int, names: Sequence[str]) -> None:
    if count != len(names):
        raise InputError(
            f"{path}: expected {_format_channels(names)}, got {count} channels; give the expected ones in this order"
        )


def _check_files(files: Sequence[Path], scans: int, names: Sequence[str]) -> None:
    """Raise an error unless there is one file for each channel."""
    parts = [_parts(path) for path in files]
    if scans < len(files) or any(part is None for part in parts):
        raise InputError(
            f"{files[0]}: expected {_format_channels(names)}, got one channel; give a file of each, named NAME_0000 to "
            f"NAME_{len(names) - 1:04d}, or one NIfTI with the channels along its fourth axis"
        )
    found = [part for part in parts if part is not None]
    numbers = [int(number) for _, number, _ in found]
    stem, _, suffix = found[0]
    for number, name in enumerate(names):
        if number not in numbers:
            raise InputError(
                f"{files[0]}: expected {stem}_{number:04d}{suffix} for channel {number} ({name}), got no such file; "
                "add it beside this one"
            )
    if len(numbers) > len(names):
        wrong = next(path for path, n in zip(files, numbers, strict=True) if n >= len(names) or numbers.count(n) > 1)
        raise InputError(f"{wrong}: expected {_format_channels(names)}, got one file too many; leave it out")


def _parts(path: Path) -> tuple[str, str, str] | None:
    """Split ``a_0001.nii.gz`` into ``a``, ``0001`` and ``.nii.gz``; None for another name."""
    found = re.fullmatch(r"(.+)_(\d{4})(\.[A-Za-z][A-Za-z.]*)", path.name)
    return (found[1], found[2], found[3]) if found else None


def _format_channels(names: Sequence[str]) -> str:
    return f"{len(names)} channels ({', '.join(names)})"


def _check_fit(path: Path, scan: Scan, first_path: Path, first: Scan) -> None:
    if scan.values.shape != first.values.shape:
        wanted, found = (" x ".join(map(str, one.values.shape)) for one in (first, scan))
        raise InputError(
            f"{path}: expected {wanted}, the size of {first_path.name}, got {found}; export all channels on one grid"
        )
    if scan.directions is not None and first.directions is not None:
        if not are_one_grid(scan.target.affine, first.target.affine, first.values.shape):
            raise InputError(
                f"{path}: expected the affine of {first_path.name}, got another one; export all channels on one grid"
            )
    elif scan.spacing_mm and first.spacing_mm and not np.allclose(scan.spacing_mm, first.spacing_mm, rtol=1e-3):
        raise InputError(
            f"{path}: expected the spacing of {first_path.name}, got another one; export all channels on one grid"
        )
