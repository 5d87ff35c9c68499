"""Read JSRT's headerless ``.IMG`` files.

A file holds 2048 x 2048 big-endian 16-bit numbers, 12 bits used, high = dark, with pixels of 0.175 mm.
"""

from pathlib import Path

import numpy as np

from medpos.core.errors import InputError
from medpos.core.files import read_bytes
from medpos.io.scan import Array

RAW_SIDE = 2048
_BYTES = 2 * RAW_SIDE**2
HIGHEST = 4095
PIXEL_MM = 0.175


def read_image(path: Path, size: int) -> Array:
    """Read an ``.IMG`` file, averaged over blocks.

    Args:
        path: file to read.
        size: side of the result in pixels, a divisor of 2048.

    Returns:
        Rows [size, size] of gray values in [0, 4095], high = dense, int16.

    Raises:
        InputError: the file has another size, or values of more than 12 bits.
    """
    data = read_bytes(path, _BYTES + 1)
    if len(data) != _BYTES:
        found = path.stat().st_size if isinstance(path, Path) else len(data)  # or a member of an archive
        raise InputError(f"{path}: expected {_BYTES} bytes (2048 x 2048 x 2), got {found}; unpack it again")
    raw = np.frombuffer(data, ">u2")
    if raw.max() > HIGHEST:
        hint = "its bytes are swapped, store it big-endian" if raw.byteswap().max() <= HIGHEST else "unpack it again"
        raise InputError(f"{path}: expected gray values up to {HIGHEST} (12 bits), got {raw.max()}; {hint}")
    block = RAW_SIDE // size
    mean: Array = raw.reshape(size, block, size, block).mean(axis=(1, 3), dtype=np.float64)
    gray: Array = np.rint(HIGHEST - mean).astype(np.int16)
    return gray


def coronal_affine(size: int, spacing: float) -> Array:
    """Return the affine of a coronal image with its center at the origin.

    Columns go to the patient's left, rows to the feet, the slice axis to the back.

    Args:
        size: side of the image in pixels.
        spacing: side of a pixel in mm.

    Returns:
        Affine [4, 4] from the axes of the image to RAS+ space, in mm.
    """
    middle = spacing * (size - 1) / 2
    return np.array([[-spacing, 0, 0, middle], [0, 0, -1.0, 0], [0, -spacing, 0, middle], [0, 0, 0, 1]])
