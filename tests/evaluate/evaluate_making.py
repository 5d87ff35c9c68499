"""Make label maps for the tests of evaluate."""

import nibabel as nib
import numpy as np
from PIL import Image

AFFINE = np.array([[-0.8, 0, 0, 40], [0, -1.5, 0, 60], [0, 0, 3.0, -20], [0, 0, 0, 1.0]])


def blobs(shape, seed, classes=3, noise=0.0):
    """Draw boxes of each class at random places; some classes may be covered or empty."""
    rng = np.random.default_rng(seed)
    out = np.zeros(shape, np.uint8)
    for index in range(1, classes + 1):
        low = [rng.integers(0, max(1, n - 4)) for n in shape]
        box = tuple(slice(a, a + int(rng.integers(2, 8))) for a in low)
        out[box] = index
    flipped = rng.random(shape) < noise
    out[flipped] = rng.integers(0, classes + 1, int(flipped.sum()))
    return out


def save(path, values, affine=AFFINE, units="mm", kind=nib.Nifti1Image, dtype=None):
    """Write NIfTI or a gray picture [X, Y], by the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in (".png", ".tif", ".bmp", ".jpg"):
        Image.fromarray(np.ascontiguousarray(values.T)).save(path)
        return path
    image = kind(values if dtype is None else values.astype(dtype), affine)
    image.header.set_xyzt_units(units)
    nib.save(image, path)
    return path
