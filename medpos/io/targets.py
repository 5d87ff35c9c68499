"""Write label maps as NIfTI or PNG, on the grid and with the geometry of an image."""

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image, ImageColor

from medpos.core.files import write_atomically
from medpos.core.labels import Label
from medpos.io import itk
from medpos.io.label_descriptions import describe_segments
from medpos.io.scan import Array, Pixels, StoredVolume, Target, has_shear

FORMATS = {"nifti": ".nii.gz", "nrrd": ".nrrd", "seg.nrrd": itk.SEGMENTATION, "mha": ".mha"}
_LEVEL = 3  # level of gzip; label maps compress no better at the highest


@dataclass(frozen=True)
class NiftiTarget:
    """Write NIfTI with the header of an image: origin, spacing and direction stay exactly the same.

    Args:
        header: header with the geometry alone, without texts that could name a patient.
        shape: shape of the image's array, 2-D or 3-D, including axes of size 1 at the end.
        affine: affine [4, 4] to RAS+ space in mm, as the image was read: where the header contradicts itself, not
            every program reads this from it.
    """

    header: Any
    shape: tuple[int, ...]
    affine: Array

    @classmethod
    def like(cls, volume: StoredVolume) -> "NiftiTarget":
        """Take the geometry of a NIfTI file with its header, and drop all texts."""
        own = volume.header.copy()
        own.extensions.clear()
        for key in ("descrip", "aux_file", "intent_name", "db_name", "data_type"):
            if key in own:
                own[key] = b""
        own["descrip"] = b"medpos"
        own["cal_min"] = own["cal_max"] = 0
        own.set_slope_inter(1, 0)
        return cls(own, volume.data.shape[:3], volume.affine)

    @classmethod
    def of(cls, affine: Array, shape: Sequence[int]) -> "NiftiTarget":
        """Take the geometry from an affine [4, 4] to RAS+ space in mm."""
        header = nib.Nifti1Header()
        header.set_data_shape(shape)
        header.set_xyzt_units("mm")
        header.set_sform(affine, code="scanner")
        # A qform turns but can't shear: programs that prefer it would place the slices wrongly.
        header.set_qform(affine, code="unknown" if has_shear(affine) else "scanner")
        return cls(header, tuple(shape), np.array(affine, float))

    def write(self, stem: Path, values: Pixels, labels: Sequence[Label]) -> Path:
        """Write a label map [X, Y, Z] to ``stem.nii.gz``, uint8."""
        return self._write(stem, values.reshape(self.shape))

    def write_values(self, stem: Path, values: Array) -> Path:
        """Write values [X, Y, Z] or [X, Y, Z, C] to ``stem.nii.gz``, float32."""
        values = np.asarray(values, np.float32)
        return self._write(stem, values.reshape(self.shape) if values.ndim == 3 else values)

    def _write(self, stem: Path, values: Array) -> Path:
        header = self.header.copy()
        header.set_data_dtype(values.dtype)
        kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
        # An affine beside the header would be written in its place, rounded.
        image = kind(values, None, header)
        path = stem.with_name(stem.name + ".nii.gz")
        write_atomically(path, lambda partial: _gzip(partial, image.to_bytes()))
        return path


def _gzip(path: Path, content: bytes) -> None:
    # Without name and time, so that equal label maps become equal files.
    with path.open("wb") as stream, gzip.GzipFile("", "wb", _LEVEL, stream, mtime=0) as packed:
        packed.write(content)


@dataclass(frozen=True)
class VolumeTarget:
    """Write NRRD or MetaImage with the geometry of an image.

    Args:
        suffix: ``.nrrd``, ``.mha``, or ``.seg.nrrd`` for a segmentation of 3D Slicer.
        affine: affine [4, 4] from the axes of the image to RAS+ space in mm.
    """

    suffix: str
    affine: Array

    def write(self, stem: Path, values: Pixels, labels: Sequence[Label]) -> Path:
        """Write a label map [X, Y, Z] to ``stem`` and the suffix, uint8, compressed."""
        path = stem.with_name(stem.name + self.suffix)
        fields = describe_segments(values, labels) if self.suffix == itk.SEGMENTATION else {}
        write_atomically(path, partial(itk.write_image, itk.make_image(values, self.affine, fields), self.suffix))
        return path

    def write_values(self, stem: Path, values: Array) -> Path:
        """Write values [X, Y, Z] or [X, Y, Z, C] as NIfTI with the geometry of the image."""
        return NiftiTarget.of(self.affine, values.shape[:3]).write_values(stem, values)


def choose_target(target: Target, wanted: str, shape: Sequence[int], spacing_mm: Sequence[float] | None) -> Target:
    """Choose the writer of a label map.

    Args:
        target: writer of the image's own format.
        wanted: key of ``FORMATS``; empty: the image's own format.
        shape: shape X, Y, Z of the image.
        spacing_mm: spacing along the axes of an image that states none, in mm; None: it does, or none is known.
    """
    if not wanted or (wanted == "nifti" and isinstance(target, NiftiTarget)):
        return target
    affine = target.affine.copy()
    if spacing_mm is not None:
        affine[:3, :3] *= (*spacing_mm, 1.0)[:3] / np.linalg.norm(affine[:3, :3], axis=0)
    return NiftiTarget.of(affine, shape) if wanted == "nifti" else VolumeTarget(FORMATS[wanted], affine)


@dataclass(frozen=True)
class PictureTarget:
    """Write a PNG, or a TIFF of several pages, with class indices as pixels, displayed in the colors of the classes."""

    @property
    def affine(self) -> Array:
        """Affine [4, 4] of pixels of 1 mm, oriented as on a screen."""
        return np.diag([-1.0, -1.0, 1.0, 1.0])

    def write(self, stem: Path, values: Pixels, labels: Sequence[Label]) -> Path:
        """Write a label map [X, Y, 1] to ``stem.png``, or [X, Y, pages] to ``stem.tif``."""
        first, *others = [Image.fromarray(np.ascontiguousarray(page.T)) for page in np.moveaxis(values, 2, 0)]
        for page in (first, *others):
            page.putpalette([channel for label in labels for channel in ImageColor.getrgb(label.color)])
        kind, suffix = ("TIFF", ".tif") if others else ("PNG", ".png")
        options = {"save_all": True, "append_images": others, "compression": "tiff_adobe_deflate"} if others else {}
        path = stem.with_name(stem.name + suffix)
        write_atomically(path, lambda partial: first.save(partial, format=kind, **options))
        return path

    def write_values(self, stem: Path, values: Array) -> Path:
        """Write values [X, Y, pages] or [X, Y, pages, C] as NIfTI with pixels of 1 mm, oriented as the picture."""
        return NiftiTarget.of(self.affine, values.shape[:3]).write_values(stem, values)
