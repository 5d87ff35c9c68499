"""Keep the ledger of a folder of predictions: the name of every case, over all calls into the folder.

A call adds to the results of earlier ones and overwrites none. An image is the same case if it has the same content and
the same place, which is the UID of a DICOM image, else the path; a file that was moved is the same too. Any other image
gets a name that no case and no file in the folder has.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from medpos.core.errors import InputError
from medpos.core.files import decode_json, write_json
from medpos.io.walk import LeftOut
from medpos.predict import records
from medpos.predict.inputs import CaseFiles, name_uniquely, split_phase

FILE = ".ledger.json"


@dataclass
class Entry:
    """Describe a case.

    Args:
        name: name of the case and its results.
        uid: hash of the image's UID; empty if it has none.
        paths: paths of the files, links followed; empty if there is a UID.
        files: paths of the files as the user gave them, for ``names.csv``; empty if they may name a patient.
        note: remark for ``warnings.csv``.
        failure: why the case could not be segmented; empty if it was, or was not tried.
    """

    name: str
    uid: str = ""
    paths: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    note: str = ""
    failure: str = ""

    @property
    def place(self) -> str | tuple[str, ...]:
        """UID, or the paths."""
        return self.uid or self.paths


@dataclass(frozen=True)
class _Given:
    """Hold an image that the user gives, with what tells it from others."""

    source: CaseFiles

    @cached_property
    def uid(self) -> str:
        """Hash of the image's UID; of a file that may name a patient but can't be read, its number."""
        return self.source.uid or (self.source.title if self.source.titles else "")

    @cached_property
    def paths(self) -> tuple[str, ...]:
        return () if self.uid else tuple(str(path.resolve()) for path in self.source.files)

    @property
    def place(self) -> str | tuple[str, ...]:
        """UID, or the paths."""
        return self.uid or self.paths

    @cached_property
    def stamp(self) -> list[list[Any]] | None:
        try:
            return records.stamp_files(self.source)
        except OSError:
            return None

    @cached_property
    def content(self) -> str:
        return records.hash_content(self.source)


class Ledger:
    """Hold the ledger of a folder, which the caller has locked.

    Args:
        out: folder of the results; one of an earlier version has no ledger, which is then made from its records.

    Raises:
        InputError: the ledger can't be read.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        entries, self.left_out = _read(out)
        self.entries = {entry.name: entry for entry in entries}

    def leave_out(self, left_out: LeftOut) -> None:
        """Add the files that a call leaves out; of those without names, the greatest number in a call counts."""
        for reason in left_out.paths:
            for name, count in left_out.count(reason).items():
                self.left_out[reason, name] = max(count, self.left_out.get((reason, name), 0))

    def enter(self, sources: Sequence[CaseFiles]) -> list[CaseFiles]:
        """Give each image the name of its case, new ones a free name, and write the ledger.

        Args:
            sources: files of the cases, with the names that they would have in an empty folder.

        Raises:
            InputError: the folder can't be written to.
        """
        given = [_Given(source) for source in sources]
        found = self._find_all(given)
        new = [one for one, entry in zip(given, found, strict=True) if entry is None]
        named = iter(name_uniquely([one.source for one in new], self._naming()))
        entered = []
        for one, entry in zip(given, found, strict=True):
            case = entry or Entry(next(named).name, note=self._describe_earlier(one))
            records.restamp(self.out, case.name, one.stamp)
            case.uid, case.paths = one.uid, one.paths
            if one.source.keeps_name:
                case.files = tuple(map(str, one.source.shown or one.source.files))
            self.entries[case.name] = case
            notes = (*one.source.notes, case.note) if case.note else one.source.notes
            entered.append(replace(one.source, name=case.name, notes=notes))
        self.write()
        return entered

    def write(self) -> None:
        """Write the ledger.

        Raises:
            InputError: the folder can't be written to.
        """
        left_out = [[*key, count] for key, count in self.left_out.items()]
        write_json(self.out / FILE, {"cases": [asdict(entry) for entry in self.entries.values()], "left_out": left_out})

    def _find_all(self, given: Sequence[_Given]) -> list[Entry | None]:
        """Find the case of each image; two images of one call are never the same case."""
        at: dict[Any, list[Entry]] = {}
        for entry in self.entries.values():
            at.setdefault(entry.place, []).append(entry)
        claimed: set[str] = set()
        found: list[Entry | None] = []
        for one in given:
            case = self._find(one, at, claimed)
            found.append(case)
            claimed |= {case.name} if case else set()
        return self._find_moved(given, found, claimed)

    def _find(self, one: _Given, at: dict[Any, list[Entry]], claimed: set[str]) -> Entry | None:
        """Find the case of an image by its place, the one with the name of its file first."""
        for entry in sorted(at.get(one.place, ()), key=lambda entry: entry.name != one.source.name):
            if entry.name not in claimed and self._is_same(entry, one):
                return entry
        named = self.entries.get(one.source.name)
        if named is None or named.name in claimed or not self._is_of_earlier_version(named, one):
            return None
        return named

    def _find_moved(
        self, given: Sequence[_Given], found: Sequence[Entry | None], claimed: set[str]
    ) -> list[Entry | None]:
        """Find the cases of files that were moved: of equal content, and nothing is at the path any more."""
        gone: dict[Any, list[Entry]] = {}
        if None in found:
            for entry in self.entries.values():
                if entry.name not in claimed and entry.paths and not any(Path(path).exists() for path in entry.paths):
                    gone.setdefault(self._sizes(records.load(self.out, entry.name)), []).append(entry)
        result = list(found)
        for number, one in enumerate(given):
            if result[number] is None and one.paths and one.stamp:
                for moved in gone.get(tuple(size for _, size, _ in one.stamp), ()):
                    if moved.name not in claimed and self._has_content(moved, one):
                        claimed.add(moved.name)
                        result[number] = moved
                        break
        return result

    def _is_same(self, entry: Entry, one: _Given) -> bool:
        """Tell whether the image at the place of a case is that of the case; any is, if the case is unfinished."""
        record = records.load(self.out, entry.name)
        return record is None or record["made_from"] == one.stamp or self._has_content(entry, one)

    def _has_content(self, entry: Entry, one: _Given) -> bool:
        record = records.load(self.out, entry.name)
        return bool(record and one.stamp and record.get("content") and record["content"] == one.content)

    def _is_of_earlier_version(self, entry: Entry, one: _Given) -> bool:
        record = records.load(self.out, entry.name)
        return record is not None and "content" not in record and record["made_from"] == one.stamp

    @staticmethod
    def _sizes(record: dict[str, Any] | None) -> tuple[int, ...]:
        return tuple(size for _, size, _ in record["made_from"]) if record else ()

    def _describe_earlier(self, one: _Given) -> str:
        """Describe the case of another image that was at this place; empty if there was none."""
        names = [entry.name for entry in self.entries.values() if entry.place == one.place]
        what = "with this UID" if one.uid else "at this path"
        return f"another image {what} is the case {names[-1]}" if names else ""

    def _naming(self) -> "_Naming":
        folders: dict[str, set[Path]] = {}
        for entry in self.entries.values():
            subject, phase = split_phase(entry.name)
            if phase and entry.paths:
                folders.setdefault(subject, set()).add(Path(entry.paths[0]).parent)
        taken = set(self.entries)
        for folder in (self.out, self.out / "overlays"):
            for path in folder.iterdir() if folder.is_dir() else ():
                parts = path.name.split(".")
                taken |= {".".join(parts[:number]) for number in range(1, len(parts) + 1)}
        return _Naming({name.casefold() for name in taken}, folders)


@dataclass(frozen=True)
class _Naming:
    """Tell which names new cases can't have.

    Args:
        taken: names of cases and of files in the folder without their suffixes, in lower case.
        folders: folders of the images by subject, where the names tell phases.
    """

    taken: set[str]
    folders: dict[str, set[Path]]

    def __call__(self, source: CaseFiles, name: str) -> bool:
        """Tell whether a name is taken, or would make the image a phase of a subject in another folder."""
        subject, phase = split_phase(name)
        others = self.folders.get(subject, set()) if phase and not source.titles else set()
        is_other = bool(others) and source.files[0].resolve().parent not in others
        return is_other or name.casefold() in self.taken


def _read(out: Path) -> tuple[list[Entry], dict[tuple[str, str], int]]:
    """Read the cases, and the numbers of the files that were left out by reason and name."""
    path = out / FILE
    if not path.exists():
        return [_describe_record(out, record.stem) for record in sorted((out / records.FOLDER).glob("*.json"))], {}
    try:
        content = decode_json(path.read_text(encoding="utf-8"))
        entries = [
            {**entry, "paths": tuple(entry["paths"]), "files": tuple(entry["files"])} for entry in content["cases"]
        ]
        left_out = {(str(reason), str(name)): int(count) for reason, name, count in content.get("left_out", ())}
        return [Entry(**entry) for entry in entries], left_out
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: expected the ledger of the predictions, got: {error}; choose another --out"
        ) from error


def _describe_record(out: Path, name: str) -> Entry:
    """Describe a case of an earlier version, without the files that its name leads back to."""
    record = records.load(out, name)
    paths = tuple(path for path, _, _ in record["made_from"]) if record else ()
    return Entry(name, paths=paths) if all(paths) else Entry(name, uid=name)
