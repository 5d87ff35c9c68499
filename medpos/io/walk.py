"""Find the files below a folder, and count whatever is left out."""

import mimetypes
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medpos.core.errors import InputError

HIDDEN = "hidden or system files"
OTHER = "files of other formats"
_LINKS = "links to a folder that is read already, or that holds the link"
_CLOSED = "folders that can't be opened"
_SYSTEM = frozenset(("thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "$recycle.bin", "@eadir"))
# Those of Python alone: mimetypes.types_map also has those of the machine, once somebody asked for them.
_KNOWN_SUFFIXES = frozenset(mimetypes.MimeTypes().types_map[True])
_LISTED = 20  # greatest number of names in a message
_DANGLING = "expected a file, got a link to nothing; fetch its content (git annex get, datalad get), or remove the link"


@dataclass
class LeftOut:
    """Collect what is left out of a folder.

    Args:
        paths: paths by the reason.
        is_private: whether paths may name patients, and so aren't shown.
        unpacked: ZIP files by the folders of their unpacked files, which are shown as in the ZIP file.
    """

    paths: dict[str, list[Path]] = field(default_factory=dict)
    is_private: bool = False
    unpacked: dict[Path, Path] = field(default_factory=dict)

    def add(self, reason: str, path: Path) -> None:
        """Add a path."""
        self.paths.setdefault(reason, []).append(self.show(path))

    def show(self, path: Path) -> Path:
        """Return a path as the user knows it: that of an unpacked file is in its ZIP file."""
        place = next((folder for folder in path.parents if folder in self.unpacked), None)
        return path if place is None else self.unpacked[place] / path.relative_to(place)

    def show_text(self, text: str) -> str:
        """Return a text with the paths in it as the user knows them."""
        for place, archive in self.unpacked.items():
            text = text.replace(str(place), str(archive))
        return text

    def describe(self, limit: int = _LISTED) -> list[str]:
        """Return a line for each reason with the number and the paths, or the known suffixes, of its files.

        Args:
            limit: greatest number of paths in a line.
        """
        lines = []
        for reason in self.paths:
            counts = self.count(reason)
            listed = [f"{count} {name}" if self.is_private else name for name, count in counts.items() if name]
            more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
            lines.append(f"{reason}: {counts.total()}" + (f" ({', '.join(listed[:limit])}{more})" if listed else ""))
        return lines

    def count(self, reason: str) -> Counter[str]:
        """Count the files that are left out for a reason: by path, or by known suffix where paths aren't shown."""
        paths = dict.fromkeys(self.paths[reason])  # two folders of a call may hold one file
        if not self.is_private:
            return Counter(map(str, paths))
        suffixes = sorted(path.suffix.lower() for path in paths)
        return Counter(suffix if suffix in _KNOWN_SUFFIXES else "" for suffix in suffixes)


def walk(folder: Path, left_out: LeftOut, skip: Sequence[Path] = ()) -> list[Path]:
    """List the visible files below a folder in the order of their paths.

    Links to folders are followed, each folder once, by its own path if it has one. A link to nothing is listed as a
    file, so that whoever reads it names it.

    Args:
        folder: folder to list.
        left_out: record of what is left out.
        skip: folders of which nothing is listed.
    """
    skipped = [place.resolve() for place in skip]
    if _is_below(folder, skipped):
        return []
    seen = {folder.resolve(), *skipped}
    links: list[Path] = []
    found = list(_visible(folder, left_out, seen, links))
    for link in links:  # they wait for the folders that have a path of their own; further ones are appended
        target = link.resolve()
        if _is_below(link, skipped):
            continue
        if target in seen or link.parent.resolve().is_relative_to(target):
            left_out.add(_LINKS, link)
        else:
            seen.add(target)
            found += _visible(link, left_out, seen, links)
    return sorted(path for path in found if not (path.is_symlink() and _is_below(path, skipped)))


def _is_below(path: Path, folders: Sequence[Path]) -> bool:
    real = Path(os.path.realpath(path))  # of a link to itself too
    return any(real.is_relative_to(folder) for folder in folders)


def _visible(folder: Path, left_out: LeftOut, seen: set[Path], links: list[Path]) -> Iterator[Path]:
    """Yield the files below a folder, and append the links to folders."""
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        left_out.add(_CLOSED, folder)
        return
    for path in entries:
        if is_hidden(path):
            left_out.add(HIDDEN, path)
        elif path.is_dir() and path.is_symlink():
            links.append(path)
        elif path.is_dir():
            target = path.resolve()
            if target not in seen:
                seen.add(target)
                yield from _visible(path, left_out, seen, links)
        elif path.is_file() or path.is_symlink():
            yield path
        else:
            left_out.add(OTHER, path)


def is_hidden(path: Path) -> bool:
    """Return whether a file or folder is hidden, or one that an operating system adds."""
    return path.name.startswith(".") or path.name.lower() in _SYSTEM


def find_spelling(folder: Path, name: str) -> Path:
    """Return the path of a file that a table names, whose accents may be composed there and not here, or vice versa."""
    spelled = [folder / text for text in (name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD")))]
    return next((path for path in spelled if path.exists()), spelled[0])


def is_dangling(path: Path) -> bool:
    """Return whether a path is a link to nothing."""
    return path.is_symlink() and not path.exists()


def check_links(paths: Iterable[Path], title: object = None) -> None:
    """Check that no path is a link to nothing, as in a clone whose content has not been fetched.

    Args:
        paths: paths of files.
        title: name of the files for the message; the paths if omitted.

    Raises:
        InputError: a path is a link to nothing.
    """
    broken = [path for path in paths if is_dangling(path)]
    if broken:
        more = f" (and {', '.join(path.name for path in broken[1:_LISTED])})" if len(broken) > 1 and not title else ""
        raise InputError(f"{title or broken[0]}{more}: {_DANGLING}")
