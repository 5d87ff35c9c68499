"""Label maps on the image's own grid and geometry, and pictures to look at."""

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image, ImageColor

from medpos.core.files import write_atomically
from medpos.core.labels import Label
from medpos.io.scan import Array, Pixels

_LEVEL = 3  # of gzip; label maps compress as well as at the highest


@dataclass(frozen=True)
class NiftiTarget:
    """NIfTI with the header of the image: origin, spacing and direction stay to the bit.

    Args:
        header: geometry alone; texts that could name a patient are taken out.
        shape: of the image's array, 2-D or 3-D, axes of size 1 at the end included.
    """

    header: Any
    shape: tuple[int, ...]

    @classmethod
    def like(cls, header: Any, shape: Sequence[int]) -> "NiftiTarget":
        """The geometry of another file's header."""
        own = header.copy()
        own.extensions.clear()
        for key in ("descrip", "aux_file", "intent_name", "db_name", "data_type"):
            if key in own:
                own[key] = b""
        own["descrip"] = b"medpos"
        own["cal_min"] = own["cal_max"] = 0
        own.set_slope_inter(1, 0)
        return cls(own, tuple(shape))

    @classmethod
    def of(cls, affine: Array, shape: Sequence[int]) -> "NiftiTarget":
        """The geometry that an affine says, mm."""
        header = nib.Nifti1Header()
        header.set_data_shape(shape)
        header.set_xyzt_units("mm")
        header.set_sform(affine, code="scanner")
        header.set_qform(affine, code="scanner")
        return cls(header, tuple(shape))

    @property
    def affine(self) -> Array:
        """The header's, by the same rule as nibabel reads it."""
        return np.asarray(self.header.get_best_affine(), float)

    def write(self, stem: Path, values: Pixels, labels: Sequence[Label]) -> Path:
        """Write uint8 labels to ``stem.nii.gz``."""
        return self._write(stem, values.reshape(self.shape))

    def write_probabilities(self, stem: Path, values: Array) -> Path:
        """Write float32 probabilities, the classes along the fourth axis."""
        return self._write(stem, np.asarray(values, np.float32))

    def _write(self, stem: Path, values: Array) -> Path:
        header = self.header.copy()
        header.set_data_dtype(values.dtype)
        kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
        # No affine beside the header: it would be written anew, rounded.
        image = kind(values, None, header)
        path = stem.with_name(stem.name + ".nii.gz")
        write_atomically(path, lambda partial: _gzip(partial, image.to_bytes()))
        return path


def _gzip(path: Path, content: bytes) -> None:
    # No name and no time of day, so that equal label maps are equal files.
    with path.open("wb") as stream, gzip.GzipFile("", "wb", _LEVEL, stream, mtime=0) as packed:
        packed.write(content)


@dataclass(frozen=True)
class PictureTarget:
    """A PNG whose pixels are the class indices, shown in the classes' colours."""

    @property
    def affine(self) -> Array:
        """Pixels of 1 mm that lie as on a screen."""
        return np.diag([-1.0, -1.0, 1.0, 1.0])

    def write(self, stem: Path, values: Pixels, labels: Sequence[Label]) -> Path:
        """Write the labels, rows first, to ``stem.png``."""
        image = Image.fromarray(np.ascontiguousarray(values[..., 0].T))
        image.putpalette([channel for label in labels for channel in ImageColor.getrgb(label.color)])
        path = stem.with_name(stem.name + ".png")
        write_atomically(path, lambda partial: image.save(partial, format="PNG"))
        return path

    def write_probabilities(self, stem: Path, values: Array) -> Path:
        """Write NIfTI of 1 mm pixels that lies as the picture does."""
        return NiftiTarget.of(self.affine, values.shape[:3]).write_probabilities(stem, values)
