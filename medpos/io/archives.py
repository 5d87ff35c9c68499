"""Unpack ZIP files, as hospitals send them, within a folder and a bound on their size."""

import contextlib
import errno
import hashlib
import os
import re
import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from medpos.core.errors import InputError, first_line
from medpos.core.files import WriteError
from medpos.io.walk import LeftOut, is_hidden

SUFFIX = ".zip"
FOLDER = ".unpacked"  # folder among the results for unpacked files, as long as they are needed
MAX_BYTES = 32 * 2**30  # of the unpacked files
MAX_RATIO = 100  # of unpacked to packed bytes; images pack to a third, phantoms and masks to a fiftieth
FREE_BYTES = 16 * 2**20  # an empty mask packs to a thousandth, so the ratio counts above this size alone
_CHUNK = 1 << 20
_LINKS = "links in a ZIP file"
_QUOTED = re.compile(r"['\"].*['\"]")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class Unpacker:
    """Unpack ZIP files beside results, and remove the files at the end of a block.

    Errors in the block name a file of a ZIP file as the user knows it: ``scans.zip/a/b.png``.

    Args:
        out: folder of the results.
        left_out: record to which links in ZIP files are added.
    """

    def __init__(self, out: Path, left_out: LeftOut) -> None:
        self.out, self.left_out = out, left_out
        self._made = False

    def __enter__(self) -> "Unpacker":
        """Remove what a killed process left behind."""
        self._made = not self.out.exists()
        shutil.rmtree(self.out / FOLDER, ignore_errors=True)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Remove the unpacked files, and name those in an error by their ZIP files."""
        shutil.rmtree(self.out / FOLDER, ignore_errors=True)
        if self._made:
            with contextlib.suppress(OSError):  # it holds results, or was never needed
                self.out.rmdir()
        if isinstance(error, InputError):
            error.args = tuple(self.left_out.show_text(str(line)) for line in error.args)

    def unpack(self, path: Path) -> Path:
        """Unpack a ZIP file by :func:`unpack`, always to the same place, and return its folder."""
        place = self.out / FOLDER / hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:12]
        self.left_out.unpacked[place] = path
        unpack(path, place, self.left_out)
        return place

    def open_folder(self, path: Path) -> Path:
        """Return the folder of the files in a ZIP file, without folders that hold nothing but a folder; else the path.

        Raises:
            InputError: the ZIP file can't be unpacked.
        """
        if not is_zip(path):
            return path
        place = self.unpack(path)
        while len(inside := [entry for entry in place.iterdir() if not is_hidden(entry)]) == 1 and inside[0].is_dir():
            place = inside[0]
        return place


def is_zip(path: Path) -> bool:
    """Return whether a file is called like a ZIP file."""
    return path.suffix.lower() == SUFFIX and path.is_file()


def unpack(path: Path, folder: Path, left_out: LeftOut) -> None:
    """Unpack a ZIP file.

    Args:
        path: ZIP file.
        folder: folder of the files.
        left_out: record to which links are added.

    Raises:
        WriteError: the disk has no room.
        InputError: the file is no ZIP file, is damaged or encrypted, would be too large, or names a place outside or
            one name twice.
    """
    try:
        time = path.stat().st_mtime_ns
        with zipfile.ZipFile(path) as archive:
            targets = _list_targets(path, archive)
            _check_room(folder, sum(member.file_size for member in targets.values()))
            for target, member in targets.items():
                if stat.S_ISLNK(member.external_attr >> 16):
                    left_out.add(_LINKS, folder / target)
                else:
                    _write(archive, member, folder / target)
                    os.utime(folder / target, ns=(time, time))  # equal at the next call
    except InputError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in _FULL:
            raise WriteError(
                f"{folder.parent}: can't be written ({error.strerror}); make room on the disk or choose another --out"
            ) from None
        raise InputError(
            f"{path}: expected a ZIP file that can be unpacked, got: {_describe(error)}; unpack it yourself and give "
            "the folder"
        ) from None


def _describe(error: Exception) -> str:
    """Describe an error without the names of files that it quotes, which may name a patient."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return _QUOTED.sub("...", first_line(error, 1000))[:120]


def _check_room(folder: Path, needed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise WriteError(
            f"{folder.parent}: expected room for {needed} bytes of unpacked files, got {free}; make room on the disk, "
            "or choose another --out"
        )


def _list_targets(path: Path, archive: zipfile.ZipFile) -> dict[PurePosixPath, zipfile.ZipInfo]:
    """Return the files of an archive by their paths, which must differ and lie inside, after a check of their size."""
    if not all(member.filename for member in archive.infolist()):
        raise InputError(f"{path}: expected a name for each file in the ZIP file, got one without; repack it")
    members = [member for member in archive.infolist() if not member.is_dir()]
    check_unpacked(path, sum(member.file_size for member in members))
    targets = [_target(path, member.filename) for member in members]
    if len(set(targets)) < len(targets):
        raise InputError(f"{path}: expected each name once in the ZIP file, got one twice; repack it")
    return dict(zip(targets, members, strict=True))


def check_unpacked(path: Path, unpacked: int) -> None:
    """Refuse a packed file that would be far larger than any real one.

    Args:
        path: packed file.
        unpacked: bytes of its content, at least.

    Raises:
        InputError: they are more than ``MAX_BYTES``, or more than ``FREE_BYTES`` and ``MAX_RATIO`` times the file.
    """
    packed = path.stat().st_size
    if unpacked > MAX_BYTES or unpacked > max(FREE_BYTES, MAX_RATIO * packed):
        raise InputError(
            f"{path}: expected at most {MAX_BYTES >> 30} GiB and {MAX_RATIO} times its own size when unpacked, got "
            f"{unpacked} bytes or more; unpack it yourself and give the folder"
        )


def _target(path: Path, name: str) -> PurePosixPath:
    """Return the path of a member, which may not lead out of the folder."""
    target = PurePosixPath(name.replace("\\", "/"))
    if not target.parts or any(part in ("..", "/") or ":" in part or "\0" in part for part in target.parts):
        raise InputError(f"{path}: expected names of files inside the ZIP file, got one that leads out; repack it")
    return target


def _write(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    """Unpack a file piece by piece; zipfile reads no more than the size that was checked, and checks the sum."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as packed, target.open("wb") as unpacked:
        while piece := packed.read(_CHUNK):
            unpacked.write(piece)
