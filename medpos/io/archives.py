"""Unpack ZIP files, as hospitals send them, within a folder and a bound on their size."""

import hashlib
import os
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from medpos.core.errors import InputError, first_line
from medpos.io.walk import LeftOut

SUFFIX = ".zip"
MAX_BYTES = 32 * 2**30  # of the unpacked files
MAX_RATIO = 100  # of unpacked to packed bytes; images pack to a third, phantoms and masks to a fiftieth
FREE_BYTES = 16 * 2**20  # an empty mask packs to a thousandth, so the ratio counts above this size alone
_CHUNK = 1 << 20
_LINKS = "links in a ZIP file"


def unpack(path: Path, folder: Path, left_out: LeftOut) -> Path:
    """Unpack a ZIP file into a folder of its own, of which the name is a hash of the path.

    Args:
        path: ZIP file.
        folder: folder that gets the new one; the same file is always unpacked to the same place.
        left_out: record to which links are added.

    Returns:
        The folder of the files.

    Raises:
        InputError: the file is no ZIP file, is damaged or encrypted, would be too large, or names a place outside.
    """
    place = folder / hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            check_unpacked(path, sum(member.file_size for member in members))
            for member in members:
                target = place.joinpath(*_parts(path, member.filename))
                if stat.S_ISLNK(member.external_attr >> 16):
                    left_out.add(_LINKS, target)
                else:
                    _write(archive, member, target)
                    os.utime(target, ns=(path.stat().st_mtime_ns,) * 2)  # equal at the next call
    except InputError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError, ValueError) as error:
        raise InputError(
            f"{path}: expected a ZIP file that can be unpacked, got: {first_line(error, 120)}; unpack it yourself and "
            "give the folder"
        ) from None
    return place


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


def _parts(path: Path, name: str) -> tuple[str, ...]:
    """Return the parts of the path of a member, which may not lead out of the folder."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or any(part in ("..", "/") or ":" in part or "\0" in part for part in parts):
        raise InputError(f"{path}: expected names of files inside the ZIP file, got one that leads out; repack it")
    return parts


def _write(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    """Unpack a file piece by piece; zipfile reads no more than the size that was checked, and checks the sum."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as packed, target.open("wb") as unpacked:
        while piece := packed.read(_CHUNK):
            unpacked.write(piece)
