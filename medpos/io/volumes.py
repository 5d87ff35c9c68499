"""Read volumes of every format with a header of its own: NIfTI, Analyze, NRRD and MetaImage."""

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path

from medpos.core.errors import InputError
from medpos.io import itk, nifti
from medpos.io.scan import StoredVolume

SUFFIXES = (".nii.gz", ".nii", *nifti.HEADERS, *itk.NRRD, *itk.METAIMAGE)
FORMATS = "NIfTI, NRRD, MetaImage, Analyze"


def suffix_of(path: Path) -> str:
    """Return the suffix of a volume in lower case, ``.nii.gz`` and ``.seg.nrrd`` as one; empty for any other file."""
    return next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), "")


def find_header(path: Path) -> Path | None:
    """Find the header of an ``.img``; None for another file, and for JSRT's ``.IMG`` files, which have no header."""
    return nifti.find_header(path)


def is_image(path: Path) -> bool:
    """Return whether a file with one of ``SUFFIXES`` is an image of its own: no segmentation, no half of a pair."""
    suffix = suffix_of(path)
    if suffix in nifti.HEADERS:
        return nifti.find_data(path) is not None
    return suffix not in ("", itk.SEGMENTATION)


def list_parts(path: Path) -> tuple[Path, ...]:
    """List the files beside a header that hold its data; none where it holds them itself.

    Raises:
        InputError: the header can't be read, or names a file outside its folder or one that doesn't exist.
    """
    suffix = suffix_of(path)
    if suffix in nifti.HEADERS:
        place = nifti.find_data(path)
        return (place,) if place else ()
    return itk.list_parts(path) if suffix in (*itk.NRRD, *itk.METAIMAGE) else ()


def find_parts(paths: Iterable[Path]) -> set[Path]:
    """Find the files beside headers that hold their data, as :func:`list_parts` does; none of an unreadable header."""
    found = set[Path]()
    for path in paths:
        with contextlib.suppress(InputError):  # named when the file is read
            found.update(list_parts(path))
    return found


def read_volume(path: Path, check_shape: Callable[[tuple[int, ...]], object] = lambda shape: None) -> StoredVolume:
    """Read a volume.

    Args:
        path: file with one of ``SUFFIXES``; of a pair, the header.
        check_shape: function that refuses a shape before the voxels are read.

    Raises:
        InputError: the file can't be read; the message names it, the reason and the remedy.
    """
    by_itk = suffix_of(path) in (*itk.NRRD, *itk.METAIMAGE)
    return itk.read_volume(path, check_shape) if by_itk else nifti.read_volume(path, check_shape)
