"""Check that worker processes of a data loader can start, and bound the time that they are waited for."""

from typing import Any

import psutil

try:
    import resource
except ImportError:  # on Windows, where files have no such limit
    resource = None  # type: ignore[assignment]

from medpos.core.errors import InputError

WAIT_S = 600  # for a batch; the start of a worker included
_FILES_OF_A_WORKER = 32  # pipes, and tensors that it shares
_SPARE_FILES = 32


def allow_open_files(workers: int) -> None:
    """Raise the number of files that this process may open at once to what its workers need.

    With too few, a worker can't send its batches, and the process would wait for them without an end.

    Args:
        workers: number of worker processes that will start.

    Raises:
        InputError: the system allows fewer than the workers need.
    """
    if not workers or resource is None:
        return
    needed = psutil.Process().num_fds() + _SPARE_FILES + workers * _FILES_OF_A_WORKER
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY or limit >= needed:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, most))
    except (OSError, ValueError):
        raise InputError(
            f"--num_workers {workers}: expected {needed} files that may be open at once, got {limit}; raise the limit "
            f"by 'ulimit -n {needed}', or give a smaller --num_workers"
        ) from None


def limit_waiting(loader: Any) -> None:
    """Let a data loader with workers end with an error after ``WAIT_S`` seconds without a batch.

    Args:
        loader: PyTorch's data loader; anything else, and a loader with a limit of its own, stays as it is.
    """
    if getattr(loader, "num_workers", 0) and not getattr(loader, "timeout", WAIT_S):
        loader.timeout = WAIT_S
