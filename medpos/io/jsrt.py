"""Read JSRT's headerless ``.IMG``.

The file holds 2048 x 2048 big-endian 16-bit numbers, 12 bits used, high = dark, 0.175 mm a pixel.
"""

from pathlib import Path

import numpy as np

from medpos.core.errors import InputError
from medpos.core.files import read_bytes
from medpos.io.scan import Array

RAW_SIDE = 2048
HIGHEST = 4095
PIXEL_MM = 0.175


def read_image(path: Path, size: int) -> Array:
    """Read an ``.IMG`` as (size, size) int16 rows of grey values in [0, 4095], high = dense, averaged over blocks."""
    data = read_bytes(path)
    if len(data) != 2 * RAW_SIDE**2:
        raise InputError(f"{path}: {len(data)} bytes, needed are {2 * RAW_SIDE**2} (2048 x 2048 x 2); unpack it again.")
    raw = np.frombuffer(data, ">u2")
    if raw.max() > HIGHEST:
        hint = "its bytes are swapped, store it big-endian" if raw.byteswap().max() <= HIGHEST else "unpack it again"
        raise InputError(f"{path}: grey value {raw.max()}, the highest in 12 bits is {HIGHEST}; {hint}.")
    block = RAW_SIDE // size
    mean: Array = raw.reshape(size, block, size, block).mean(axis=(1, 3), dtype=np.float64)
    grey: Array = np.rint(HIGHEST - mean).astype(np.int16)
    return grey


def coronal_affine(size: int, spacing: float) -> Array:
    """Columns run to the patient's left, rows to the feet, the slice to the back; centre at the origin."""
    middle = spacing * (size - 1) / 2
    return np.array([[-spacing, 0, 0, middle], [0, 0, -1.0, 0], [0, -spacing, 0, middle], [0, 0, 0, 1]])
