"""Go through large arrays part by part; keep freed memory or return it to the system, on Linux with glibc."""

import contextlib
import ctypes
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

PART = 1 << 20  # values of a part, unless a step along the outermost axis has more
# Parameters of glibc's mallopt(3).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> None:
    """Let glibc reuse large blocks instead of returning them to the kernel.

    Feature maps are larger than what glibc's allocator keeps, so every training step would map, zero and unmap all of
    them again, which takes a good part of the step on a CPU. Does nothing on other systems.
    """
    with _glibc() as library:
        library.mallopt(_M_MMAP_MAX, 0)
        library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        library.mallopt(_M_TOP_PAD, 2**26)


def release_freed_memory() -> None:
    """Return all free pages to the kernel, once.

    Freed blocks become fragmented by small live ones, and a large request that no longer fits takes new memory. A
    process that handles thousands of images calls this from time to time to bound its memory. Does nothing on other
    systems.
    """
    with _glibc() as library:
        library.malloc_trim(0)


def split_array(array: npt.NDArray[Any]) -> Iterator[tuple[slice, ...]]:
    """Split an array into parts, so that what is computed of it needs memory for one part alone.

    Args:
        array: array of one or more axes in any order.

    Yields:
        Index of each part, a slice for each axis, in the order of memory.
    """
    # An axis of one step may have any stride.
    strides = [abs(stride) if side > 1 else -1 for stride, side in zip(array.strides, array.shape, strict=True)]
    outermost = int(np.argmax(strides))
    count = array.shape[outermost]
    step = max(1, PART * count // max(array.size, 1))
    for first in range(0, count, step):
        yield (*(slice(None),) * outermost, slice(first, first + step), *(slice(None),) * (array.ndim - outermost - 1))


@contextlib.contextmanager
def _glibc() -> Iterator[Any]:
    """Yield the C library; without glibc the body is skipped."""
    with contextlib.suppress(OSError, AttributeError):
        yield ctypes.CDLL("libc.so.6") if sys.platform == "linux" else None
