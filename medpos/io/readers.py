"""Read volumes, pictures and JSRT's raw files; :mod:`medpos.io.dicom` reads DICOM."""

from pathlib import Path

import numpy as np

from medpos.core.errors import InputError
from medpos.io import itk, pictures, volumes
from medpos.io.pictures import jsrt
from medpos.io.scan import Scan, StoredVolume, Target, check_size
from medpos.io.targets import NiftiTarget, PictureTarget, VolumeTarget

SUFFIXES = (*volumes.SUFFIXES, *pictures.SUFFIXES)
_BRIGHTNESS = np.array([19595, 38470, 7471]) / 65536  # of red, green and blue: ITU-R BT.601, as in Pillow


def suffix_of(path: Path) -> str:
    """Return the suffix of a volume or picture in lower case, ``.nii.gz`` as one; empty for any other file."""
    return next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), "")


def read_volume(path: Path, multichannel: bool = False, as_stored: bool = False) -> Scan:
    """Read an image or a volume as NIfTI, Analyze, NRRD or MetaImage.

    Args:
        path: file to read.
        multichannel: whether the fourth axis, or the components of a voxel, may be channels.
        as_stored: whether the values stay in the type of the file, instead of float32.

    Raises:
        InputError: the file is unreadable, truncated or too large, has colors, complex values or four axes, or has an
            invalid spacing or affine.
    """
    found = volumes.read_volume(path, lambda shape: _shape(path, shape, multichannel))
    notes = list(found.notes)
    if not found.is_oriented:
        notes.append("orientation unknown: taken as stored, columns along the first axis")
    values = found.data if as_stored else found.data.astype(np.float32, copy=False)
    return Scan(
        values.reshape(_shape(path, found.data.shape, multichannel)),
        found.spacing if found.has_spacing else None,
        found.affine[:3, :3] / np.linalg.norm(found.affine[:3, :3], axis=0) if found.is_oriented else None,
        _target(path, found),
        notes=notes,
    )


def _target(path: Path, found: StoredVolume) -> Target:
    if found.header is not None:
        return NiftiTarget.like(found)
    return VolumeTarget(".mha" if path.name.lower().endswith(itk.METAIMAGE) else ".nrrd", found.affine)


def _shape(path: Path, shape: tuple[int, ...], multichannel: bool) -> tuple[int, ...]:
    """Return the shape as X, Y, Z or X, Y, Z, C."""
    axes = list(shape)
    if multichannel and len(axes) == 5 and axes[3] == 1:
        del axes[3]  # some tools put channels on the fifth axis
    while len(axes) > 3 and axes[-1] == 1:
        axes.pop()
    if len(axes) > 3 + multichannel or len(axes) < 2:
        raise InputError(
            f"{path}: expected an image or a volume{', with its channels last if any' if multichannel else ''}, got "
            f"{len(axes)} axes ({' x '.join(map(str, axes))}); save each time point or channel as a file of its own"
        )
    axes += [1] * (3 - len(axes))
    check_size(path, (*axes[:2], int(np.prod(axes[2:]))))
    return tuple(axes)


def read_picture(path: Path, force: bool = False, multichannel: bool = False) -> Scan:
    """Read a PNG, JPEG, TIFF or BMP, oriented as on a screen; pages of a TIFF are slices.

    Args:
        path: file to read.
        force: whether to convert color to gray.
        multichannel: whether colors are channels.

    Raises:
        InputError: the file is unreadable, truncated or too large, or has color where gray is expected.
    """
    found = pictures.read_picture(path)
    values = found.values
    if values.ndim == 4 and not multichannel:
        if not force:
            raise InputError(
                f"{path}: expected a gray picture, got color; convert it, or use its brightness by --force"
            )
        exact = values @ _BRIGHTNESS
        values = exact if values.dtype.kind == "f" else np.floor(exact + 0.5)
    values = values.astype(np.float32)
    return Scan(values, None, None, PictureTarget(), gray_range=found.ends, notes=list(found.notes))


def read_jsrt(path: Path) -> Scan:
    """Read a headerless ``.IMG`` file of JSRT at its full 2048 x 2048 px.

    Args:
        path: file to read.

    Raises:
        InputError: the file has another size, or values of more than 12 bits.
    """
    rows = jsrt.read_image(path, jsrt.RAW_SIDE)
    affine = jsrt.coronal_affine(jsrt.RAW_SIDE, jsrt.PIXEL_MM)
    spacing = (jsrt.PIXEL_MM, jsrt.PIXEL_MM, 1.0)
    values = np.ascontiguousarray(rows.T[..., None], np.float32)
    return Scan(
        values, spacing, affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0), NiftiTarget.of(affine, values.shape)
    )
