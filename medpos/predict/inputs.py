"""Find the files that the user gives, group them into cases, and read a case."""

import glob
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from medpos.core.errors import InputError
from medpos.core.files import WriteError, decode_text, read_bytes
from medpos.core.names import clean_name
from medpos.io import archives, dicom, readers, volumes
from medpos.io.channels import group_channels, join_channels
from medpos.io.listing import list_files
from medpos.io.scan import Scan, check_values
from medpos.io.walk import OTHER, LeftOut, check_links, find_spelling, is_dangling

FORMATS = {
    "volume": volumes.SUFFIXES,
    "dicom": (".dcm", ".dicom", ".ima"),
    "picture": (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"),
    "img": (".img",),
}
LISTS = (".txt", ".lst")
# Ends of the names of further results of a case.
PROBABILITIES = "_probabilities"
UNSURE = ("_entropy", "_information")
_FORMAT_NAMES = f"{volumes.FORMATS}, DICOM, PNG, JPEG, TIFF, BMP, JSRT .IMG"
_PHASE = re.compile(r"(.+?)[_-]((?:ED|ES)|(?:frame|phase)\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class CaseFiles:
    """Name the files of one case.

    Args:
        name: unique name of the case and its results, by :func:`~medpos.core.names.clean_name`; of DICOM a hash,
            unless the user asks for names.
        kind: format, a key of ``FORMATS``.
        files: files of the case, in the order of its channels.
        frames: numbers, from 1, of the case's frames in a multi-frame DICOM file; empty: all.
        titles: name of each file for messages, where its path may name a patient; empty: the paths.
        notes: remarks on how the files were chosen, one per line.
        keeps_name: whether a table leads from the name back to the files.
        uid: hash of the UID of a DICOM image; empty for other formats.
        shown: paths as the user knows them, where the files are from a ZIP file; empty: the paths.
        fault: why the files can't be read; empty: they are tried.
    """

    name: str
    kind: str
    files: tuple[Path, ...]
    frames: tuple[int, ...] = ()
    titles: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    keeps_name: bool = False
    uid: str = ""
    shown: tuple[Path, ...] = ()
    fault: str = ""

    @property
    def title(self) -> str:
        """Name of the first file for messages; it names no patient."""
        return self.titles[0] if self.titles else str((self.shown or self.files)[0])


def split_phase(name: str) -> tuple[str, str]:
    """Split the name of a case into subject and phase: ``patient001_ED`` and ``patient001_frame01`` are phases.

    Args:
        name: name of a case.

    Returns:
        Subject and phase; the name and an empty phase if it tells none.
    """
    found = _PHASE.fullmatch(name)
    return (found[1], found[2].upper() if found[2][0] in "eE" else found[2].lower()) if found else (name, "")


def find_cases(
    inputs: Sequence[str],
    out: Path,
    channels: Sequence[str] = ("image",),
    keep_names: bool = False,
    left_out: LeftOut | None = None,
    unpack: Callable[[Path], Path] | None = None,
) -> list[CaseFiles]:
    """Find the cases in files, folders, globs and lists of files.

    Args:
        inputs: paths as the user gives them. A folder is read by :func:`medpos.io.walk.walk`, without ``out``. A
            list is a text file with one path per line, relative to the list's folder and inside it.
        out: folder of the results; never read.
        channels: names of the network's channels; where there are several, files ``NAME_0000``, ``NAME_0001`` ... of
            one folder are one case.
        keep_names: whether to call DICOM cases by their files or folders, which may name patients.
        left_out: record to which files that are no images are added.
        unpack: function that unpacks a ZIP file and returns its folder; None: ZIP files aren't read.

    Returns:
        The cases, each with a name of its own.

    Raises:
        InputError: a path doesn't exist, holds no image or an unknown format, or a list leaves its folder.
    """
    search = _Search(out, LeftOut() if left_out is None else left_out, unpack)
    for given in inputs:
        search.add(given)
    files, left_out = search.files, search.left_out
    links = [path for path, kind in files.items() if kind == "dicom" and is_dangling(path)]
    series = [path for path, kind in files.items() if kind == "dicom" and path not in links]
    others: dict[Path, str] = {}
    scans = dicom.group_files(series, others) if series else []
    _leave_out(others, left_out, len(files))
    is_private = left_out.is_private = bool(series) and not keep_names  # a path may name a patient
    numbers = {path: number for number, path in enumerate(files, 1)}
    plain = [
        CaseFiles(_stem(path), kind, (path,), keeps_name=not is_private)
        for path, kind in files.items()
        if kind not in ("dicom", "zip")
    ]
    if len(channels) > 1:
        grouped = group_channels((case.name, case.kind, case.files[0]) for case in plain)
        plain = [CaseFiles(*case, keeps_name=not is_private) for case in grouped]
    broken = [
        CaseFiles(name, files[path], (path,), titles=(_number(numbers[path]),) if is_private else (), fault=fault)
        for path, name, fault in [
            *((path, "link", "") for path in links),
            *((path, "zip-file", fault) for path, fault in search.faults.items()),
        ]
    ]
    found_scans = [_describe_scan(scan, numbers, keep_names) for scan in scans]
    return list(name_uniquely([_show(case, left_out) for case in (*plain, *broken, *found_scans)]))


def _show(case: CaseFiles, left_out: LeftOut) -> CaseFiles:
    shown = tuple(map(left_out.show, case.files))
    return case if shown == case.files else replace(case, shown=shown)


def _leave_out(others: dict[Path, str], left_out: LeftOut, count: int) -> None:
    """Record DICOM objects that are no images; raise an error if the input holds nothing else."""
    if len(others) == count:
        kinds = ", ".join(sorted(set(others.values())))
        raise InputError(
            f"expected at least one image, got only DICOM objects without an image ({kinds}); give the images"
        )
    for path, kind in others.items():
        reason = "DICOMDIR, the index of a medium" if kind == dicom.INDEX else f"DICOM {kind}, no image"
        left_out.add(reason, path)


def _number(number: int) -> str:
    return f"file {number} of the input"


def _describe_scan(scan: dicom.Group, numbers: dict[Path, int], keep_names: bool) -> CaseFiles:
    """Return the case of a DICOM image; file names and folders may name a patient, so files are numbered."""
    if keep_names:
        return CaseFiles(scan.name, "dicom", scan.files, scan.frames, (), scan.notes, True, scan.identity)
    titles = tuple(_number(numbers[path]) for path in scan.files)
    return CaseFiles(scan.identity, "dicom", scan.files, scan.frames, titles, scan.notes, uid=scan.identity)


def identify_case(files: Sequence[str | Path]) -> CaseFiles:
    """Identify the one case that these files form, as :func:`find_cases` would.

    Args:
        files: files of the case.

    Raises:
        InputError: the format is unknown, or the files hold more than one image.
    """
    paths = tuple(Path(path) for path in files)
    kind = _kind(paths[0])
    if kind is None:
        raise InputError(f"{paths[0]}: expected one of the formats {_FORMAT_NAMES}, got another format; convert it")
    if kind == "dicom":
        scans = dicom.group_files(paths)
        if len(scans) != 1:
            raise InputError(
                f"file 1 of the input: expected one image, got {len(scans)} images, phases or series; use 'python -m "
                "medpos predict', which separates them"
            )
        return _describe_scan(scans[0], {path: number for number, path in enumerate(paths, 1)}, keep_names=False)
    return CaseFiles(_clean_name(_stem(paths[0])), kind, paths)


def read_case(
    source: CaseFiles, modalities: Sequence[str] = (), force: bool = False, channels: Sequence[str] = ("image",)
) -> Scan:
    """Read a case.

    Args:
        source: files of the case.
        modalities: DICOM modalities that the network was trained on; empty: any.
        force: whether to accept another modality, color, or an image that looks like a label map.
        channels: names of the network's channels.

    Raises:
        InputError: the case can't be used; the message names the file, the reason and the remedy.
    """
    if source.fault:
        raise InputError(f"{source.title}: {source.fault}")
    multichannel = len(channels) > 1
    check_links(source.files, source.title)
    if source.kind == "dicom":
        scans = [dicom.read_dicom(source.files, source.frames, modalities, force, source.titles or _texts(source))]
    elif source.kind == "picture":
        scans = [readers.read_picture(path, force, multichannel) for path in source.files]
    elif source.kind == "volume":
        scans = [readers.read_volume(path, multichannel) for path in source.files]
    else:
        scans = [readers.read_jsrt(path) for path in source.files]
    places = tuple(map(Path, source.titles)) or source.files
    for path, scan in zip(places, scans, strict=False):  # a DICOM series is one scan, named by its first file
        check_values(path, scan.values, force)
    return join_channels(places, scans, channels) if multichannel else scans[0]


def _texts(source: CaseFiles) -> tuple[str, ...]:
    return tuple(map(str, source.files))


@dataclass
class _Search:
    """Collect the files that the user's inputs lead to.

    Args:
        out: folder of the results; never read.
        left_out: record of what is left out.
        unpack: function that unpacks a ZIP file and returns its folder; None: ZIP files aren't read.
        files: format of each file.
        faults: why a ZIP file in a folder can't be unpacked.
    """

    out: Path
    left_out: LeftOut
    unpack: Callable[[Path], Path] | None
    files: dict[Path, str] = field(default_factory=dict)
    faults: dict[Path, str] = field(default_factory=dict)

    def add(self, given: str) -> None:
        """Add the files of a path as the user gives it.

        Raises:
            InputError: there is no image, or the path is a folder inside that of the results.
        """
        if Path(given).is_dir() and Path(given).resolve().is_relative_to(self.out.resolve()):
            raise InputError(
                f"{given}: expected images outside the folder of the results, got --out {self.out}, which holds "
                "them; choose another --out"
            )
        found = list(self._expand(given))
        if not found:
            raise InputError(f"{given}: expected at least one image ({_FORMAT_NAMES}), got none; check the path")
        self.files.update((path, _kind(path) or "zip") for path in found)

    def _expand(self, given: str) -> Iterator[Path]:
        path = Path(given)
        if path.is_dir():
            yield from self._list(path)
        elif path.is_file() or is_dangling(path):
            path = volumes.find_header(path) or path
            if path.suffix.lower() in LISTS:
                yield from _read_list(path)
            elif self.unpack is not None and archives.is_zip(path):
                yield from self._list(self.unpack(path), is_unpacked=True)
            elif _kind(path) is None:
                known = f"{_FORMAT_NAMES}, a ZIP file" if self.unpack else _FORMAT_NAMES
                raise InputError(f"{path}: expected {known} or a list of files (.txt), got another format; convert it")
            else:
                yield path
        elif glob.has_magic(given):
            for match in sorted(glob.glob(given, recursive=True)):  # noqa: PTH207 (pathlib has no absolute patterns)
                place = Path(match)
                if place.is_dir() or (self.unpack and archives.is_zip(place)) or _kind(place) is not None:
                    yield from self._expand(match)
        else:
            raise InputError(f"{given}: expected a file or folder, got nothing at this path; check it")

    def _list(self, folder: Path, is_unpacked: bool = False) -> Iterator[Path]:
        """Yield the images below a folder, those in ZIP files there too, and ZIP files that can't be unpacked."""
        unpack = None if is_unpacked else self.unpack
        find_fault = partial(_find_fault, may_be_zip=unpack is not None)
        for path in list_files(folder, self.left_out, find_fault, [] if is_unpacked else [self.out]):
            if unpack is None or path.suffix.lower() != archives.SUFFIX:
                yield path
                continue
            try:
                place = unpack(path)
            except WriteError:
                raise
            except InputError as error:
                self.faults[path] = str(error).removeprefix(f"{path}: ")
                yield path
            else:
                yield from self._list(place, is_unpacked=True)


def _find_fault(path: Path, may_be_zip: bool) -> str:
    """Return why a file in a folder is no image, empty if it is one, or a ZIP file that is unpacked."""
    if _kind(path) is not None or (may_be_zip and path.suffix.lower() == archives.SUFFIX):
        return ""
    return "segmentations, or headers without data" if volumes.suffix_of(path) else OTHER


def _read_list(path: Path) -> Iterator[Path]:
    folder = path.parent.resolve()
    try:
        lines = decode_text(read_bytes(path)).splitlines()
    except ValueError as error:
        raise InputError(
            f"{path}: expected a list of files in UTF-8, one path per line, got: {error}; save it as UTF-8"
        ) from error
    for number, line in enumerate((line.strip() for line in lines), 1):
        if not line or line.startswith("#"):
            continue
        path_of_line = find_spelling(path.parent, line)
        place = path_of_line.resolve()
        if not place.is_relative_to(folder):
            raise InputError(
                f"{path}, line {number}: expected a path inside the list's folder, got {line!r}; put the list above "
                "its files"
            )
        if not place.is_file() or _kind(place) is None:
            raise InputError(
                f"{path}, line {number}: expected an image file ({_FORMAT_NAMES}), got {line!r}; correct the line"
            )
        yield path_of_line


def _kind(path: Path) -> str | None:
    name = path.name.lower()
    if (volumes.suffix_of(path) and not volumes.is_image(path)) or volumes.find_header(path):
        return None
    for kind, suffixes in FORMATS.items():
        if name.endswith(suffixes):
            return kind
    # Scanners write DICOM files without a suffix, with a number as suffix, or with one of their own.
    bare = re.fullmatch(r"|\.\d+", path.suffix) is not None
    is_dicom = is_dangling(path) or dicom.is_dicom(path) if bare else dicom.has_magic(path)
    return "dicom" if is_dicom else None


def _stem(path: Path) -> str:
    name = path.name
    suffix = next(s for suffixes in FORMATS.values() for s in suffixes if name.lower().endswith(s))
    return name[: -len(suffix)]


def name_uniquely(
    cases: Sequence[CaseFiles], is_taken: Callable[[CaseFiles, str], bool] = lambda case, name: False
) -> Iterator[CaseFiles]:
    """Give every case a unique name: that of the file, if taken with the folder's before it, if taken with a number.

    Args:
        cases: files of the cases, with the names of their files.
        is_taken: function that tells whether a case can't have a name because of cases that aren't among these.
    """
    clean = [_clean_name(case.name) for case in cases]
    counts = Counter(clean)
    taken: set[str] = set()

    def is_free(case: CaseFiles, name: str) -> bool:
        results = [f"{name}{end}" for end in ("", PROBABILITIES, *UNSURE)]
        return not any(result.casefold() in taken or is_taken(case, result) for result in results)

    for case, name in zip(cases, clean, strict=True):
        is_alone = counts[name] == 1 and is_free(case, name)
        # A folder may name a patient too.
        wanted = name if is_alone or case.titles else _clean_name(f"{(case.shown or case.files)[0].parent.name}-{name}")
        unique, number = wanted, 2
        while not is_free(case, unique):
            unique, number = f"{wanted}-{number}", number + 1
        taken |= {f"{unique}{end}".casefold() for end in ("", PROBABILITIES, *UNSURE)}
        yield replace(case, name=unique)


def _clean_name(name: str) -> str:
    return clean_name(name) or "case"
