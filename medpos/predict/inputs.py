"""Which files are given, and which of them are one case."""

import glob
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medpos.core.errors import InputError
from medpos.io import channels, dicom, readers
from medpos.io.scan import Scan, check_values

FORMATS = {
    "nifti": (".nii", ".nii.gz"),
    "dicom": (".dcm", ".dicom", ".ima"),
    "picture": (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"),
    "img": (".img",),
}
LISTS = (".txt", ".lst")
_NAMES = "NIfTI, DICOM, PNG, JPEG, TIFF, BMP, JSRT .IMG"
_PHASE = re.compile(r"(.+?)[_-]((?:ED|ES)|(?:frame|phase)\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class CaseFiles:
    """One case that is to be read.

    Args:
        name: unique, of letters, digits, ``.``, ``_`` and ``-``; names its results.
        kind: a key of ``FORMATS``.
        files: of the case, in the order of its channels.
        frames: numbers from 1 of those of a multi-frame DICOM file that belong to the case; empty: all.
    """

    name: str
    kind: str
    files: tuple[Path, ...]
    frames: tuple[int, ...] = ()

    @property
    def subject_and_phase(self) -> tuple[str, str]:
        """``patient001_ED`` and ``patient001_frame01`` are phases of ``patient001``; others have none."""
        found = _PHASE.fullmatch(self.name)
        return (found[1], found[2].upper() if found[2][0] in "eE" else found[2].lower()) if found else (self.name, "")


def find_cases(inputs: Sequence[str], out: Path, names: Sequence[str] = ("image",)) -> list[CaseFiles]:
    """The cases of files, folders, globs and lists of files.

    Args:
        inputs: as the user gives them. A folder counts with all below it, hidden files and ``out`` left out. A list is
            a text file of one path a line, relative to its folder and within it.
        out: where results go; never read.
        names: of the channels that the network takes; where there are several, files ``NAME_0000``, ``NAME_0001`` ...
            of one folder are one case.

    Raises:
        InputError: nothing there, nothing to be read, an unknown format, or a list that leaves its folder.
    """
    files: dict[Path, None] = {}
    for given in inputs:
        found = list(_expand(given, out.resolve()))
        if not found:
            raise InputError(f"{given}: holds no image; needed is {_NAMES}")
        files.update(dict.fromkeys(found))
    kinds = {path: _kind(path) for path in files}
    scans = dicom.group([path for path, kind in kinds.items() if kind == "dicom"]) if "dicom" in kinds.values() else []
    plain = [CaseFiles(_stem(path), kind, (path,)) for path, kind in kinds.items() if kind and kind != "dicom"]
    if len(names) > 1:
        plain = [CaseFiles(*case) for case in channels.group((s.name, s.kind, s.files[0]) for s in plain)]
    return list(_named([*plain, *(CaseFiles(scan.name, "dicom", scan.files, scan.frames) for scan in scans)]))


def identify_case(files: Sequence[str | Path]) -> CaseFiles:
    """The case that these files are together, as :func:`find_cases` would give it.

    Raises:
        InputError: an unknown format, or more than one image.
    """
    paths = tuple(Path(path) for path in files)
    kind = _kind(paths[0])
    if kind is None:
        raise InputError(f"{paths[0]}: has an unknown format; needed is {_NAMES}")
    if kind == "dicom":
        scans = dicom.group(paths)
        if len(scans) > 1:
            raise InputError(
                f"{paths[0]}: holds {len(scans)} images, phases or series; needed is one, so give it to "
                "'python -m medpos predict', which takes them apart"
            )
        return CaseFiles(_clean(scans[0].name), kind, scans[0].files, scans[0].frames)
    return CaseFiles(_clean(_stem(paths[0])), kind, paths)


def read_case(
    source: CaseFiles, modalities: Sequence[str] = (), force: bool = False, names: Sequence[str] = ("image",)
) -> Scan:
    """Read a case.

    Args:
        source: which.
        modalities: DICOM modalities that the network knows; empty: any.
        force: take another modality, colour, or what looks like a label map.
        names: of the channels that the network takes.

    Raises:
        InputError: names the file, the reason and the remedy.
    """
    several = len(names) > 1
    if source.kind == "dicom":
        scans = [dicom.read(source.files, source.frames, modalities, force)]
    elif source.kind == "picture":
        scans = [readers.read_picture(path, force, several) for path in source.files]
    elif source.kind == "nifti":
        scans = [readers.read_nifti(path, several) for path in source.files]
    else:
        scans = [readers.read_img(path) for path in source.files]
    for path, scan in zip(source.files, scans, strict=False):  # of a DICOM series the first file stands for all
        check_values(path, scan.values, force)
    return channels.join(source.files, scans, names) if several else scans[0]


def _expand(given: str, out: Path) -> Iterator[Path]:
    path = Path(given)
    if path.is_dir():
        yield from _within(path, out)
    elif path.is_file():
        if path.suffix.lower() in LISTS:
            yield from _listed(path)
        elif _kind(path) is None:
            raise InputError(f"{path}: has an unknown format; needed is {_NAMES}, or a list of files (.txt)")
        else:
            yield path
    elif glob.has_magic(given):
        for match in sorted(glob.glob(given, recursive=True)):  # noqa: PTH207 (pathlib has no absolute patterns)
            place = Path(match)
            if place.is_dir() or _kind(place) is not None:
                yield from _expand(match, out)
    else:
        raise InputError(f"{given}: there is no such file or folder; check the path")


def _within(folder: Path, out: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and path.is_file() and not path.resolve().is_relative_to(out) and _kind(path) is not None:
            yield path


def _listed(path: Path) -> Iterator[Path]:
    folder = path.parent.resolve()
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: can't be read as a list of files ({error}); write one path a line") from error
    for number, line in enumerate((line.strip() for line in lines), 1):
        if not line or line.startswith("#"):
            continue
        place = (folder / line).resolve()
        if not place.is_relative_to(folder):
            raise InputError(f"{path}, line {number}: {line!r} leaves the list's folder; put the list above its files")
        if not place.is_file() or _kind(place) is None:
            raise InputError(f"{path}, line {number}: {line!r} is no image file; needed is {_NAMES}")
        yield path.parent / line


def _kind(path: Path) -> str | None:
    name = path.name.lower()
    for kind, suffixes in FORMATS.items():
        if name.endswith(suffixes):
            return kind
    # Scanners write DICOM files without a suffix, or with a number in its place.
    bare = re.fullmatch(r"|\.\d+", path.suffix) is not None
    return "dicom" if bare and dicom.is_dicom(path) else None


def _stem(path: Path) -> str:
    name = path.name
    suffix = next(s for suffixes in FORMATS.values() for s in sorted(suffixes, key=len) if name.lower().endswith(s))
    return name[: -len(suffix)]


def _named(cases: Sequence[CaseFiles]) -> Iterator[CaseFiles]:
    """Give every case a name of its own: the folder's before it, then a number, where the file's isn't."""
    clean = [_clean(case.name) for case in cases]
    counts = Counter(clean)
    taken: set[str] = set()
    for case, name in zip(cases, clean, strict=True):
        wanted = name if counts[name] == 1 else _clean(f"{case.files[0].parent.name}-{name}")
        unique, number = wanted, 2
        while unique.lower() in taken:
            unique, number = f"{wanted}-{number}", number + 1
        taken.add(unique.lower())
        yield replace(case, name=unique)


def _clean(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-_") or "case"
