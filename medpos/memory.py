"""Keeping freed memory in the process, where the C library would hand it back after every training step."""

import contextlib
import ctypes
import sys

# Parameters of glibc's mallopt(3).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> None:
    """Let glibc reuse large blocks instead of returning them to the kernel.

    A feature map is larger than what glibc's allocator keeps, so every step would map, zero and unmap all of them
    again, which costs a good part of a training step on a CPU. Does nothing elsewhere than on Linux with glibc.
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_M_TOP_PAD, 2**26)
