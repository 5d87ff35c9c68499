"""List and read raw files in a folder, or in a zip archive without unpacking it."""

import io
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from PIL import Image

from medpos.core.errors import InputError
from medpos.core.files import read_bytes
from medpos.io.archives import check_unpacked
from medpos.io.scan import check_size


@dataclass(frozen=True)
class ArchiveMember:
    """Read a file inside a zip archive, like a ``Path``.

    Args:
        archive: ``.zip`` file.
        inside: path of the file in the archive.
    """

    archive: Path
    inside: str

    def __str__(self) -> str:
        return f"{self.archive}/{self.inside}"

    @property
    def name(self) -> str:
        """The last part of the path."""
        return PurePosixPath(self.inside).name

    def read_bytes(self) -> bytes:
        """Read all bytes of the file and check its checksum.

        Raises:
            InputError: the archive or the file in it is damaged or missing.
        """
        try:
            return _open_archive(self.archive).read(self.inside)
        except (
            OSError,
            KeyError,
            RuntimeError,
            NotImplementedError,
            EOFError,
            zlib.error,
            zipfile.BadZipFile,
        ) as error:
            raise InputError(f"{self}: can't be read ({error}). Download the archive again.") from error


Source = Path | ArchiveMember


def list_files(source: Path) -> list[tuple[tuple[str, ...], Source]]:
    """List every file below a folder or in a zip archive with the parts of its path, sorted by these.

    Hidden files, such as macOS's ``._x.png``, are skipped.

    Raises:
        InputError: the source is neither a folder nor a complete zip archive.
    """
    _open_archive.cache_clear()  # the archive may have changed since
    found: list[tuple[tuple[str, ...], Source]]
    if source.is_dir():
        found = [(path.relative_to(source).parts, path) for path in source.rglob("*") if path.is_file()]
    else:
        found = [(PurePosixPath(name).parts, ArchiveMember(source, name)) for name in _list_names(source)]
    return sorted((entry for entry in found if not entry[0][-1].startswith(".")), key=lambda entry: entry[0])


def read_picture(path: Source, kind: str) -> Image.Image:
    """Read a picture, decoded to its last pixel.

    Args:
        path: picture file.
        kind: the one format to read: ``PNG``, ``TIFF`` or another of Pillow.

    Raises:
        InputError: the file is truncated, has another format, or is larger than Pillow decodes safely.
    """
    try:
        if isinstance(path, Path):
            read_bytes(path, 0)  # says why it can't be read
            with Image.open(path, formats=[kind]) as header:
                check_size(path, header.size)
        image = Image.open(io.BytesIO(read_bytes(path)), formats=[kind])
        check_size(path, image.size)
        image.load()
    except InputError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: expected a complete {kind} file ({error}); download it again.") from error
    return image


def _list_names(archive: Path) -> Sequence[str]:
    try:
        members = [member for member in _open_archive(archive).infolist() if not member.is_dir()]
        check_unpacked(archive, sum(member.file_size for member in members))
        return [member.filename for member in members]
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{archive}: expected a folder or a complete zip archive ({error}); download it again."
        ) from error


@lru_cache(maxsize=1)  # listing a large archive takes longer than reading one of its files
def _open_archive(archive: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(archive)
