"""Raw files and pictures where they lie: in a folder, or in a zip archive that is read without being unpacked."""

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


@dataclass(frozen=True)
class Member:
    """A file inside a zip archive, to be read as a ``Path`` is.

    Args:
        archive: the ``.zip`` file.
        inside: the file's path in it.
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
        """All bytes of the file; its check sum is compared.

        Raises:
            InputError: the archive or the file in it is damaged, or not there any more.
        """
        try:
            return _opened(self.archive).read(self.inside)
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


Source = Path | Member


def files(source: Path) -> list[tuple[tuple[str, ...], Source]]:
    """Every file below a folder or in a zip archive, with the parts of its path there, in the order of these.

    Hidden files, such as macOS's ``._x.png``, are left out.

    Raises:
        InputError: neither a folder nor a whole zip archive.
    """
    _opened.cache_clear()  # it may have been written anew since
    found: list[tuple[tuple[str, ...], Source]]
    if source.is_dir():
        found = [(path.relative_to(source).parts, path) for path in source.rglob("*") if path.is_file()]
    else:
        found = [(PurePosixPath(name).parts, Member(source, name)) for name in _names(source)]
    return sorted((entry for entry in found if not entry[0][-1].startswith(".")), key=lambda entry: entry[0])


def picture(path: Source, kind: str) -> Image.Image:
    """A picture, decoded to its last pixel.

    Args:
        path: the file.
        kind: ``PNG``, ``TIFF`` or another format of Pillow; no other is read.

    Raises:
        InputError: truncated, of another kind, or larger than Pillow decodes safely.
    """
    try:
        image = Image.open(io.BytesIO(read_bytes(path)), formats=[kind])
        image.load()
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: not a whole {kind} file ({error}); download it again.") from error
    return image


def _names(archive: Path) -> Sequence[str]:
    try:
        return [name for name in _opened(archive).namelist() if not name.endswith("/")]
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{archive}: neither a folder nor a whole zip archive ({error}); download it again."
        ) from error


@lru_cache(maxsize=1)  # to list a large archive takes longer than to read a file of it
def _opened(archive: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(archive)
