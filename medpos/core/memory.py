"""Freed memory: keeping it, where the C library would hand it back after every training step, and handing it back."""

import contextlib
import ctypes
import sys
from collections.abc import Iterator
from typing import Any

# Parameters of glibc's mallopt(3).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> None:
    """Let glibc reuse large blocks instead of returning them to the kernel.

    A feature map is larger than what glibc's allocator keeps, so every step would map, zero and unmap all of them
    again, which costs a good part of a training step on a CPU. Does nothing elsewhere than on Linux with glibc.
    """
    with _glibc() as library:
        library.mallopt(_M_MMAP_MAX, 0)
        library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        library.mallopt(_M_TOP_PAD, 2**26)


def release_freed_memory() -> None:
    """Give the kernel all whole pages that are free now, once.

    Kept blocks of many sizes come to lie between small ones that stay, and a large one that no longer fits takes new
    memory. A process that goes on for thousands of images calls this from time to time, so that what it holds is
    bounded by what it needs. Does nothing elsewhere than on Linux with glibc.
    """
    with _glibc() as library:
        library.malloc_trim(0)


@contextlib.contextmanager
def _glibc() -> Iterator[Any]:
    """The C library; where there is no glibc, what is asked of it is left out."""
    with contextlib.suppress(OSError, AttributeError):
        yield ctypes.CDLL("libc.so.6") if sys.platform == "linux" else None
